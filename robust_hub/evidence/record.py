"""The record of one certified image: what it holds."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import repeat
from operator import eq
from typing import Any

import numpy as np


class _Shown:
    """Let `vars` show the attributes of values that keep theirs in slots, which take less time and memory."""

    __slots__ = ()

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, repr=False)
class Record(_Shown):
    """Describe the certification of one image: one line of records.tsv.

    Attributes:
        idx: Index of the image in the unshuffled data set.
        label: True class.
        predict: Certified class, -1 when abstaining.
        radius: Certified l2 radius in [0, 1]-pixel units, 0 when abstaining.
        correct: 1 if predict equals label, else 0.
        time: Seconds spent on the image.
        base: Class the base classifier gives the clean image; this and all below are None in foreign logs.
        p_lower: Lower confidence bound of the certified class's probability.
        count: Votes of the guessed class among the n samples.
        n: Samples of the estimation.
        n0: Samples of the selection; 0 where the plan needs none.
        alpha: Failure probability of this certificate.
        sigma: Standard deviation of the noise, [0, 1]-pixel units.
        seed: Seed of the noise; None if the operating system's entropy was used.
        counts: Pairs (class, votes) of the classes that got votes.
        plan: Name of the plan, see `robust_hub.guarantee.plans`.
        radii: The grid of radii that were decided, `radius` being one of them; None if any radius can come out.
        undecided: Radii of the grid that were neither certified nor given up when the samples ran out.
        out_of_reach: Radii of the grid that so many samples can never certify.
        tau: How far the noise's law may be from the normal one, in total variation; taken off p_lower. None is 0.

    Raises:
        ValueError: If the values contradict one another or are outside their range.
    """

    idx: int
    label: int
    predict: int
    radius: float
    correct: int
    time: float
    base: int | None = None
    p_lower: float | None = None
    count: int | None = None
    n: int | None = None
    n0: int | None = None
    alpha: float | None = None
    sigma: float | None = None
    seed: int | None = None
    counts: tuple[tuple[int, int], ...] | None = None
    plan: str | None = None
    radii: tuple[float, ...] | None = None
    undecided: tuple[float, ...] | None = None
    out_of_reach: tuple[float, ...] | None = None
    tau: float | None = None

    def __repr__(self) -> str:
        """Say it on one line, without its votes; `vars` has everything."""
        said = f"idx={self.idx}, label={self.label}, predict={self.predict}, radius={self.radius:.6g}"
        sigma = "" if self.sigma is None else f", sigma={self.sigma:g}"
        return f"Record({said}, correct={int(self.correct)}{sigma})"

    def __post_init__(self) -> None:
        """Check that the record can be true."""
        if self.idx < 0 or self.label < 0 or self.predict < -1:
            raise ValueError(
                "expected idx and label >= 0 and predict >= -1, "
                f"got idx {self.idx}, label {self.label}, predict {self.predict}; correct the record"
            )
        if not (math.isfinite(self.radius) and self.radius >= 0):
            raise ValueError(f"expected a finite radius >= 0, got {self.radius}; correct record {self.idx}")
        if not (math.isfinite(self.time) and self.time >= 0):
            raise ValueError(f"expected seconds >= 0, got {self.time}; correct the record of {self.idx}")
        if self.predict == -1 and self.radius != 0:
            raise ValueError(
                f"expected radius 0 for an abstention, got {self.radius}; correct the record of {self.idx}"
            )
        if bool(self.correct) != (self.predict == self.label):
            raise ValueError(
                f"expected correct = (predict == label), got correct {self.correct}, predict {self.predict}, "
                f"label {self.label}; correct the record of {self.idx}"
            )
        if self.radii is not None and self.predict != -1 and self.radius not in self.radii:
            raise ValueError(f"expected a radius of the grid {self.radii}, got {self.radius}; correct {self.idx}")
        if self.sigma is not None and not (math.isfinite(self.sigma) and self.sigma > 0):
            raise ValueError(f"expected a finite sigma > 0, got {self.sigma}; correct the record of {self.idx}")
        if self.p_lower is not None and not 0 <= self.p_lower <= 1:
            raise ValueError(f"expected p_lower in [0, 1], got {self.p_lower}; correct the record of {self.idx}")
        if self.alpha is not None and not 0 < self.alpha < 1:
            raise ValueError(f"expected alpha in (0, 1), got {self.alpha}; correct the record of {self.idx}")
        if self.tau is not None and not 0 <= self.tau < 1:
            raise ValueError(f"expected tau in [0, 1), got {self.tau}; correct the record of {self.idx}")


def make_records(columns: Mapping[str, Sequence[Any]]) -> list[Record]:
    """Make the records of many images, checked a column at a time.

    Args:
        columns: The values of each attribute but `correct` by its name, as many as there are images.

    Returns:
        The records; `correct` is predict == label.

    Raises:
        ValueError: If the values of a record contradict one another or are outside their range.
    """
    whole = {**columns, "correct": list(map(int, map(eq, columns["predict"], columns["label"])))}
    names = [field.name for field in fields(Record)]
    if not _can_be_true(columns):
        return list(map(Record, *(whole[name] for name in names)))  # which says what is wrong
    records = list(map(object.__new__, repeat(Record, len(whole["idx"]))))
    for name in names:
        deque(map(getattr(Record, name).__set__, records, whole[name]), maxlen=0)
    return records


def _can_be_true(columns: Mapping[str, Sequence[Any]]) -> bool:
    """Tell of whole columns what `Record` checks one by one."""
    predict, radius, radii = columns["predict"], columns["radius"], columns["radii"]
    lengths = np.array([radius, columns["time"]], dtype=np.float64)
    p_lower = np.array([p for p in columns["p_lower"] if p is not None], dtype=np.float64)
    return bool(
        min(columns["idx"]) >= 0
        and min(columns["label"]) >= 0
        and min(predict) >= -1
        and (np.isfinite(lengths) & (lengths >= 0)).all()
        and not np.any(lengths[0][[c == -1 for c in predict]])
        and ((p_lower >= 0) & (p_lower <= 1)).all()
        and all(sigma is None or (math.isfinite(sigma) and sigma > 0) for sigma in set(columns["sigma"]))
        and all(alpha is None or 0 < alpha < 1 for alpha in set(columns["alpha"]))
        and all(tau is None or 0 <= tau < 1 for tau in set(columns["tau"]))
        and (
            set(radii) == {None}
            or all(grid is None or c == -1 or r in grid for grid, c, r in zip(radii, predict, radius, strict=True))
        )
    )
