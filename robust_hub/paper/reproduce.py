"""Run the experiments of a table of the paper: pretrain, fine-tune, certify what has no record yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import timm
import torch
from torch import nn

from robust_hub.certification.evaluate import certify
from robust_hub.images.data import ImageData, load_data
from robust_hub.images.noise import NoiseMixture
from robust_hub.images.pixels import mean_std
from robust_hub.layout import CONFIG
from robust_hub.models.config import read_config
from robust_hub.models.pins import read_pins
from robust_hub.models.resnets import load_model
from robust_hub.models.shelves import checkpoint_folder
from robust_hub.paper.experiment import EVERY, Experiment
from robust_hub.paper.recorded import read_own
from robust_hub.paper.results import results
from robust_hub.paper.rows import SIGMAS, Row, Scale, Table
from robust_hub.provenance import provenance_of
from robust_hub.training.finetune import finetune
from robust_hub.training.options import Options
from robust_hub.training.pretrain import pretrain
from robust_hub.training.sameness import Training
from robust_hub.training.state import check_destination

SIZE = 32  # pixels; what is larger is resized
Source = str | Path | ImageData
Images = Mapping[tuple[str, str], ImageData]  # by name and split


def reproduce(
    table: Table,
    scale: Scale,
    data: Mapping[str, Source],
    out: str | Path,
    *,
    rows: Sequence[str] | None = None,
    progress: bool = True,
    announce: Callable[[str], None] = lambda _: None,
) -> str:
    """Run what has no record yet of a table's rows, and give the table.

    The same call goes on where it was stopped. Rows share a pretraining, and tables a folder.

    Args:
        table: A table of `robust_hub.paper.tables`.
        scale: A scale of `robust_hub.paper.rows`.
        data: Where the data are: the scale's pretraining set and the rows' data sets, by name.
        out: Folder of the experiments; tables and scales have parts of their own in it.
        rows: Labels, or parts of them, of the only rows that are run; the table shows all. None runs every row.
        progress: Whether to show progress bars.
        announce: Called with a line that names the row that is run next.

    Returns:
        The table in Markdown: ours beside the paper's.

    Raises:
        ValueError: If data that are needed are not named or cannot be read, the folder cannot be written, or another
            process works on the same part of it; or if the folder holds networks that were trained in another way
            than the scale says.
    """
    experiments = [Experiment(row, scale, Path(out)) for row in _choose_rows(table, rows)]
    for experiment in experiments:
        _check_trainings(experiment)
    waiting = [experiment for experiment in experiments if not read_own(experiment)]
    images = _load(table, scale, _needed_data(waiting), data, progress)
    for experiment in waiting:
        announce(f"{table.name}, {scale.name}: {table.label(experiment.row)}")
        _run(experiment, images, progress)
    return results(table, scale, out)


def _choose_rows(table: Table, parts: Sequence[str] | None) -> list[Row]:
    """Give the rows whose label has one of the parts; each part must be in one."""
    if parts is None:
        return list(table.rows)
    rows = [row for row in table.rows if any(part in table.label(row) for part in parts)]
    if not rows:
        labels = "; ".join(map(table.label, table.rows))
        raise ValueError(f"expected rows of {table.name} among {labels}; got {', '.join(parts) or 'none'}")
    for part in parts:
        if not any(part in table.label(row) for row in rows):
            raise ValueError(f"expected rows of {table.name}, got {part!r}, which is in no label; leave it out")
    return rows


def _check_trainings(experiment: Experiment) -> None:
    """Raise if a network of the experiment's is there that was trained otherwise than it asks."""
    checks = [(experiment.tuned_folder, experiment.training_difference)]
    if experiment.row.pretrained is not None:
        checks.insert(0, (experiment.pretrained_folder, experiment.pretraining_difference))
    for folder, difference in checks:
        if (folder / CONFIG).exists() and (words := difference(read_config(folder).provenance)):
            raise experiment.not_as_asked(folder, words)


