"""The shelf: a trained checkpoint with the records that certify it, in one folder, and what all of them are worth.

A folder of the shelf holds config.json and the weights, or their difference to a base, with a run's records in
`certification/<data>_sigma_<sigma>` and the log of what made it in `training`. Records of another network are refused.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from robust_hub.accuracy import Share, certified_accuracy, clean_accuracy, decides, share
from robust_hub.checkpoint import read_weights, save_checkpoint
from robust_hub.config import CheckpointConfig, read_config
from robust_hub.errors import CheckpointError
from robust_hub.family import SUFFIX
from robust_hub.identity import weights_hash
from robust_hub.layout import CERTIFICATION, DIFFERENCE, LOG, RECORDS, RUN, SPEED, TRAINING, UNDER_NOISE
from robust_hub.models import load_model
from robust_hub.provenance import summary
from robust_hub.records import Run, read_run
from robust_hub.shelves import SHELF, checkpoint_folder, list_checkpoints, not_here
from robust_hub.state import write_in_main
from robust_hub.stored import find_base

RADIUS = 0.25  # of the certified accuracy that stands for a checkpoint in a list


@dataclass(frozen=True)
class Shelved:
    """What a checkpoint on the shelf is and is worth.

    Attributes:
        name: Its name for timm.
        folder: Where it lies.
        megabytes: Size of its weights, or of the difference to its base that is there in their place.
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
    clean: Share | None = None
    certified: Share | None = None


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
    accuracies: dict[float, Share]


def shelve(
    source: str | Path,
    name: str,
    *,
    certified: Sequence[str | Path] = (),
    dtype: torch.dtype | None = None,
    base: str | None = None,
    shelf: str | Path = SHELF,
) -> Path:
    """Put a trained checkpoint on the shelf, with its records and its training log.

    Args:
        source: Checkpoint folder of `pretrain_mixed_noise` or `finetune_clean`.
        name: Its name for timm, such as "resnet18s_gn_mixednoise" or, fine-tuned, "resnet18s_gn_mixednoise.cifar10".
        certified: Folders of finished runs of `certify` with this checkpoint.
        dtype: Type of the file; by default that in which it was certified, float16 if it was not.
        base: Name of the checkpoint that it was fine-tuned from: the difference is stored in place of the weights,
            which takes a twentieth of the bytes after a clean epoch at a small rate.
        shelf: Folder of all checkpoints; `model_cards` in the current folder.

    Returns:
        The checkpoint's folder.

    Raises:
        CheckpointError: If the checkpoint or the base is damaged, or the base missing.
        ValueError: If the name is another architecture's or promises mixed noise that the weights did not see, a run
            is unfinished or of other weights, two runs share data and sigma, the type would change the certified
            network, or the folder cannot be written.
    """
    source = Path(source)
    runs = [read_run(folder) for folder in certified]
    model = load_model(source)
    config = read_config(source)
    _check_name(name, config, source)
    types = {str(run.identity.get("dtype")) for run in runs}
    if dtype is None:
        dtype = getattr(torch, types.pop()) if len(types) == 1 else torch.float32 if types else torch.float16
    stored = {key: value.to(dtype) if value.is_floating_point() else value for key, value in model.state_dict().items()}
    model.load_state_dict(stored)
    files: dict[Path, bytes] = {}  # read now: they may lie in the folder that is written
    for run in runs:
        check_run(run, model)
        place = Path(CERTIFICATION, f"{Path(str(run.identity['data'])).name}_sigma_{run.sigma:g}")
        if place / RUN in files:
            raise ValueError(f"expected one run for data and sigma, got {run.path} beside another: leave one out")
        files |= {place / file: (run.path / file).read_bytes() for file in (RECORDS, RUN)}
    logs = (Path(TRAINING, file) for file in (LOG, SPEED))
    files |= {log: (source / log).read_bytes() for log in logs if (source / log).is_file()}
    measured = under_noise(source)
    if measured is not None and measured.weights == _weights_in(measured.dtype, model):
        files[Path(TRAINING, UNDER_NOISE)] = (source / TRAINING / UNDER_NOISE).read_bytes()
    folder = Path(shelf) / name
    if base is not None:
        read_weights(find_base(base, folder))  # so that its faults are told before anything is written

    def write() -> None:
        save_checkpoint(model, folder, provenance=config.provenance, dtype=dtype, base=base)
        for old in (CERTIFICATION, TRAINING):  # of the weights that had the name before
            shutil.rmtree(folder / old, ignore_errors=True)
        for file, content in files.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(content)

    write_in_main(folder, write)
    return folder


