"""Which function certificates are of: a network's weights, and what it computes of fixed images where it is."""

from __future__ import annotations

import platform
from collections.abc import Hashable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robust_hub.certification.function import ROWS, logits_hash
from robust_hub.certification.sampler import Sampler
from robust_hub.guarantee.origin import Origin
from robust_hub.models.identity import is_plain, weights_hash
from robust_hub.models.modes import uncompiled
from robust_hub.provenance import versions


class Origins:
    """Say what a sampler's certificates are of, weights hashed again only where they may have changed.

    Args:
        sampler: Brings the network.
    """

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler
        self._hashed: tuple[Any, str] | None = None
        self._logits: dict[Hashable, str] = {}
        self._versions = tuple(sorted(versions().items()))

    def of(self, shape: Sequence[int], batch_size: int) -> Origin:
        """Give the origin of certificates of images of a shape, (C, H, W); image and index are left open.

        Args:
            shape: Shape of an image, (C, H, W).
            batch_size: Images a network batch.
        """
        sampler, plain = self.sampler, uncompiled(self.sampler.model)
        compiled = plain is not sampler.model
        rows = batch_size if compiled else min(ROWS, batch_size)  # a compiled network is built for one size of batch
        logits = logits_hash(sampler.logits, shape, rows, sampler.device)
        if self._logits.setdefault((tuple(shape), rows), logits) != logits:
            self._logits = {(tuple(shape), rows): logits}
            sampler.forget()
        return Origin(
            model=name_of(plain),
            weights=self._weights(plain, logits),
            logits=logits,
            image="",
            index=0,
            image_shape=tuple(shape),
            dtype=str(sampler.dtype).removeprefix("torch."),
            mean=_of_channels(sampler.mean, shape[0]),
            std=_of_channels(sampler.std, shape[0]),
            batch_size=batch_size,
            device=device_name(sampler.device),
            compiled=compiled,
            versions=self._versions,
        )

    def _weights(self, model: nn.Module, logits: str) -> str:
        """Hash the weights, or give the hash that is known, if neither a counter of changes nor a logit has moved."""
        state = (logits, _state(model))
        if self._hashed is None or self._hashed[0] != state or state[1] is None:
            self._hashed = (state, weights_hash(model))
        return self._hashed[1]


def _of_channels(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    return values * channels if len(values) == 1 else values


def name_of(model: nn.Module) -> str:
    """Give a network's architecture as timm calls it, else its class."""
    config = getattr(model, "pretrained_cfg", None)
    return str((config.get("architecture") if isinstance(config, dict) else None) or type(model).__name__)


def device_name(device: torch.device) -> str:
    """Name the hardware that computes: another one rounds otherwise, and draws other noise."""
    if device.type == "cuda":
        return f"cuda, {torch.cuda.get_device_name(device)}"
    if device.type != "cpu":
        return device.type
    return f"cpu, {_processor()}, {torch.backends.cpu.get_cpu_capability()}"


@cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _state(model: nn.Module) -> tuple[Any, ...] | None:
    """Give what changes when a tensor of the network is changed in place; None where nothing tells."""
    tensors = list(model.state_dict(keep_vars=True).values())
    if any(not is_plain(tensor) or tensor.is_inference() for tensor in tensors):
        return None
    return tuple((tensor.data_ptr(), tensor._version, tensor.dtype) for tensor in tensors)
