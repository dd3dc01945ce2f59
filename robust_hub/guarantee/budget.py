"""What every plan spends, samples and alpha, and whether they can certify anything."""

from __future__ import annotations

from numbers import Integral

from robust_hub.guarantee.bounds import check_alpha, smallest_n


def check_samples(name: str, value: int) -> None:
    """Refuse a number of samples that is not a whole number, at least 1."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"expected {name} to be a whole number, at least 1, got {value!r}")


def check_budget(n: int, alpha: float, bound: str = "complement") -> None:
    """Refuse samples and a failure probability with which unanimous votes would still abstain."""
    check_alpha(alpha)
    check_samples("n", n)
    least = smallest_n(alpha, bound)
    if n < least:
        raise ValueError(f"expected n >= {least}: at alpha={alpha} even {n} unanimous votes certify nothing, got n={n}")
