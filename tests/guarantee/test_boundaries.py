"""The boundaries of sequential plans: against brute force, an independent reference and their own promise."""

from __future__ import annotations

import importlib.util
import itertools
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, norm

from robust_hub.guarantee.boundaries import (
    SLACK,
    acceptance_counts,
    boundary,
    crossing_probability,
    look_schedule,
    smallest_reach,
    stray_probability,
)
from robust_hub.guarantee.bounds import lower_confidence_bound

ORACLE = Path(__file__).parents[3] / "shared" / "oracles" / "exact_group_sequential.py"


def phi(ratio: float) -> float:
    return float(norm.cdf(ratio))


@pytest.fixture(scope="module")
def oracle() -> ModuleType:
    if not ORACLE.exists():
        pytest.skip("the independent reference is not beside the repository")
    spec = importlib.util.spec_from_file_location("exact_group_sequential", ORACLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("n", "alpha"), [(100_000, 0.001), (10_000, 0.001), (20_000, 0.01), (2000, 0.05), (500, 0.2)])
def test_equal_to_an_independent_reference(oracle: ModuleType, n: int, alpha: float) -> None:
    built = 0
    for ratio in (0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 3.7, 4.2):
        theirs, ours = oracle.design(phi(ratio), N=n, alpha=alpha), boundary(phi(ratio), n, alpha)
        assert (theirs is None) == (ours is None)
        if ours is None:
            continue
        looks, accept, reject = theirs
        assert ours.looks.tolist() == looks.tolist()
        assert ours.accept.tolist() == accept.tolist()
        assert ours.reject.tolist() == reject.tolist()
        assert abs(ours.error - oracle.crossing(looks, accept, phi(ratio))) < 1e-12
        built += 1
    assert built >= 4


def brute_force(looks: list[int], counts: list[int], p: float) -> float:
    """Add up the probability of every sequence of votes that crosses."""
    total = 0.0
    for path in itertools.product((0, 1), repeat=looks[-1]):
        sums = np.cumsum(path)
        if any(sums[look - 1] >= count for look, count in zip(looks, counts, strict=True)):
            total += p ** int(sums[-1]) * (1 - p) ** (looks[-1] - int(sums[-1]))
    return total


@pytest.mark.parametrize("p", [0.5, 0.7, 0.97])
@pytest.mark.parametrize(
    ("looks", "counts"),
    [([3, 7, 14], [3, 6, 11]), ([1, 2, 5, 9, 13], [2, 2, 5, 8, 12]), ([12], [9]), ([4, 8], [0, 9]), ([4, 8], [5, 9])],
)
def test_crossing_probability_is_that_of_all_paths(looks: list[int], counts: list[int], p: float) -> None:
    ours = crossing_probability(np.array(looks), np.array(counts), p)
    assert ours == pytest.approx(brute_force(looks, counts, p), abs=1e-12)


def test_a_single_look_has_the_binomial_tail() -> None:
    # Large enough for both the cut tails and the FFT to be used; scipy 1.15 has its binomial probabilities to 1e-11.
    looks, p = np.array([200_000]), 0.7
    for count in (139_000, 140_000, 141_000):
        assert crossing_probability(looks, np.array([count]), p) == pytest.approx(
            binom.sf(count - 1, 200_000, p), abs=1e-10
        )
    halves = np.array([100_000, 200_000])  # a first look that no count crosses changes nothing
    for count in (139_000, 140_000, 141_000):
        crossed = crossing_probability(halves, np.array([100_001, count]), p)
        assert crossed == pytest.approx(binom.sf(count - 1, 200_000, p), abs=1e-10)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("ratio", [0.25, 1.0, 3.0])
def test_crossing_rises_with_the_probability_and_stays_below_alpha(ratio: float, exact: bool) -> None:
    alpha = 0.001
    level = boundary(phi(ratio), 100_000, alpha, exact=exact)
    assert level is not None
    below = [
        crossing_probability(level.looks, level.accept, phi(ratio * share)) for share in (0.2, 0.6, 0.9, 0.99, 1.0)
    ]
    assert below == sorted(below)
    assert below[-1] <= level.error + 1e-12 <= alpha
    assert (below[-1] > 0.9 * alpha) is exact  # the exact one spends what it has
    assert crossing_probability(level.looks, level.accept, phi(ratio * 1.1)) > alpha