def _needed_data(waiting: Sequence[Experiment]) -> list[tuple[str, str]]:
    """Give name and split of all data that experiments train on or certify."""
    needed = {(experiment.row.dataset, split) for experiment in waiting for split in ("train", "test")}
    for experiment in waiting:
        trained = experiment.row.pretrained is None or (experiment.tuned_folder / CONFIG).exists()
        if not trained and _find_pretraining(experiment) is None:
            needed.add((experiment.scale.pretraining, "train"))
    return sorted(needed)


def _load(
    table: Table, scale: Scale, needed: Sequence[tuple[str, str]], data: Mapping[str, Source], progress: bool
) -> Images:
    """Read all data before the first training; raise if some are not named."""
    missing = sorted({name for name, _ in needed} - data.keys())
    if missing:
        words = " ".join(f"--data {name}=FOLDER" for name in missing)
        raise ValueError(f"expected data for {table.name} at scale {scale.name}: {', '.join(missing)}; say {words}")
    return {(name, split): load_data(data[name], split, size=SIZE, progress=progress) for name, split in needed}


def _run(experiment: Experiment, images: Images, progress: bool) -> None:
    """Train the network where that is not done, and certify it at every sigma."""
    scale, test = experiment.scale, images[experiment.row.dataset, "test"]
    model = _train(experiment, images, progress)
    model = model.to(getattr(torch, scale.dtype)).to(memory_format=torch.channels_last)
    for sigma in SIGMAS:
        folder = experiment.certified_folder(sigma)
        certify(model, test, sigma, out=folder, progress=progress, **{"every": EVERY, **scale.certify})


def _train(experiment: Experiment, images: Images, progress: bool) -> nn.Module:
    """Give the network that is certified, from its folder or by training it."""
    folder, own = experiment.tuned_folder, images[experiment.row.dataset, "train"]
    if (folder / CONFIG).exists():
        trained = read_config(folder).provenance
        if trained is None or trained.data_hash != own.data_hash:
            data = trained and trained.data
            raise experiment.not_as_asked(folder, f"images of {data} that are not those named now")
    elif experiment.row.pretrained is None:
        _pretrain(experiment.architecture, experiment.asked_training, own, folder, progress)
    else:
        _finetune(_pretrained(experiment, images, progress), experiment.asked_training, own, folder, progress)
    return load_model(folder)


def _pretrained(experiment: Experiment, images: Images, progress: bool) -> nn.Module:
    """Give the pretrained network, from its folder, the shelf or by training it."""
    source = _find_pretraining(experiment)
    if source is None:
        folder, others = experiment.pretrained_folder, images[experiment.scale.pretraining, "train"]
        _pretrain(experiment.architecture, experiment.asked_pretraining, others, folder, progress)
        source = str(folder)
    model = load_model(source)
    if words := experiment.pretraining_difference(provenance_of(model)):
        raise experiment.not_as_asked(source, words)
    return model


def _find_pretraining(experiment: Experiment) -> str | None:
    """Find the finished pretraining: the experiment's own, else the shelf's; None where it has to be run."""
    if (experiment.pretrained_folder / CONFIG).exists():
        return str(experiment.pretrained_folder)
    row, scale = experiment.row, experiment.scale
    name = scale.shelf.get((row.norm, row.pretrained or ()))
    if name is None:
        return None
    folder = checkpoint_folder(name)
    if folder is None:
        return name if name in read_pins() else None
    return None if experiment.pretraining_difference(read_config(folder).provenance) else name


def _pretrain(architecture: str, asked: Training, data: ImageData, out: Path, progress: bool) -> None:
    """Train a network from random weights, the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: nn.Module = timm.create_model(architecture)
    check_destination(model, out)
    pretrain(model, data, NoiseMixture(asked.sigmas), _options(asked, model, progress), out=out)


def _finetune(model: nn.Module, asked: Training, data: ImageData, out: Path, progress: bool) -> None:
    """Train a pretrained network further."""
    check_destination(model, out)
    mixture, options = NoiseMixture(asked.sigmas), _options(asked, model, progress)
    finetune(model, data, mixture, options, head_only=asked.head_only, head_scale=asked.head_scale, out=out)


def _options(asked: Training, model: nn.Module, progress: bool) -> Options:
    """Give the options that are asked for, with the pixels' mean and std of the network."""
    mean, std = mean_std(model)
    return replace(asked.options, mean=mean, std=std, progress=progress)