def describe(name: str, folder: str | Path | None = None) -> Shelved:
    """Say what a checkpoint is and is worth, from its config and its records.

    Args:
        name: A name of `list_checkpoints`.
        folder: Its folder; by default found by its name.

    Raises:
        CheckpointError: If it is not there or damaged.
        ValueError: If its records are damaged.
    """
    place = checkpoint_folder(name) if folder is None else Path(folder)
    if place is None:
        raise CheckpointError(not_here(name))
    config = read_config(place)
    base = None if config.difference is None else config.difference.base
    files = config.sha256 if base is None else (DIFFERENCE,)
    size = sum((place / file).stat().st_size for file in files if (place / file).is_file()) / 1e6
    known = [run for run in certification(place) if run.records and decides(run.records, RADIUS)]
    how = summary(config.provenance)
    if not known:
        return Shelved(name, place, size, how, base)
    best = max(known, key=lambda run: certified_accuracy(run.records, RADIUS).value)
    return Shelved(
        name,
        place,
        size,
        how,
        base,
        Path(str(best.identity.get("data", ""))).name or None,
        best.sigma,
        clean_accuracy(best.records),
        certified_accuracy(best.records, RADIUS),
    )


def under_noise(folder: str | Path) -> UnderNoise | None:
    """Read what was measured of a checkpoint under each noise; None where nothing was, or not all of it yet.

    Raises:
        ValueError: If the file is damaged.
    """
    path = Path(folder) / TRAINING / UNDER_NOISE
    if not path.is_file():
        return None
    try:
        row = json.loads(path.read_text())
        accuracies = {float(sigma): share(right, row["images"]) for sigma, right in row["right"].items()}
        found = UnderNoise(row["data"], row["split"], row["dtype"], row["weights"], dict(sorted(accuracies.items())))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"expected accuracies under noise in {path}, got {error!r}: measure them again") from None
    return None if "done" in row else found


def certification(folder: str | Path) -> list[Run]:
    """Read the runs that certify a checkpoint, by data and sigma.

    Raises:
        ValueError: If a record is damaged, or two runs are of different weights.
    """
    runs = [read_run(path.parent) for path in Path(folder).glob(f"{CERTIFICATION}/*/{RUN}")]
    weights: dict[str, set[str]] = {}
    for run in runs:
        weights.setdefault(str(run.identity.get("dtype")), set()).add(str(run.identity.get("weights")))
    if any(len(several) > 1 for several in weights.values()):
        raise ValueError(f"expected records of one network in {folder}, got several: shelve it anew")
    return sorted(runs, key=lambda run: (str(run.identity.get("data")), run.sigma or 0.0))


def describe_all() -> list[Shelved]:
    """Describe every checkpoint whose weights are here."""
    return [describe(name) for name in list_checkpoints()]


def check_run(run: Run, model: nn.Module) -> None:
    """Refuse a run that is not finished or did not certify this network, in the type that it was certified in.

    Args:
        run: The run.
        model: The network, in float32 holding the stored values.

    Raises:
        ValueError: If it is unfinished or holds records of other weights.
    """
    if not run.finished:
        raise ValueError(f"expected finished runs, {run.path} is not: give its certify command once more")
    if run.identity.get("weights") != _weights_in(str(run.identity.get("dtype")), model):
        raise ValueError(
            f"{run.path} holds records of other weights (its type is {run.identity.get('dtype')}): name the runs that "
            "certified this checkpoint, and leave dtype out"
        )


def _weights_in(dtype: str, model: nn.Module) -> str:
    """Give the hash of a network's weights in a type; nothing's if there is no such type."""
    kind = getattr(torch, dtype, None)
    return weights_hash(copy.deepcopy(model).to(kind)) if isinstance(kind, torch.dtype) else ""


def _check_name(name: str, config: CheckpointConfig, source: Path) -> None:
    """Refuse a name of another architecture, or one that promises noise that the weights did not see."""
    asked, own = (text.split(".")[0].removesuffix(SUFFIX) for text in (name, config.architecture))
    if asked != own:
        raise ValueError(f"{source} is a {own}, expected a name that starts with it, got {name!r}")
    lineage = () if config.provenance is None else config.provenance.lineage()
    start = next((one for one in lineage if one.job == "pretrain"), None)
    if start and name.split(".")[0].endswith(SUFFIX) and len(start.sigmas or ()) < 2:
        raise ValueError(
            f"expected weights that saw several sigmas for a name with {SUFFIX}, got weights {summary(start)}: "
            f"call them {own}.<tag>"
        )
