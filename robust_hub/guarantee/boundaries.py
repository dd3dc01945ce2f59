"""When a sequential plan may stop: acceptance counts whose false alarms are computed exactly, and futility counts.

A walk S_n counts the votes of one class among the first n samples. At the planned looks n_1 < ... < n_K a radius is
accepted where S reaches c_k. All that a guarantee rests on is `crossing_probability`, the exact chance that a class of
probability p ever reaches its boundary; how the boundary was found does not matter to it.

Source: group-sequential tests (Jennison & Turnbull 1999), with an exact binomial recursion in place of the normal one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve
from scipy.special import betaincinv
from scipy.stats import binom

FIRST, GROWTH = 32, 1.1  # samples of the first look, and the factor from one look to the next
CLOSED_GROWTH = 1.25  # the same for looks that share alpha in closed form
SLACK = 1e-3  # share of alpha left unspent: above the round-off of the recursion
_SHAPE, _LAST = 0.25, 0.6  # a_k = A (n_k / n)^_SHAPE, and the share of alpha at the last look
_BOTTOM, _HALF = 0.05, 0.5 + 1e-6  # share of alpha that radius 0 may take in all, and where its null may lie
_TAIL = 10.0  # standard deviations kept of each step of the recursion; what lies beyond counts as crossing
_FFT = 400  # sizes from which a convolution is done by FFT
_BISECTIONS = 14

Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Boundary:
    """Where a plan stops for one radius, a count per look.

    Attributes:
        looks: Samples at each look, increasing, int64 (K,).
        accept: The radius is certified where the class has at least this many votes, int64 (K,); n_k + 1 is never.
        reject: Where it has at most this many, the radius is given up; this costs no alpha. int64 (K,), -1 is never.
        error: Probability that a class at the null probability is ever accepted, or a bound on it.
        stray: Sum over the looks of P(Bin(n_k, 1/2) >= c_k): bounds, together, all classes that are no majority.
    """

    looks: Counts
    accept: Counts
    reject: Counts
    error: float
    stray: float


@lru_cache(maxsize=256)
def look_schedule(n: int, first: int = FIRST, growth: float = GROWTH) -> tuple[int, ...]:
    """Plan the looks: `first` samples, then `growth` times as many each time in multiples of `first`, at last n.

    Args:
        n: Samples at the last look.
        first: Samples at the first look.
        growth: Factor from a look to the next, above 1.

    Raises:
        ValueError: If an argument is outside its range.
    """
    if n < 1 or first < 1 or not growth > 1:
        raise ValueError(f"expected n >= 1, first >= 1 and growth > 1, got {n}, {first} and {growth}")
    looks, x = {n}, float(first)
    while x < n / math.sqrt(growth):
        looks.add(math.ceil(x / first) * first)
        x *= growth
    return tuple(sorted(look for look in looks if look <= n))


def acceptance_counts(looks: Counts, p: float, levels: NDArray[np.float64]) -> Counts:
    """Find, for each look, the smallest c with P(Bin(n_k, p) >= c) <= levels[k].

    Args:
        looks: Samples at each look, int64 (K,).
        p: Probability of a vote, in (0, 1).
        levels: Largest probabilities, in (0, 1), float64 (K,).

    Returns:
        Counts, int64 (K,); n_k + 1 where even unanimous votes are not enough.
    """
    counts: Counts = np.nan_to_num(binom.isf(levels, looks, p)).astype(np.int64) + 1
    # The inverse may be off, at the ends of the range by far: what counts is the tail itself.
    wrong = (binom.sf(counts - 1, looks, p) > levels) | ((counts > 0) & (binom.sf(counts - 2, looks, p) <= levels))
    if wrong.any():
        counts[wrong] = _bisected(looks[wrong], p, levels[wrong])
    return counts


def _bisected(looks: Counts, p: float, levels: NDArray[np.float64]) -> Counts:
    low, high = np.full_like(looks, -1), looks + 1  # a tail above the level, and one that is 0
    while (high - low > 1).any():
        middle = (low + high) // 2
        holds = binom.sf(middle - 1, looks, p) <= levels
        low, high = np.where(holds, low, middle), np.where(holds, middle, high)
    return high


def crossing_probability(looks: Counts, counts: Counts, p: float) -> float:
    """Compute P(S_{n_k} >= c_k at some look k) for a binomial walk, by forward recursion over the count.

    The law of the count without a crossing is carried from look to look. Its far tails are cut and counted as
    crossing, so that the result errs upward, by less than 1e-12; round-off stays below 1e-10.

    Args:
        looks: Samples at each look, increasing, int64 (K,).
        counts: Votes that cross, int64 (K,).
        p: Probability of a vote, in (0, 1).

    Source: Armitage, McPherson & Rowe 1969.
    """
    law, offset, before, crossed = np.ones(1), 0, 0, 0.0
    for look, count in zip(looks.tolist(), counts.tolist(), strict=True):
        step = look - before
        spread = _TAIL * math.sqrt(step * p * (1 - p)) + 10
        low, high = max(0, int(step * p - spread)), min(step, int(step * p + spread))
        move = binom.pmf(np.arange(low, high + 1), step, p)
        crossed += float(law.sum()) * float(binom.cdf(low - 1, step, p) + binom.sf(high, step, p))
        large = min(law.size, move.size) > _FFT
        law = np.maximum(fftconvolve(law, move), 0.0) if large else np.convolve(law, move)
        offset += low
        stop = max(0, count - offset)
        crossed += float(law[stop:].sum())
        law, before = law[:stop], look
        if not law.size:
            break
    return crossed


def stray_probability(looks: Counts, counts: Counts, p: float = 0.5) -> float:
    """Sum P(Bin(n_k, p) >= c_k) over the looks."""
    return float(binom.sf(counts - 1, looks, p).sum())


def smallest_reach(p: float, alpha: float, exact: bool = True) -> int:
    """Count the samples below which no vote can ever show that a probability is above p.

    Args:
        p: The null probability, in [1/2, 1).
        alpha: Failure probability.
        exact: As in `boundary`.
    """
    last = _LAST if exact else 0.5 * (1 - SLACK)
    return max(1, math.ceil(math.log(last * _share(p, alpha)) / math.log(p) * (1 - 1e-12)))


@lru_cache(maxsize=4096)
def boundary(
    p: float, n: int, alpha: float, futility: float = 0.1, reserve: float = 0.0, exact: bool = True
) -> Boundary | None:
    """Build the boundary against the null hypothesis that a class has at most probability p.

    P(a class of probability at most p is ever accepted) <= error, with error + max(stray, reserve) <= alpha and
    2 stray <= alpha. Where p is 1/2, or above it by no more than a total variation of the noise, all classes may be at
    the null: there the sum of P(Bin(n_k, p) >= c_k) over the looks is at most alpha / 20 instead, which bounds error,
    stray and all classes together.

    Args:
        p: The null probability Phi(radius / sigma), and what the noise's total variation adds to it, in [1/2, 1).
        n: Samples at the last look.
        alpha: Failure probability, in (0, 1).
        futility: Chance of giving up early an image that the whole budget would certify half of the time.
        reserve: Part of alpha that is spent elsewhere: the stray probability of the lowest radius.
        exact: Whether error is the exact crossing probability and alpha is spent to the end; otherwise the looks
            share alpha in closed form and error is the sum of what each of them takes.

    Returns:
        The boundary, or None where n samples can never certify.
    """
    if n < smallest_reach(p, alpha, exact):
        return None
    looks = np.array(look_schedule(n, FIRST, GROWTH if exact else CLOSED_GROWTH), dtype=np.int64)

    def error(counts: Counts) -> float:
        return (crossing_probability if exact else stray_probability)(looks, counts, p)

    def fits(counts: Counts) -> bool:
        if p <= _HALF:
            return stray_probability(looks, counts, p) <= alpha * _BOTTOM
        stray = stray_probability(looks, counts)
        return max(error(counts) + max(stray, reserve), 2 * stray) <= alpha * (1 - SLACK)

    counts = (_exact if exact else _closed)(looks, p, alpha, fits)
    if counts is None or counts[-1] > n:
        return None
    # More than half: then the sum over k of P(Bin(n_k, q) >= c_k) is convex in q on [0, 1/2], as the proof needs it.
    counts = np.maximum(counts, looks // 2 + 1)
    reject = _futility(looks, p, _share(p, alpha), futility)
    return Boundary(looks, counts, reject, error(counts), stray_probability(looks, counts))


def _exact(looks: Counts, p: float, alpha: float, fits: Callable[[Counts], bool]) -> Counts | None:
    """Raise the boundary's level until alpha is spent, then lower the last count as far as it goes."""
    n = looks[-1]

    def accept(size: float) -> Counts:
        levels = np.minimum(size * (looks / n) ** _SHAPE, 0.5)
        levels[-1] = min(_LAST * _share(p, alpha), 0.5)
        return acceptance_counts(looks, p, levels)

    low, high = math.log(alpha * 1e-4), math.log(alpha)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(accept(math.exp(middle))) else (low, middle)
    counts = accept(math.exp(low))
    if not fits(counts):
        return None
    while True:
        fewer = counts.copy()
        fewer[-1] -= 1
        if not fits(fewer):
            return counts
        counts = fewer


