"""The four normalisations of the paper, with one signature and the same learnable parameters.

They differ only in what they average over. Batch norm averages over the batch, and a network that has it loses its
robustness in clean fine-tuning; the other three see one image at a time.

Source: Qiu et al. 2023, section 4.3; layer norm is over (C, H, W) with one gamma and beta a channel.
"""

# mypy: disable-error-code="attr-defined"

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial

import torch
from timm.layers import norm as timm_norm
from timm.layers.fast_norm import fast_group_norm
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from robust_hub.models.channels_last import (
    avoids_copies,
    group_norm,
    is_channels_last,
    is_fused,
    layer_norm,
    to_autocast_type,
)

_NARROW = 8  # channels of a group below which torch's CPU kernel for channels_last takes them one at a time


# TorchScript takes no `super()` in a forward, and torch.fx no choice by what a tensor is: the layers call functions of
# tensors, each of which is one operation of a graph, and chooses when it runs. TorchScript leaves out what stands below
# `if not torch.jit.is_scripting()`, in an `if` of its own, and reads comments on types itself.


@torch.fx.wrap
def _group_norm(
    x: Tensor,
    groups: int,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    fast: bool = False,
    narrow: int = _NARROW,
) -> Tensor:
    """Normalise each group of the channels of images."""
    if not torch.jit.is_scripting():  # noqa: SIM102
        if avoids_copies(x) and is_fused():
            return group_norm(to_autocast_type(x, fast=fast), groups, weight, bias, eps)
    if x.device.type == "cpu" and x.dim() == 4 and x.size(1) // groups < narrow:
        return _contiguous_group_norm(x, groups, weight, bias, eps, fast)
    return _torch_group_norm(x, groups, weight, bias, eps, fast)


@torch.fx.wrap
def _layer_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, fast: bool) -> Tensor:
    """Normalise each image over (C, H, W)."""
    if not torch.jit.is_scripting():  # noqa: SIM102
        if avoids_copies(x) and weight is not None and bias is not None:
            return layer_norm(x, weight, bias, eps, fast=fast)
    return _torch_group_norm(x, 1, weight, bias, eps, fast)


@torch.fx.wrap
def _instance_norm(x: Tensor, channels: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Normalise each channel of images, or of one image (C, H, W), by the statistics that it has."""
    if not torch.jit.is_scripting():  # noqa: SIM102
        if avoids_copies(x) and is_fused():
            return group_norm(x, channels, weight, bias, eps)
    if x.dim() != 3 and x.dim() != 4:
        raise ValueError(f"expected 3D or 4D input (got {x.dim()}D input)")
    if x.size(x.dim() - 3) != channels:
        raise ValueError(f"expected {channels} channels as num_features says, got {x.size(x.dim() - 3)}")
    slow = x.device.type == "cpu" and x.dtype == torch.bfloat16 and x.dim() == 4
    if slow and x.size(2) * x.size(3) != 1:  # torch refuses to train on maps of one pixel
        return _contiguous_group_norm(x, channels, weight, bias, eps, False)
    batch = x.unsqueeze(0) if x.dim() == 3 else x
    y = functional.instance_norm(batch, None, None, weight, bias, True, 0.1, eps)
    return y.squeeze(0) if x.dim() == 3 else y


def _torch_group_norm(
    x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float, fast: bool
) -> Tensor:
    if fast:
        y: Tensor = fast_group_norm(x, groups, weight, bias, eps)
        return y
    return functional.group_norm(x, groups, weight, bias, eps)


def _contiguous_group_norm(
    x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float, fast: bool
) -> Tensor:
    """Run torch's kernel on contiguous memory, and give its result in the memory format of its input."""
    y = _torch_group_norm(x.contiguous(), groups, weight, bias, eps, fast)
    return y.contiguous(memory_format=torch.channels_last) if is_channels_last(x) else y


class GroupNorm(timm_norm.GroupNorm):
    """timm's group norm; on the CPU narrow groups in contiguous memory, where that is many times faster.

    On CUDA channels_last images stay in their memory where torch.compile fuses the operations.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each of the groups of an image: float (B, C, H, W) to the same shape and type."""
        return _group_norm(x, self.num_groups, self.weight, self.bias, self.eps, self._fast_norm)


class GroupNorm1(timm_norm.GroupNorm1):
    """timm's layer norm over (C, H, W), which on CUDA leaves channels_last images in their memory."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each image: float (B, C, H, W) to the same shape, type and memory format."""
        return _layer_norm(x, self.weight, self.bias, self.eps, self._fast_norm)


class InstanceNorm(nn.InstanceNorm2d):
    """torch's instance norm; in bfloat16 on the CPU by the kernel of group norm, which is faster on small maps.

    On CUDA channels_last images stay in their memory where torch.compile fuses the operations.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each channel of an image: float (B, C, H, W) to the same shape and type."""
        if self.track_running_stats or not self.affine:
            return super().forward(x)
        return _instance_norm(x, self.num_features, self.weight, self.bias, self.eps)


NORMS: dict[str, Callable[..., nn.Module]] = {
    "bn": nn.BatchNorm2d,
    "gn": partial(GroupNorm, num_groups=32),
    "in": partial(InstanceNorm, affine=True),
    "ln": GroupNorm1,
}


def has_batch_norm(model: nn.Module) -> bool:
    """Tell whether any layer of the network averages over the batch (frozen batch norm does not)."""
    return any(isinstance(module, _BatchNorm) for module in model.modules())


def warn_batch_norm(model: nn.Module, job: str) -> None:
    """Warn that a network with batch norm may not keep its robustness, naming the job at hand.

    Source: Qiu et al. 2023, table 6.
    """
    if has_batch_norm(model):
        warnings.warn(
            f"{job}: this network has batch norm, whose statistics of noisy pretraining do not fit clean images; "
            "robustness seldom survives clean fine-tuning (certificates stay true, but small). "
            "Use gn, in or ln to keep it, or freeze the statistics with timm.layers.freeze_batch_norm_2d",
            UserWarning,
            stacklevel=3,
        )
