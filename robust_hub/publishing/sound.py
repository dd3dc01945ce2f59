"""Whether a checkpoint's folder is sound: what is checked before it is sent, and of what comes back."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from robust_hub.errors import CheckpointError
from robust_hub.images.pixels import mean_std
from robust_hub.layout import CONFIG
from robust_hub.models.config import read_config
from robust_hub.models.foreign import check_promised
from robust_hub.models.identity import probe
from robust_hub.models.plain import check_plain_timm
from robust_hub.models.resnets import load_model
from robust_hub.parsing import shown
from robust_hub.publishing.evidence import certification, check_class_names
from robust_hub.publishing.shelf import check_run


def check_folder(folder: Path) -> Path:
    """Check a folder: weights, hashes, norm, layers and logits by loading it, then every record.

    Args:
        folder: A checkpoint's folder.

    Returns:
        The folder.

    Raises:
        CheckpointError: If its files are not those that config.json promises.
        ValueError: If records are damaged or of another network.
    """
    model = load_sound(folder)
    runs = certification(folder)
    check_class_names(read_config(folder), runs, folder)
    for run in runs:
        check_run(run, model)
    return folder


def load_sound(folder: Path) -> nn.Module:
    """Load a folder's network.

    Raises:
        CheckpointError: If its files are not those that config.json promises, or nobody could certify its images.
    """
    if not folder.is_dir():
        raise CheckpointError(
            f"expected a checkpoint's name, a folder or a repository owner/name, got {shown(folder)}, which is none: "
            "`robust-hub models` lists the names"
        )
    if not (folder / CONFIG).is_file():
        raise CheckpointError(f"{folder} holds no {CONFIG}: it is no checkpoint of robust_hub")
    config = read_config(folder)
    check_promised(config, folder)
    model = load_model(folder)
    check_plain_timm(config, model, folder)
    _check_images(model, config.input_size, folder)
    return model


def _check_images(model: nn.Module, size: tuple[int, ...], folder: Path) -> None:
    """Refuse a checkpoint whose images nobody could certify, because of their channels or their size."""
    why = ""
    try:
        channels = len(mean_std(model)[0])
    except ValueError as error:
        channels, why = 0, f" or none that can be ({error})"
    if size and channels != size[0]:
        raise CheckpointError(
            f"{folder / CONFIG} names images of {size[0]} channels, with mean and std of another number{why}: train it "
            "again"
        )
    if size and probe(model, size) is None:
        raise CheckpointError(
            f"{folder / CONFIG} names images of {'x'.join(map(str, size))}, which its network cannot take"
        )