def _closed(looks: Counts, p: float, alpha: float, fits: Callable[[Counts], bool]) -> Counts | None:
    """Give half of alpha to the last look and share the rest equally; half of all that where stray votes need theirs.

    A class is accepted at look k just where its Clopper-Pearson bound at level alpha_k lies above p.
    """
    shares = np.full(len(looks), 0.5 / max(1, len(looks) - 1))
    shares[-1] = 0.5
    for part in (1 - SLACK, 0.5):
        counts = acceptance_counts(looks, p, np.minimum(part * _share(p, alpha) * shares, 0.5))
        if fits(counts):
            return counts
    return None


def _share(p: float, alpha: float) -> float:
    """Give the part of alpha that a boundary may take: little at radius 0, where all classes are at the null."""
    return _BOTTOM * alpha if p <= _HALF else alpha


def _futility(looks: Counts, p: float, alpha: float, chance: float) -> Counts:
    """Find the counts at which an image that n samples would certify half of the time is rarely found."""
    n = int(looks[-1])
    needed = int(acceptance_counts(looks[-1:], p, np.array([alpha]))[0])
    likely = float(betaincinv(needed, n - needed + 1, 0.5)) if needed <= n else 1 - 1e-15
    levels = np.minimum(chance * np.sqrt(looks / n), 0.5)
    counts = binom.ppf(levels, looks, likely).astype(np.int64)
    counts -= binom.cdf(counts, looks, likely) > levels
    return np.asarray(counts, dtype=np.int64)
