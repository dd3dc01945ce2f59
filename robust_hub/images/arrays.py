"""Arrays: the tensors and NumPy arrays of a data set become bytes of a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from robust_hub.images.decoding import MODES, as_seen, fit
from robust_hub.images.pixels import ROUNDING


def array_bytes(item: Any, size: int | None, channels: int, where: str) -> np.ndarray[Any, Any]:
    """Turn an array, uint8 or float in [0, 1], into uint8 (C, H, W), fitted to (size, size) if a size is given.

    Args:
        item: A tensor (C, H, W), or a NumPy array (H, W), (H, W, C) or (C, H, W).
        size: Side of the square; None keeps the array's own size.
        channels: C of the result. An array that has them is taken as it is; of others, 1 and 3 become one another.
        where: Where the array is, for an error's words.

    Raises:
        TypeError: If it is no array, or not of uint8 or floats.
        ValueError: If its shape or its pixels do not fit.
    """
    if isinstance(item, np.ndarray):
        item = channels_first(item, channels, where)
    if not isinstance(item, Tensor):
        raise TypeError(f"expected a PIL image or a tensor, got {type(item).__name__} at {where}")
    whole = (1, 3) if channels in MODES else ()
    if item.ndim != 3 or item.shape[0] not in {*whole, channels} or not item.numel():
        fitting = "1 or 3" if channels in (1, 3) else " or ".join(map(str, sorted({*whole, channels})))
        raise ValueError(
            f"expected an image (C, H, W) with {fitting} channels, got shape {tuple(item.shape)} at {where}"
        )
    pixels = _bytes(item.detach(), where).numpy()
    if len(pixels) != channels:
        return fit(as_seen(_picture(pixels), channels), size)
    # Bands of more than a picture has need not be colours: none may weigh another, as alpha does.
    parts = [pixels] if channels == 3 else list(pixels[:, None])
    return np.concatenate([fit(_picture(part), size) for part in parts])


def channels_first(item: np.ndarray[Any, Any], channels: int, where: str) -> Any:
    """Give a NumPy array as a tensor (C, H, W); transparency, the fourth of (H, W, 4), is in front of white.

    Raises:
        TypeError: If it is not of uint8 or floats.
        ValueError: If it may be (H, W, C) as well as (C, H, W).
    """
    if item.ndim == 2:
        item = item[None]
    elif item.ndim == 3 and item.shape[2] in {1, 3, 4, channels}:
        if item.shape[0] in {1, 3, channels}:
            raise ValueError(
                f"expected an image (H, W, C) or (C, H, W), got shape {item.shape} at {where}, which may be either: "
                "pass a tensor (C, H, W)"
            )
        item = item.transpose(2, 0, 1)
        if len(item) == 4 != channels:
            alpha = _bytes(_tensor(item, where), where).numpy()
            item = fit(as_seen(_picture(alpha), 3), None)
    return _tensor(item, where)


def _tensor(item: np.ndarray[Any, Any], where: str) -> Tensor:
    if item.dtype != np.uint8 and item.dtype.kind != "f":
        raise TypeError(f"expected uint8 or float pixels, got {item.dtype} at {where}")
    return torch.from_numpy(np.array(item, dtype=np.uint8 if item.dtype == np.uint8 else np.float64))


def _picture(pixels: np.ndarray[Any, Any]) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)))


def _bytes(item: Tensor, where: str) -> Tensor:
    item = item.detach()
    if item.is_floating_point():
        low, high = float(item.min()), float(item.max())
        if not (low >= -ROUNDING and high <= 1 + ROUNDING):
            got = f"{low:.3g} to {high:.3g} at {where}"
            raise ValueError(f"expected pixels in [0, 1], got {got}: pass raw pixels, not normalised ones")
        item = item.float().clamp(0, 1).mul(255).round().to(torch.uint8)
    elif item.dtype != torch.uint8:
        raise TypeError(f"expected uint8 or float pixels, got {item.dtype} at {where}")
    return item.cpu()
