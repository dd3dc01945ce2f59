"""What the records of the shelf say of the paper's rows, as numbers that docs/results.md is made of.

A share is a percentage of the certified images. At a radius it is the best of the row's sigmas, as in the tables,
unless a sigma is named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp

from robust_hub import ABSTAIN
from robust_hub.evidence.accuracy import Proportion, abstention_rate, proportion
from robust_hub.evidence.records import Run
from robust_hub.guarantee.plans import RADII
from robust_hub.paper.experiment import Experiment
from robust_hub.paper.recorded import Recorded, read_recorded
from robust_hub.paper.rows import Row, Scale, find_scale
from robust_hub.paper.tables import find_table

_READ: dict[tuple[str, str], Recorded] = {}


def recorded(row: Row, scale: Scale) -> Recorded:
    """Read what is recorded of a row, once; without runs where it is not finished."""
    key = row.name, scale.name
    if key not in _READ:
        _READ[key] = read_recorded(Experiment(row, scale))
    return _READ[key]


@dataclass(frozen=True)
class Compared:
    """One share beside another, in points or as a percentage, with a 95 % interval for the same images."""

    value: float
    low: float
    high: float


def points(one: Sequence[bool], two: Sequence[bool]) -> Compared:
    """Give the difference of two shares of the same images in points, with a 95 % interval.

    Wald's interval after half an image is added to each of the four cells; Agresti and Min 2005.
    """
    gained = sum(a and not b for a, b in zip(one, two, strict=True))
    lost = sum(b and not a for a, b in zip(one, two, strict=True))
    n, d = len(one) + 2, gained - lost
    width = 1.96 * (gained + lost + 1 - d * d / n) ** 0.5
    return Compared(100 * d / len(one), 100 * (d - width) / n, 100 * (d + width) / n)


def ratio(one: Sequence[bool], two: Sequence[bool]) -> Compared | None:
    """Give the ratio of two shares of the same images in percent, with a 95 % interval of its logarithm.

    For the interval half an image is added to what either, and what both, have right, so that it can be taken of none;
    None of a second share of nothing.
    """
    if not any(two):
        return None
    both = sum(x and y for x, y in zip(one, two, strict=True)) + 0.5
    a, b = sum(one) + 0.5, sum(two) + 0.5
    factor = exp(1.96 * max(1 / a + 1 / b - 2 * both / (a * b), 0.0) ** 0.5)
    return Compared(100 * sum(one) / sum(two), 100 * a / b / factor, 100 * a / b * factor)


def right_on_clean(runs: Sequence[Run]) -> list[bool]:
    """Tell image by image whether the base classifier is right on the clean image."""
    return [record.base == record.label for record in runs[0].records]


def right_at(runs: Sequence[Run], radius: float) -> list[bool]:
    """Tell image by image whether the run that is best at a radius is right and certified there."""
    each = [[bool(r.correct) and r.radius >= radius for r in run.records] for run in runs]
    return max(each, key=sum)


def most_said(run: Run) -> tuple[int | None, int, int]:
    """Give the class that a run predicts most, for how many images, and how many it predicts a class for."""
    said = Counter(record.predict for record in run.records if record.predict != ABSTAIN)
    return (*said.most_common(1)[0], said.total()) if said else (None, 0, 0)


@dataclass(frozen=True)
class Network:
    """A finished row of a table at a scale.

    Attributes:
        table: The table's name.
        row: The row.
        runs: Its runs, one a sigma.
        checkpoint: The shelf's checkpoint that they lie with.
    """

    table: str
    row: Row
    runs: tuple[Run, ...]
    checkpoint: str | None

    @property
    def images(self) -> int:
        """Number of certified images."""
        return len(self.runs[0].records)

    @property
    def clean(self) -> float:
        """Percentage that the base classifier gets right of clean images."""
        return self._share(right_on_clean(self.runs)).value * 100

    @property
    def largest_class(self) -> float:
        """Percentage of the images that are of one class: what a network has that says nothing else."""
        labels = Counter(record.label for record in self.runs[0].records)
        return 100 * max(labels.values()) / self.images

    @property
    def paper_clean(self) -> float:
        """The paper's percentage of clean images."""
        assert self.row.paper_clean is not None
        return self.row.paper_clean

    def paper_at(self, radius: float) -> float:
        """Give the paper's certified accuracy at a radius of the table."""
        return self.row.paper_certified[find_table(self.table).radii.index(radius)][1]

    def right(self, radius: float, sigma: float | None = None) -> int:
        """Count the images that are classified correctly and certified at a radius."""
        return sum(right_at(self._of(sigma), radius))

    def at(self, radius: float, sigma: float | None = None) -> float:
        """Give the certified accuracy at a radius."""
        return 100 * self.right(radius, sigma) / self.images

    def points_over(self, other: Network, radius: float | None = None, sigma: float | None = None) -> Compared:
        """Give how many points more than another network it has at a radius, or on clean images."""
        if radius is None:
            return points(right_on_clean(self.runs), right_on_clean(other.runs))
        return points(right_at(self._of(sigma), radius), right_at(other._of(sigma), radius))

    def is_ahead_of(self, others: Sequence[Network], radii: Sequence[float] = (0.0, *RADII)) -> bool:
        """Tell whether it certifies more than each of the others at every radius."""
        return all(self.at(radius) > other.at(radius) for other in others for radius in radii)

    def is_level_with(self, other: Network, radii: Sequence[float], sigma: float | None = None) -> bool:
        """Tell whether its difference to another is within the error at every radius."""
        each = [self.points_over(other, radius, sigma) for radius in radii]
        return all(one.low <= 0 <= one.high for one in each)

    def overlaps(self, others: Sequence[Network], radii: Sequence[float] = RADII) -> bool:
        """Tell whether its interval and that of each of the others overlap at every radius."""
        pairs = [(self._at(radius), other._at(radius)) for other in others for radius in radii]
        return all(one.low <= two.high and two.low <= one.high for one, two in pairs)

    def one_class(self, sigma: float) -> float:
        """Give the percentage of the images with a class that have the class predicted most."""
        _, most, said = most_said(*self._of(sigma))
        return 100 * most / said if said else 0.0

    def one_class_right(self, sigma: float) -> float:
        """Give the percentage for which the class that is predicted most is right, of the images that have it."""
        (run,) = self._of(sigma)
        most, count, _ = most_said(run)
        return 100 * sum(r.label == most for r in run.records if r.predict == most) / count if count else 0.0

    def abstained(self, sigma: float) -> float:
        """Give the percentage of the images that have no class."""
        return 100 * abstention_rate(self._of(sigma)[0].records).value

    def _at(self, radius: float) -> Proportion:
        return self._share(right_at(self.runs, radius))

    def _share(self, hits: Sequence[bool]) -> Proportion:
        return proportion(sum(hits), len(hits))

    def _of(self, sigma: float | None) -> list[Run]:
        return [run for run in self.runs if sigma is None or run.sigma == sigma]


def is_finished(table: str, label: str, scale: str = "small") -> bool:
    """Tell whether a row of a table has records at a scale."""
    return bool(recorded(_row(table, label), find_scale(scale)).runs)


def network(table: str, label: str, scale: str = "small") -> Network:
    """Find a finished row of a table.

    Raises:
        ValueError: If the table has no such row, or its records are still to be made.
    """
    row = _row(table, label)
    found = recorded(row, find_scale(scale))
    if not found.runs:
        raise ValueError(f"expected records of {label!r} of {table} at the scale {scale}, got none: shelve them first")
    return Network(table, row, found.runs, found.checkpoint)


def shares(one: Network, others: Sequence[Network], radii: Sequence[float] = RADII) -> list[float]:
    """Give at each radius a network's certified accuracy in percent of the best of the others'."""
    return [100 * one.at(radius) / max(other.at(radius) for other in others) for radius in radii]


def _row(table: str, label: str) -> Row:
    labels = {row.label: row for row in find_table(table).rows}
    if label not in labels:
        raise ValueError(f"expected a row of {table} among {', '.join(labels)}, got {label!r}: name one of them")
    return labels[label]
