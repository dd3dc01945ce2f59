"""How many samples an image gets, and how alpha is spent on them.

A plan is fixed before the first sample is drawn, and says what its certificates guarantee: `fixed_plan` (the paper's),
`sequential_plan` and `closed_form_plan` (a grid of radii), `radius_plan` (a pilot). Each has a file of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, TypeAlias, TypedDict, Unpack

from robust_hub.budget import check_samples
from robust_hub.fixed import FixedPlan, fixed_plan
from robust_hub.pilot import RadiusPlan, radius_plan
from robust_hub.sequential import RADII, GridPlan, closed_form_plan, sequential_plan

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
            raise TypeError(f"expected a plan of robust_hub.plans, got {type(plan).__name__}")
        own = {"bound": "complement", "n0": 0, **asdict(plan)}
        for name, value in given.items():
            value = tuple(value) if name == "radii" else value
            if own.get(name) != value:
                raise ValueError(f"expected {name} as the plan has it, {own.get(name)}, got {value}: leave it out")
        return plan
    if "radii" not in given:
        return fixed_plan(**given)
    if "n0" in given or given.pop("bound", "complement") != "complement":
        raise ValueError("expected no n0 and no bound beside radii: no sample selects the class, p_B <= 1 - p_A")
    given.pop("bound", None)
    return sequential_plan(**given)  # type: ignore[arg-type]


def check_samples(name: str, value: int) -> None:
    """Refuse a number of samples that is not a whole number, at least 1."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"expected {name} to be a whole number, at least 1, got {value!r}")


def fixed_plan(n0: int = 100, n: int = 100_000, alpha: float = 0.001, bound: str = "complement") -> FixedPlan:
    """Plan one look at n samples.

    A certificate of this plan is false with probability at most alpha.

    Args:
        n0: Samples that select the class, at least 1.
        n: Samples that bound its probability.
        alpha: Failure probability, in (0, 1).
        bound: "complement" or "runner_up".

    Returns:
        The plan.

    Raises:
        ValueError: If an argument is outside its range, or n so small that unanimous votes would still abstain.

    Example:
        >>> fixed_plan(n=1000).most
        1100

    Source: Cohen et al. 2019, Certify.
    """
    check_samples("n0", n0)
    _check(n, alpha, bound)
    return FixedPlan(n0, n, alpha, bound)


def sequential_plan(
    radii: Sequence[float] = RADII, n: int = 100_000, alpha: float = 0.001, futility: float = 0.1
) -> GridPlan:
    """Plan looks at 32, 64, ... n samples that stop when every radius is certified or given up.

    For any network and image fixed before the noise is drawn, the certificate, a class with the largest certified
    radius of the grid, is false with probability at most alpha, whatever the number of radii and of classes and
    whenever the course stops. No sample selects the class.

    Args:
        radii: The grid: increasing l2 radii in [0, 1]-pixel units; 0 asks for a class alone.
        n: Samples at the last look.
        alpha: Failure probability, in (0, 1).
        futility: Chance, in (0, 0.5], of giving up early an image that the whole budget would certify half of the
            time. It costs no alpha: giving up certifies nothing.

    Returns:
        The plan.

    Raises:
        ValueError: If an argument is outside its range.

    Example:
        >>> sequential_plan((0.25, 0.5), n=1000).radii
        (0.25, 0.5)

    Source: docs/statistics.md, with the proof.
    """
    return _grid(radii, n, alpha, futility, True)


def closed_form_plan(
    radii: Sequence[float] = RADII, n: int = 100_000, alpha: float = 0.001, futility: float = 0.1
) -> GridPlan:
    """Plan as `sequential_plan` does, with boundaries that need nothing but Clopper-Pearson.

    The certificate is false with probability at most alpha, by a union bound over the looks: half of alpha is the last
    look's, the others share the rest equally. Costs more samples and is checked with one line a look.

    Args:
        radii: The grid: increasing l2 radii in [0, 1]-pixel units; 0 asks for a class alone.
        n: Samples at the last look.
        alpha: Failure probability, in (0, 1).
        futility: As in `sequential_plan`.

    Returns:
        The plan.

    Raises:
        ValueError: If an argument is outside its range.

    Example:
        >>> closed_form_plan((0.25, 0.5), n=1000).radii
        (0.25, 0.5)

    Source: docs/statistics.md, with the proof.
    """
    return _grid(radii, n, alpha, futility, False)


def radius_plan(tol: float, max_radius: float | None = None, n: int = 100_000, alpha: float = 0.001) -> RadiusPlan:
    """Plan a pilot, and from it the fewest fresh samples that give the radius but for a tolerance.

    A certificate of this plan is false with probability at most alpha: class and number of samples depend on the
    pilot alone, and the bound uses none of its samples. How much radius is really given away is not guaranteed.

    Args:
        tol: Radius that may be given away, [0, 1]-pixel units.
        max_radius: Radius beyond which nothing is worth a sample; None for no such radius.
        n: Most samples of the second stage.
        alpha: Failure probability, in (0, 1).

    Returns:
        The plan.

    Raises:
        ValueError: If an argument is outside its range.

    Example:
        >>> radius_plan(0.01, max_radius=1.0).tol
        0.01

    Source: Chen et al. 2022 (input-specific sampling), with fresh samples; docs/statistics.md.
    """
    _check(n, alpha)
    if not (math.isfinite(tol) and tol > 0):
        raise ValueError(f"expected a finite tol > 0, a radius in [0, 1]-pixel units, got {tol!r}")
    if max_radius is not None and not (math.isfinite(max_radius) and max_radius > 0):
        raise ValueError(f"expected a finite max_radius > 0 in [0, 1]-pixel units, or None, got {max_radius!r}")
    return RadiusPlan(float(tol), None if max_radius is None else float(max_radius), n, alpha)


def _grid(radii: Sequence[float], n: int, alpha: float, futility: float, exact: bool) -> GridPlan:
    _check(n, alpha)
    grid = tuple(float(radius) for radius in radii)
    finite = all(math.isfinite(radius) and radius >= 0 for radius in grid)
    if not grid or not finite or any(a >= b for a, b in itertools.pairwise(grid)):
        raise ValueError(f"expected increasing finite radii >= 0 in [0, 1]-pixel units, got {tuple(radii)!r}")
    if not 0 < futility <= 0.5:
        raise ValueError(f"expected futility in (0, 0.5], got {futility!r}")
    return GridPlan(grid, n, alpha, float(futility), exact)


def _check(n: int, alpha: float, bound: str = "complement") -> None:
    check_alpha(alpha)
    check_samples("n", n)
    least = smallest_n(alpha, bound)
    if n < least:
        raise ValueError(f"expected n >= {least}: at alpha={alpha} even {n} unanimous votes certify nothing, got n={n}")
