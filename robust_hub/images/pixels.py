"""The contract on pixels: users give [0, 1], the network sees (pixels - mean) / std.

Noise is added between the two, so that sigma and radius are in [0, 1]-pixel units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robust_hub.images.wrapped import config_of
from robust_hub.numbers import real_number, real_numbers

_MOST = 10.0  # of a mean or std: those of pixels from 0 to 255 are beyond
_BYTES = 16.0  # no image that was normalised has such a pixel and none below 0; those of 8 bits have
ROUNDING = 1e-6  # how far float32 arithmetic on pixels in [0, 1] may leave it


def check_pixels(x: Tensor) -> Tensor:
    """Refuse images that are not float tensors with every pixel in [0, 1], give or take rounding.

    Args:
        x: The images, of any shape.

    Returns:
        The images; those that leave [0, 1] by no more than 1e-6, as white does in a resize in float32, clipped to it.

    Raises:
        TypeError: If x is not a dense floating-point tensor of 16 bits or more.
        ValueError: If a pixel is NaN, infinite or outside [0, 1].
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"expected a torch tensor with pixels in [0, 1], got {type(x).__name__}")
    if not x.is_floating_point():
        raise TypeError(f"expected floating-point pixels in [0, 1], got {x.dtype}: divide integers 0..255 by 255")
    if x.layout != torch.strided or x.is_meta:
        kind = "on the device 'meta', which holds no pixels" if x.is_meta else f"of layout {x.layout}"
        raise TypeError(
            f"expected a dense tensor with pixels in [0, 1], got one {kind}: pass x.to_dense() or the image"
        )
    if x.dtype.itemsize == 1:
        raise TypeError(f"expected pixels in float16, bfloat16, float32 or float64, got {x.dtype}: pass x.float()")
    if x.numel() == 0:
        raise ValueError(f"expected an image, got an empty tensor of shape {tuple(x.shape)}")
    low, high = (float(v) for v in torch.aminmax(x.detach()))
    if not (low == low and high == high):
        raise ValueError("expected pixels in [0, 1], got NaN: mend or leave out the image")
    if low >= 0 and high <= 1:
        return x
    if low >= 0 and _BYTES < high <= 255:
        raise ValueError(
            f"expected pixels in [0, 1], got values from {low:.3g} to {high:.3g}: divide those of 0 to 255 by 255, or "
            "pass the 8-bit image itself, uint8"
        )
    if low < -ROUNDING or high > 1 + ROUNDING:
        raise ValueError(
            f"expected pixels in [0, 1], got values from {low:.3g} to {high:.3g}; if this image is normalised, pass "
            "raw pixels: the model's mean and std are applied after the noise"
        )
    return x.clamp(0, 1)


def check_levels(x: Tensor | np.ndarray[Any, Any], where: str) -> None:
    """Refuse 8-bit pixels that are 0 and 1 alone: those of a mask, or of an image in [0, 1] that was cut to bytes.

    As levels of 255 they are black, and what is certified of them is said of black images.

    Args:
        x: The images, uint8 of any shape.
        where: Where they are, for the error.

    Raises:
        ValueError: If no pixel is above 1, and one is not 0.
    """
    if 0 not in x.shape and int(x.max()) == 1:
        raise ValueError(
            f"expected 8-bit pixels from 0 to 255, got 0 and 1 alone at {where}: multiply by 255, or pass floats, "
            "x.float() if 1 is white and x / 255 if the image is as good as black"
        )


