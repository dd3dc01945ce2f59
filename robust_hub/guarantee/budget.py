"""What every plan spends, samples and alpha, and whether they can certify anything."""

from __future__ import annotations

from robust_hub.guarantee.bounds import check_alpha, smallest_n
from robust_hub.numbers import whole_number


def check_samples(name: str, value: int) -> int:
    """Give a number of samples as an int; refuse what is not a whole number, at least 1."""
    return whole_number(f"{name} to be a whole number, at least 1", value)


def check_budget(n: int, alpha: float, bound: str = "complement") -> tuple[int, float]:
    """Give samples and a failure probability; refuse those with which unanimous votes would still abstain."""
    alpha = check_alpha(alpha)
    n = check_samples("n", n)
    least = smallest_n(alpha, bound)
    if n < least:
        raise ValueError(f"expected n >= {least}: at alpha={alpha} even {n} unanimous votes certify nothing, got n={n}")
    return n, alpha
