"""One image file, made what a network of a size would be given of it in a data set."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from robust_hub.images.decoding import MODES, as_seen, fit, open_image
from robust_hub.images.seen import decodable, seen
from robust_hub.parsing import shown


@dataclass(frozen=True, eq=False)
class Photograph:
    """An image file as a network sees it.

    Attributes:
        name: What it is called: its path, as it may be shown.
        pixels: What the network sees, uint8 (C, H, W) in 0..255.
        width: Pixels of the image as its owner sees it, from left to right.
        height: From top to bottom.
        frames: Pictures in the file, of which the first is taken.
        transparent: Whether it is seen in front of white, since it is transparent somewhere.
    """

    name: str
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
        came = f"{self.name}{which}: {self.width}x{self.height} pixels{seen}"
        if (self.width, self.height) == (width, height):
            return f"{came}, as the network sees them"
        what = "them" if self.width * height == self.height * width else "the central square"
        done = "enlarged" if min(self.width, self.height) < min(width, height) else "resized"
        return f"{came}; the network sees {what}, {done} to {width}x{height}: these pixels are what is certified"


def read_photograph(
    file: str | Path | bytes, size: int | None, channels: int = 3, *, name: str | None = None
) -> Photograph:
    """Read an image file as data sets are read: upright by its EXIF notes, what is transparent in front of white.

    Args:
        file: The file, of any kind that Pillow decodes; or what is in it.
        size: The shorter side is resized to this many pixels and the centre cut out; None keeps the image's own size.
        channels: 1 for grey, 3 for RGB, 4 for RGB and alpha.
        name: What to call it; None calls it by its path.

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
    if name is None:
        name = "an image" if isinstance(file, bytes) else shown(file)
    if not isinstance(file, bytes):
        _check_file(Path(file), name)
        file = str(file)
    with decodable(name):
        item = open_image(file)
        image = seen(item, channels, name)
    clear = channels != 4 and item.has_transparency_data
    clear = clear and as_seen(item, 4).getchannel("A").getextrema() != (255, 255)
    return Photograph(name, torch.tensor(fit(image, size)), *image.size, _frames(file), clear)


def as_png(pixels: Tensor) -> bytes:
    """Give an image, uint8 (C, H, W) of 1, 3 or 4 channels, as the bytes of a PNG with the very same pixels."""
    content = io.BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).squeeze(-1).contiguous().numpy(), MODES[len(pixels)]).save(content, "PNG")
    return content.getvalue()


def _check_file(path: Path, name: str) -> None:
    if path.is_dir():
        raise ValueError(f"expected an image file, got the folder {name}: name its files, or certify it with --data")
    if not path.exists():
        raise ValueError(f"expected an image file, got {name}: there is none")


def _frames(file: str | bytes) -> int:
    """Count the pictures of a file that was decoded: those of a GIF, the pages of a TIFF."""
    try:
        with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as item:
            return int(getattr(item, "n_frames", 1))
    except Exception:  # of a second picture that is damaged: the first one is there
        return 1
