"""The contract on pixels: users give [0, 1], the network sees (pixels - mean) / std.

Noise is added between the two, so that sigma and radius are in [0, 1]-pixel units.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn


def check_pixels(x: Tensor) -> None:
    """Refuse images that are not float tensors with every pixel in [0, 1].

    Raises:
        TypeError: If x is not a floating-point tensor.
        ValueError: If a pixel is NaN, infinite or outside [0, 1].
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"expected a torch tensor with pixels in [0, 1], got {type(x).__name__}")
    if not x.is_floating_point():
        raise TypeError(f"expected floating-point pixels in [0, 1], got {x.dtype}: divide integers 0..255 by 255")
    if x.numel() == 0:
        raise ValueError(f"expected an image, got an empty tensor of shape {tuple(x.shape)}")
    low, high = (float(v) for v in torch.aminmax(x))
    if not (low == low and high == high):
        raise ValueError("expected pixels in [0, 1], got NaN: mend or leave out the image")
    if low < 0 or high > 1:
        raise ValueError(
            f"expected pixels in [0, 1], got values from {low:.3g} to {high:.3g}; if this image is normalised, pass "
            "raw pixels: the model's mean and std are applied after the noise"
        )


def normalize(x: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Map pixels to network input, (x - mean) / std per channel.

    Args:
        x: Images in [0, 1], possibly with noise, float (B, C, H, W).
        mean: C means, [0, 1]-pixel units.
        std: C standard deviations, [0, 1]-pixel units.

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
    model: nn.Module, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Find the mean and std that belong to a network: those given, else those of its `pretrained_cfg`.

    Args:
        model: Any classifier; timm's carry a `pretrained_cfg`.
        mean: Per-channel means, or None for the network's own.
        std: Per-channel standard deviations, or None for the network's own.

    Raises:
        ValueError: If neither the caller nor the network says them, or they are not as many positive finite numbers.

    timm keeps the three values of colours beside a network that was made with `in_chans=1`: their average is its own.
    """
    config = getattr(model, "pretrained_cfg", None)
    own = config if isinstance(config, dict) else getattr(config, "__dict__", {}) or {}
    mean = _of_channels(own.get("mean"), model) if mean is None else mean
    std = _of_channels(own.get("std"), model) if std is None else std
    if mean is None or std is None:
        raise ValueError(
            "expected mean and std: this model has no pretrained_cfg that says them; pass mean=(...) and std=(...), "
            "or mean=(0, 0, 0) and std=(1, 1, 1) for a network that takes [0, 1] pixels"
        )
    centre, scale = tuple(float(v) for v in mean), tuple(float(v) for v in std)
    finite = all(abs(v) < float("inf") for v in centre + scale)  # false for NaN too
    if not centre or len(centre) != len(scale) or not finite or min(scale) <= 0:
        raise ValueError(f"expected as many positive stds as means, all finite, got mean={centre} and std={scale}")
    return centre, scale


def channels_of(model: nn.Module, mean: Sequence[float] | None = None) -> int:
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
    own = _first_convolution(model)
    if own is not None:
        return own
    try:
        return len(mean_std(model, mean, None if mean is None else (1.0,) * len(mean))[0])
    except (ValueError, TypeError):  # whoever needs them says so
        return 3


def _first_convolution(model: nn.Module) -> int | None:
    config = getattr(model, "pretrained_cfg", None)
    own = config if isinstance(config, dict) else getattr(config, "__dict__", {}) or {}
    name = own.get("first_conv")
    first: nn.Module | None = None
    if isinstance(name, str):
        with contextlib.suppress(AttributeError):
            first = model.get_submodule(name)
    if first is None:
        first = next((part for part in model.modules() if next(part.parameters(recurse=False), None) is not None), None)
    return first.in_channels if isinstance(first, nn.Conv2d) else None


def _of_channels(values: Sequence[float] | None, model: nn.Module) -> Sequence[float] | None:
    """Bring values that belong to other channels than a network's first convolution takes to its own."""
    channels = None if values is None else _first_convolution(model)
    if values is None or channels in (None, len(values)):
        return values
    if channels == 1:
        return (sum(values) / len(values),)
    if len(set(values)) == 1 and channels is not None:
        return (values[0],) * channels
    raise ValueError(
        f"expected mean and std of {channels} channels, as the model takes, got {len(values)} in its pretrained_cfg: "
        "pass mean= and std="
    )
