"""Records and runs made up for the tests."""

from __future__ import annotations

from pathlib import Path

from robust_hub.evidence.records import Record, Run
from robust_hub.evidence.writer import open_run
from robust_hub.guarantee.bounds import lower_confidence_bound

IDENTITY = {"model": "abc", "sigma": 0.25, "seed": 1, "cut": {"name": "digits", "every": 20}}


def make(idx: int, predict: int = 3, label: int = 3, radius: float = 0.1 + 0.2) -> Record:
    """Make a full record, whose votes bear out what it says."""
    count = 5000 if predict == -1 else 9950
    other = 5 if predict != 5 else 6
    return Record(
        idx=idx,
        label=label,
        predict=predict,
        radius=0.0 if predict == -1 else radius,
        correct=int(predict == label),
        time=0.1,
        base=4,
        p_lower=lower_confidence_bound(count, 10_000, 0.001),
        count=count,
        n=10_000,
        n0=100,
        alpha=0.001,
        sigma=0.25,
        seed=1,
        counts=((max(predict, 0), count), (other, 10_000 - count)),
    )


def write(folder: Path, indices: list[int], close: bool = True) -> None:
    """Do the images that have no record yet."""
    with open_run(folder, IDENTITY) as writer:
        for idx in indices:
            if idx not in writer.done:
                writer.append(make(idx))
        if close:
            writer.close({"images": len(writer.done)})


# (predict, radius, base) of four images with label 1.
SMALL = [(1, 0.5, 1), (1, 0.25, 1), (2, 0.75, 1), (-1, 0.0, 0)]
LARGE = [(1, 1.0, 1), (-1, 0.0, 1), (-1, 0.0, 0), (1, 0.9, 0)]


def make_rows(rows: list[tuple[int, float, int]], with_base: bool = True) -> list[Record]:
    """Make records of images with label 1."""
    return [
        Record(i, 1, predict, radius, int(predict == 1), 1.0, base if with_base else None)
        for i, (predict, radius, base) in enumerate(rows)
    ]


def runs(**other: object) -> list[Run]:
    """Make two runs of one model."""
    return [
        Run(tuple(make_rows(LARGE)), {"model": "m", "sigma": 0.5, **other}, Path("b")),
        Run(tuple(make_rows(SMALL)), {"model": "m", "sigma": 0.25}, Path("a")),
    ]


def make_grid(rows: list[tuple[int, float, int]], radii: tuple[float, ...]) -> list[Record]:
    """Make records of a sequential plan for images with label 1."""
    return [
        Record(i, 1, predict, radius, int(predict == 1), 1.0, base, sigma=0.5, plan="sequential", radii=radii)
        for i, (predict, radius, base) in enumerate(rows)
    ]
