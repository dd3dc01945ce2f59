"""What a network is: the hash of its weights, and its probe, what it computes of two fixed images.

Weights alone do not tell a network: group, instance and layer norm have the same keys and shapes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from robust_hub.errors import CheckpointError
from robust_hub.models.modes import eval_mode

_FIXED, _KEPT = 2312_09020, 16  # key of the probe's images, values kept of each
_ROUGH = 1e-3  # of the largest value: what machines may differ by


def weights_hash(model: nn.Module) -> str:
    """Hash a model's weights and buffers with their names and types, as lower-case hex."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def probe(model: nn.Module, size: Sequence[int]) -> dict[str, list[list[float]]] | None:
    """Run a model on two fixed images, so that weights in a wrong network are found out.

    Args:
        model: A timm model in float32; its modes are restored afterwards.
        size: Shape of an image, (C, H, W).

    Returns:
        The first values of "features" (before the classifier) and "logits" of each image; None for a model that has no
        timm head or takes no such images.
    """
    if not hasattr(model, "forward_features") or not hasattr(model, "forward_head"):
        return None
    noise = np.random.Generator(np.random.Philox(key=_FIXED)).standard_normal((2, *size), dtype=np.float32)
    run: Any = model
    try:
        with eval_mode(model), torch.inference_mode():
            x = run.forward_features(torch.from_numpy(noise).to(next(model.parameters()).device))
            parts = {"features": run.forward_head(x, pre_logits=True), "logits": run.forward_head(x)}
    except (RuntimeError, ValueError):
        return None
    return {name: [[float(f"{v:.6g}") for v in row] for row in y[:, :_KEPT].tolist()] for name, y in parts.items()}


def check_probe(
    model: nn.Module, promised: Mapping[str, Any] | None, size: Sequence[int], *, own_head: bool, where: str
) -> None:
    """Refuse a model that does not compute what its checkpoint's config.json says.

    Args:
        model: The model with the checkpoint's weights, in float32.
        promised: The checkpoint's probe; None, as old ones have it, is not compared.
        size: Shape of an image, (C, H, W); empty if the checkpoint does not say it.
        own_head: Whether the model has the checkpoint's classifier, whose logits are then compared as well.
        where: The checkpoint, for the error.

    Raises:
        CheckpointError: If features or, with the checkpoint's classifier, logits differ by more than rounding.
    """
    computed = probe(model, size) if promised and size else None
    if not promised or computed is None:
        return
    for name in ("features", "logits") if own_head else ("features",):
        theirs, ours = (np.asarray(side.get(name, []), dtype=np.float64) for side in (promised, computed))
        largest = np.abs(theirs).max(initial=0)
        if theirs.shape != ours.shape or not np.abs(ours - theirs).max(initial=0) <= _ROUGH * largest:
            raise CheckpointError(
                f"the weights of {where} give other {name} here than config.json promises: norm, stem or layers of "
                "this network are not those that they were trained with"
            )
