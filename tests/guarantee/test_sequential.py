"""Plans of a grid: what they ask for, when they stop, and that what they say is true as often as they promise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from courses import drive, random_votes, unanimous
from scipy.stats import binom, norm
from seeds import SHIFT

from robust_hub.guarantee.certificate import ABSTAIN
from robust_hub.guarantee.look import ESTIMATION, Votes
from robust_hub.guarantee.sequential import _prefix, closed_form_plan, sequential_plan

LEVEL, ALPHA = 1e-6, 0.05


@pytest.mark.parametrize("plan", [sequential_plan, closed_form_plan])
def test_grids(plan: Any) -> None:
    assert plan((0, 1)).radii == (0.0, 1.0)
    assert plan().radii == (0.25, 0.5, 0.75, 1.0)
    for radii in ((), (0.5, 0.25), (0.25, 0.25), (-0.1, 0.5), (0.1, float("nan")), (float("inf"),)):
        with pytest.raises(ValueError, match=r"expected increasing finite radii >= 0 in \[0, 1\]-pixel units"):
            plan(radii)
    for futility in (0, 0.6, float("nan")):
        with pytest.raises(ValueError, match=r"expected futility in \(0, 0.5\]"):
            plan(futility=futility)
    with pytest.raises(ValueError, match="expected n >= 10"):
        plan(n=9)
    with pytest.raises(ValueError, match=r"expected alpha in \(0, 1\)"):
        plan(alpha=0)
    with pytest.raises(ValueError, match="expected a finite sigma > 0"):
        plan().check(0.0)


@pytest.mark.parametrize("plan", [sequential_plan, closed_form_plan])
def test_unanimous_votes_certify_all_radii_and_stop(plan: Any) -> None:
    made = plan((0, 0.25, 0.5, 0.75))
    certificate, asked = drive(made, 0.25, unanimous())
    assert (certificate.prediction, certificate.radius) == (1, 0.75)
    assert certificate.p_lower == norm.cdf(3)
    assert (certificate.undecided, certificate.out_of_reach, certificate.radii) == ((), (), (0, 0.25, 0.5, 0.75))
    assert (certificate.n0, certificate.n, certificate.plan) == (0, asked[-1][1], made.name)
    # 0.75 is 3 sigma: 5114 unanimous votes at the full alpha, a few more at the share that a look before the last has.
    assert 5114 <= certificate.n < 12_000
    looks = made.boundaries(0.25)[-1].looks.tolist()
    assert asked == [(ESTIMATION, look) for look in looks[: len(asked)]]
    assert {purpose for purpose, _ in asked} == {ESTIMATION}


def test_a_radius_out_of_reach_costs_nothing_and_is_said() -> None:
    # 1.0 is 4 sigma: 218,105 unanimous votes.
    with_it, _ = drive(sequential_plan((0.25, 1.0)), 0.25, unanimous())
    without, _ = drive(sequential_plan((0.25,)), 0.25, unanimous())
    assert with_it.out_of_reach == (1.0,)
    assert (with_it.radius, with_it.n) == (without.radius, without.n) == (0.25, with_it.n)
    assert with_it.undecided == ()


@pytest.mark.parametrize("plan", [sequential_plan, closed_form_plan])
def test_a_grid_out_of_reach_is_an_error_that_says_how_many_samples(plan: Any) -> None:
    small = plan((1.0, 1.1), n=10_000)
    with pytest.raises(ValueError, match=r"expected n >= 2\d\d\d\d\d: .* never certify the radius 1.0") as error:
        small.check(0.25)
    least = int(str(error.value).split("n >= ")[1].split(":")[0])
    plan((1.0, 1.1), n=least).check(0.25)
    with pytest.raises(ValueError, match="expected n >= inf"):
        plan((100.0,)).check(0.25)


def test_split_votes_are_given_up_early() -> None:
    certificate, _ = drive(sequential_plan((0.25, 0.5)), 0.25, random_votes([0.4, 0.35, 0.25], 0))
    assert (certificate.prediction, certificate.radius, certificate.undecided) == (ABSTAIN, 0.0, ())
    assert certificate.p_lower == 0.0
    assert certificate.n < 500


def test_votes_at_the_edge_are_undecided_at_the_end() -> None:
    p = float(norm.cdf(1.0))  # just at the radius: neither is to be shown
    runs = [drive(sequential_plan((0.0, 0.25), n=2000), 0.25, random_votes([p, 1 - p], seed))[0] for seed in range(200)]
    undecided = [c for c in runs if c.undecided]
    assert undecided
    for certificate in undecided:
        assert certificate.undecided == (0.25,)
        assert (certificate.radius, certificate.prediction, certificate.n) == (0.0, 0, 2000)
        assert certificate.p_lower == 0.5


def test_nothing_is_certified_above_a_radius_that_was_given_up() -> None:
    # Votes that fail the small radius at the first looks, and then are unanimous: the larger radius stays uncertified.
    def draw(purpose: str, start: int, stop: int) -> Votes:
        some = stop - start
        return np.array([some, 0]) if start else np.array([some // 2, some - some // 2])

    certificate, asked = drive(sequential_plan((0.25, 0.5)), 0.25, draw)
    assert certificate.prediction == ABSTAIN
    assert len(asked) == 1


def test_two_classes_never_share_a_certificate() -> None:
    # Class 0 wins the small radius; then all votes go to class 1, which may not inherit the class 0 certificate.
    def draw(purpose: str, start: int, stop: int) -> Votes:
        some = stop - start
        return np.array([0, some]) if start >= 64 else np.array([some, 0])

    certificate, _ = drive(sequential_plan((0.0, 0.25), n=20_000, futility=1e-6), 0.25, draw)
    assert (certificate.prediction, certificate.radius) == (0, 0.0)
    assert certificate.count == certificate.counts[0]


# Truth: the reported class has probability above Phi(radius / sigma). Null hypothesis: false with probability at most
# alpha. A false alarm of each test has probability 1e-6.
NULLS = [
    [float(norm.cdf(0.5)), float(norm.sf(0.5)), 0.0],  # exactly at the lowest radius
    [float(norm.cdf(1.0)), float(norm.sf(1.0)) / 2, float(norm.sf(1.0)) / 2],  # exactly at the next
    [float(norm.cdf(2.0)), float(norm.sf(2.0)), 0.0],
    [0.5, 0.5, 0.0],  # no majority: both claims would be false
    [0.51, 0.49, 0.0],
    [1 / 3, 1 / 3, 1 / 3],
]


@pytest.mark.parametrize("plan", [sequential_plan, closed_form_plan])
@pytest.mark.parametrize("grid", [(0.25, 0.5, 1.0), (0.0, 0.25, 0.5, 1.0), (0.02, 0.25)])
@pytest.mark.parametrize("p", NULLS)
def test_false_certificates_are_as_rare_as_promised(plan: Any, grid: tuple[float, ...], p: list[float]) -> None:
    sigma, runs, made = 0.5, 1200, plan(grid, n=600, alpha=ALPHA)
    false = 0
    for seed in range(runs):
        certificate, _ = drive(made, sigma, random_votes(p, seed))
        if certificate.prediction != ABSTAIN:
            false += p[certificate.prediction] <= float(norm.cdf(certificate.radius / sigma))
    assert false <= binom.isf(LEVEL, runs, ALPHA)


def test_the_exact_plan_spends_its_alpha() -> None:
    # A plan that is much more careful than it says would pass the test above, and waste the users' samples.
    p, runs, made = float(norm.cdf(1.0)), 3000, sequential_plan((0.5,), n=600, alpha=ALPHA)
    false = sum(drive(made, 0.5, random_votes([p, 1 - p], seed))[0].radius == 0.5 for seed in range(runs))
    level = made.boundaries(0.5)[0]
    assert level is not None
    assert 0.9 * ALPHA < level.error <= ALPHA
    # Giving up early takes some of the false alarms away, no more than futility may.
    assert binom.isf(1 - LEVEL, runs, 0.6 * level.error) < false <= binom.isf(LEVEL, runs, level.error)


def test_sequential_needs_fewer_samples_than_closed_form_and_both_fewer_than_fixed() -> None:
    # What is saved is no promise, and 60 images by a boundary vary much: these are the same votes from any seed.
    means = []
    for plan in (sequential_plan, closed_form_plan):
        made = plan((0.25, 0.5), n=100_000)
        samples = [drive(made, 0.25, random_votes([p, 1 - p], 7 - SHIFT))[0].n for p in np.linspace(0.4, 0.999, 60)]
        means.append(np.mean(samples))
    assert means[0] < means[1] < 20_000


def test_only_a_whole_beginning_of_the_grid_for_one_class_counts() -> None:
    assert _prefix({}) is None
    assert _prefix({0: 4}) == 0
    assert _prefix({0: 4, 1: 4, 2: 4}) == 2
    assert _prefix({0: 4, 2: 4}) == 0  # radius 1 is missing
    assert _prefix({1: 4, 2: 4}) is None
    assert _prefix({0: 4, 1: 5}) == 0  # another class


def test_a_radius_next_to_zero_is_refused_and_not_called_a_matter_of_samples() -> None:
    words = "expected radii that are 0 or not so close to it, got 1e-06 at sigma=0.25"
    for radii in ((1e-6, 0.25), (0.0, 1e-6, 0.25)):
        with pytest.raises(ValueError, match=words):
            sequential_plan(radii, n=3000).check(0.25)
        closed_form_plan(radii, n=3000).check(0.25)
    sequential_plan((0.0, 0.001, 0.25), n=3000).check(0.25)
