"""Group, instance and layer norm of channels_last images, for CUDA, where torch's kernels copy such memory.

torch's group norm on CUDA copies its input to contiguous memory and gives a contiguous result, which the next
convolution copies back; its backward pass copies both the input and the gradient. Here an image stays where it is.

Source: Wu & He 2018, equation 7; variance of a group from those of its channels: Chan et al. 1983.
"""

from __future__ import annotations

import torch
from timm.layers.fast_norm import fast_layer_norm
from torch import Tensor
from torch.nn import functional

_INDEXED = 2**31  # elements that 32-bit indices of torch's kernels reach; compiled ones take wider where they must


def is_channels_last(x: Tensor) -> bool:
    """Tell whether images lie in channels_last memory and in no other; one channel or one pixel lies in both."""
    return x.ndim == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)


def avoids_copies(x: Tensor) -> bool:
    """Tell whether this file's norms save copies that torch's make: channels_last images on CUDA."""
    return x.is_cuda and is_channels_last(x) and (torch.compiler.is_compiling() or x.numel() < _INDEXED)


def is_fused() -> bool:
    """Tell whether torch.compile is at work, which fuses `group_norm`; an export keeps torch's operators."""
    return torch.compiler.is_compiling() and not torch.compiler.is_exporting()


def to_autocast_type(x: Tensor, *, fast: bool) -> Tensor:
    """Cast an input, under autocast, to the type that group norm runs in: float32, with timm's fast norm autocast's."""
    device = x.device.type
    if not torch.is_autocast_enabled(device):
        return x
    return x.to(torch.get_autocast_dtype(device) if fast else torch.promote_types(x.dtype, torch.float32))


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float, *, fast: bool = False) -> Tensor:
    """Normalise each image over (C, H, W) by torch's kernel of layer norm, to which it is one contiguous run.

    One kernel forward, which reads the images twice and writes them once. Weight and bias are spread over (H, W, C)
    for it, two copies of the size of one image (none when compiled); their gradients are summed over the batch, then
    over the pixels.

    Args:
        x: Floating (B, C, H, W); any memory will do, channels_last is not copied.
        weight: One factor a channel, (C,), in the type of x unless autocast casts both.
        bias: One summand a channel, (C,), likewise.
        eps: Added to the variance.
        fast: Under autocast, run in its type, as timm's fast norm does, instead of in float32.

    Returns:
        The shape of x, in channels_last; the type of x, under autocast the type that it ran in.
    """
    rows = x.permute(0, 2, 3, 1)
    shape = list(rows.shape[1:])
    kernel = fast_layer_norm if fast else functional.layer_norm
    y: Tensor = kernel(rows, shape, weight.expand(shape), bias.expand(shape), eps)
    return y.permute(0, 3, 1, 2)


def group_norm(x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Normalise each group of an image's channels by operations that leave it in its memory, for torch.compile to fuse.

    Moments are taken of each channel, which reads neighbours in channels_last memory together, then of each group, in
    float32 (in float64 for such x). Not fused, every operation would read and write all images.

    Args:
        x: Floating (B, C, H, W); any memory will do.
        groups: A divisor of C; C for instance norm.
        weight: One factor a channel, (C,), or None.
        bias: One summand a channel, (C,), or None.
        eps: Added to the variance.

    Returns:
        The shape, type and memory format of x.

    Raises:
        RuntimeError: If the groups do not divide the channels.
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    grouped = (x.shape[0], groups, x.shape[1] // groups)
    spreads, centres = torch.var_mean(wide, (2, 3), correction=0)
    between, means = torch.var_mean(centres.reshape(grouped), 2, correction=0, keepdim=True)
    variances = spreads.reshape(grouped).mean(2, keepdim=True) + between
    scale, centre = (v.expand(grouped).flatten(1) for v in (torch.rsqrt(variances + eps), means))
    y = (wide - centre[:, :, None, None]) * (scale if weight is None else scale * weight)[:, :, None, None]
    return (y if bias is None else y + bias[:, None, None]).to(x.dtype)