def normalize(x: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Map pixels to network input, (x - mean) / std per channel.

    Args:
        x: Images in [0, 1], possibly with noise, float (B, C, H, W).
        mean: C means, [0, 1]-pixel units, or one for all channels.
        std: C standard deviations, [0, 1]-pixel units, likewise.

    Returns:
        Network input, same shape and dtype.
    """
    centre, scale = (_per_channel(tuple(values), x.dtype, x.device) for values in (mean, std))
    return (x - centre) / scale


@lru_cache(maxsize=64)
def _per_channel(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Bring channel values to a device once: doing so for each batch would make the host wait for it."""
    with torch.inference_mode(mode=False):
        return torch.tensor(values, dtype=dtype, device=device).view(1, -1, 1, 1)


def mean_std(
    model: nn.Module, mean: float | Sequence[float] | None = None, std: float | Sequence[float] | None = None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Find the mean and std that belong to a network: those given, else those of its `pretrained_cfg`.

    Args:
        model: Any classifier; timm's carry a `pretrained_cfg`, and wrappers have that of the network within.
        mean: Per-channel means, one number for all channels, or None for the network's own.
        std: Per-channel standard deviations, likewise.

    Returns:
        Means and standard deviations, as many of each; a single one is for every channel.

    Raises:
        ValueError: If neither the caller nor the network says them, or they are not as many positive finite numbers.

    timm keeps the three values of colours beside a network that was made with `in_chans=1`: their average is its own.
    """
    own = config_of(model) if mean is None or std is None else {}
    mean = _own(model, own, "mean") if mean is None else mean
    std = _own(model, own, "std") if std is None else std
    if mean is None or std is None:
        raise ValueError(
            "expected mean and std: this model has no pretrained_cfg that says them; pass mean=(...) and std=(...), "
            "or mean=(0, 0, 0) and std=(1, 1, 1) for a network that takes [0, 1] pixels"
        )
    centre, scale = _numbers("mean", mean), _numbers("std", std)
    centre = centre * len(scale) if _is_number(mean) else centre
    scale = scale * len(centre) if _is_number(std) and not _is_number(mean) else scale
    if not centre or len(centre) != len(scale) or min(scale) <= 0:
        raise ValueError(f"expected as many positive stds as means, all finite, got mean={centre} and std={scale}")
    if max(map(abs, centre + scale)) > _MOST:
        raise ValueError(
            f"expected mean and std in [0, 1]-pixel units, got mean={centre} and std={scale}: divide those of pixels "
            "from 0 to 255 by 255"
        )
    return centre, scale


def note_mean_std(model: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
    """Have a network that was trained with a mean and std say them, in place of what its `pretrained_cfg` says.

    What is saved, and certified, then has those of the training. A network that says none is left as it is.

    Args:
        model: Any classifier; of a wrapper, the network within is told.
        mean: Per-channel means, or one for all channels.
        std: Per-channel standard deviations, likewise.
    """
    own: Any = config_of(model)
    if not own:
        return
    try:
        if mean_std(model) == (tuple(mean), tuple(std)):
            return
    except ValueError:  # of other channels than the network has
        pass
    channels = channels_of(model)
    own.update({name: tuple(v) * (channels if len(v) == 1 else 1) for name, v in (("mean", mean), ("std", std))})


def channels_of(model: nn.Module, mean: float | Sequence[float] | None = None) -> int:
    """Tell how many channels a network's images have.

    It is what its first convolution takes, the one that timm's `pretrained_cfg` names or else the module with its first
    weights; else as many as there are means; else 3.

    Args:
        model: Any classifier.
        mean: Per-channel means that the caller named, if any.

    Example:
        >>> import timm
        >>> channels_of(timm.create_model("resnet18", in_chans=1))
        1
    """
    own = _first_channels(model, config_of(model))
    if own is None:
        first = next((part for part in model.modules() if next(part.parameters(recurse=False), None) is not None), None)
        own = first.in_channels if isinstance(first, nn.Conv2d) else None
    if own is not None:
        return own
    try:
        centre, _ = mean_std(model, mean, None if mean is None else 1.0)
    except (ValueError, TypeError):  # whoever needs them says so
        return 3
    return 3 if len(centre) == 1 and _is_number(mean) else len(centre)


def _numbers(name: str, values: float | Sequence[float]) -> tuple[float, ...]:
    what = f"a finite number of {name} for each channel, or one for all"
    return (real_number(what, values),) if _is_number(values) else real_numbers(what, values)


def _is_number(values: Any) -> bool:
    return isinstance(values, int | float) or getattr(values, "ndim", None) == 0


def _first_channels(model: nn.Module, config: Mapping[str, Any]) -> int | None:
    """Give the channels that the layer which a config names as the first takes; None if it names none."""
    first = config.get("first_conv")
    layer = dict(model.named_modules()).get(first) if isinstance(first, str) else None
    channels = getattr(layer, "in_channels", None)
    return channels if isinstance(channels, int) else None


def _own(model: nn.Module, config: Mapping[str, Any], name: str) -> Sequence[float] | None:
    """Give what a config says of each channel, for as many channels as the network's first layer takes.

    Equal numbers hold for any count of channels, and their average is that of grey. Different ones are of red, green
    and blue: another count is refused.
    """
    values: Sequence[float] | None = config.get(name)
    channels = None if values is None else _first_channels(model, config)
    if values is None or channels is None or len(values) == channels:
        return values
    if channels == 1:
        return (sum(values) / len(values),)
    if len(set(values)) == 1:
        return [values[0]] * channels
    raise ValueError(
        f"expected mean and std of the {channels} channels that this model takes, got a pretrained_cfg with {name} "
        f"{tuple(values)} of {len(values)}: pass mean=... and std=..., a number for all channels or one for each"
    )