@settings(deadline=None, max_examples=60)
@given(
    ratio=st.one_of(st.just(0.0), st.floats(1e-3, 4.5)),
    n=st.integers(10, 30_000),
    alpha=st.sampled_from([0.3, 0.05, 0.001, 1e-5]),
    exact=st.booleans(),
    reserve=st.sampled_from([0.0, 0.04]),
)
def test_every_boundary_keeps_its_promise(ratio: float, n: int, alpha: float, exact: bool, reserve: float) -> None:
    p, reserve = phi(ratio), reserve * alpha
    level = boundary(p, n, alpha, 0.1, reserve, exact)
    if level is None:
        return
    assert level.looks[-1] == n
    assert (np.diff(level.looks) > 0).all()
    assert (2 * (level.accept - 1) >= level.looks - 1).all()  # a majority, and the convexity that the proof needs
    assert level.accept[-1] <= n
    assert (level.reject < level.accept).all()
    stray = stray_probability(level.looks, level.accept)
    crossing = crossing_probability(level.looks, level.accept, p)
    assert stray == level.stray
    if p == 0.5:
        assert stray <= alpha / 20  # twice this covers all classes together
    else:
        assert crossing + max(stray, reserve) <= alpha * (1 - SLACK / 2)
        assert 2 * stray <= alpha


@settings(deadline=None, max_examples=40)
@given(p=st.floats(0.5, 0.9999), n=st.integers(1, 5000), level=st.floats(1e-7, 0.5))
def test_acceptance_counts_are_the_smallest(p: float, n: int, level: float) -> None:
    count = int(acceptance_counts(np.array([n]), p, np.array([level]))[0])
    assert binom.sf(count - 1, n, p) <= level
    assert count == 0 or binom.sf(count - 2, n, p) > level


def test_closed_form_accepts_just_where_clopper_pearson_does() -> None:
    alpha, n, p = 0.001, 10_000, phi(1.0)
    level = boundary(p, n, alpha, exact=False)
    assert level is not None
    shares = [0.5 / (len(level.looks) - 1)] * (len(level.looks) - 1) + [0.5]
    for look, count, share in zip(level.looks.tolist(), level.accept.tolist(), shares, strict=True):
        at = share * alpha * (1 - SLACK)
        assert count > look or lower_confidence_bound(count, look, at) > p
        assert lower_confidence_bound(min(count - 1, look), look, at) <= p


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("ratio", [0.5, 1.0, 3.0])
def test_smallest_reach(ratio: float, exact: bool) -> None:
    least = smallest_reach(phi(ratio), 0.001, exact)
    assert boundary(phi(ratio), least - 1, 0.001, exact=exact) is None
    assert boundary(phi(ratio), least, 0.001, exact=exact) is not None


def test_looks() -> None:
    looks = look_schedule(100_000)
    assert (looks[0], looks[-1], len(looks)) == (32, 100_000, 70)
    assert all(look % 32 == 0 for look in looks[:-1])
    assert look_schedule(20) == (20,)
    assert look_schedule(32) == (32,)
    assert look_schedule(50)[-1] == 50
    with pytest.raises(ValueError, match="expected n >= 1, first >= 1 and growth > 1, got 10, 32 and 1.0"):
        look_schedule(10, 32, 1.0)


def test_futility_rarely_gives_up_what_the_whole_budget_would_certify() -> None:
    # At the probability that n samples certify half of the time, some tenth may be given up before; at one that they
    # nearly always certify, hardly any.
    n, alpha, p = 10_000, 0.001, phi(1.0)
    level = boundary(p, n, alpha, futility=0.1)
    assert level is not None

    def given_up(q: float) -> float:
        losses = level.looks - level.reject  # so many votes against it: crossing from the other side
        return crossing_probability(level.looks[:-1], losses[:-1], 1 - q)

    needed = int(acceptance_counts(np.array([n]), p, np.array([alpha]))[0])
    half = next(q for q in np.linspace(p, 1, 4001) if binom.sf(needed - 1, n, q) >= 0.5)
    sure = next(q for q in np.linspace(p, 1, 4001) if binom.sf(needed - 1, n, q) >= 0.999)
    assert 0.05 < given_up(float(half)) < 0.6
    assert given_up(float(sure)) < 0.1


def test_what_is_left_of_alpha_goes_to_the_last_look() -> None:
    # Here one vote fewer at the last look than its share of alpha asks for is still within alpha; another one is not.
    p, n, alpha = phi(1.0), 100, 0.05
    level = boundary(p, n, alpha)
    assert level is not None
    share = int(acceptance_counts(level.looks[-1:], p, np.array([0.6 * alpha]))[0])
    assert level.accept[-1] == share - 1
    fewer = level.accept.copy()
    fewer[-1] -= 1
    assert crossing_probability(level.looks, fewer, p) > alpha * (1 - SLACK)


@pytest.mark.parametrize("exact", [True, False])
def test_nothing_is_built_from_an_alpha_that_is_spent_elsewhere(exact: bool) -> None:
    assert boundary(phi(1.0), 1000, 0.001, exact=exact) is not None
    assert boundary(phi(1.0), 1000, 0.001, reserve=0.001, exact=exact) is None
