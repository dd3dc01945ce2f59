"""Confidence bounds against their definition, P(Bin(n, bound) >= count) <= alpha, in sums of fifty digits.

Inverses of the binomial tail have been wrong in places; a bound may not be, wherever it is asked for.
"""

from __future__ import annotations

import math
import subprocess
import sys

import mpmath
import numpy as np
import pytest
from mpmath import mpf
from scipy.special import betainc, betaincc, betaincinv
from tails import tail, tails

from robust_hub.guarantee import bounds
from robust_hub.guarantee.bounds import TAU, lower_confidence_bound, upper_confidence_bound
from robust_hub.guarantee.certificate import certify_counts

SHARES = (0.001, 0.0005, 1e-6)
WRONG = [  # count, n and alpha at which scipy's inverse has a tail above alpha by more than 1e-8 of it
    (10**5 - 999, 10**5, 1e-6), (10**6 - 999, 10**6, 0.001), (10**7 - 999, 10**7, 0.0005), (10**7 - 999, 10**7, 1e-6),
    (10**8 - 999, 10**8, 0.001), (10**8 - 999, 10**8, 1e-12), (10**9 - 999, 10**9, 1e-12),
]  # fmt: skip


def excess(reached: mpf, alpha: float) -> float:
    return float(reached / mpf(alpha) - 1)


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("n", [10**5, 10**6, 10**7])
def test_every_lower_bound_near_unanimous_votes(n: int, share: float) -> None:
    bounds = [lower_confidence_bound(n - losses, n, share) for losses in range(2001)]
    spent = [excess(reached, share) for reached in tails(n, bounds)]
    assert max(spent) <= 0
    assert min(spent) > -3e-10 - 5e-16 * n  # doubles next to 1 are 1e-16 apart, which is n times as much of the tail
    assert (np.diff(bounds) < 0).all()


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("n", [10**5, 10**6, 10**7])
def test_every_upper_bound_of_few_votes(n: int, share: float) -> None:
    bounds = [upper_confidence_bound(count, n, share) for count in range(2001)]
    spent = [excess(reached, share) for reached in tails(n, bounds, other=True)]
    assert max(spent) <= 0
    assert min(spent) > -1e-9
    assert (np.diff(bounds) > 0).all()


@pytest.mark.parametrize("n", [1, 2, 3, 10, 60])
def test_every_bound_of_a_few_samples(n: int) -> None:
    for share in (0.999, 0.3, 0.001, 1e-12, 1e-40):
        for count in range(n + 1):
            low, high = lower_confidence_bound(count, n, share), upper_confidence_bound(count, n, share)
            assert low == 0 if count == 0 else -1e-10 < excess(tail(n, n - count, low), share) <= 0
            # Near 1 doubles are 1e-16 apart, of which little may be left to 1.
            room = 1e-9 + 1e-15 * n / max(1 - high, 1e-300)
            assert high == 1 if count == n else -room < excess(tail(n, count, high, other=True), share) <= 0


def cases(few: int) -> list[tuple[int, int, float]]:
    rng = np.random.default_rng(6)
    found = []
    for _ in range(few):
        n = int(10 ** rng.uniform(1, 7)) + 1
        part = int(rng.integers(0, n) if rng.random() < 0.5 else n ** rng.random())
        count = min(max(part if rng.random() < 0.5 else n - part, 1), n - 1)
        found.append((count, n, float(rng.choice([0.9, 0.3, 0.05, 0.001, 1e-6, 1e-12, 1e-100]))))
    return found


def test_bounds_anywhere_and_the_tails_they_are_held_to() -> None:
    # The margin that the bounds leave must be above the error of the tails: this fails first where a scipy is worse.
    worst = 0.0
    for count, n, share in cases(400):
        margin = 1e-12 * (math.sqrt(1 + min(count, n - count)) + n / 50_000)
        low, high = lower_confidence_bound(count, n, share), upper_confidence_bound(count, n, share)
        below, above = tail(n, n - count, low), tail(n, count, high, other=True)
        assert excess(below, share) <= 0
        assert excess(above, share) <= 0
        worst = max(worst, abs(excess(below, betainc(count, n - count + 1, low))) / margin)
        if high < 1:
            worst = max(worst, abs(excess(above, betaincc(count + 1, n - count, high))) / margin)
    assert worst < 0.5


