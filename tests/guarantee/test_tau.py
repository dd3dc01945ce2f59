"""What a certificate pays for noise that is only nearly the theorem's, plan by plan."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from courses import drive, random_votes, unanimous
from scipy.stats import binom, norm

from robust_hub.guarantee import boundaries
from robust_hub.guarantee.boundaries import acceptance_counts, boundary, stray_probability
from robust_hub.guarantee.bounds import TAU, lower_confidence_bound, smallest_n, upper_confidence_bound
from robust_hub.guarantee.certificate import ABSTAIN, certified_radius, certify_counts
from robust_hub.guarantee.fixed import fixed_plan
from robust_hub.guarantee.pilot import radius_plan
from robust_hub.guarantee.plans import Plan
from robust_hub.guarantee.prediction import predict_counts, prediction_course
from robust_hub.guarantee.sequential import closed_form_plan, sequential_plan

PLANS = [
    fixed_plan(100, 2000),
    fixed_plan(100, 2000, bound="runner_up"),
    radius_plan(0.05, n=2000),
    sequential_plan((0.0, 0.25), 2000),
    closed_form_plan((0.1, 0.25), 2000),
]
TAUS = [TAU, 2.0**-20, 1e-3, 0.05]


def test_the_constant_covers_the_noise_of_large_images() -> None:
    # (#T + 2) 2^-65 a coordinate, #T thresholds within 9.16 standard deviations: docs/statistics.md.
    thresholds = 2 * 9.16 * 255 * 1.0
    assert 3 * 224 * 224 * (thresholds + 2) * 2.0**-65 < TAU / 5
    assert TAU == 1e-10


@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize("count", [700, 990, 1000])
def test_p_lower_loses_tau_and_p_upper_gains_it(count: int, tau: float) -> None:
    votes = [count, 1000 - count, 0]
    got = certify_counts([9, 1, 0], votes, 0.5, 0.01, tau=tau)
    low = lower_confidence_bound(count, 1000, 0.01)
    assert got.tau == tau
    assert Fraction(got.p_lower) <= Fraction(low) - Fraction(tau) < Fraction(got.p_lower) + Fraction(1, 10**15)
    assert Fraction(got.p_upper) == 1 - Fraction(got.p_lower)
    assert got.radius == certified_radius(got.p_lower, got.p_upper, 0.5)
    assert got.radius < certify_counts([9, 1, 0], votes, 0.5, 0.01).radius
    both = certify_counts([9, 1, 0], votes, 0.5, 0.01, "runner_up", tau)
    low, high = lower_confidence_bound(count, 1000, 0.005), upper_confidence_bound(1000 - count, 1000, 0.005)
    assert Fraction(both.p_lower) <= Fraction(low) - Fraction(tau) < Fraction(both.p_lower) + Fraction(1, 10**15)
    most = min(Fraction(high) + Fraction(tau), 1 - Fraction(both.p_lower))
    assert most <= Fraction(both.p_upper) < most + Fraction(1, 10**15)


def test_p_upper_is_rounded_up_below_one_half_too() -> None:
    rounded = 0
    for count in range(30, 50):
        got = certify_counts([9, 1], [count, 100 - count], 0.5, 0.01)
        assert 0 < got.p_lower < 0.5
        assert Fraction(got.p_upper) >= 1 - Fraction(got.p_lower)
        rounded += got.p_upper != 1 - got.p_lower
    assert rounded


def test_probabilities_stay_probabilities() -> None:
    got = certify_counts([9, 1], [3, 97], 0.5, 0.01, "runner_up", tau=0.4)
    assert (got.p_lower, got.p_upper, got.prediction) == (0.0, 1.0, ABSTAIN)
    alone = certify_counts([9], [100], 0.5, 0.01, "runner_up", tau=0.25)
    assert 0.25 <= alone.p_upper < 0.25 + 1e-12


def test_at_n_100_000_it_costs_less_than_a_millionth_of_sigma() -> None:
    for votes in ([100_000, 0], [99_000, 1000], [60_000, 40_000]):
        exact, paid = (certify_counts([1, 0], votes, 1.0, tau=tau).radius for tau in (0.0, TAU))
        assert 0 < exact - paid < 1e-6


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.describe()["plan"])
@pytest.mark.parametrize("tau", [0.0, TAU, 0.05])
def test_every_plan_pays_and_says_what(plan: Plan, tau: float) -> None:
    plan.check(0.25, tau)
    for seed in range(10):
        for p in ([0.9, 0.1], [0.5, 0.5]):
            got, exact = drive(plan, 0.25, random_votes(p, seed), tau)[0], drive(plan, 0.25, random_votes(p, seed))[0]
            assert got.tau == tau
            assert exact.tau == 0
            if tau == 0:
                assert got == exact
            assert got.radius <= exact.radius
            if got.radii is None and got.prediction != ABSTAIN and got.bound == "complement":
                paid = Fraction(lower_confidence_bound(got.count, got.n, got.alpha)) - Fraction(tau)
                assert Fraction(got.p_lower) <= paid < Fraction(got.p_lower) + Fraction(1, 10**15)


@pytest.mark.parametrize("plan", [sequential_plan, closed_form_plan])
@pytest.mark.parametrize("tau", [*TAUS, 0.03])
def test_nulls_of_a_grid_are_raised_and_p_lower_is_not(plan: Any, tau: float) -> None:
    radii = (0.0, 0.2, 0.4)
    made = plan(radii, 3000, 0.01)
    levels = made.boundaries(0.25, tau)
    assert levels[0] is not None and levels[2] is not None
    reserve = levels[0].stray
    for i, (radius, level) in enumerate(zip(radii, levels, strict=True)):
        null = float(norm.cdf(radius / 0.25))
        raised = math.nextafter(null + tau, 2)
        assert Fraction(raised) >= Fraction(null) + Fraction(tau)
        want = boundary(raised, 3000, 0.01, 0.1, reserve if i else 0.0, made.exact)
        assert want is not None and level is not None
        assert level.accept.tolist() == want.accept.tolist()
        assert (level.error, level.stray) == (want.error, want.stray)
    got = drive(made, 0.25, unanimous(), tau)[0]
    assert (got.prediction, got.radius, got.tau, got.p_lower) == (1, 0.4, tau, norm.cdf(0.4 / 0.25))
    exact = made.boundaries(0.25)
    assert tau < 1e-5 or any((a.accept != b.accept).any() for a, b in zip(levels, exact, strict=True) if a and b)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("tau", [TAU, 2.0**-20])
def test_radius_zero_stays_cheap_and_all_classes_are_covered(tau: float, exact: bool) -> None:
    alpha, moved = 0.01, 0
    for n in (1000, 30_000, 100_000, 1_000_000) if exact else (1000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000):
        null = math.nextafter(0.5 + tau, 1)
        level, plain = boundary(null, n, alpha, exact=exact), boundary(0.5, n, alpha, exact=exact)
        assert level is not None and plain is not None
        # What bounds all classes together is the sum at the null itself, where a true half may be.
        assert level.error <= stray_probability(level.looks, level.accept, null) <= alpha / 20
        assert level.stray <= alpha / 20
        moved += level.accept.tolist() != plain.accept.tolist()
        assert np.abs(level.accept - plain.accept).max() <= 1 + 1e-6 * n
    assert moved or tau < 1e-7


def test_radius_zero_leaves_the_other_radii_their_alpha() -> None:
    for plan in (sequential_plan, closed_form_plan):
        exact, paid = (plan((0.0, 0.25), 3000, 0.05).boundaries(0.25, tau) for tau in (0.0, TAU))
        assert [level.accept.tolist() for level in exact] == [level.accept.tolist() for level in paid]


def test_a_grid_that_tau_puts_out_of_reach() -> None:
    plan = sequential_plan((0.75,), 10_000)  # three sigma, 0.99865: with 0.001 more, few samples never show it
    plan.check(0.25)
    with pytest.raises(ValueError, match=r"expected n >= \d+: .* never certify the radius 0.75"):
        plan.check(0.25, 0.001)
    with pytest.raises(ValueError, match=r"expected n >= \d+: .* never certify the radius 0.75"):
        next(plan.course(0.25, 0.001))
    with pytest.raises(ValueError, match="expected n >= inf"):
        plan.check(0.25, 0.1)
    with pytest.raises(ValueError, match="expected n >= inf"):
        next(sequential_plan((100.0,)).course(0.25))


@pytest.mark.parametrize("tau", [-1e-10, 0.5, 1, math.nan, math.inf, "0", None, True])
def test_tau_outside_its_range(tau: Any) -> None:
    for call in (
        lambda: certify_counts([1], [1], 0.5, tau=tau),
        lambda: predict_counts([1], tau=tau),
        *(lambda plan=plan: plan.check(0.5, tau) for plan in PLANS),
        lambda: next(PLANS[-1].course(0.5, tau)),
    ):
        with pytest.raises(ValueError, match=r"expected tau in \[0, 0.5\), the total variation between a sample's"):
            call()


def test_predictions_are_made_against_a_null_above_one_half() -> None:
    # 7 classes and tau = 0.01: 1/2 + 0.07 / 0.93 of the votes of two classes may be wrong ones.
    null, n = 0.5 + 0.07 / 0.93, 400
    for first in range(200, n):
        want = 0 if 2 * binom.sf(first - 1, n, null) <= 0.05 else ABSTAIN
        assert predict_counts([first, n - first, 0, 0, 0, 0, 0], 0.05, 0.01) == want
    assert predict_counts([220, 170, 10], 0.05) == 0
    assert predict_counts([220, 170, 10], 0.05, 0.1) == ABSTAIN
    assert predict_counts([400, 0], 0.05, 0.2) == ABSTAIN  # 2 tau = 0.4: nothing is known of the class
    course = prediction_course(400, 0.05, 0.1)
    next(course)
    with pytest.raises(StopIteration) as end:
        course.send([np.array([220, 170, 10])])
    assert end.value.value == ABSTAIN


def test_ties_of_alpha_and_a_tail_are_kept() -> None:
    # 2 (1/2)^11 = 2^-10 exactly: as `check_prediction` promises, unanimous votes are enough.
    assert predict_counts([11, 0], 2.0**-10) == 0
    assert predict_counts([11, 0], math.nextafter(2.0**-10, 0)) == ABSTAIN
    assert predict_counts([11, 0], 2.0**-10, TAU) == ABSTAIN


class Inverse:
    """scipy's binomial law with an inverse that is off."""

    def __init__(self, off: float) -> None:
        self.off = off

    def isf(self, *values: Any) -> Any:
        return binom.isf(*values) + self.off

    def __getattr__(self, name: str) -> Any:
        return getattr(binom, name)


@pytest.mark.parametrize("off", [-7, -1, 1, 2, 7, 5000, math.nan])
def test_a_wrong_inverse_moves_no_boundary(off: float, monkeypatch: pytest.MonkeyPatch) -> None:
    looks, levels = np.array([32, 100, 1000]), np.array([1e-4, 1e-3, 0.01])
    right = acceptance_counts(looks, 0.8, levels)
    monkeypatch.setattr(boundaries, "binom", Inverse(off))
    assert acceptance_counts(looks, 0.8, levels).tolist() == right.tolist()


def test_other_arguments() -> None:
    with pytest.raises(ValueError, match="expected a finite sigma > 0"):
        certify_counts([1], [1], True)
    with pytest.raises(ValueError, match=r"expected alpha in \(0, 1\)"):
        smallest_n(5e-324, "runner_up")  # half of it is 0
    assert replace(certify_counts([1, 0], [100, 0], 0.5, tau=TAU), tau=0.0).tau == 0
