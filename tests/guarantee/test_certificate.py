"""The page the guarantee rests on: bounds, radius, abstention, against scipy's slow and independent versions."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import certify as reference_certify
from reference import predict as reference_predict
from scipy.stats import binom, binomtest, norm

from robust_hub.guarantee.bounds import lower_confidence_bound, smallest_n, upper_confidence_bound
from robust_hub.guarantee.certificate import ABSTAIN, Certificate, certified_radius, certify_counts
from robust_hub.guarantee.prediction import predict_counts

CASES = [
    (count, n, alpha)
    for n in (1, 7, 100, 1000, 100_000)
    for count in sorted({0, 1, n // 2, n // 2 + 1, (9 * n) // 10, n - 1, n})
    for alpha in (0.05, 0.001)
]


def slow_low(count: int, n: int, alpha: float) -> float:
    return binomtest(count, n, alternative="greater").proportion_ci(1 - alpha, "exact").low


def slow_high(count: int, n: int, alpha: float) -> float:
    return binomtest(count, n, alternative="less").proportion_ci(1 - alpha, "exact").high


@pytest.mark.parametrize(("count", "n", "alpha"), CASES)
def test_bounds_agree_with_binomtest(count: int, n: int, alpha: float) -> None:
    assert lower_confidence_bound(count, n, alpha) == pytest.approx(slow_low(count, n, alpha), abs=1e-9)
    assert upper_confidence_bound(count, n, alpha) == pytest.approx(slow_high(count, n, alpha), abs=1e-9)


def test_radii_agree_with_binomtest() -> None:
    rng = np.random.default_rng(0)
    decided = 0
    for _ in range(300):
        n = int(rng.choice([100, 1000, 10_000, 100_000]))
        count = int(rng.integers(n // 2, n + 1))
        sigma, alpha = float(rng.choice([0.12, 0.25, 0.5, 1.0])), float(rng.choice([0.05, 0.001]))
        got = certify_counts([0, 100], [n - count, count], sigma, alpha)
        low = slow_low(count, n, alpha)
        if low > 0.5:
            decided += 1
            assert got.prediction == 1
            assert got.radius == pytest.approx(sigma * norm.ppf(low), abs=1e-9)
        else:
            assert (got.prediction, got.radius) == (ABSTAIN, 0.0)
    assert decided > 200


@pytest.mark.parametrize(
    ("n", "alpha", "sigmas"),
    [
        (100, 0.001, 1.5005), (1000, 0.001, 2.4633), (10_000, 0.001, 3.1986), (100_000, 0.001, 3.8115),
        (1_000_000, 0.001, 4.3468), (100_000, 0.0005, 3.7878),
    ],
)  # fmt: skip
def test_radius_of_unanimous_votes(n: int, alpha: float, sigmas: float) -> None:
    assert certify_counts([100, 0], [n, 0], 1.0, alpha).radius == pytest.approx(sigmas, abs=5e-5)
    assert certify_counts([100, 0], [n, 0], 0.25, alpha).radius == pytest.approx(sigmas / 4, abs=5e-5)


@pytest.mark.parametrize(("n", "sigmas"), [(40, 1), (301, 2), (5114, 3), (29_691, 3.5), (95_477, 3.8), (218_105, 4)])
def test_fewest_votes_for_a_radius(n: int, sigmas: float) -> None:
    assert certify_counts([1, 0], [n, 0], 1.0).radius >= sigmas - 1e-9
    assert certify_counts([1, 0], [n - 1, 0], 1.0).radius < sigmas


@pytest.mark.parametrize(("n", "alpha"), [(20, 0.05), (100, 0.05), (100, 0.001), (100_000, 0.001)])
def test_lower_bound_covers_every_probability(n: int, alpha: float) -> None:
    # Exact, without randomness: the counts whose bound exceeds p have probability at most alpha under p.
    step = max(1, n // 500)
    counts = np.unique(np.r_[0 : n + 1 : step, n - 5 : n + 1])
    bounds = np.array([lower_confidence_bound(int(k), n, alpha) for k in counts])
    assert (np.diff(bounds) > 0).all()
    misses = []
    grid = [*(1 / (1 + np.exp(-np.linspace(-12, 12, 200)))), *(math.nextafter(b, d) for b in bounds for d in (0, 1))]
    for p in grid:
        beyond = np.flatnonzero(bounds > p)
        # With a step, some smaller count may miss as well: look just below the first one found.
        first = int(counts[beyond[0]]) if beyond.size else n + 1
        while first > 0 and lower_confidence_bound(first - 1, n, alpha) > p:
            first -= 1
        misses.append(binom.sf(first - 1, n, p))
    assert max(misses) <= alpha * (1 + 1e-9)
    assert max(misses) >= alpha * (1 - 1e-6)  # and no wider than need be


def test_upper_bound_covers_every_probability() -> None:
    n, alpha = 60, 0.05
    bounds = np.array([upper_confidence_bound(k, n, alpha) for k in range(n + 1)])
    worst = max(
        binom.cdf(int((bounds < p).sum()) - 1, n, p) for p in [*np.linspace(0.001, 0.999, 500), *(bounds + 1e-12)[:-1]]
    )
    assert alpha * (1 - 1e-6) <= worst <= alpha * (1 + 1e-9)


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 10_000), st.data(), st.floats(1e-6, 0.5))
def test_lower_bound_is_monotone(n: int, data: st.DataObject, alpha: float) -> None:
    count = data.draw(st.integers(0, n))
    here = lower_confidence_bound(count, n, alpha)
    assert 0 <= here <= count / n + 1e-12
    assert here <= lower_confidence_bound(count, n, alpha * 1.5)
    assert lower_confidence_bound(count, n + 1, alpha) <= here
    assert here < lower_confidence_bound(count + 1, n + 1, alpha)


@settings(deadline=None, max_examples=100)
@given(st.floats(0, 1), st.floats(0, 1), st.floats(1e-3, 100))
def test_radius_is_never_above_the_formula(p_lower: float, p_upper: float, sigma: float) -> None:
    radius = certified_radius(p_lower, p_upper, sigma)
    assert radius >= 0
    if p_lower <= p_upper:
        assert radius == 0
    elif math.isfinite(exact := sigma / 2 * (norm.ppf(p_lower) - norm.ppf(p_upper))):
        assert radius < exact or radius == 0
        # The slow formula itself loses digits of 1 - p near p_lower = 1.
        assert radius == pytest.approx(exact, abs=1e-9 * max(1, sigma))


def test_radius_scales_with_sigma_and_is_rounded_down() -> None:
    for p in (0.6, 0.9, 0.999):
        assert certified_radius(p, 1 - p, 2.0) == pytest.approx(2 * certified_radius(p, 1 - p, 1.0), abs=1e-10)
        assert certified_radius(p, 1 - p, 1.0) < norm.ppf(p)
    assert certified_radius(0.7, 0.1, 1.0) > certified_radius(0.7, 0.3, 1.0)
    assert certified_radius(0.5, 0.5, 1.0) == 0
    assert certified_radius(0.5 + 1e-13, 0.5 - 1e-13, 1.0) == 0  # closer than the round-off allowance


def test_certificate_says_all() -> None:
    got = certify_counts([1, 8, 1], [5, 985, 10], 0.5, 0.01)
    low = slow_low(985, 1000, 0.01)
    assert got == Certificate(
        prediction=1, radius=got.radius, p_lower=got.p_lower, p_upper=1 - got.p_lower, sigma=0.5, alpha=0.01,
        n0=10, n=1000, count=985, counts=(5, 985, 10), bound="complement",
    )  # fmt: skip
    assert got.p_lower == pytest.approx(low, abs=1e-9)
    assert not got.abstained
    assert replace(got, prediction=ABSTAIN).abstained
    with pytest.raises(FrozenInstanceError):
        got.radius = 9.0  # type: ignore[misc]


def test_class_is_selected_by_the_first_votes_only() -> None:
    # The second set prefers class 1: a certifier that took its argmax would certify.
    got = certify_counts([60, 40], [100, 9900], 0.25)
    assert got.abstained
    assert (got.radius, got.count) == (0.0, 100)
    assert certify_counts([60, 40], [0, 1000], 0.25).p_lower == 0.0


def test_half_of_the_votes_abstains() -> None:
    assert certify_counts([9, 1], [5000, 5000], 0.25).abstained
    assert certify_counts([9, 1], [5100, 4900], 0.25).abstained  # too few above one half for alpha
    assert not certify_counts([9, 1], [5200, 4800], 0.25).abstained


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.integers(0, 5000), min_size=2, max_size=6),
    st.data(),
    st.sampled_from([0.001, 0.05]),
    st.sampled_from([0.25, 1.0]),
)
def test_certify_equals_the_pseudo_code(counts: list[int], data: st.DataObject, alpha: float, sigma: float) -> None:
    counts = [counts[0] + 1, *counts[1:]]
    selection = data.draw(st.lists(st.integers(0, 50), min_size=len(counts), max_size=len(counts)))
    selection[0] += 1
    got = certify_counts(selection, counts, sigma, alpha)
    prediction, radius, lower = reference_certify(selection, counts, sigma, alpha)
    assert got.prediction == prediction
    assert got.radius == pytest.approx(radius, abs=1e-9)
    assert got.p_lower == pytest.approx(lower, abs=1e-9)
    assert predict_counts(counts, alpha) == reference_predict(counts, alpha)


def test_relabelling_permutes() -> None:
    order = [2, 0, 1]
    selection, counts = np.array([3, 90, 7]), np.array([10, 900, 90])
    one, two = certify_counts(selection, counts, 0.5), certify_counts(selection[order], counts[order], 0.5)
    assert (one.prediction, two.prediction) == (1, 2)
    assert (one.radius, one.p_lower) == (two.radius, two.p_lower)


@pytest.mark.parametrize(("rivals", "better"), [((60, 60, 60, 20), True), ((200, 0, 0, 0), False)])
def test_runner_up_pays_half_of_alpha_for_either_bound(rivals: tuple[int, ...], better: bool) -> None:
    counts = [800, *rivals]
    plain = certify_counts([100, 0, 0, 0, 0], counts, 0.5, 0.01)
    got = certify_counts([100, 0, 0, 0, 0], counts, 0.5, 0.01, bound="runner_up")
    assert got.bound == "runner_up"
    assert got.p_lower == pytest.approx(slow_low(800, 1000, 0.005), abs=1e-9)
    assert got.p_upper == pytest.approx(min(slow_high(max(rivals), 1000, 0.005), 1 - got.p_lower), abs=1e-9)
    assert got.radius == pytest.approx(0.25 * (norm.ppf(got.p_lower) - norm.ppf(got.p_upper)), abs=1e-9)
    assert (got.radius > plain.radius) is better


def test_runner_up_certifies_below_one_half() -> None:
    votes = [450, 200, 200, 150]
    assert certify_counts(votes, votes, 0.5).abstained
    got = certify_counts(votes, votes, 0.5, bound="runner_up")
    assert got.prediction == 0
    assert got.radius > 0
    assert got.p_lower < 0.5


def test_runner_up_of_one_class_has_no_rival() -> None:
    got = certify_counts([5], [100], 0.5, bound="runner_up")
    assert got.p_upper == 0
    assert got.prediction == 0


@pytest.mark.parametrize(
    ("n", "count", "p"), [(100, 3, (0.5, 0.4, 0.1)), (100, 4, (0.4, 0.2, 0.2, 0.2)), (60, 3, (0.5, 0.5, 0.0))]
)
def test_runner_up_bounds_hold_together(n: int, count: int, p: tuple[float, ...]) -> None:
    # Both bounds at once fail with probability at most alpha; the test raises a false alarm with 1e-6.
    alpha, runs = 0.05, 3000
    assert len(p) == count
    draws = np.random.default_rng(n + count).multinomial(n, p, size=runs)
    missed = 0
    for votes in draws:
        got = certify_counts([1] + [0] * (count - 1), votes, 0.5, alpha, bound="runner_up")
        missed += got.p_lower > p[0] or got.p_upper < max(p[1:])
    assert missed <= binom.isf(1e-6, runs, alpha)


def test_predict_abstains_on_a_tie() -> None:
    assert predict_counts([50, 50]) == ABSTAIN
    assert predict_counts([0, 99, 1]) == 1
    assert predict_counts([11]) == 0
    assert predict_counts([10, 0]) == ABSTAIN
    assert predict_counts([0, 11]) == 1
    assert predict_counts([0, 0, 30, 25], 0.05) == ABSTAIN


@pytest.mark.parametrize(
    ("alpha", "bound", "least"),
    [
        (0.001, "complement", 10), (0.05, "complement", 5), (0.5, "complement", 2), (0.9, "complement", 1),
        (0.25, "complement", 3), (0.001, "runner_up", 11), (1e-6, "complement", 20),
    ],
)  # fmt: skip
def test_smallest_n(alpha: float, bound: str, least: int) -> None:
    assert smallest_n(alpha, bound) == least
    assert not certify_counts([1, 0], [least, 0], 0.5, alpha, bound).abstained
    if least > 1:
        assert certify_counts([1, 0], [least - 1, 0], 0.5, alpha, bound).abstained


@pytest.mark.parametrize("alpha", [0, 1, -0.1, 1.5, math.nan, math.inf, "0.001", None, True])
def test_alpha_outside_its_range(alpha: float) -> None:
    for call in (
        lambda: lower_confidence_bound(1, 2, alpha),
        lambda: upper_confidence_bound(1, 2, alpha),
        lambda: certify_counts([1], [1], 0.5, alpha),
        lambda: predict_counts([1], alpha),
        lambda: smallest_n(alpha),
    ):
        with pytest.raises(
            ValueError, match=r"expected alpha in \(0, 1\), the failure probability of one certificate, got"
        ):
            call()


@pytest.mark.parametrize("sigma", [0, -0.25, math.nan, math.inf, "0.25", None])
def test_sigma_outside_its_range(sigma: float) -> None:
    for call in (lambda: certified_radius(0.9, 0.1, sigma), lambda: certify_counts([1], [1], sigma)):
        with pytest.raises(
            ValueError, match=r"expected a finite sigma > 0, the noise's standard deviation in \[0, 1\]"
        ):
            call()


@pytest.mark.parametrize(("count", "n"), [(-1, 10), (11, 10), (0, 0), (1, -1)])
def test_counts_outside_their_range(count: int, n: int) -> None:
    words = (
        f"0 <= count <= n, of n={n} samples, got {count}" if n >= 1 else f"n to be a whole number, at least 1, got {n}"
    )
    for bound in (lower_confidence_bound, upper_confidence_bound):
        with pytest.raises(ValueError, match=f"expected {words}"):
            bound(count, n, 0.05)


@pytest.mark.parametrize(
    ("low", "high"), [(-0.1, 0.5), (1.1, 0.5), (0.5, -0.1), (0.5, 1.1), (math.nan, 0.1), (0.9, math.nan)]
)
def test_probabilities_outside_their_range(low: float, high: float) -> None:
    with pytest.raises(ValueError, match=r"expected p_(lower|upper) to be a probability in \[0, 1\], got"):
        certified_radius(low, high, 0.5)


@pytest.mark.parametrize("votes", [[], [[1, 2]], 3, [0.5, 1.0]])
def test_votes_of_another_form(votes: object) -> None:
    with pytest.raises(ValueError, match=r"expected integer votes of shape \(K,\), got"):
        certify_counts([1, 2], votes, 0.5)
    with pytest.raises(ValueError, match=r"expected integer votes of shape \(K,\), got"):
        certify_counts(votes, [1, 2], 0.5)
    with pytest.raises(ValueError, match=r"expected integer votes of shape \(K,\), got"):
        predict_counts(votes)


@pytest.mark.parametrize("votes", [[0, 0], [5, -1]])
def test_votes_that_are_none_or_negative(votes: list[int]) -> None:
    for call in (lambda: certify_counts([1, 2], votes, 0.5), lambda: predict_counts(votes)):
        with pytest.raises(ValueError, match="expected at least one vote and no negative one"):
            call()


def test_other_errors() -> None:
    with pytest.raises(ValueError, match="expected both sets of votes over the same classes, got 2 and 3 classes"):
        certify_counts([1, 2], [1, 2, 3], 0.5)
    for call in (lambda: certify_counts([1], [1], 0.5, bound="best"), lambda: smallest_n(0.01, "best")):
        with pytest.raises(ValueError, match=r"expected bound to be one of \('complement', 'runner_up'\), got 'best'"):
            call()
