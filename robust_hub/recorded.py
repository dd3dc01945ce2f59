"""Where the records of a row are: in the folder of an experiment, else with a checkpoint of the shelf.

A checkpoint is a row's if it is of the row's architecture, was trained as the scale says, on the data that row and
scale name, and has a finished run, certified as the scale says, for every sigma.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from robust_hub.asked import other_certification, other_training
from robust_hub.config import CheckpointConfig, read_config
from robust_hub.family import SUFFIX
from robust_hub.layout import RUN
from robust_hub.models import SUFFIX
from robust_hub.records import Run, read_json, read_run
from robust_hub.rows import SIGMAS, Row, Scale
from robust_hub.shelf import certification
from robust_hub.shelves import checkpoint_folder, list_checkpoints


@dataclass(frozen=True)
class Recorded:
    """The runs of a row, one a sigma.

    Attributes:
        runs: The runs, by sigma; none where a record is still to be made.
        checkpoint: The shelf's checkpoint that they lie with; None if they are an experiment's own.
    """

    runs: tuple[Run, ...] = ()
    checkpoint: str | None = None


def run_folder(row: Row, sigma: float, home: Path) -> Path:
    """Give the folder of a row's run in the scale's part of an experiment's folder."""
    return home / "certified" / row.name / f"sigma_{sigma:g}"


def recorded(row: Row, scale: Scale, home: Path | None) -> Recorded:
    """Read a row's runs: the experiment's own if it has them, else the shelf's.

    Args:
        row: The row.
        scale: The scale.
        home: The scale's part of the experiment's folder; None reads the shelf alone.

    Raises:
        CheckpointError: If a checkpoint of the shelf is damaged.
        ValueError: If records are damaged, or the experiment's are of a network that was trained or certified
            otherwise than the scale says.
    """
    own = [] if home is None else finished_runs(row, scale, home)
    return Recorded(tuple(own)) if own else next(on_the_shelf(row, scale), Recorded())


def finished_runs(row: Row, scale: Scale, home: Path) -> list[Run]:
    """Read a row's runs in an experiment's folder, one a sigma; none where a record is still to be made.

    Args:
        row: The row.
        scale: The scale.
        home: The scale's part of the experiment's folder.

    Raises:
        ValueError: If records are damaged, or are of a network that was trained or certified otherwise than the scale
            says.
    """
    folders = [run_folder(row, sigma, home) for sigma in SIGMAS]
    if not all((f / RUN).exists() and read_json(f / RUN).get("finished") is not None for f in folders):
        return []
    runs = [read_run(folder) for folder in folders]
    for run in runs:
        if len(run.records) != run.identity.get("images"):
            raise ValueError(
                f"expected {run.identity.get('images')} records in {run.path}, got {len(run.records)}: remove it"
            )
        if other := other_certification(run, row, scale):
            raise ValueError(otherwise(run.path, scale, other))
    return runs


def on_the_shelf(row: Row, scale: Scale) -> Iterator[Recorded]:
    """Give the runs of every checkpoint of the shelf that is a row's.

    Args:
        row: The row.
        scale: The scale.

    Raises:
        CheckpointError: If a checkpoint of the shelf is damaged.
        ValueError: If records are damaged.
    """
    for name in list_checkpoints():
        folder = checkpoint_folder(name)
        if folder is None or not _is_of(read_config(folder), row, scale):
            continue
        runs = {run.sigma: run for run in certification(folder) if _answers(run, row, scale)}
        if runs.keys() >= set(SIGMAS):
            yield Recorded(tuple(runs[sigma] for sigma in SIGMAS), name)


def otherwise(place: str | Path, scale: Scale, found: str) -> str:
    """Say that a part of an experiment was not made as its scale says."""
    return (
        f"expected {place} to be made as scale {scale.name} says, got {found}: remove it and what was made from it "
        "(pretrained, tuned, certified), or name another folder"
    )


def _is_of(config: CheckpointConfig, row: Row, scale: Scale) -> bool:
    """Tell whether a checkpoint is a row's network."""
    data = [row.dataset, *([] if row.pretrained is None else [scale.pretraining])]
    return (
        config.architecture.removesuffix(SUFFIX) == f"{scale.depth}_{row.norm}"
        and config.provenance is not None
        and [_name(stage.data) for stage in config.provenance.lineage()] == data
        and not other_training(config.provenance, row, scale)
    )


def _answers(run: Run, row: Row, scale: Scale) -> bool:
    whole = run.finished and len(run.records) == run.identity.get("images")
    return whole and _name(run.identity.get("data")) == row.dataset and not other_certification(run, row, scale)


def _name(data: object) -> str:
    """Give the name of the data that a training or a run was on."""
    return Path(str(data)).name
