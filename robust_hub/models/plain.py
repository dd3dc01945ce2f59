"""Our networks in timm's own words, for whoever has no robust_hub: which name and arguments make the same network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from robust_hub.errors import CheckpointError
from robust_hub.layout import CONFIG
from robust_hub.models.config import CheckpointConfig

# timm has no instance norm and no CIFAR stem.
PLAIN_DEPTHS: dict[str, tuple[str, dict[str, Any]]] = {
    "resnet18s": ("resnet18", {"channels": [32, 64, 128, 256]}),
    **{depth: (depth, {}) for depth in ("resnet26", "resnet50", "resnet152")},
}
PLAIN_NORMS: dict[str, dict[str, Any]] = {
    "bn": {},
    "gn": {"norm_layer": "groupnorm"},
    "ln": {"norm_layer": "groupnorm1"},
}


def plain_timm(depth: str, norm: str, stem: str) -> tuple[str, dict[str, Any]] | None:
    """Give timm's own name and arguments for a network by its names; None where timm cannot make it."""
    if stem != "imagenet" or norm not in PLAIN_NORMS:
        return None
    name, args = PLAIN_DEPTHS[depth]
    return name, {**args, **PLAIN_NORMS[norm]}


def in_plain_timm(model: nn.Module, model_args: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """Give name and arguments with which plain timm makes a network made with `model_args`; None where it cannot."""
    theirs: Any = getattr(model, "plain_timm", None)
    if theirs is None:
        return None
    name, args = theirs
    return name, {**args, **{k: v for k, v in model_args.items() if k != "stem"}}


def check_plain_timm(config: CheckpointConfig, model: nn.Module, folder: str | Path) -> None:
    """Refuse a config.json that would have plain timm make another network than ours.

    Args:
        config: The checkpoint's config.
        model: The network that robust_hub made from it.
        folder: Its folder, for the error.

    Raises:
        CheckpointError: If name or arguments in timm's words are not those of the model.
    """
    if config.plain_timm is None:
        return
    ours = in_plain_timm(model, config.model_args)
    if ours != config.plain_timm:
        name, args = config.plain_timm
        as_ours = None if ours is None else {"architecture": ours[0], "model_args": ours[1]}
        raise CheckpointError(
            f"{Path(folder) / CONFIG} has plain timm make {name} with {args}, these weights are of "
            f"{as_ours or 'a network that it does not know'}"
        )
