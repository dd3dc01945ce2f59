"""Encoded images: a source's, indexed as the tensor of their pixels would be."""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from robust_hub.bars import tqdm
from robust_hub.images.damaged import naming_all
from robust_hub.images.decoding import Decoders, Pixels, processes
from robust_hub.images.source import Source
from robust_hub.memory import free

CHUNK, BLOCK = 32, 128  # images that a thread and a process decode in one go
IN_PROCESSES = 8192  # images from which starting processes pays
WORTH_A_BAR = 1.0  # seconds


class EncodedImages:
    """The images of a source, decoded when asked for; indexed by rows as the uint8 tensor of `shape` would be.

    Attributes:
        source: The source.
        size: Side of the square that each image is fitted to as it is read; None keeps its own size.
        channels: What each image is brought to.
        shape: (N, C, H, W); the first image's C, H and W, which all must have.
        workers: Processes, or for few images threads, that decode; None for one a CPU.
    """

    def __init__(self, source: Source, size: int | None, channels: int = 3, workers: int | None = None) -> None:
        self.source, self.size, self.channels, self.workers = source, size, channels, workers
        with naming_all(source, range(len(source.labels)), size, channels):
            self._first = source.pixels(0, size, channels)
        self.shape = (len(source.labels), *self._first.shape)
        self._kept: tuple[Tensor, Tensor] | None = None  # pixels, and of each row its place among them or -1

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Decode images, uint8 (B, C, H, W).

        Raises:
            ValueError: If an image is damaged or of another size.
            ChildProcessError: If a process that decodes ended.
        """
        if self._kept is not None:
            pixels, places = self._kept
            if bool((chosen := places[rows]).ge(0).all()):
                return pixels.index_select(0, chosen)
        return self.read(rows)

    def bytes_of(self, count: int) -> int:
        """Give the bytes that so many decoded images take."""
        return count * int(math.prod(self.shape[1:]))

    def keeping(self, rows: Tensor, *, progress: bool = False) -> EncodedImages:
        """Decode some rows, int64 (B,), for once and all; the others are still decoded when asked for."""
        if self._kept is not None and bool(self._kept[1][rows].ge(0).all()):
            return self
        places = torch.full(self.shape[:1], -1)
        places[rows] = torch.arange(len(rows))
        keeper = copy.copy(self)
        keeper._kept = self.read(rows, progress=progress), places
        return keeper

    def read(self, rows: Tensor, *, progress: bool = False) -> Tensor:
        """Decode images, uint8 (B, C, H, W), whatever is kept; with a bar where that takes more than a second.

        Raises:
            MemoryError: If memory does not hold them.
            ValueError: If an image is damaged or of another size.
            ChildProcessError: If a process that decodes ended.
        """
        chosen = rows.tolist()
        try:
            out = np.empty((len(rows), *self.shape[1:]), dtype=np.uint8)
        except MemoryError:
            raise MemoryError(too_large(self, len(rows))) from None
        count = processes() if self.workers is None else self.workers
        several = self.source.encoded and count > 1
        hidden = not progress or sys.stderr is None  # a program without a console has none
        with (
            naming_all(self.source, chosen, self.size, self.channels),
            tqdm(total=len(chosen), desc="decoding", unit="image", disable=hidden, delay=WORTH_A_BAR) as bar,
        ):
            if several and len(chosen) >= IN_PROCESSES:
                self._in_processes(chosen, out, count, bar.update)
            else:
                self._in_threads(chosen, out, count if several else 1, bar.update)
        return torch.from_numpy(out)

    def _in_threads(self, rows: list[int], out: Pixels, count: int, done: Callable[[int], object]) -> None:
        def work(start: int) -> int:
            part = rows[start : start + chunk]
            for at, row in enumerate(part, start):
                out[at] = self._image(row)
            return len(part)

        chunk = max(1, min(CHUNK, math.ceil(len(rows) / count)))
        starts = range(0, len(rows), chunk)
        if count > 1 and len(starts) > 1:
            with ThreadPoolExecutor(count) as pool:
                for size in pool.map(work, starts):
                    done(size)
        else:
            for start in starts:
                done(work(start))

    def _in_processes(self, rows: list[int], out: Pixels, count: int, done: Callable[[int], object]) -> None:
        def work(start: int) -> None:
            part = rows[start : start + BLOCK]
            images = decoders.decode(self.source.cells(part), self.size, self.channels)
            if isinstance(images, np.ndarray) and images.shape[1:] == self.shape[1:]:
                out[start : start + len(part)] = images
            else:
                for at, (row, image) in enumerate(zip(part, images, strict=True), start):
                    out[at] = self._image(row) if image is None else self._checked(image, row)
            done(len(part))

        with Decoders(count) as decoders:
            decoders.each(work, range(0, len(rows), BLOCK))

    def _image(self, row: int) -> Pixels:
        return self._first if row == 0 else self._checked(self.source.pixels(row, self.size, self.channels), row)

    def _checked(self, image: Pixels, row: int) -> Pixels:
        """Refuse an image (C, H, W) of another shape than the first."""
        if image.shape != self.shape[1:]:
            (_, h, w), (h0, w0) = image.shape, self.shape[2:]
            got = f"{h}x{w} at {self.source.where(row)}"
            advice = "pass size=... to resize them as they are read (of pretrain on the command line, --resize)"
            raise ValueError(f"expected images of one size, {h0}x{w0} as the first, got {got}: {advice}")
        return image


def too_large(images: EncodedImages, count: int) -> str:
    """Say that so many images don't fit into memory."""
    height, width = images.shape[2:]
    return (
        f"expected memory for {count:,} images of {height}x{width}, {images.bytes_of(count) / 1e9:,.1f} GB, got "
        f"{free() / 1e9:,.1f} GB that are free: leave in_memory out, so that they are decoded when asked for, "
        "or pass a smaller size"
    )
