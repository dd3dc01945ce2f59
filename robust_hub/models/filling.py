"""A folder's checked weights, put into a network that is there, and what the network then says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from timm.models import get_pretrained_cfg, load_pretrained
from timm.models.resnet import ResNet
from torch import nn

from robust_hub.errors import CheckpointError
from robust_hub.models.asked import overlay_of
from robust_hub.models.checkpoint import check_keys, read_weights
from robust_hub.models.classes import note_class_names
from robust_hub.models.config import CheckpointConfig, read_config
from robust_hub.models.family import SUFFIX
from robust_hub.models.foreign import check_promised, described, warn_unchecked
from robust_hub.models.loaded import check_computation, check_loaded
from robust_hub.models.sketch import sketch
from robust_hub.models.stored import check_kind
from robust_hub.models.untouched import note_training


def load_into(model: ResNet, folder: Path, norm: str, stem: str) -> None:
    """Load a folder's checked weights into a network that is there, its head where it has as many outputs.

    Args:
        model: One of our networks.
        folder: The checkpoint's folder.
        norm: The network's norm.
        stem: Its stem.

    Raises:
        CheckpointError: If the weights are missing, damaged or another network's.
    """
    cfg: Any = model.pretrained_cfg
    config = read_config(folder)
    state = weights_for(folder, config, str(cfg["architecture"]), norm, stem)
    chans = next(model.conv1.parameters()).shape[1]
    given = dict(getattr(model, "_model_args", None) or {})
    load_pretrained(model, overlay_of(config, state, folder, {}), num_classes=model.num_classes, in_chans=chans)
    check_loaded(model, config, state, given)
    if config.model_args.keys() - given.keys():  # which the network was made without
        check_computation(model, config, str(folder), {"in_chans": chans, **given}, {})
    _note_images(model, config)
    note_loaded(model, config)


def weights_for(
    folder: Path, config: CheckpointConfig, variant: str, norm: str, stem: str, *, promised: bool = False
) -> dict[str, torch.Tensor]:
    """Read a folder's weights and compare them with the architecture.

    Args:
        folder: The checkpoint's folder.
        config: Its config.json.
        variant: The network's name for timm.
        norm: Its norm.
        stem: Its stem.
        promised: Whether a folder without hashes is refused, not warned of.

    Raises:
        CheckpointError: If they are missing, damaged or another network's.
    """
    if promised:
        check_promised(config, folder)
    architecture = config.architecture.removesuffix(SUFFIX)
    if architecture != variant.removesuffix(SUFFIX):
        raise CheckpointError(f"{folder} holds weights of {architecture}, the model is {variant.removesuffix(SUFFIX)}")
    state = read_weights(folder, norm=norm, stem=stem)
    saved = sketch(config, len(state), folder)
    check_keys(state, saved)
    check_kind(folder, described(config, saved), {"norm": norm, "stem": stem})
    warn_unchecked(config, folder)
    return state


def note_loaded(model: nn.Module, config: CheckpointConfig) -> None:
    """Have a loaded model say how its weights came about, and name its outputs where the classifier is theirs."""
    note_training(model, config.as_base())
    own_head = getattr(model, "num_classes", None) == config.num_classes
    note_class_names(model, config.label_names if own_head else None)


def _note_images(model: nn.Module, config: CheckpointConfig) -> None:
    """Have a network say mean and std of weights that it was not made for, where its caller has not said others."""
    cfg: Any = model.pretrained_cfg
    usual = get_pretrained_cfg(".".join(filter(None, (cfg["architecture"], cfg.get("tag")))))
    for name in ("mean", "std"):
        if usual is not None and tuple(cfg[name]) == tuple(getattr(usual, name)) and name in config.pretrained_cfg:
            cfg[name] = tuple(config.pretrained_cfg[name])


def without_state(model: nn.Module) -> nn.Module:
    """Have a loaded model hold its weights once: timm keeps the state dict that it was told of."""
    cfg: Any = model.pretrained_cfg
    cfg.pop("state_dict", None)  # default_cfg is the same dict
    return model
