"""The fixed plan: what it says and what it refuses."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from robust_hub.certificate import certify_counts
from robust_hub.plans import Plan, fixed_plan


def test_defaults_are_the_papers() -> None:
    plan = fixed_plan()
    assert plan == Plan(n0=100, n=100_000, alpha=0.001, bound="complement")
    with pytest.raises(FrozenInstanceError):
        plan.n = 5  # type: ignore[misc]


@pytest.mark.parametrize("bound", ["complement", "runner_up"])
@pytest.mark.parametrize("alpha", [0.001, 0.05, 0.3])
def test_smallest_n_is_named_and_right(alpha: float, bound: str) -> None:
    least = next(n for n in range(1, 50) if not certify_counts([1, 0], [n, 0], 1.0, alpha, bound).abstained)
    assert fixed_plan(1, least, alpha, bound) == Plan(1, least, alpha, bound)
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
