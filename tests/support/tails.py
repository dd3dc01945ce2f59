"""Binomial tails to fifty digits, from the definition: sums of whole numbers, no incomplete beta function."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import mpmath
from mpmath import mpf

DIGITS, BITS = 50, 220


def tail(n: int, losses: int, p: float, other: bool = False) -> mpf:
    """P(Bin(n, p) >= n - losses) for a double p; with other, P(Bin(n, p) <= losses)."""
    with mpmath.workdps(DIGITS):
        one = mpf(p)
        win, lose = (1 - one, one) if other else (one, 1 - one)
        choose = mpmath.loggamma(n + 1) - mpmath.loggamma(losses + 1) - mpmath.loggamma(n - losses + 1)
        return _sum(n, losses, win, lose) * mpmath.exp(
            choose + losses * mpmath.log(lose) + (n - losses) * mpmath.log(win)
        )


def tails(n: int, p: Sequence[float], other: bool = False) -> Iterator[mpf]:
    """`tail` for losses = 0, 1, 2, ..., each at a p of its own; the binomial coefficient goes from one to the next."""
    with mpmath.workdps(DIGITS):
        choose = mpf(1)
        for losses, double in enumerate(p):
            one = mpf(float(double))
            win, lose = (1 - one, one) if other else (one, 1 - one)
            lead = choose * lose**losses * mpmath.exp((n - losses) * mpmath.log(win))
            yield _sum(n, losses, win, lose) * lead
            choose = choose * (n - losses) / (losses + 1)


def _sum(n: int, losses: int, win: mpf, lose: mpf) -> mpf:
    """Add up the terms of `losses` and fewer, in units of the first, until one is below 2^-140 of it."""
    ratio = int(mpmath.floor(mpmath.ldexp(win / lose, BITS)))
    term = total = 1 << BITS
    while losses and term >> (BITS - 140):
        term = term * ratio * losses // (n - losses + 1) >> BITS
        total += term
        losses -= 1
    return mpmath.ldexp(mpf(total), -BITS)
