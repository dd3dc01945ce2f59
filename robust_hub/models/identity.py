"""What a network is: the hash of its weights, and its probe, what it computes of two fixed images.

Weights alone do not tell a network: group, instance and layer norm have the same keys and shapes.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robust_hub.errors import CheckpointError
from robust_hub.models.modes import eval_mode

_FIXED, _KEPT = 2312_09020, 16  # key of the probe's images, values kept of each
_ROUGH = 1e-3  # of the largest value: what machines may differ by


def weights_hash(model: nn.Module) -> str:
    """Hash a model's weights and buffers with their names and types, as lower-case hex.

    Quantised weights count with their scales, packed ones as what they were packed from.

    Raises:
        TypeError: If the model keeps something whose bytes say nothing, such as an object of its own.
        ValueError: If a tensor holds no values.
    """
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        for label, tensor in _parts(name, value):
            digest.update(f"{label} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def is_plain(value: Any) -> bool:
    """Tell whether a value is a tensor of numbers in memory: not packed, quantised, sparse or of a class of its own."""
    strided = isinstance(value, Tensor) and value.layout == torch.strided
    return strided and not value.is_quantized and not hasattr(type(value), "__tensor_flatten__")


def _parts(name: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    """Give the plain tensors that a value of a state dict is made of, with what else it says in their names."""
    if isinstance(value, Tensor):
        if value.is_meta:
            raise ValueError(
                f"expected weights, got {name} on the device 'meta', which holds shapes alone: load the weights"
            )
        yield from [(name, value.resolve_conj().resolve_neg())] if is_plain(value) else _of_tensor(name, value)
    elif isinstance(value, Mapping):
        for key, item in sorted(value.items(), key=lambda pair: str(pair[0])):
            yield from _parts(f"{name}.{key}", item)
    elif isinstance(value, tuple | list):
        for k, item in enumerate(value):
            yield from _parts(f"{name}.{k}", item)
    elif isinstance(value, io.BytesIO | bytes | bytearray):
        raw = value.getvalue() if isinstance(value, io.BytesIO) else bytes(value)
        yield name, torch.from_numpy(np.frombuffer(raw, dtype=np.uint8).copy())
    elif value is None or isinstance(value, str | int | float | torch.dtype | torch.device):
        yield f"{name} {value!r}", torch.empty(0)
    else:
        raise TypeError(
            f"expected weights that are tensors or made of them, got {name}, a {type(value).__name__}: its hash would "
            "not tell one network from another; leave it out of the state dict"
        )


def _of_tensor(name: str, value: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Take apart a tensor that is no plain one."""
    if hasattr(value, "__tensor_flatten__"):
        names, context = value.__tensor_flatten__()
        yield from _parts(f"{name} {type(value).__name__} context", _said(context))
        for inner in names:
            yield from _parts(f"{name}.{inner}", getattr(value, inner))
    elif value.is_quantized:
        yield name, value.int_repr()
        if value.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
            yield f"{name} {value.dtype} {value.q_scale()!r} {value.q_zero_point()}", torch.empty(0)
        else:
            yield f"{name} {value.dtype} scales {value.q_per_channel_axis()}", value.q_per_channel_scales()
            yield f"{name} zero points", value.q_per_channel_zero_points()
    else:
        yield f"{name} {value.layout}", value.to_dense()


def _said(context: Any) -> Any:
    """Give what a tensor of a class of its own says beside its parts; shapes and layouts as words."""
    if isinstance(context, Mapping):
        return {key: _said(item) for key, item in context.items()}
    if isinstance(context, tuple | list):
        return [_said(item) for item in context]
    return context if isinstance(context, Tensor) else repr(context)


def probe_images(size: Sequence[int]) -> Tensor:
    """Draw the probe's two fixed images of a shape, (C, H, W)."""
    noise = np.random.Generator(np.random.Philox(key=_FIXED)).standard_normal((2, *size), dtype=np.float32)
    return torch.from_numpy(noise)


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
    run: Any = model
    where = next(model.parameters()).device
    try:
        with eval_mode(model), torch.inference_mode(), torch.autocast(where.type, enabled=False):
            x = run.forward_features(probe_images(size).to(where))
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
    if name := differing(computed, promised, ("features", "logits") if own_head else ("features",)):
        raise CheckpointError(
            f"the weights of {where} give other {name} here than config.json promises: norm, stem or layers of "
            "this network are not those that they were trained with"
        )


def differing(computed: Mapping[str, Any], promised: Mapping[str, Any], names: Sequence[str]) -> str:
    """Name the first part of a probe that differs from another one's by more than rounding; empty if none does.

    Args:
        computed: What a network gave.
        promised: What it is compared with.
        names: The parts to compare, of "features" and "logits".
    """
    for name in names:
        theirs, ours = (np.asarray(side.get(name, []), dtype=np.float64) for side in (promised, computed))
        largest = np.abs(theirs).max(initial=0)
        if theirs.shape != ours.shape or not np.abs(ours - theirs).max(initial=0) <= _ROUGH * largest:
            return name
    return ""
