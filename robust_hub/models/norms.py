"""The four normalisations of the paper, with one signature and the same learnable parameters.

They differ only in what they average over. Batch norm averages over the batch, and a network that has it loses its
robustness in clean fine-tuning; the other three see one image at a time.

Source: Qiu et al. 2023, section 4.3; layer norm is over (C, H, W) with one gamma and beta a channel.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial

import torch
from timm.layers import norm as timm_norm
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


def _in_contiguous_memory(kernel: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Run a kernel on contiguous memory, and give its result in the memory format of its input."""
    y = kernel(x.contiguous())
    return y.contiguous(memory_format=torch.channels_last) if is_channels_last(x) else y


class GroupNorm(timm_norm.GroupNorm):
    """timm's group norm; on the CPU narrow groups in contiguous memory, where that is many times faster.

    On CUDA channels_last images stay in their memory where torch.compile fuses the operations.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each of the groups of an image: float (B, C, H, W) to the same shape and type."""
        if avoids_copies(x) and is_fused():
            x = to_autocast_type(x, fast=self._fast_norm)
            return group_norm(x, self.num_groups, self.weight, self.bias, self.eps)
        narrow = x.device.type == "cpu" and x.ndim == 4 and self.num_channels // self.num_groups < _NARROW
        kernel: Callable[[Tensor], Tensor] = super().forward
        return _in_contiguous_memory(kernel, x) if narrow else kernel(x)


class GroupNorm1(timm_norm.GroupNorm1):
    """timm's layer norm over (C, H, W), which on CUDA leaves channels_last images in their memory."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each image: float (B, C, H, W) to the same shape, type and memory format."""
        if avoids_copies(x) and self.affine:
            return layer_norm(x, self.weight, self.bias, self.eps, fast=self._fast_norm)
        y: Tensor = super().forward(x)
        return y


class InstanceNorm(nn.InstanceNorm2d):
    """torch's instance norm; in bfloat16 on the CPU by the kernel of group norm, which is faster on small maps.

    On CUDA channels_last images stay in their memory where torch.compile fuses the operations.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each channel of an image: float (B, C, H, W) to the same shape and type."""
        if avoids_copies(x) and is_fused() and not self.track_running_stats:
            return group_norm(x, self.num_features, self.weight, self.bias, self.eps)
        slow = x.device.type == "cpu" and x.dtype == torch.bfloat16 and x.ndim == 4 and not self.track_running_stats
        if not slow or x.shape[2] * x.shape[3] == 1:  # torch refuses to train on maps of one pixel
            return super().forward(x)
        return _in_contiguous_memory(
            lambda x: functional.group_norm(x, self.num_features, self.weight, self.bias, self.eps), x
        )


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
