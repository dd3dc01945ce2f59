"""The paper's plan and the prediction: one look, its arguments, its smallest n."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
from courses import drive

from robust_hub.guarantee.bounds import smallest_n
from robust_hub.guarantee.certificate import ABSTAIN, certify_counts
from robust_hub.guarantee.fixed import FixedPlan, fixed_plan
from robust_hub.guarantee.look import ESTIMATION, PREDICTION, SELECTION
from robust_hub.guarantee.pilot import radius_plan
from robust_hub.guarantee.prediction import check_prediction, predict_counts, prediction_course
from robust_hub.guarantee.sequential import sequential_plan


def test_defaults_are_the_papers() -> None:
    plan = fixed_plan()
    assert plan == FixedPlan(n0=100, n=100_000, alpha=0.001, bound="complement")
    with pytest.raises(FrozenInstanceError):
        plan.n = 5  # type: ignore[misc]


def test_a_fixed_budget_is_one_stage() -> None:
    draws = {SELECTION: np.array([3, 7]), ESTIMATION: np.array([20, 280])}
    certificate, asked = drive(fixed_plan(10, 300, 0.01), 0.5, lambda purpose, start, stop: draws[purpose])
    assert asked == [(SELECTION, 10), (ESTIMATION, 300)]
    assert certificate == certify_counts([3, 7], [20, 280], 0.5, 0.01)
    assert (certificate.plan, certificate.radii, certificate.samples) == ("fixed", None, 310)


def test_a_fixed_plan_can_always_certify_where_sigma_is_one() -> None:
    fixed_plan().check(0.5)
    with pytest.raises(ValueError, match="expected a finite sigma > 0"):
        fixed_plan().check(0.0)


@pytest.mark.parametrize("bound", ["complement", "runner_up"])
@pytest.mark.parametrize("alpha", [0.001, 0.05, 0.3])
def test_smallest_n_is_named_and_right(alpha: float, bound: str) -> None:
    least = next(n for n in range(1, 50) if not certify_counts([1, 0], [n, 0], 1.0, alpha, bound).abstained)
    assert fixed_plan(1, least, alpha, bound) == FixedPlan(1, least, alpha, bound)
    few = least - 1
    with pytest.raises(
        ValueError,
        match=rf"expected n >= {least}: at alpha={alpha} even {few} unanimous votes certify nothing, got n={few}",
    ):
        fixed_plan(1, few, alpha, bound)


@pytest.mark.parametrize("value", [0, -3, 10.5, "100", None, True])
def test_samples_that_are_no_whole_number(value: int) -> None:
    with pytest.raises(ValueError, match=r"expected n0 to be a whole number, at least 1, got"):
        fixed_plan(n0=value)
    with pytest.raises(ValueError, match=r"expected n to be a whole number, at least 1, got"):
        fixed_plan(n=value)


def test_alpha_and_bound_are_checked() -> None:
    with pytest.raises(ValueError, match=r"expected alpha in \(0, 1\).*got 1.0"):
        fixed_plan(alpha=1.0)
    with pytest.raises(ValueError, match=r"expected bound to be one of .*got 'other'"):
        fixed_plan(bound="other")


def test_a_prediction_is_one_look() -> None:
    course = prediction_course(20, 0.05)
    (look,) = next(course)
    assert (look.purpose, look.upto, look.limit) == (PREDICTION, 20, 20)
    with pytest.raises(StopIteration) as end:
        course.send([np.array([1, 19])])
    assert end.value.value == 1


@pytest.mark.parametrize(("n", "alpha", "least"), [(10, 0.001, 11), (4, 0.05, 6)])
def test_predictions_that_could_only_abstain_are_refused(n: int, alpha: float, least: int) -> None:
    with pytest.raises(
        ValueError, match=f"expected n >= {least}: at alpha={alpha} fewer votes always abstain, got n={n}"
    ):
        check_prediction(n, alpha)
    for votes, abstains in ((least, False), (least - 1, True)):
        assert (predict_counts([votes, 0], alpha) == ABSTAIN) is abstains
    check_prediction(least, alpha)
    with pytest.raises(ValueError, match="expected n to be a whole number"):
        check_prediction(20.5, alpha)  # type: ignore[arg-type]


@pytest.mark.parametrize("form", [float, np.float64, np.float32, np.float16, lambda v: np.array(v)])
def test_plans_hold_plain_numbers_whoever_made_them(form: Callable[[float], Any]) -> None:
    made = [
        fixed_plan(form(10), form(1000), form(0.25)),
        sequential_plan([form(0), form(0.5)], form(1000), form(0.25), form(0.25)),
        radius_plan(form(0.5), form(2), form(1000), form(0.25)),
    ]
    plain = [fixed_plan(10, 1000, 0.25), sequential_plan((0, 0.5), 1000, 0.25, 0.25), radius_plan(0.5, 2, 1000, 0.25)]
    assert made == plain
    assert json.dumps([one.describe() for one in made]) == json.dumps([one.describe() for one in plain])
    assert certify_counts([9, 1], [900, 100], form(0.25), form(0.25)) == certify_counts([9, 1], [900, 100], 0.25, 0.25)
    assert smallest_n(form(0.25)) == smallest_n(0.25)
