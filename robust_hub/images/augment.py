"""Images moved and mirrored at random, as a training shows them."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


def crop_flip(images: Tensor, generator: torch.Generator | None = None, padding: int = 4) -> Tensor:
    """Move each image at random by up to `padding` pixels, reflecting at the edges, and mirror half of them.

    Args:
        images: (B, C, H, W), any dtype, H and W above `padding`; the result has the same shape and dtype.
        generator: Source of the random numbers, two shifts and one flip an image.
        padding: Largest shift in pixels, at least 0.

    Raises:
        ValueError: If the shape or the padding does not fit.

    Example:
        >>> images = torch.arange(9, dtype=torch.uint8).view(1, 1, 3, 3)
        >>> crop_flip(images, torch.Generator().manual_seed(2), padding=1).tolist()
        [[[[4, 3, 4], [1, 0, 1], [4, 3, 4]]]]
    """
    if images.ndim != 4 or not 0 <= padding < min(images.shape[2:]):
        raise ValueError(
            f"expected images (B, C, H, W) larger than the padding, got {tuple(images.shape)} and {padding}"
        )
    b, c, h, w = images.shape
    device = generator.device if generator is not None else images.device
    shift = torch.randint(2 * padding + 1, (2, b), generator=generator, device=device).to(images.device)
    flip = torch.randint(0, 2, (b,), generator=generator, device=device).to(images.device)
    rows, cols = _shifts(h, padding, images.device)[0], _shifts(w, padding, images.device)
    at = rows[shift[0]].mul_(w).view(b, 1, h, 1) + cols[flip, shift[1]].view(b, 1, 1, w)
    return images.flatten(2).gather(2, at.view(b, 1, h * w).expand(b, c, h * w)).view(b, c, h, w)


@lru_cache(maxsize=16)
def _shifts(length: int, padding: int, device: torch.device) -> Tensor:
    """Give where the pixels of a line come from, int64 (2, 2 * padding + 1, length): mirrored or not, by its shift."""
    with torch.inference_mode(mode=False):
        last = length - 1
        at = torch.arange(length) + torch.arange(-padding, padding + 1).view(-1, 1)
        at = last - (last - at.abs()).abs()
        return torch.stack([at, at.flip(1)]).to(device)
