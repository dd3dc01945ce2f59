"""An uploaded file, or one of the drawings, becomes the image that a network sees; what it cannot be is said."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from robust_hub.app.drawings import drawing
from robust_hub.images.decoding import as_seen, fit
from robust_hub.images.photograph import read_photograph
from robust_hub.parsing import shown

MOST_BYTES = 20_000_000  # of a file
MOST_PIXELS = 50_000_000  # of a picture: a photograph has 12 or 24 million


@dataclass(frozen=True)
class Prepared:
    """An image as a network sees it.

    Attributes:
        title: What it was made of, in words.
        pixels: uint8 (C, H, W).
    """

    title: str
    pixels: Tensor

    @property
    def x(self) -> Tensor:
        """Pixels in [0, 1], float32 (C, H, W)."""
        return self.pixels / 255


def prepare_drawing(name: str, size: int, channels: int) -> Prepared:
    """Prepare one of the drawings for a network, as `prepare_file` does a file."""
    return Prepared(f"the drawing of a {name}", torch.tensor(fit(as_seen(drawing(name), channels), size)))


def prepare_file(path: str | Path, size: int, channels: int) -> Prepared:
    """Read a picture as every command does, and within the limits of a page that anyone may visit.

    Args:
        path: The file.
        size: Pixels a side.
        channels: 1, 3 or 4.

    Raises:
        ValueError: If it is no picture of at most 8 bits a channel and 50 million pixels, or it is several; one
            sentence.
    """
    name = shown(Path(path).name)
    content = _content(Path(path), name)
    _check_size(content, name)
    photograph = read_photograph(content, size, channels, name=name)
    return Prepared(f"{name}, {photograph.width} x {photograph.height} pixels", photograph.pixels)


def _content(path: Path, name: str) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError:
        raise ValueError(f"expected a picture, got {name}, which is no longer there: drop it in again") from None
    if not content:
        raise ValueError(f"expected a picture, got {name}, an empty file: drop in another")
    if len(content) > MOST_BYTES:
        raise ValueError(f"expected a file of at most {MOST_BYTES // 10**6} MB, got {name}: save it smaller")
    return content


def _check_size(content: bytes, name: str) -> None:
    """Refuse, before anything is decoded, what would fill the memory, and what is more than one picture."""
    most = f"expected at most {MOST_PIXELS // 10**6} million pixels"
    width, height, frames = 0, 0, 1
    try:
        with Image.open(io.BytesIO(content)) as image:
            width, height = image.size
            frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)  # a telephone's, with a preview
    except Image.DecompressionBombError:
        raise ValueError(f"{most}, got far more in {name}: save it smaller") from None
    except Exception:  # of damaged bytes, decoders raise much: whoever decodes it says what, within the limit
        pass
    if width * height > MOST_PIXELS:
        raise ValueError(f"{most}, got {width:,} x {height:,} in {name}: save it smaller")
    if frames > 1:
        raise ValueError(f"expected one picture, got {frames} in {name}: save the one that you mean as a PNG")
