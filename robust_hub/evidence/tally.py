"""What accuracies take from the records of a run, taken once: the records themselves are gone through a single time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import eq
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from robust_hub.evidence.record import Record
from robust_hub.evidence.sound import values_of

Grid: TypeAlias = tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Tally:
    """Hold what a run's accuracies need.

    Attributes:
        n: Number of images.
        reached: Radii of the correct records (R,), float64, rising.
        right: Images whose clean prediction is right; None if a record does not say.
        abstained: Images without a certified class.
        grids: The grids of radii that records decided, each once, in their order; none where any radius can come out.
        sigmas: The standard deviations that records say, rising.
    """

    n: int
    reached: NDArray[np.float64]
    right: int | None
    abstained: int
    grids: tuple[Grid, ...]
    sigmas: tuple[float, ...]


class Recorded(Protocol):
    """What holds the records of one run, such as `robust_hub.evidence.records.Run`."""

    @property
    def records(self) -> Sequence[Record]:
        """One record per image."""
        ...


Counted: TypeAlias = Sequence[Record] | Recorded | Tally


def tally(records: Counted) -> Tally:
    """Count records; a tally is given back as it is.

    Args:
        records: One record per image, or their run.

    Raises:
        TypeError: If they are neither, such as a list of runs: each is of a classifier of its own.

    Example:
        >>> counted = tally([Record(0, 3, 3, 0.6, True, 1.0), Record(1, 5, 5, 0.2, True, 1.0)])
        >>> counted.n, counted.reached.tolist(), counted.right
        (2, [0.2, 0.6], None)
    """
    if isinstance(records, Tally):
        return records
    records = getattr(records, "records", records)
    if not isinstance(records, Sequence) or isinstance(records, str) or not all(isinstance(r, Record) for r in records):
        raise TypeError(
            f"expected a run or its records, got {type(records).__name__}: pass what read_run gives, one run"
        )
    radius, base = np.array(values_of(records, "radius"), dtype=np.float64), values_of(records, "base")
    right = None if None in set(base) else sum(map(eq, base, values_of(records, "label")))
    return Tally(
        n=len(records),
        reached=np.sort(radius[np.array(values_of(records, "correct"), dtype=bool)]),
        right=right,
        abstained=values_of(records, "predict").count(-1),
        grids=tuple(grid for grid in dict.fromkeys(values_of(records, "radii")) if grid is not None),
        sigmas=tuple(sorted(set(values_of(records, "sigma")) - {None})),
    )
