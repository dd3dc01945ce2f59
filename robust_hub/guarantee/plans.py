"""How many samples an image gets, and how alpha is spent on them.

A plan is fixed before the first sample is drawn, and says what its certificates guarantee: `fixed_plan` (the paper's),
`sequential_plan` and `closed_form_plan` (a grid of radii), `radius_plan` (a pilot). Each has a file of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, TypeAlias, TypedDict, Unpack

from robust_hub.guarantee.budget import check_samples
from robust_hub.guarantee.fixed import FixedPlan, fixed_plan
from robust_hub.guarantee.pilot import RadiusPlan, radius_plan
from robust_hub.guarantee.sequential import RADII, GridPlan, closed_form_plan, sequential_plan
from robust_hub.numbers import real_numbers

__all__ = [
    "RADII",
    "FixedPlan",
    "GridPlan",
    "Plan",
    "PlanArguments",
    "RadiusPlan",
    "check_samples",
    "closed_form_plan",
    "fixed_plan",
    "make_plan",
    "radius_plan",
    "sequential_plan",
]

Plan: TypeAlias = FixedPlan | GridPlan | RadiusPlan


class PlanArguments(TypedDict, total=False):
    """What a plan is asked for by; None, like a name that is left out, stands for the default.

    Attributes:
        n0: Samples that select the class; 100.
        n: Samples that bound its probability; 100,000.
        alpha: Failure probability; 0.001.
        bound: "complement", or "runner_up".
        radii: Radii to decide, by a sequential plan.
    """

    n0: int | None
    n: int | None
    alpha: float | None
    bound: str | None
    radii: Sequence[float] | None


def make_plan(plan: Plan | None, **arguments: Unpack[PlanArguments]) -> Plan:
    """Choose the plan that arguments ask for: the one given, a sequential one for radii, else the paper's.

    Args:
        plan: A plan, or None; what else is given must be what it says.
        **arguments: See `PlanArguments`.

    Raises:
        ValueError: If an argument is outside its range, or not the plan's.
        TypeError: If plan is none.
    """
    given: dict[str, Any] = {name: value for name, value in arguments.items() if value is not None}
    if plan is not None:
        if not isinstance(plan, FixedPlan | GridPlan | RadiusPlan):
            raise TypeError(f"expected a plan of robust_hub.guarantee.plans, got {type(plan).__name__}")
        own = {"bound": "complement", "n0": 0, **asdict(plan)}
        for name, value in given.items():
            value = real_numbers("radii >= 0", value, least=0) if name == "radii" else value
            if own.get(name) != value:
                raise ValueError(f"expected {name} as the plan has it, {own.get(name)}, got {value}: leave it out")
        return plan
    if "radii" not in given:
        return fixed_plan(**given)
    if "n0" in given or given.pop("bound", "complement") != "complement":
        raise ValueError("expected no n0 and no bound beside radii: no sample selects the class, p_B <= 1 - p_A")
    return sequential_plan(**given)
