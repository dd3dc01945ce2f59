"""A source: labelled images as their owner keeps them, and how one of them is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from PIL import Image

from robust_hub.images.arrays import array_bytes
from robust_hub.images.decoding import MODES, as_seen, fit, has_bytes, mode_of, open_image


@dataclass(frozen=True, repr=False)
class Source:
    """Hold labelled images as their owner keeps them; nothing is checked yet.

    Attributes:
        name: What the data are, for records: of a folder its last part alone, never the way there.
        rows: One row an image.
        labels: One label a row.
        classes: Names of the classes; None if the source does not say.
        key: Where a row keeps its image; None if the row is the image.
        encoded: Whether rows are paths or bytes, which threads may open. A user's Dataset need not be thread-safe.
    """

    name: str
    rows: Any
    labels: Any
    classes: Sequence[str] | None
    key: str | int | None = None
    encoded: bool = True

    def __repr__(self) -> str:
        """Say it on one line."""
        return f"Source({self.name!r}, {len(self.labels):,} images)"

    def where(self, i: int) -> str:
        """Name image i for an error message."""
        return str(self.rows[i]) if self.encoded and isinstance(self.rows, list) else f"index {i} of {self.name}"

    def pixels(self, i: int, size: int | None, channels: int = 3) -> np.ndarray[Any, Any]:
        """Read image i: uint8 (C, H, W) in 0..255, fitted to (size, size) if a size is given.

        Raises:
            ValueError: If the image is damaged, not of 8 bits, or an array of another shape or outside [0, 1].
            TypeError: If it is neither a picture nor an array of uint8 or floats.
        """
        where = self.where(i)
        with decodable(where):
            item = self._read(i)
            if not isinstance(item, Image.Image):
                return array_bytes(item, size, channels, where)
            if not has_bytes(item):
                raise ValueError(f"expected an 8-bit image, got {mode_of(item)} at {where}: convert it to 8 bits")
            if channels not in MODES:
                raise ValueError(f"expected tensors of {channels} channels, got a picture at {where}: it has 1, 3 or 4")
            try:
                image = as_seen(item, channels)
            except ValueError as error:
                raise ValueError(f"expected a grey or RGB image, got mode {item.mode} at {where} ({error})") from None
            return fit(image, size)

    def cells(self, rows: list[int]) -> list[Any]:
        """Read several images of an encoded source, still encoded: bytes or paths."""
        if self.key is not None:  # of a datasets.Dataset, three times as fast so as row by row
            cells = self.rows[rows][self.key]
        else:
            cells = self.rows.take(rows).to_pylist() if hasattr(self.rows, "take") else [self.rows[i] for i in rows]
        return [_encoded(cell) for cell in cells]

    def _read(self, i: int) -> Any:
        cell = self.rows[i] if self.key is None else self.rows[i][self.key]
        if not self.encoded:
            return open_image(cell) if isinstance(cell, bytes) else cell
        cell = _encoded(cell.as_py() if hasattr(cell, "as_py") else cell)  # of a pyarrow scalar
        return open_image(cell) if isinstance(cell, bytes | str) else cell


def _encoded(cell: Any) -> Any:
    """Give the bytes or else the path that a table's cell holds."""
    if isinstance(cell, dict):
        return cell.get("path") if cell.get("bytes") is None else cell["bytes"]
    return cell


@contextmanager
def decodable(where: str) -> Iterator[None]:
    """Word what Pillow raises of a damaged image as one ValueError that says where the image is."""
    try:
        yield
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(unreadable(error, where)) from error


def unreadable(error: Exception, where: str) -> str:
    """Say why the image there cannot be read, and what to do."""
    why = first_line(error)
    if isinstance(error, Image.DecompressionBombError):
        got = f"one above Pillow's limit at {where} ({why})"
        return f"expected an image of moderate size, got {got}: make it smaller, or raise PIL.Image.MAX_IMAGE_PIXELS"
    if isinstance(error, PermissionError):
        return f"expected an image that may be read, got {where} ({error.strerror}): give yourself the right to read it"
    if isinstance(error, FileNotFoundError):
        return f"expected an image that is there, got {where}, which is not any more: bring it back"
    if "MAX_TEXT" in why:
        got = f"one with more text in it than Pillow takes at {where} ({why})"
        return f"expected an image that can be decoded, got {got}: save it again without its text"
    return f"expected an image that can be decoded, got a damaged one at {where} ({why}): replace or remove it"


def need(module: str, purpose: str, package: str = '"robust-hub[data]"') -> Any:
    """Import an optional module.

    Raises:
        ImportError: If it is not installed, with the command that installs it.
    """
    try:
        return import_module(module)
    except ImportError:
        raise ImportError(f"{purpose} needs {module.split('.')[0]}: pip install {package}") from None


def first_line(error: Exception) -> str:
    """Give the first line of what an error says, or its kind where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]
