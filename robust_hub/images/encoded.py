"""Encoded images: a source's, indexed as the tensor of their pixels would be."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robust_hub.images.decoding import Decoders, processes
from robust_hub.images.source import Source

CHUNK, BLOCK = 32, 128  # images that a thread and a process decode in one go
IN_PROCESSES = 8192  # images from which starting processes pays


class EncodedImages:
    """The images of a source, decoded when asked for; indexed by rows as the uint8 tensor of `shape` would be.

    Attributes:
        source: The source.
        size: Side of the square that each image is fitted to as it is read; None keeps its own size.
        channels: What each image is brought to.
        shape: (N, C, H, W); the first image's C, H and W, which all must have.
    """

    def __init__(self, source: Source, size: int | None, channels: int = 3) -> None:
        self.source, self.size, self.channels = source, size, channels
        self.shape = (len(source.labels), *source.pixels(0, size, channels).shape)

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Decode images, uint8 (B, C, H, W).

        Raises:
            ValueError: If an image is damaged or of another size.
            ChildProcessError: If a process that decodes ended.
        """
        chosen, out = rows.tolist(), np.empty((len(rows), *self.shape[1:]), dtype=np.uint8)
        if self.source.encoded and len(chosen) >= IN_PROCESSES and (count := processes()) > 1:
            self._in_processes(chosen, out, count)
        else:
            self._in_threads(chosen, out)
        return torch.from_numpy(out)

    def _in_threads(self, rows: list[int], out: np.ndarray[Any, Any]) -> None:
        def work(start: int) -> None:
            for at, row in enumerate(rows[start : start + CHUNK], start):
                out[at] = self._image(row)

        starts = range(0, len(rows), CHUNK)
        if self.source.encoded and len(starts) > 1:
            with ThreadPoolExecutor() as pool:
                list(pool.map(work, starts))
        else:
            list(map(work, starts))

    def _in_processes(self, rows: list[int], out: np.ndarray[Any, Any], count: int) -> None:
        def work(start: int) -> None:
            part = rows[start : start + BLOCK]
            images = decoders.decode(self.source.cells(part), self.size, self.channels)
            if isinstance(images, np.ndarray) and images.shape[1:] == self.shape[1:]:
                out[start : start + len(part)] = images
                return
            for at, (row, image) in enumerate(zip(part, images, strict=True), start):
                out[at] = self._image(row) if image is None else self._checked(image, row)

        with Decoders(count) as decoders:
            decoders.each(work, range(0, len(rows), BLOCK))

    def _image(self, row: int) -> np.ndarray[Any, Any]:
        return self._checked(self.source.pixels(row, self.size, self.channels), row)

    def _checked(self, image: np.ndarray[Any, Any], row: int) -> np.ndarray[Any, Any]:
        """Refuse an image (C, H, W) of another shape than the first."""
        if image.shape != self.shape[1:]:
            (_, h, w), (h0, w0) = image.shape, self.shape[2:]
            got = f"{h}x{w} at {self.source.where(row)}"
            advice = "pass size=... to resize them as they are read (of pretrain on the command line, --resize)"
            raise ValueError(f"expected images of one size, {h0}x{w0} as the first, got {got}: {advice}")
        return image
