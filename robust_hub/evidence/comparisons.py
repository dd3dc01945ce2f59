"""Runs side by side: their labels, the radii that all of them decided, the best of them at each radius."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from robust_hub.evidence.accuracy import Proportion, certified_accuracy, decides, grid_of
from robust_hub.evidence.identity import differing
from robust_hub.evidence.records import Record, Run
from robust_hub.evidence.sound import values_of
from robust_hub.evidence.tally import Tally, tally
from robust_hub.guarantee.plans import RADII
from robust_hub.parsing import shown

Runs: TypeAlias = Mapping[str, Sequence[Record]] | Iterable[Run] | Run


@dataclass(frozen=True)
class Best:
    """Name the run that wins at one radius.

    Attributes:
        radius: The radius, l2 in [0, 1]-pixel units.
        label: The winning run.
        accuracy: Its certified accuracy at the radius.
        at_zero: Its certified accuracy at radius 0; None where radius 0 was not decided.
    """

    radius: float
    label: str
    accuracy: Proportion
    at_zero: Proportion | None


def listed(runs: Runs) -> Mapping[str, Sequence[Record]] | list[Run]:
    """Give records by label as they are, one run or several as a list."""
    if isinstance(runs, Mapping):
        return runs
    return [runs] if isinstance(runs, Run) else list(runs)


def labelled(runs: Runs) -> dict[str, Sequence[Record]]:
    """Give each run's records under a label: the mapping's key, or sigma (and the path where needed).

    Args:
        runs: Records by label, or runs.

    Raises:
        ValueError: If there are no runs, or one without records.
    """
    runs = listed(runs)
    if isinstance(runs, Mapping):
        result = dict(runs)
    else:
        result = {}
        rising = sorted(runs, key=lambda run: math.inf if run.sigma is None else run.sigma)
        names = [shown(run.path.name) if run.sigma is None else f"sigma = {run.sigma:g}" for run in rising]
        for run, name in zip(rising, names, strict=True):
            label = name if names.count(name) == 1 else f"{name} ({shown(run.path)})"
            label += "" if run.finished else " (unfinished)"
            if label in result:
                raise ValueError(f"expected each run once, got {shown(run.path)} twice; name it once")
            result[label] = run.records
    if not result:
        raise ValueError("expected at least one run, got none; name the folders that certify wrote")
    for label, records in result.items():
        if not records:
            raise ValueError(f"expected records, got none in {label!r}; let certify finish an image first")
    return result


def decided_radii(runs: Sequence[Run]) -> tuple[float, ...]:
    """Give the radii that all runs decided, 0 aside; the paper's if every run decided every radius.

    Args:
        runs: The runs.
    """
    table = [tally(run.records) for run in runs]
    grids = [grid for counted in table if (grid := grid_of(counted)) is not None]
    radii = RADII if not grids else tuple(radius for radius in grids[0] if radius)
    return tuple(radius for radius in radii if all(decides(counted, radius) for counted in table))


def best_per_radius(runs: Runs, radii: Sequence[float] = RADII) -> list[Best]:
    """Find, for each radius over the whole set, the run (the sigma) with the highest certified accuracy.

    Choosing sigma after seeing the test set is the paper's form, and optimistic; publish the per-sigma values beside
    it. Ties go to the run with the higher accuracy at radius 0.

    Args:
        runs: Runs of one model on the same images, at several sigmas.
        radii: Radii, l2 in [0, 1]-pixel units.

    Raises:
        ValueError: If the runs are of different images or models, or two share a sigma: the best of several seeds is no
            accuracy of one classifier.
    """
    runs = listed(runs)
    reason = incomparable(runs)
    if reason:
        raise ValueError(f"expected runs of one model on the same images, but {reason}; compare runs that match")
    return best_of({label: tally(records) for label, records in labelled(runs).items()}, radii)


def best_of(table: Mapping[str, Tally], radii: Sequence[float]) -> list[Best]:
    """Find the best at each radius, see `best_per_radius`, of runs that are comparable.

    Args:
        table: What was counted of each run by its label.
        radii: Radii, l2 in [0, 1]-pixel units.
    """
    result = []
    for radius in radii:
        candidates = [
            Best(
                radius,
                label,
                certified_accuracy(counted, radius),
                certified_accuracy(counted, 0.0) if decides(counted, 0.0) else None,
            )
            for label, counted in table.items()
        ]
        result.append(max(candidates, key=lambda b: (b.accuracy.value, b.at_zero.value if b.at_zero else 0.0)))
    return result


def incomparable(runs: Mapping[str, Sequence[Record]] | list[Run]) -> str:
    """Say why the best over these runs would mean nothing; empty if it means something."""
    sets = list(runs.values()) if isinstance(runs, Mapping) else [run.records for run in runs]
    if not all(_of_same_images(sets[0], records) for records in sets[1:]):
        return "the runs are of different images"
    if len(set().union(*(values_of(records, "radii") for records in sets))) > 1:
        return "the runs decided different radii"
    sigmas = [next((r.sigma for r in records if r.sigma is not None), None) for records in sets]
    if not isinstance(runs, Mapping):
        sigmas = [run.sigma for run in runs]
        if names := differing([run.identity for run in runs]):
            return f"the runs differ in {', '.join(map(shown, names))}"
    known = [sigma for sigma in sigmas if sigma is not None]
    if len(set(known)) < len(known):
        return "of rows that share a sigma, such as several seeds, the best is no accuracy of one classifier"
    return ""


def _of_same_images(one: Sequence[Record], two: Sequence[Record]) -> bool:
    images = [(values_of(records, "idx"), values_of(records, "label")) for records in (one, two)]
    return images[0] == images[1] or set(zip(*images[0], strict=True)) == set(zip(*images[1], strict=True))
