"""The doors to plans: what they say and what they refuse."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from robust_hub.certificate import certify_counts
from robust_hub.plans import FixedPlan, closed_form_plan, fixed_plan, make_plan, radius_plan, sequential_plan


def test_defaults_are_the_papers() -> None:
    plan = fixed_plan()
    assert plan == FixedPlan(n0=100, n=100_000, alpha=0.001, bound="complement")
    with pytest.raises(FrozenInstanceError):
        plan.n = 5  # type: ignore[misc]


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


@pytest.mark.parametrize("value", [0, -3, 10.0, "100", None])
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


def test_radii_ask_for_a_sequential_plan() -> None:
    assert make_plan(None) == fixed_plan()
    assert make_plan(None, n=500, alpha=0.01) == fixed_plan(n=500, alpha=0.01)
    assert make_plan(None, radii=[0.25, 0.5], n=500) == sequential_plan((0.25, 0.5), 500)
    with pytest.raises(ValueError, match="expected no n0 and no bound beside radii"):
        make_plan(None, radii=[0.25], n0=10)
    with pytest.raises(ValueError, match="expected no n0 and no bound beside radii"):
        make_plan(None, radii=[0.25], bound="runner_up")
    assert make_plan(None, radii=[0.25], bound="complement") == sequential_plan((0.25,))


def test_a_plan_for_another_alpha_is_refused() -> None:
    plan = sequential_plan((0.25, 0.5), n=1000, alpha=0.01)
    assert make_plan(plan) is plan
    assert make_plan(plan, alpha=0.01, n=1000, radii=[0.25, 0.5], n0=0, bound="complement") is plan
    for name, value in {"alpha": 0.001, "n": 999, "radii": [0.25], "n0": 100, "bound": "runner_up"}.items():
        with pytest.raises(ValueError, match=rf"expected {name} as the plan has it, .*: leave it out"):
            make_plan(plan, **{name: value})
    with pytest.raises(TypeError, match="expected a plan of robust_hub.plans, got str"):
        make_plan("sequential")  # type: ignore[arg-type]


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


def test_radius_plan_arguments() -> None:
    for tol in (0, -1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="expected a finite tol > 0"):
            radius_plan(tol)
    with pytest.raises(ValueError, match="expected a finite max_radius > 0"):
        radius_plan(0.1, 0.0)
    with pytest.raises(ValueError, match="expected n >= 10"):
        radius_plan(0.1, n=5)
    with pytest.raises(ValueError, match="expected a finite sigma > 0"):
        radius_plan(0.1).check(-1.0)


def test_plans_say_what_they_are() -> None:
    assert fixed_plan().describe() == {"plan": "fixed", "n0": 100, "n": 100_000, "alpha": 0.001, "bound": "complement"}
    told = {"radii": [0.25], "n": 500, "alpha": 0.001, "futility": 0.1}
    assert sequential_plan((0.25,), 500).describe() == {"plan": "sequential", **told}
    assert closed_form_plan((0.25,), 500).describe() == {"plan": "closed_form", **told}
    assert radius_plan(0.1, n=500).describe() == {
        "plan": "radius",
        "tol": 0.1,
        "max_radius": None,
        "n": 500,
        "alpha": 0.001,
    }
    assert [plan.most for plan in (fixed_plan(), sequential_plan(n=500), radius_plan(0.1, n=10_000))] == [
        100_100,
        500,
        10_500,
    ]
