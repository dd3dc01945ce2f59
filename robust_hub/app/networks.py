"""The checkpoints that the page offers, and the few that are held in memory for all its visitors."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import torch

from robust_hub.certification.smoothing import SmoothedClassifier
from robust_hub.errors import CheckpointError
from robust_hub.images.decoding import MODES
from robust_hub.models.config import CheckpointConfig, read_config
from robust_hub.models.resnets import load_model
from robust_hub.models.shelves import checkpoint_folder, list_checkpoints
from robust_hub.provenance import Provenance, summary

USUAL = "resnet18s_ln_mixednoise.cifar10_e5"
_HELD = 3  # networks in memory


@dataclass(frozen=True)
class Choice:
    """A checkpoint that classifies square images.

    Attributes:
        name: Its name, or the path of its folder.
        folder: Its folder.
        channels: Channels of its images: 1, 3 or 4.
        size: Pixels a side.
        classes: Number of classes.
        named: Whether the classes have names.
        trained: How it was trained, in words.
        sigmas: Sigmas of the noise, above 0, that it or what it started from was trained on, [0, 1]-pixel units; None
            where that was not recorded.
    """

    name: str
    folder: Path
    channels: int
    size: int
    classes: int
    named: bool
    trained: str
    sigmas: tuple[float, ...] | None


def choices(model: str | None = None) -> tuple[Choice, ...]:
    """Find the checkpoints on the shelves, the one to begin with first, then those with names for their classes.

    Args:
        model: The one to begin with, a name or a folder; by default the small one for CIFAR-10.

    Raises:
        ValueError: If there is none, or the one that is asked for is no classifier of square images.
    """
    found = [one for name in list_checkpoints() if (one := _choice(name, checkpoint_folder(name))) is not None]
    first = next((one for one in found if one.name == (model or USUAL)), None)
    if model is not None and first is None:
        first = _choice(model, Path(model) if Path(model).is_dir() else None)
        if first is None:
            near = ", ".join(one.name for one in found[:3]) or "none is on the shelves"
            raise ValueError(
                f"expected --model to name a checkpoint of square images, such as {near}, or its folder, got {model!r}:"
                " `robust-hub models` lists what there is"
            )
    rest = sorted((one for one in found if one is not first), key=_order)
    if first is None and not rest:
        raise ValueError("expected a checkpoint to classify with, got none on the shelves: name one with --model")
    return (*([] if first is None else [first]), *rest)


class Networks:
    """Loaded networks by name, a few at a time; visitors share them, and nothing of theirs is kept in them.

    Args:
        offered: The checkpoints that may be loaded.
    """

    def __init__(self, offered: tuple[Choice, ...]) -> None:
        self.offered = {one.name: one for one in offered}
        self._lock = threading.Lock()
        self._held: OrderedDict[str, SmoothedClassifier] = OrderedDict()

    def get(self, name: str) -> SmoothedClassifier:
        """Give a network, loaded by the first who asks; on the CPU, in float32, as `robust-hub certify` has it.

        Raises:
            ValueError: If it is not offered.
            CheckpointError: If its weights are missing, damaged or another network's.
        """
        if name not in self.offered:
            raise ValueError(f"expected one of the checkpoints of the page, got {name!r}: choose another")
        with self._lock:
            if name not in self._held:
                model = load_model(self.offered[name].folder)
                self._held[name] = SmoothedClassifier(model.to(memory_format=torch.channels_last))
                while len(self._held) > _HELD:
                    self._held.popitem(last=False)
            self._held.move_to_end(name)
            return self._held[name]


def _choice(name: str, folder: Path | None) -> Choice | None:
    """Read what a checkpoint takes; None where it is damaged, has no classifier or takes images of another form."""
    try:
        config = None if folder is None else read_config(folder)
    except (CheckpointError, ValueError, OSError):
        return None
    if config is None or not config.num_classes:
        return None
    shape = tuple(config.pretrained_cfg.get("input_size") or ())
    if len(shape) != 3 or shape[0] not in MODES or shape[1] != shape[2]:
        return None
    assert folder is not None
    return Choice(name, folder, *shape[:2], config.num_classes, bool(config.label_names), *_training(config))


def _training(config: CheckpointConfig) -> tuple[str, tuple[float, ...] | None]:
    """Say how a checkpoint was trained, and on which noise."""
    provenance = config.provenance
    if provenance is None:
        return summary(provenance), None
    lineage: list[Provenance] = list(provenance.lineage())
    trained = ", after it was ".join(summary(one) for one in lineage)
    if lineage[-1].job != "pretrain":  # of what it started from, nothing is known
        return trained, None
    return trained, tuple(sorted({sigma for one in lineage for sigma in one.sigmas or () if sigma > 0}))


def _order(one: Choice) -> tuple[bool, bool, int, str]:
    """Those with names for their classes first, then those that saw every noise, then the smaller ones."""
    return not one.named, len(one.sigmas or ()) < 2, _bytes(one.folder), one.name


def _bytes(folder: Path) -> int:
    """Count the bytes of a checkpoint's weights, and of the base that a difference needs."""
    own = sum(file.stat().st_size for file in folder.glob("*.safetensors*"))
    difference = read_config(folder).difference
    base = None if difference is None else checkpoint_folder(difference.base)
    return own + (0 if base is None else _bytes(base))
