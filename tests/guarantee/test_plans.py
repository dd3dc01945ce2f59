"""The plan that arguments ask for, and what plans say of themselves."""

from __future__ import annotations

import pytest

from robust_hub.guarantee.plans import closed_form_plan, fixed_plan, make_plan, radius_plan, sequential_plan


def test_radii_ask_for_a_sequential_plan() -> None:
    assert make_plan(None) == fixed_plan()
    assert make_plan(None, n=500, alpha=0.01) == fixed_plan(n=500, alpha=0.01)
    assert make_plan(None, radii=[0.25, 0.5], n=500) == sequential_plan((0.25, 0.5), 500)
    with pytest.raises(ValueError, match="expected no n0 and no bound beside radii"):
        make_plan(None, radii=[0.25], n0=10)
    with pytest.raises(ValueError, match="expected no n0 and no bound beside radii"):
        make_plan(None, radii=[0.25], bound="runner_up")
    assert make_plan(None, radii=[0.25], bound="complement") == sequential_plan((0.25,))
    with pytest.raises(TypeError, match="unexpected keyword argument 'samples'"):
        make_plan(None, samples=500)  # type: ignore[call-arg]


def test_a_plan_for_another_alpha_is_refused() -> None:
    plan = sequential_plan((0.25, 0.5), n=1000, alpha=0.01)
    assert make_plan(plan) is plan
    assert make_plan(plan, alpha=0.01, n=1000, radii=[0.25, 0.5], n0=0, bound="complement") is plan
    for name, value in {"alpha": 0.001, "n": 999, "radii": [0.25], "n0": 100, "bound": "runner_up"}.items():
        with pytest.raises(ValueError, match=rf"expected {name} as the plan has it, .*: leave it out"):
            make_plan(plan, **{name: value})
    with pytest.raises(TypeError, match="expected a plan of robust_hub.guarantee.plans, got str"):
        make_plan("sequential")  # type: ignore[arg-type]


def test_plans_say_what_they_are() -> None:
    assert fixed_plan().describe() == {"plan": "fixed", "n0": 100, "n": 100_000, "alpha": 0.001, "bound": "complement"}
    own = {"radii": [0.25], "n": 500, "alpha": 0.001, "futility": 0.1}
    assert sequential_plan((0.25,), 500).describe() == {"plan": "sequential", **own}
    assert closed_form_plan((0.25,), 500).describe() == {"plan": "closed_form", **own}
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
