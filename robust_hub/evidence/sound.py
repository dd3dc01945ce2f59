"""Which records surely hold, found for all at once; `robust_hub.evidence.consistency` looks at the others one by one.

What stands here only spares that look. A record that it would refuse is never left out: the bounds here are tighter by
more than numbers are rounded.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from robust_hub.evidence.record import Record

_MOST = 2**40  # of a number whose sums surely fit
_COUNTED = attrgetter("n", "count", "predict")
_BOUNDED = attrgetter("p_lower", "sigma", "radius", "predict")


def values_of(records: Sequence[Record], name: str) -> list[Any]:
    """Give an attribute of each record."""
    return list(map(attrgetter(name), records))


@dataclass(frozen=True)
class Votes:
    """Hold the votes of all records that have any, one after another.

    Attributes:
        records: These records.
        labels: Classes (V,), int64.
        votes: Votes of these classes (V,), int64.
        starts: Where those of each record begin.
        lengths: How many each record has.
    """

    records: Sequence[Record]
    labels: NDArray[np.int64]
    votes: NDArray[np.int64]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]

    def spread(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
        """Give each of the votes the value of its record."""
        return np.repeat(values, self.lengths)


def votes_of(records: Sequence[Record]) -> Votes | None:
    """Take the votes of records; None if there are none, or numbers beyond any count of samples."""
    voted = [record for record in records if record.counts]
    counts = values_of(voted, "counts")
    try:
        numbers = np.fromiter(chain.from_iterable(chain.from_iterable(counts)), dtype=np.int64)
    except (OverflowError, TypeError, ValueError):
        return None
    lengths = np.fromiter(map(len, counts), dtype=np.int64)
    if not voted or abs(numbers).max() > _MOST or len(numbers) != 2 * lengths.sum():
        return None
    return Votes(voted, numbers[::2], numbers[1::2], np.cumsum(lengths) - lengths, lengths)


def are_named(records: Sequence[Record], votes: Votes | None, names: int) -> bool:
    """Tell whether every class of the records is surely among so many that have names."""
    if votes is None and any(record.counts for record in records):
        return False
    classes = {*values_of(records, "label"), *values_of(records, "predict"), *values_of(records, "base")} - {None}
    return max(classes, default=-1) < names and (votes is None or bool(votes.labels.max() < names))


def without_sound_votes(
    records: Sequence[Record], votes: Votes | None, plans: Collection[str], identity: Mapping[str, Any]
) -> Sequence[Record]:
    """Leave out the records whose votes surely fit one another and run.json.

    Args:
        records: The records.
        votes: Their votes.
        plans: The plans that there are.
        identity: What run.json says was certified and how.

    Returns:
        The others, in their order.
    """
    named = {plan or "fixed" for plan in set(values_of(records, "plan"))}
    if votes is None or len(named) > 1 or not named <= set(plans):
        return records
    if None in set(values_of(votes.records, "p_lower")):
        return records
    try:
        n, count, predict = np.array(list(map(_COUNTED, votes.records)), dtype=np.int64).T
    except (OverflowError, TypeError):  # a number beyond any, or None
        return records
    rises = np.diff(votes.labels, prepend=-1) > 0  # so that each class stands once
    rises[votes.starts] = votes.labels[votes.starts] >= 0
    holds = np.logical_and.reduceat(rises & (votes.votes >= 0), votes.starts)
    holds &= np.add.reduceat(votes.votes, votes.starts) == n
    guessed = votes.votes * (votes.labels == votes.spread(predict))
    anyones = np.logical_or.reduceat(votes.votes == votes.spread(count), votes.starts)
    holds &= np.where(predict >= 0, np.add.reduceat(guessed, votes.starts) == count, anyones)
    most = identity.get("n", n)
    holds &= (count >= 0) & (count <= n) & (n == most if named == {"fixed"} else n <= most)
    if len(votes.records) == len(records):
        return [records[at] for at in np.flatnonzero(~holds).tolist()]
    sound = {id(votes.records[at]) for at in np.flatnonzero(holds).tolist()}
    return [record for record in records if id(record) not in sound]


def without_sound_radii(records: Sequence[Record]) -> list[Record]:
    """Leave out the records whose radius p_lower surely bears out, whatever the other classes got.

    Args:
        records: Records that have p_lower and sigma.

    Returns:
        The others, in their order.
    """
    rows = np.array(list(map(_BOUNDED, records)), dtype=np.float64).reshape(-1, 4)
    lower, sigma, radius, predict = rows.T
    most = sigma / 2 * (ndtri(lower) - ndtri(1 - lower))  # what is certified lies below by far more than its rounding
    holds = np.where(predict < 0, lower <= 0.5, (lower > 0.5) & (lower < 1) & (radius <= most))
    return [records[at] for at in np.flatnonzero(~holds).tolist()]
