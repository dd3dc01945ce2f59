"""From the records of a run to accuracies, each a share of its images with an interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from robust_hub.evidence.records import Record


@dataclass(frozen=True)
class Proportion:
    """Hold a share of images with its 95 % interval.

    Attributes:
        value: The share, in [0, 1].
        n: Number of images.
        low: Lower end of the Wilson interval.
        high: Upper end of the Wilson interval.
    """

    value: float
    n: int
    low: float
    high: float

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


def certified_accuracy(records: Sequence[Record], radius: float) -> Proportion:
    """Give the share of all images with a correct prediction and at least the radius.

    An abstention counts as wrong, at radius 0 too.

    Args:
        records: One record per image.
        radius: Radius, l2 in [0, 1]-pixel units, >= 0.

    Returns:
        The share, with its number of images and a 95 % interval.

    Raises:
        ValueError: If there are no records or those of several sigmas, the radius is negative or NaN, or a record
            decided other radii only.

    Example:
        >>> from robust_hub.evidence.records import Record
        >>> records = [Record(0, 3, 3, 0.6, True, 1.0), Record(1, 5, 5, 0.2, True, 1.0)]
        >>> certified_accuracy(records, 0.25).value
        0.5
    """
    _check_radii(np.array([radius]))
    _check_decided(records, [radius])
    return _proportion(records, [bool(r.correct) and r.radius >= radius for r in records])


def decides(records: Sequence[Record], radius: float) -> bool:
    """Tell whether every record says if its image is certified at the radius.

    Records of a sequential plan do so at the radii of their grid alone: sampling stopped when those were decided.

    Args:
        records: One record per image.
        radius: Radius, l2 in [0, 1]-pixel units.
    """
    return all(radius in grid for grid in _grids(records))


def _grids(records: Sequence[Record]) -> set[tuple[float, ...]]:
    """Give the grids of radii that records decided, each once; of a run that is one, or none where any can come out."""
    return {record.radii for record in records if record.radii is not None}


def grid_of(records: Sequence[Record]) -> tuple[float, ...] | None:
    """Give the radii that all records decided; None if they decided every radius.

    Args:
        records: One record per image.
    """
    first = next((record.radii for record in records if record.radii is not None), None)
    grids = _grids(records)
    return None if first is None else tuple(radius for radius in first if all(radius in grid for grid in grids))


def clean_accuracy(records: Sequence[Record]) -> Proportion | None:
    """Give the share of clean images the base classifier gets right; None if a record does not say.

    Args:
        records: One record per image.

    Raises:
        ValueError: If there are no records, or those of several sigmas.
    """
    if any(r.base is None for r in records):
        return None
    return _proportion(records, [r.base == r.label for r in records])


def abstention_rate(records: Sequence[Record]) -> Proportion:
    """Give the share of images without a certified class.

    Args:
        records: One record per image.

    Raises:
        ValueError: If there are no records, or those of several sigmas.
    """
    return _proportion(records, [r.predict == -1 for r in records])


def average_certified_radius(records: Sequence[Record]) -> float:
    """Average the radius over all images, a wrong or abstaining one counting 0.

    Args:
        records: One record per image.

    Raises:
        ValueError: If there are no records or those of several sigmas, or their radii are those of a grid.

    Source: Zhai et al. 2020 (MACER).
    """
    _check_one_classifier(records)
    if grid_of(records) is not None:
        raise ValueError("expected radii of a fixed plan for an average, got a grid's: certify without radii")
    return math.fsum(r.radius for r in records if r.correct) / len(records)


def curve(records: Sequence[Record], radii: ArrayLike) -> NDArray[np.float64]:
    """Give the certified accuracy at each radius.

    Args:
        records: One record per image.
        radii: Radii (R,), l2 in [0, 1]-pixel units, >= 0.

    Returns:
        Shares (R,), float64.

    Raises:
        ValueError: If there are no records or those of several sigmas, a radius is negative or NaN, or a record decided
            other radii only.
    """
    _check_one_classifier(records)
    points = np.atleast_1d(np.asarray(radii, dtype=np.float64))
    _check_radii(points)
    _check_decided(records, points.tolist())
    reached = np.sort([r.radius for r in records if r.correct])
    return (len(reached) - np.searchsorted(reached, points, side="left")) / len(records)


def proportion(k: int, n: int) -> Proportion:
    """Give k of n images as a share with its 95 % interval.

    Raises:
        ValueError: If there are no images, or k is not among 0 to n.
    """
    low, high = wilson(k, n)
    return Proportion(k / n, n, low, high)


def _proportion(records: Sequence[Record], hits: Sequence[bool]) -> Proportion:
    _check_one_classifier(records)
    return proportion(sum(hits), len(hits))


def _check_decided(records: Sequence[Record], radii: Sequence[float]) -> None:
    grids = _grids(records)
    for radius in radii:
        if not all(radius in grid for grid in grids):
            raise ValueError(
                f"expected a radius of the grid that was decided, {grid_of(records)}, got {radius:g}: certify with "
                "this radius in the grid, or without radii"
            )


def _check_one_classifier(records: Sequence[Record]) -> None:
    """Refuse no records, and those of several sigmas: each sigma is a smoothed classifier of its own."""
    if not records:
        raise ValueError("expected at least one record, got none; certify at least one image first")
    sigmas = sorted({record.sigma for record in records if record.sigma is not None})
    if len(sigmas) > 1:
        raise ValueError(
            f"expected records of one sigma, got {sigmas[0]:g} and {sigmas[1]:g}: each is a classifier of its own, "
            "pass one run's"
        )


def _check_radii(radii: NDArray[np.float64]) -> None:
    if not bool(np.all(radii >= 0)):
        raise ValueError(f"expected radii >= 0, got {radii.tolist()}; pass l2 radii in [0, 1]-pixel units")
