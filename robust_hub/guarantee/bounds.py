"""Confidence bounds on a probability, held by their own tails, and what the total variation of the noise adds.

Nothing here knows a class, a radius or a network.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from scipy.special import betainc, betaincc, betainccinv, betaincinv

from robust_hub.numbers import real_number, whole_number

BOUNDS = ("complement", "runner_up")
# Rounded Gaussian noise from 64-bit words is within this total variation of the true law of one sample: 2e-11 for
# 224 x 224 pixels at sigma 1. docs/statistics.md, "Lattice noise", has the sum; larger images are refused.
TAU = 1e-10
_TAIL_ERROR = 1e-12  # times the size of the counts, see `spendable`: above the relative error of scipy's binomial tails


def check_alpha(alpha: float) -> float:
    """Give a failure probability as a float; refuse one outside (0, 1)."""
    return real_number("alpha in (0, 1), the failure probability of one certificate", alpha, above=0, below=1)


def check_tau(tau: float) -> float:
    """Give a total variation as a float; refuse what is no number in [0, 1/2)."""
    what = "tau in [0, 0.5), the total variation between a sample's noise and the theorem's"
    return real_number(what, tau, least=0, below=0.5)


def raise_by(p: float, tau: float) -> float:
    """Add a total variation to a probability, rounded up and at most 1; p itself where tau is 0."""
    return min(1.0, math.nextafter(p + tau, 2.0)) if tau else p


def lower_by(p: float, tau: float) -> float:
    """Take a total variation off a probability, rounded down and at least 0; p itself where tau is 0."""
    return max(0.0, math.nextafter(p - tau, -1.0)) if tau else p


def lower_confidence_bound(count: int, n: int, alpha: float) -> float:
    """Bound a success probability from below.

    With probability at least 1 - alpha over the n samples, the result is at most the true probability.

    Inverses of the binomial tail are wrong in places: scipy's near count = n - 999, most of all for large n. Here the
    inverse is only a start: it is widened until the tail itself, P(Bin(n, bound) >= count), is at most alpha. Only
    the tail has to be right. Against sums of 60 digits, for n up to 1e9 and alpha from 0.999 to 1e-100, its relative
    error was below half of what is left for it, 1e-12 (sqrt(1 + min(count, n - count)) + n / 50,000).

    Args:
        count: Successes, 0 <= count <= n.
        n: Samples, at least 1.
        alpha: Failure probability, in (0, 1).

    Returns:
        The bound, in [0, 1].

    Raises:
        ValueError: If an argument is outside its range.

    Example:
        >>> round(lower_confidence_bound(990, 1000, alpha=0.001), 3)
        0.976

    Source: Clopper & Pearson 1934; Cohen et al. 2019, LowerConfBound.
    """
    alpha = check_alpha(alpha)
    count, n = _check_count(count, n)
    if count == 0:
        return 0.0
    spent = spendable(count, n, alpha)
    start = math.exp(math.log(spent) / n) if count == n else float(betaincinv(count, n - count + 1, spent))
    return _widen(start, 0.0, lambda p: bool(betainc(count, n - count + 1, p) <= spent))


def upper_confidence_bound(count: int, n: int, alpha: float) -> float:
    """Bound a success probability from above.

    With probability at least 1 - alpha over the n samples, the result is at least the true probability: the tail
    P(Bin(n, bound) <= count) is at most alpha, held as in `lower_confidence_bound`.

    Args:
        count: Successes, 0 <= count <= n.
        n: Samples, at least 1.
        alpha: Failure probability, in (0, 1).

    Returns:
        The bound, in [0, 1].

    Raises:
        ValueError: If an argument is outside its range.

    Example:
        >>> round(upper_confidence_bound(10, 1000, alpha=0.001), 3)
        0.024

    Source: Clopper & Pearson 1934, the lower bound on the failures' side.
    """
    alpha = check_alpha(alpha)
    count, n = _check_count(count, n)
    if count == n:
        return 1.0
    # Not 1 - the lower bound of the failures: near 1 a lower bound has too few digits for that.
    spent = spendable(count, n, alpha)
    start = -math.expm1(math.log(spent) / n) if count == 0 else float(betainccinv(count + 1, n - count, spent))
    return _widen(start, 1.0, lambda p: bool(betaincc(count + 1, n - count, p) <= spent))


def smallest_n(alpha: float, bound: str = "complement") -> int:
    """Count the samples below which no vote can ever certify: the smallest n with (alpha's share)^(1/n) > 1/2.

    Returns:
        The number of samples.

    Raises:
        ValueError: If alpha or bound are not as described.

    Example:
        >>> smallest_n(0.001), smallest_n(0.001, "runner_up")
        (10, 11)
    """
    alpha = check_alpha(alpha)
    if bound not in BOUNDS:
        raise ValueError(f"expected bound to be one of {BOUNDS}, got {bound!r}")
    share = alpha if bound == "complement" else alpha / 2
    check_alpha(share)
    n = max(1, math.floor(math.log(share) / math.log(0.5)))
    while not lower_confidence_bound(n, n, share) > 0.5:
        n += 1
    return n


def spendable(count: int, n: int, alpha: float) -> float:
    """Give what a computed tail may reach, so that the true one is at most alpha."""
    return alpha * (1 - _TAIL_ERROR * (math.sqrt(1 + min(count, n - count)) + n / 50_000))


def _widen(start: float, end: float, holds: Callable[[float], bool]) -> float:
    """Move a bound from start to end, 0 or 1, until it holds; at the end any bound does.

    Each step is four times the last, then the last one is halved down. A start that is no probability is replaced.
    """
    start = start if 0 < start < 1 else 1 - end
    unit, step, good, bad = min(start, 1 - start) or 1.0, 2.0**-53, start, start
    while good != end and not holds(good):
        bad, moved = good, unit * step
        good = max(end, start - moved) if end == 0 else min(end, start + moved)
        step *= 4
    while abs(good - bad) > 1e-12 * unit and (middle := (good + bad) / 2) not in (good, bad):
        good, bad = (middle, bad) if holds(middle) else (good, middle)
    return good


def _check_count(count: int, n: int) -> tuple[int, int]:
    n = whole_number("n to be a whole number, at least 1", n)
    return whole_number(f"0 <= count <= n, of n={n} samples", count, 0, n), n
