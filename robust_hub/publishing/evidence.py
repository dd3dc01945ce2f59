"""What a checkpoint's folder says, read once into a value: cards, lists and tables take it from there."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

from robust_hub.errors import CheckpointError
from robust_hub.evidence.accuracy import Proportion, certified_accuracy, clean_accuracy, decides, proportion
from robust_hub.evidence.records import Run, read_run
from robust_hub.evidence.tally import tally
from robust_hub.files import inside
from robust_hub.layout import CERTIFICATION, DIFFERENCE, RECORDS, RUN, TRAINING, UNDER_NOISE
from robust_hub.memory import uncollected
from robust_hub.models.config import CheckpointConfig, read_config
from robust_hub.models.shelves import checkpoint_folder, list_checkpoints, not_here
from robust_hub.parsing import read_bounded_json, shown
from robust_hub.provenance import Provenance, summary

_NEEDED = ("sigma", "alpha", "n", "data", "dtype", "weights")  # of a run that is published
RADIUS = 0.25  # of the certified accuracy that stands for a checkpoint in a list


@dataclass(frozen=True)
class UnderNoise:
    """Accuracy of a pretrained network on held-out images of its data under each noise, one draw an image.

    Attributes:
        data: What the images are.
        split: The part of the data.
        dtype: Type that the network ran in.
        weights: Hash of its weights in this type.
        accuracies: By sigma, [0, 1]-pixel units; 0 is the clean image.
    """

    data: str
    split: str
    dtype: str
    weights: str
    accuracies: dict[float, Proportion]


@dataclass(frozen=True)
class Evidence:
    """Everything that a checkpoint's folder says of it.

    Attributes:
        name: Its name for timm.
        folder: Its folder.
        config: What config.json says.
        runs: The runs that certify it, by data and sigma.
        under_noise: Its accuracy under noise; None where that was not measured.
        megabytes: Size of its weights, or of the difference to its base that is stored in their place.
        bases: How the weights that it started from came about, the nearest first.
    """

    name: str
    folder: Path
    config: CheckpointConfig
    runs: tuple[Run, ...]
    under_noise: UnderNoise | None
    megabytes: float
    bases: tuple[Provenance, ...]

    @property
    def base(self) -> str | None:
        """The checkpoint to which a difference is stored; None if the weights are its own."""
        return None if self.config.difference is None else self.config.difference.base

    @property
    def provenance(self) -> Provenance:
        """How its weights came about; one that says nothing if that was not recorded."""
        return self.config.provenance or Provenance()


@dataclass(frozen=True)
class Shelved:
    """What a checkpoint on the shelf is and is worth.

    Attributes:
        name: Its name for timm.
        folder: Its folder.
        megabytes: Size of its weights, or of the difference to its base that is stored in their place.
        trained: The job that made it, its data and epochs, in words.
        base: The checkpoint to which a difference is stored; None if the weights are its own.
        data: What it was certified on; None if it was not.
        sigma: The sigma, [0, 1]-pixel units, whose certified accuracy at RADIUS is highest.
        clean: Accuracy of the base classifier on clean images.
        certified: Certified accuracy at RADIUS with that sigma.
    """

    name: str
    folder: Path
    megabytes: float
    trained: str
    base: str | None = None
    data: str | None = None
    sigma: float | None = None
    clean: Proportion | None = None
    certified: Proportion | None = None


def read_evidence(name: str, folder: str | Path | None = None) -> Evidence:
    """Read everything that a checkpoint's folder says, each file once.

    Args:
        name: Its name for timm, of `list_checkpoints` if no folder is given.
        folder: Its folder; by default found by its name.

    Raises:
        CheckpointError: If it is not there or damaged, or the checkpoint that it started from is.
        ValueError: If its records or its accuracies under noise are damaged, or name other classes.
    """
    where = checkpoint_folder(name) if folder is None else Path(folder)
    if where is None:
        raise CheckpointError(not_here(name))
    config = read_config(where)
    runs = tuple(certification(where))
    check_class_names(config, runs, where)
    return Evidence(name, where, config, runs, under_noise(where), _megabytes(where, config), _bases(name, config))


def describe(evidence: Evidence) -> Shelved:
    """Say what a checkpoint is and is worth.

    Args:
        evidence: What its folder says.
    """
    summed_up = Shelved(
        evidence.name, evidence.folder, evidence.megabytes, shown(summary(evidence.config.provenance)), evidence.base
    )
    counted = [(run, tally(run.records)) for run in evidence.runs if run.records]
    decided = [(run, one) for run, one in counted if decides(one, RADIUS)]
    if not decided:
        return summed_up
    best, records = max(decided, key=lambda pair: certified_accuracy(pair[1], RADIUS).value)
    return replace(
        summed_up,
        data=shown(Path(str(best.identity["data"])).name) or None,
        sigma=best.sigma,
        clean=clean_accuracy(records),
        certified=certified_accuracy(records, RADIUS),
    )


def describe_all() -> list[Shelved]:
    """Describe every checkpoint whose weights are here."""
    with uncollected():
        return [describe(read_evidence(name)) for name in list_checkpoints()]


def check_class_names(config: CheckpointConfig, runs: Iterable[Run], folder: Path) -> None:
    """Refuse records that were matched by other names of the classes than the checkpoint has: one of them is wrong.

    Raises:
        ValueError: If there are such records.
    """
    for run in runs:
        names = run.classes or ()
        if run.identity.get("matched") != "by name" or config.label_names in (None, names):
            continue
        pairs = zip_longest(names, config.label_names or (), fillvalue="none")
        k, theirs, own = next((k, *pair) for k, pair in enumerate(pairs) if pair[0] != pair[1])
        got = f"class {k} as {shown(theirs)} in the records of {shown(run.identity.get('data'))}, as {shown(own)} in it"
        raise ValueError(
            f"expected the names of the classes that config.json of {shown(folder)} has, got {got}: name its classes "
            "as they were (robust-hub name-classes), or certify again"
        )


def certification(folder: str | Path) -> list[Run]:
    """Read the runs that certify a checkpoint, by data and sigma.

    Raises:
        ValueError: If a record is damaged, a run does not say what it certified or has no run.json, two are of
            different weights, two share data and sigma, or a file leads out of the folder.
    """
    home = Path(folder)
    for records in home.glob(f"{CERTIFICATION}/*/{RECORDS}"):
        if not (records.parent / RUN).is_file():
            raise ValueError(
                f"expected {RUN} beside {shown(records)}, got none, and records alone do not say what they certify: "
                "shelve the checkpoint again with its finished runs, or remove that folder"
            )
    found = [path.parent.relative_to(home) for path in home.glob(f"{CERTIFICATION}/*/{RUN}")]
    for part in found:
        for name in (RUN, RECORDS):
            inside(home, part / name)
    runs = [read_run(home / part) for part in found]
    for run in runs:
        check_identified(run)
    kinds = Counter((str(run.identity["data"]), run.sigma) for run in runs)
    if any(several > 1 for several in kinds.values()):
        raise ValueError(f"expected one run for data and sigma in {shown(folder)}, got several: leave one there")
    hashes: dict[str, set[str]] = {}
    for run in runs:
        hashes.setdefault(str(run.identity.get("dtype")), set()).add(str(run.identity.get("weights")))
    if any(len(several) > 1 for several in hashes.values()):
        raise ValueError(f"expected records of one network in {shown(folder)}, got several: shelve it anew")
    return sorted(runs, key=lambda run: (str(run.identity.get("data")), run.sigma or 0.0))


def check_identified(run: Run) -> None:
    """Refuse a run that does not say what it certified and how.

    Raises:
        ValueError: With the first name that its run.json lacks.
    """
    for name in _NEEDED:
        if name not in run.identity:
            raise ValueError(f"expected {name} in {shown(run.path / RUN)}, got none: certify again with this package")


def under_noise(folder: str | Path) -> UnderNoise | None:
    """Read what was measured of a checkpoint under each noise; None where nothing was, or not all of it yet.

    Raises:
        ValueError: If the file is damaged.
    """
    path = inside(Path(folder), f"{TRAINING}/{UNDER_NOISE}")
    if not path.is_file():
        return None
    try:
        row = read_bounded_json(path, UNDER_NOISE)
        accuracies = {float(sigma): proportion(right, row["images"]) for sigma, right in row["right"].items()}
        if not accuracies or not all(map(math.isfinite, accuracies)):
            raise ValueError("no finite sigma")
        words = {name: str(row[name]) for name in ("data", "split", "dtype", "weights")}
        measured = UnderNoise(**words, accuracies=dict(sorted(accuracies.items())))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(
            f"expected accuracies under noise in {shown(path)}, got {shown(repr(error), 200)}: measure them again"
        ) from None
    return None if "done" in row else measured


def _megabytes(folder: Path, config: CheckpointConfig) -> float:
    files = config.sha256 if config.difference is None else (DIFFERENCE,)
    return sum((folder / file).stat().st_size for file in files if (folder / file).is_file()) / 1e6


def _bases(name: str, config: CheckpointConfig) -> tuple[Provenance, ...]:
    training = config.provenance or Provenance()
    if training.base is None and training.job == "finetune" and "." in name:  # older ones do not name it
        folder = checkpoint_folder(name.split(".")[0])
        return () if folder is None else (read_config(folder).as_base(),)
    return tuple(training.lineage())[1:]
