"""A source: labelled images as their owner keeps them, and how one of them is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from PIL import Image

from robust_hub.images.arrays import array_bytes
from robust_hub.images.decoding import fit, open_image
from robust_hub.images.seen import decodable, seen


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
            return fit(seen(item, channels, where), size)

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


def need(module: str, purpose: str, package: str = '"robust-hub[data]"') -> Any:
    """Import an optional module.

    Raises:
        ImportError: If it is not installed, with the command that installs it.
    """
    try:
        return import_module(module)
    except ImportError:
        raise ImportError(f"{purpose} needs {module.split('.')[0]}: pip install {package}") from None
