"""What an image is: the hash of its pixels."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from robust_hub.images.pixels import check_pixels


def image_hash(x: Tensor) -> str:
    """Hash an image's shape and pixels, as lower-case hex.

    An 8-bit image has one hash however it is held: as bytes, or as float32 or float64 multiples of 1/255.

    Args:
        x: Pixels, uint8 in 0..255 or float in [0, 1], (C, H, W).

    Returns:
        Sha256 over the kind and shape, such as "uint8 (3, 32, 32)" and a newline, and the pixels in C order: bytes
        where every pixel is k / 255 in float32, else float32 in little-endian order.

    Raises:
        TypeError: If x is no tensor of bytes or floating-point numbers.
        ValueError: If a pixel is NaN or outside [0, 1].

    Example:
        >>> import torch
        >>> pixels = torch.arange(12, dtype=torch.uint8).reshape(3, 2, 2)
        >>> image_hash(pixels) == image_hash(pixels / 255), image_hash(pixels)[:8] == image_hash(pixels / 254)[:8]
        (True, False)
    """
    if isinstance(x, Tensor) and x.dtype == torch.uint8:
        kind, pixels = "uint8", x
    else:
        x = check_pixels(x.detach() if isinstance(x, Tensor) else x)
        kind, pixels = "float32", x.to(torch.float32)
        levels = (pixels * 255).round()
        if torch.equal(levels / 255, pixels):
            kind, pixels = "uint8", levels.to(torch.uint8)
    content = pixels.cpu().contiguous().numpy()
    digest = hashlib.sha256(f"{kind} {tuple(content.shape)}\n".encode())
    digest.update(content.astype("u1" if kind == "uint8" else "<f4").tobytes())
    return digest.hexdigest()
