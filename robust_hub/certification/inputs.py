"""What callers give to be certified: images of one shape in the network's channels, each with an index of its own.

Votes of other pixels, or of noise that two images share, would be true of something that nobody asked about.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from robust_hub.certification.sampler import Sampler
from robust_hub.images.given import Picture, batch_pixels, image_pixels, size_of
from robust_hub.images.pixels import channels_of, check_pixels
from robust_hub.numbers import whole_number

_EXPECTED = {3: "one image (C, H, W)", 4: "images (B, C, H, W)"}


def check_images(sampler: Sampler, x: Any, ndim: int, hint: str = "") -> Tensor:
    """Give an image or several as pixels in [0, 1], where the network is.

    Args:
        sampler: Brings the network, its mean and std.
        x: An image in any form that `SmoothedClassifier.certify` takes, or several.
        ndim: 3 for one image (C, H, W), 4 for several (B, C, H, W).
        hint: What to do about another number of dimensions, as the end of the error.

    Returns:
        Floats of so many dimensions, and of the channels of mean and std.

    Raises:
        TypeError: If x is no image, or of other numbers than uint8 and floats.
        ValueError: If shape, channels or pixels are others.
    """
    channels = len(sampler.mean)
    if not (isinstance(x, Tensor) and x.is_floating_point()):
        wanted = channels_of(sampler.model) if channels == 1 else channels
        x = (image_pixels if ndim == 3 else batch_pixels)(x, wanted, size_of(sampler.model)).to(sampler.device)
    if x.ndim != ndim:
        raise ValueError(f"expected {_EXPECTED[ndim]}, got shape {tuple(x.shape)}{hint}")
    pixels = check_pixels(x)
    if channels not in (1, pixels.shape[-3]):
        raise ValueError(f"expected images of {channels} channels, as mean and std have, got {pixels.shape[-3]}")
    return pixels


def check_each(sampler: Sampler, images: Iterable[tuple[int, Picture]]) -> Iterator[tuple[int, Tensor]]:
    """Check a stream of images one by one: all of one shape, all indices different.

    Args:
        sampler: Brings the network, its mean and std.
        images: Pairs of index and image, each asked for when it is wanted.

    Yields:
        Index and pixels, as `check_images` gives them.

    Raises:
        TypeError: As `check_images`.
        ValueError: As `check_images`, or if a shape or an index is another one than it may be.
    """
    shape: torch.Size | None = None
    seen: set[int] = set()
    for index, image in images:
        x = check_images(sampler, image, 3)
        (index,) = check_indices([index])
        own = x.shape
        shape = own if shape is None else shape
        if own != shape:
            raise ValueError(
                f"expected images of one shape, {tuple(shape)} as the first, got {tuple(x.shape)} at index "
                f"{index}: certify each shape by itself"
            )
        if index in seen:
            raise ValueError(f"expected different indices, got {index} twice: equal indices mean equal noise")
        seen.add(index)
        yield index, x


def check_indices(indices: Iterable[int]) -> list[int]:
    """Take indices of images, which seed their noise: two that are cut to one number would have the same.

    Raises:
        ValueError: If one is no whole number from 0 to 2^63 - 1.
    """
    return [whole_number("indices that are whole numbers, at least 0", index, 0, 2**63 - 1) for index in indices]
