"""How many samples an image gets, and how alpha is spent on them.

A plan is fixed before the first sample is drawn. The fixed budget of the paper is a plan of one stage.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral

from robust_hub.certificate import check_alpha, smallest_n


@dataclass(frozen=True)
class Plan:
    """A sampling schedule with its share of alpha.

    Attributes:
        n0: Samples that select the class; they cost no alpha, since no bound uses them.
        n: Samples that bound the class's probability, none of them among the n0.
        alpha: Failure probability spent on the n samples.
        bound: "complement" (p_B <= 1 - p_A) or "runner_up" (alpha / 2 for either bound).
    """

    n0: int
    n: int
    alpha: float
    bound: str = "complement"


def check_samples(name: str, value: int) -> None:
    """Refuse a number of samples that is not a whole number, at least 1."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"expected {name} to be a whole number, at least 1, got {value!r}")


def fixed_plan(n0: int = 100, n: int = 100_000, alpha: float = 0.001, bound: str = "complement") -> Plan:
    """Plan one look at n samples.

    A certificate of this plan is false with probability at most alpha.

    Args:
        n0: Samples that select the class, at least 1.
        n: Samples that bound its probability.
        alpha: Failure probability, in (0, 1).
        bound: "complement" or "runner_up".

    Raises:
        ValueError: If an argument is outside its range, or n so small that unanimous votes would still abstain.

    Source: Cohen et al. 2019, Certify.
    """
    check_alpha(alpha)
    check_samples("n0", n0)
    check_samples("n", n)
    least = smallest_n(alpha, bound)
    if n < least:
        raise ValueError(f"expected n >= {least}: at alpha={alpha} even {n} unanimous votes certify nothing, got n={n}")
    return Plan(n0, n, alpha, bound)
