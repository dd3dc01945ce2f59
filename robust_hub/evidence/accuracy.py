"""From the records of a run to accuracies, each a share of its images with an interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from robust_hub.evidence.tally import Counted, Grid, Tally, tally
from robust_hub.numbers import real_number


@dataclass(frozen=True, repr=False)
class Proportion:
    """Hold a share of images with its 95 % interval.

    Attributes:
        value: The share, in [0, 1].
        n: Number of images.
        low: Lower end of the Wilson interval.
        high: Upper end of the Wilson interval.
        radius: The radius that they are certified at, l2 in [0, 1]-pixel units; None for other shares.
    """

    value: float
    n: int
    low: float
    high: float
    radius: float | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        """Say it in percent on one line."""
        at = "" if self.radius is None else f", certified at radius {self.radius:g}"
        return f"Proportion({self.percent} % of {self.n} images{at})"

    @property
    def percent(self) -> str:
        """Word it in percent with its interval, such as "38.6 [34.4, 42.9]"."""
        return f"{100 * self.value:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def wilson(k: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Bound a success probability from both sides by Wilson's score interval.

    The interval covers the true probability with about the given confidence (approximate, not guaranteed).

    Args:
        k: Successes, 0 <= k <= n.
        n: Trials, at least 1.
        confidence: Nominal coverage, in (0, 1).

    Raises:
        ValueError: If an argument is outside its range.

    Source: Wilson 1927, without continuity correction.
    """
    if n < 1 or not 0 <= k <= n:
        raise ValueError(f"expected 0 <= k <= n and n >= 1, got k {k} and n {n}; count the images again")
    if not 0 < confidence < 1:
        raise ValueError(f"expected a confidence in (0, 1), got {confidence}; pass 0.95, for example")
    z = _quantile(confidence)
    p = k / n
    spread = z / (2 * (n + z**2)) * math.sqrt(4 * n * p * (1 - p) + z**2)
    middle = (2 * n * p + z**2) / (2 * (n + z**2))
    return (0.0 if k == 0 else middle - spread), (1.0 if k == n else middle + spread)


@lru_cache(maxsize=16)
def _quantile(confidence: float) -> float:
    return float(ndtri(0.5 + 0.5 * confidence))


def certified_accuracy(records: Counted, radius: float = 0.0) -> Proportion:
    """Give the share of all images with a correct prediction and at least the radius.

    An abstention counts as wrong, at radius 0 too. `robust_hub.evidence.tables.markdown_table` has all usual radii.

    Args:
        records: A run, one record per image, or their tally.
        radius: Radius, l2 in [0, 1]-pixel units, >= 0. 0 asks for the right class alone, and nothing of changed images.

    Returns:
        The share, with its number of images, a 95 % interval and the radius.

    Raises:
        ValueError: If there are no records or those of several sigmas, the radius is negative or NaN, or a record
            decided other radii only.

    Example:
        >>> from robust_hub.evidence.records import Record
        >>> records = [Record(0, 3, 3, 0.6, True, 1.0), Record(1, 5, 5, 0.2, True, 1.0)]
        >>> certified_accuracy(records, 0.25).value
        0.5
        >>> certified_accuracy(records)
        Proportion(100.0 [34.2, 100.0] % of 2 images, certified at radius 0)
    """
    counted = tally(records)
    radius = real_number("radii >= 0, l2 in [0, 1]-pixel units", radius, least=0)
    _check_decided(counted, [radius])
    share = _proportion(counted, len(counted.reached) - int(np.searchsorted(counted.reached, radius, side="left")))
    return replace(share, radius=radius)


def decides(records: Counted, radius: float) -> bool:
    """Tell whether every record says if its image is certified at the radius.

    Records of a sequential plan do so at the radii of their grid alone: sampling stopped when those were decided.

    Args:
        records: One record per image, or their tally.
        radius: Radius, l2 in [0, 1]-pixel units.
    """
    return all(radius in grid for grid in tally(records).grids)


def grid_of(records: Counted) -> Grid | None:
    """Give the radii that all records decided; None if they decided every radius.

    Args:
        records: One record per image, or their tally.
    """
    grids = tally(records).grids
    return tuple(radius for radius in grids[0] if all(radius in grid for grid in grids)) if grids else None


def clean_accuracy(records: Counted) -> Proportion | None:
    """Give the share of clean images the base classifier gets right; None if a record does not say.

    Args:
        records: One record per image, or their tally.

    Raises:
        ValueError: If there are no records, or those of several sigmas.
    """
    counted = tally(records)
    return None if counted.right is None else _proportion(counted, counted.right)


def abstention_rate(records: Counted) -> Proportion:
    """Give the share of images without a certified class.

    Args:
        records: One record per image, or their tally.

    Raises:
        ValueError: If there are no records, or those of several sigmas.
    """
    counted = tally(records)
    return _proportion(counted, counted.abstained)


def average_certified_radius(records: Counted) -> float:
    """Average the radius over all images, a wrong or abstaining one counting 0.

    Args:
        records: One record per image, or their tally.

    Raises:
        ValueError: If there are no records or those of several sigmas, or their radii are those of a grid.

    Source: Zhai et al. 2020 (MACER).
    """
    counted = tally(records)
    _check_one_classifier(counted)
    if grid_of(counted) is not None:
        raise ValueError("expected radii of a fixed plan for an average, got a grid's: certify without radii")
    return math.fsum(counted.reached.tolist()) / counted.n


def curve(records: Counted, radii: ArrayLike) -> NDArray[np.float64]:
    """Give the certified accuracy at each radius.

    Args:
        records: One record per image, or their tally.
        radii: Radii (R,), l2 in [0, 1]-pixel units, >= 0.

    Returns:
        Shares (R,), float64.

    Raises:
        ValueError: If there are no records or those of several sigmas, a radius is negative or NaN, or a record decided
            other radii only.
    """
    counted = tally(records)
    _check_one_classifier(counted)
    points = np.atleast_1d(np.asarray(radii, dtype=np.float64))
    _check_radii(points)
    _check_decided(counted, points.tolist())
    return (len(counted.reached) - np.searchsorted(counted.reached, points, side="left")) / counted.n


def proportion(k: int, n: int) -> Proportion:
    """Give k of n images as a share with its 95 % interval.

    Raises:
        ValueError: If there are no images, or k is not among 0 to n.
    """
    low, high = wilson(k, n)
    return Proportion(k / n, n, low, high)


def _proportion(counted: Tally, hits: int) -> Proportion:
    _check_one_classifier(counted)
    return proportion(hits, counted.n)


def _check_decided(counted: Tally, radii: Sequence[float]) -> None:
    for radius in radii:
        if not decides(counted, radius):
            raise ValueError(
                f"expected a radius of the grid that was decided, {grid_of(counted)}, got {radius:g}: certify with "
                "this radius in the grid, or without radii"
            )


def _check_one_classifier(counted: Tally) -> None:
    """Refuse no records, and those of several sigmas: each sigma is a smoothed classifier of its own."""
    if not counted.n:
        raise ValueError("expected at least one record, got none; certify at least one image first")
    sigmas = counted.sigmas
    if len(sigmas) > 1:
        raise ValueError(
            f"expected records of one sigma, got {sigmas[0]:g} and {sigmas[1]:g}: each is a classifier of its own, "
            "pass one run's"
        )


def _check_radii(radii: NDArray[np.float64]) -> None:
    if not bool(np.all(radii >= 0)):
        raise ValueError(f"expected radii >= 0, got {radii.tolist()}; pass l2 radii in [0, 1]-pixel units")