@pytest.mark.parametrize(("count", "n", "share"), WRONG)
def test_where_scipys_inverse_is_wrong(count: int, n: int, share: float) -> None:
    bound = lower_confidence_bound(count, n, share)
    if excess(tail(n, n - count, float(betaincinv(count, n - count + 1, share))), share) < 1e-8:
        pytest.skip("this scipy's inverse is right")
    assert -1e-11 - 5e-16 * n < excess(tail(n, n - count, bound), share) <= 0


@pytest.mark.parametrize("n", [10**5, 5 * 10**5, 10**6, 10**7])
def test_a_certificate_comes_of_any_votes(n: int) -> None:
    for bound in ("complement", "runner_up"):
        for losses in (998, 999, 1000, n - 67_811, n - 72_617):
            got = certify_counts([100, 0], [n - losses, losses], 0.25, 0.001, bound)
            assert got.prediction == (0 if n > 2 * losses else -1)


def test_unanimous_votes_keep_their_promise() -> None:
    # exp(log(alpha) / n) is rounded; next to 1 by much, in terms of its n-th power, and to 1 itself at last.
    for n in (1, 2, 3, 7, 10, 1000, 10**5, 10**9):
        for share in (1 - 1e-10, 0.75, 0.5, 0.3, 0.001, 1e-300):
            low = lower_confidence_bound(n, n, share)
            with mpmath.workdps(50):
                assert mpf(low) ** n <= share
                assert (1 - mpf(upper_confidence_bound(0, n, share))) ** n <= share
            assert low > 0.9 * share ** (1 / n)
    assert certify_counts([1, 0], [10**9, 0], 1.0, 1 - 1e-10).radius < 9


INSIDE = """
from robust_hub.guarantee.certificate import certify_counts
from robust_hub.guarantee.bounds import lower_confidence_bound
assert False
for case in CASES:
    print(repr(lower_confidence_bound(*case)))
print(repr(certify_counts([100, 0], [99001, 999], .25, .001, "runner_up").radius))
"""


def test_nothing_rests_on_assertions() -> None:
    code = INSIDE.replace("CASES", repr(WRONG))
    done = subprocess.run([sys.executable, "-O", "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    *bounds, radius = map(float, done.stdout.split())
    for (count, n, share), bound in zip(WRONG, bounds, strict=True):
        assert -1e-11 - 5e-16 * n < excess(tail(n, n - count, bound), share) <= 0
    assert 0.57 < radius < 0.573


@pytest.mark.parametrize("start", [lambda right: right * 1.3, lambda right: math.nan, lambda right: 1.0])
def test_a_wrong_start_changes_no_bound(start, monkeypatch) -> None:
    right = {case: lower_confidence_bound(*case) for case in [(70, 100, 0.001), (990, 1000, 0.05), (3, 1000, 0.05)]}
    monkeypatch.setattr(bounds, "betaincinv", lambda *a: start(float(betaincinv(*a))))
    for case, bound in right.items():
        got = lower_confidence_bound(*case)
        assert got == pytest.approx(bound, rel=1e-9)
        assert excess(tail(case[1], case[1] - case[0], got), case[2]) <= 0


@pytest.mark.parametrize("start", [lambda right: right * 0.8, lambda right: math.nan, lambda right: 0.0])
def test_a_wrong_start_changes_no_upper_bound(start, monkeypatch) -> None:
    right = {case: upper_confidence_bound(*case) for case in [(70, 100, 0.001), (990, 1000, 0.05), (3, 1000, 0.05)]}
    old = bounds.betainccinv
    monkeypatch.setattr(bounds, "betainccinv", lambda *a: start(float(old(*a))))
    for case, bound in right.items():
        got = upper_confidence_bound(*case)
        assert got == pytest.approx(bound, rel=1e-9)
        assert excess(tail(case[1], case[0], got, other=True), case[2]) <= 0


def test_a_bound_that_nothing_holds_for_is_the_trivial_one(monkeypatch) -> None:
    monkeypatch.setattr(bounds, "betainc", lambda *a: math.inf)
    monkeypatch.setattr(bounds, "betaincc", lambda *a: math.inf)
    assert lower_confidence_bound(70, 100, 0.001) == 0
    assert upper_confidence_bound(70, 100, 0.001) == 1
    assert certify_counts([1, 0], [70, 30], 0.5, tau=TAU).abstained
