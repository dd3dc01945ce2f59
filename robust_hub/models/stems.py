"""What a stem that was made for 32x32 costs on larger images."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from torch import nn

STRIDES = {
    "cifar": 1,
    "cifar_s2": 2,
    "imagenet": 4,
}  # pixels each way to a position of the first stage
LARGE = 64  # pixels: images from which a stride of 1 is seldom meant


def warn_small_stem(model: nn.Module, shape: Sequence[int], job: str) -> None:
    """Warn that a network's stem keeps so many positions of large images that each costs many times what it might.

    Args:
        model: The network; only one of this package says its stem.
        shape: Shape of an image, (C, H, W).
        job: What is done with it, for the warning.
    """
    stem, size = getattr(model, "stem", None), min(shape[1:])
    stride = STRIDES.get(stem, 4) if isinstance(stem, str) else 4
    if stride >= STRIDES["imagenet"] or size < LARGE * stride:
        return
    factor = (STRIDES["imagenet"] // stride) ** 2
    images = "x".join(map(str, shape[1:]))
    warnings.warn(
        f"{job}: stem {stem!r} is made for 32x32 and takes about {factor} times the time and memory that 'imagenet' "
        f"takes on images of {images}: make the network with stem='imagenet', or pass a smaller size",
        UserWarning,
        stacklevel=3,
    )
