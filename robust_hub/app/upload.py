"""An uploaded file, or one of the drawings, becomes the image that a network sees; what it cannot be is said."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from robust_hub.app.drawings import drawing
from robust_hub.images.decoding import as_seen, fit, has_bytes, mode_of, open_image

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

    def png(self) -> bytes:
        """Give the image as a PNG, which holds every pixel as it is."""
        buffer = io.BytesIO()
        picture(self.pixels.numpy()).save(buffer, "PNG")
        return buffer.getvalue()


def picture(pixels: np.ndarray) -> Image.Image:
    """Make a picture of pixels, uint8 (C, H, W)."""
    return Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def prepare_drawing(name: str, size: int, channels: int) -> Prepared:
    """Prepare one of the drawings for a network, as `prepare_file` does a file."""
    image = as_seen(drawing(name), channels)
    return Prepared(f"the drawing of a {name}", torch.from_numpy(np.array(fit(image, size))))


def prepare_file(path: str | Path, size: int, channels: int) -> Prepared:
    """Read a picture as every command does, upright and in 8 bits, resized and cropped to a network's square.

    Args:
        path: The file.
        size: Pixels a side.
        channels: 1, 3 or 4.

    Raises:
        ValueError: If it is no picture of at most 8 bits a channel and 50 million pixels, or it is several; one
            sentence.
    """
    path = Path(path)
    name = path.name
    content = _content(path)
    _check_size(content, name)
    try:
        image = open_image(content)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(_unreadable(name, str(error))) from None
    if not has_bytes(image):
        raise ValueError(f"expected an 8-bit picture, got {mode_of(image)} in {name}: save it with 8 bits a channel")
    try:
        image = as_seen(image, channels)
    except ValueError as error:
        raise ValueError(f"expected a grey or RGB picture, got mode {image.mode} in {name} ({error})") from None
    width, height = image.size
    return Prepared(f"{name}, {width} x {height} pixels", torch.from_numpy(np.array(fit(image, size))))


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError:
        raise ValueError(f"expected a picture, got {path.name}, which is no longer there: drop it in again") from None
    if not content:
        raise ValueError(f"expected a picture, got {path.name}, an empty file: drop in another")
    if len(content) > MOST_BYTES:
        raise ValueError(f"expected a file of at most {MOST_BYTES // 10**6} MB, got {path.name}: save it smaller")
    return content


def _check_size(content: bytes, name: str) -> None:
    """Refuse, before anything is decoded, what would fill the memory, and what is more than one picture."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            width, height = image.size
            frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)  # a telephone's, with a preview
    except Image.DecompressionBombError:
        raise ValueError(
            f"expected at most {MOST_PIXELS // 10**6} million pixels, got far more in {name}: save it smaller"
        ) from None
    except Exception as error:  # of damaged bytes, decoders raise much
        raise ValueError(_unreadable(name, str(error))) from None
    if width * height > MOST_PIXELS:
        raise ValueError(
            f"expected at most {MOST_PIXELS // 10**6} million pixels, got {width:,} x {height:,} in {name}: save it "
            "smaller"
        )
    if frames > 1:
        raise ValueError(f"expected one picture, got {frames} in {name}: save the one that you mean as a PNG")


def _unreadable(name: str, why: str) -> str:
    why = "it is of no format that is known here" if "cannot identify" in why else why.rstrip(".") or "it is damaged"
    return f"expected a picture that can be read, such as a PNG, JPEG or WebP, got {name}: {why}"
