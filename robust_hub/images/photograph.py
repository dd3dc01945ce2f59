"""One image file, made what a network of a size would be given of it in a data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from robust_hub.images.decoding import MODES, as_seen, fit, has_bytes, mode_of, open_image
from robust_hub.images.source import decodable
from robust_hub.parsing import shown


@dataclass(frozen=True, eq=False)
class Photograph:
    """An image file as a network sees it.

    Attributes:
        path: The file.
        pixels: What the network sees, uint8 (C, H, W) in 0..255.
        width: Pixels of the image as its owner sees it, from left to right.
        height: From top to bottom.
        frames: Pictures in the file, of which the first is taken.
        transparent: Whether it is seen in front of white, since it is transparent somewhere.
    """

    path: Path
    pixels: Tensor
    width: int
    height: int
    frames: int = 1
    transparent: bool = False

    def describe(self) -> str:
        """Say what was done to the image, in words."""
        _, height, width = self.pixels.shape
        which = f", the first of its {self.frames:,} pictures" if self.frames > 1 else ""
        seen = " in front of white" if self.transparent else ""
        came = f"{shown(self.path)}{which}: {self.width}x{self.height} pixels{seen}"
        if (self.width, self.height) == (width, height):
            return f"{came}, as the network sees them"
        what = "them" if self.width * height == self.height * width else "the central square"
        done = "enlarged" if min(self.width, self.height) < min(width, height) else "resized"
        return f"{came}; the network sees {what}, {done} to {width}x{height}: these pixels are what is certified"


def read_photograph(path: str | Path, size: int | None, channels: int = 3) -> Photograph:
    """Read an image file as data sets are read: upright by its EXIF notes, what is transparent in front of white.

    Args:
        path: The file, of any kind that Pillow decodes.
        size: The shorter side is resized to this many pixels and the centre cut out; None keeps the image's own size.
        channels: 1 for grey, 3 for RGB, 4 for RGB and alpha.

    Returns:
        The image, with its size before.

    Raises:
        ValueError: If there is no such file, it is none that can be decoded or not of 8 bits, or a photograph has no
            such channels.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("RGB", (60, 40)).save(f"{folder}/x.png")
        ...     photograph = read_photograph(f"{folder}/x.png", size=32)
        >>> photograph.pixels.shape, photograph.width
        (torch.Size([3, 32, 32]), 60)
    """
    path = Path(path)
    where = shown(path)
    if path.is_dir():
        raise ValueError(f"expected an image file, got the folder {where}: name its files, or certify it with --data")
    if not path.exists():
        raise ValueError(f"expected an image file, got {where}: there is none")
    if channels not in MODES:
        raise ValueError(f"expected a network of 1, 3 or 4 channels, as pictures have, got one of {channels}")
    with decodable(where):
        item = open_image(str(path))
    if not has_bytes(item):
        raise ValueError(f"expected an 8-bit image, got {mode_of(item)} at {where}: convert it to 8 bits")
    try:
        image = as_seen(item, channels)
    except ValueError as error:
        raise ValueError(f"expected a grey or RGB image, got mode {item.mode} at {where} ({error})") from None
    clear = channels != 4 and item.has_transparency_data
    clear = clear and as_seen(item, 4).getchannel("A").getextrema() != (255, 255)
    return Photograph(path, torch.tensor(fit(image, size)), *image.size, _frames(path), clear)


def _frames(path: Path) -> int:
    """Count the pictures of a file that was decoded: those of a GIF, the pages of a TIFF."""
    try:
        with Image.open(path) as item:
            return int(getattr(item, "n_frames", 1))
    except Exception:  # of a second picture that is damaged: the first one is there
        return 1
