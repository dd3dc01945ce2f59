"""What is recorded of an experiment: the runs in its own folder, else those of a checkpoint of the shelf.

A checkpoint is the experiment's if it is of its architecture, was trained as it asks, on the data that it names, and
has a finished run, certified as it asks, for every sigma.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from robust_hub.evidence.records import Run, read_json, read_run
from robust_hub.layout import RUN
from robust_hub.models.config import CheckpointConfig, read_config
from robust_hub.models.family import SUFFIX
from robust_hub.models.shelves import checkpoint_folder, list_checkpoints
from robust_hub.paper.experiment import Experiment
from robust_hub.paper.rows import SIGMAS
from robust_hub.publishing.evidence import certification


@dataclass(frozen=True)
class Recorded:
    """The runs of an experiment, one a sigma.

    Attributes:
        runs: The runs, by sigma; none where a record is still to be made.
        checkpoint: The shelf's checkpoint that they lie with; None if they are the experiment's own.
    """

    runs: tuple[Run, ...] = ()
    checkpoint: str | None = None


def read_recorded(experiment: Experiment) -> Recorded:
    """Read an experiment's runs: its own if it has them, else the shelf's.

    Raises:
        CheckpointError: If a checkpoint of the shelf is damaged.
        ValueError: If records are damaged, or the experiment's own are of a network that was trained or certified
            otherwise than it asks.
    """
    own = () if experiment.out is None else read_own(experiment)
    return Recorded(own) if own else next(read_shelved(experiment), Recorded())


def read_own(experiment: Experiment) -> tuple[Run, ...]:
    """Read the runs in an experiment's folder, one a sigma; none where a record is still to be made.

    Raises:
        ValueError: If records are damaged, or are of a network that was trained or certified otherwise than the
            experiment asks.
    """
    folders = [experiment.certified_folder(sigma) for sigma in SIGMAS]
    if not all((f / RUN).exists() and read_json(f / RUN).get("finished") is not None for f in folders):
        return ()
    runs = tuple(read_run(folder) for folder in folders)
    for run in runs:
        if not _is_whole(run):
            raise ValueError(
                f"expected {run.identity.get('images')} records in {run.path}, got {len(run.records)}: remove it"
            )
        if words := experiment.certification_difference(run):
            raise experiment.not_as_asked(run.path, words)
    return runs


def read_shelved(experiment: Experiment) -> Iterator[Recorded]:
    """Read the runs of every checkpoint of the shelf that is the experiment's.

    Raises:
        CheckpointError: If a checkpoint of the shelf is damaged.
        ValueError: If records are damaged.
    """
    for name in list_checkpoints():
        folder = checkpoint_folder(name)
        if folder is None or not _is_network_of(experiment, read_config(folder)):
            continue
        runs = {run.sigma: run for run in certification(folder) if _is_run_of(experiment, run)}
        if runs.keys() >= set(SIGMAS):
            yield Recorded(tuple(runs[sigma] for sigma in SIGMAS), name)


def _is_network_of(experiment: Experiment, config: CheckpointConfig) -> bool:
    """Tell whether a checkpoint is the network that an experiment certifies."""
    return (
        config.architecture.removesuffix(SUFFIX) == experiment.architecture
        and config.provenance is not None
        and tuple(_data_name(training.data) for training in config.provenance.lineage()) == experiment.data
        and not experiment.training_difference(config.provenance)
    )


def _is_run_of(experiment: Experiment, run: Run) -> bool:
    """Tell whether a finished run certified its network as an experiment asks."""
    return (
        run.finished
        and _is_whole(run)
        and _data_name(run.identity.get("data")) == experiment.row.dataset
        and not experiment.certification_difference(run)
    )


def _is_whole(run: Run) -> bool:
    """Tell whether a run has a record of every image."""
    return len(run.records) == run.identity.get("images")


def _data_name(data: object) -> str:
    """Give the name of the data that a training or a run was on."""
    return Path(str(data)).name
