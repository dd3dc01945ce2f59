"""Whether a network that was made to hold weights holds them all, and computes what their config.json promises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from robust_hub.errors import CheckpointError
from robust_hub.models.config import CheckpointConfig
from robust_hub.models.identity import check_probe
from robust_hub.parsing import shown

# Arguments of timm.create_model that leave features, and logits of the saved classifier, as they are.
_SAME_FUNCTION = {
    *("num_classes", "in_chans", "norm", "stem", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"),
    *("drop_rate", "drop_path_rate", "drop_block_rate", "device", "pretrained_model_args"),
}


def check_computation(
    model: nn.Module, config: CheckpointConfig, where: str, kwargs: Mapping[str, Any], overlay: Mapping[str, Any]
) -> None:
    """Compare what a loaded model computes with its config, unless it was asked to compute something else.

    Args:
        model: The model, its weights loaded.
        config: The checkpoint's config.
        where: The checkpoint, for the error.
        kwargs: The arguments of the call.
        overlay: Its `pretrained_cfg_overlay`.

    Raises:
        CheckpointError: If features or logits are not those that config.json promises.
    """
    first = next(model.parameters())
    channels = (config.input_size or (0,))[0]
    saved = {name: _listed(value) for name, value in config.model_args.items()}
    asked = {k for k, v in kwargs.items() if k not in _SAME_FUNCTION and (k not in saved or saved[k] != _listed(v))}
    asked |= {"in_chans"} if kwargs.get("in_chans", channels) != channels else set()
    if not asked and first.dtype == torch.float32 and first.device.type != "meta":
        own_head = (
            int(getattr(model, "num_classes", 0))
            == config.num_classes
            == overlay.get("num_classes", config.num_classes)
        )
        check_probe(model, config.probe, config.input_size, own_head=own_head, where=where)


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def check_loaded(
    model: nn.Module, config: CheckpointConfig, state: Mapping[str, Tensor], kwargs: Mapping[str, Any]
) -> None:
    """Refuse a network with layers that the weights lack: where classes differ, timm leaves them random in silence.

    Args:
        model: The model, its weights loaded.
        config: The checkpoint's config.
        state: The weights, by name.
        kwargs: The arguments of the call.

    Raises:
        CheckpointError: If a layer beside the classifier is in one of both alone.
    """
    if kwargs.get("features_only"):
        return
    head: Any = config.pretrained_cfg.get("classifier") or ()
    heads = tuple(f"{name}." for name in ([head] if isinstance(head, str) else head))
    own = {key for key in model.state_dict() if not key.startswith(heads)}
    theirs = {key for key in state if not key.startswith(heads)}
    if lacking := sorted(own ^ theirs):
        raise CheckpointError(
            f"these weights are not of the network that is asked for, {shown(lacking[0], 80)} is in one alone: leave "
            "out the arguments that change its layers"
        )
