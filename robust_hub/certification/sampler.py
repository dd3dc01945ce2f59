"""Noisy copies -> votes: the network, its noise and its batches.

A `Sampler` trusts its callers: pixels and arguments are checked once, at the doors of `SmoothedClassifier`.
"""

from __future__ import annotations

import itertools
import os
import secrets
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache, partial

import torch
from torch import Tensor, nn

from robust_hub.certification.batches import Parts, suggest_batch_size
from robust_hub.certification.queue import Chunk, Job, fill
from robust_hub.guarantee.look import Course, Result
from robust_hub.images.noise import BLOCK, NoiseStream
from robust_hub.images.pixels import normalize
from robust_hub.models.modes import eval_mode


class Sampler:
    """Count a network's votes on noisy copies of images, and classify clean ones.

    Args:
        model: Network from normalised images (B, C, H, W) to logits (B, K).
        mean: Per-channel means, [0, 1]-pixel units.
        std: Per-channel standard deviations, likewise.
    """

    def __init__(self, model: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        self.model, self.mean, self.std = model, mean, std
        self._suited: dict[Hashable, int] = {}
        self._parts = Parts()

    @property
    def device(self) -> torch.device:
        """Where the model is, and so where noise is drawn and votes are counted."""
        return next(self.model.parameters(), torch.empty(0)).device

    @property
    def dtype(self) -> torch.dtype:
        """The model's floating-point type."""
        return next(self.model.parameters(), torch.empty(0)).dtype

    @property
    def _depth(self) -> int:
        """Batches that are computed while votes are read."""
        return 0 if self.device.type == "cpu" else 1

    def suited_batch_size(self, shape: Sequence[int]) -> int:
        """Choose a batch size for images of a shape, (C, H, W); see `suggest_batch_size`."""
        kind = self._kind(shape)
        if kind not in self._suited:
            plain = uncompiled(self.model)  # a compiled one would be built for this one image
            with self._inference():
                one = self._input(torch.zeros((1, *shape), device=self.device))
                self._suited[kind] = suggest_batch_size(plain, one)
        return self._parts.most(kind, self._suited[kind])

    def _kind(self, shape: Sequence[int]) -> Hashable:
        """Give what decides how many images a batch takes."""
        return tuple(shape), self.dtype, self.device

    def classify(self, x: Tensor, batch_size: int) -> Tensor:
        """Classify clean images, float (B, C, H, W); classes, int64 (B,), on the CPU."""
        kind = self._kind(x.shape[1:])
        with self._inference():
            batches = [self._parts.run(self._logits, batch, len(batch), kind) for batch in torch.split(x, batch_size)]
        logits = torch.cat(batches)
        _refuse_nan(bool(logits.isnan().any()))
        return logits.argmax(1).cpu()

    def jobs(
        self, images: Iterable[tuple[int, Tensor]], course: Callable[[], Course[Result]], seed: int | None
    ) -> Iterator[Job[Result]]:
        """Start a course for each image, with noise of its own.

        Args:
            images: Pairs of index and pixels, float (C, H, W); each is asked for when its job is.
            course: Makes a course.
            seed: Seed of the noise; None takes the operating system's entropy.
        """
        seed = secrets.randbits(63) if seed is None else int(seed)
        device = self.device
        for index, x in images:
            draw = partial(_draw, seed, index, x.shape, device)
            yield Job(index, x.detach().to(device, torch.float32), course(), draw)

    def complete(self, jobs: Iterator[Job[Result]], sigma: float, batch_size: int) -> Iterator[Job[Result]]:
        """Lead jobs through their courses and yield each when it is done.

        On an accelerator one batch is computed while the votes of the one before are read; nothing within a batch
        waits for the device.

        Args:
            jobs: Images of one shape; only as many are asked for as batches need.
            sigma: Standard deviation of the noise, [0, 1]-pixel units.
            batch_size: Images a network batch, the last one padded.
        """
        together = 2 + 2 * batch_size // BLOCK  # images on their way at a time: batches stay full of wanted samples
        depth = self._depth
        active: list[Job[Result]] = []
        chunks: list[Chunk] = []
        pending: deque[tuple[list[Chunk], Tensor]] = deque()
        batch: Tensor | None = None
        begun = time.perf_counter()
        while True:
            active += itertools.islice(jobs, max(0, together - len(active)))
            chunks += fill(active, batch_size - _size(chunks), ahead=not pending)
            if chunks and (_size(chunks) == batch_size or not pending):
                if batch is None:
                    batch = torch.empty((batch_size, *chunks[0].job.image.shape), device=self.device)
                pending.append((chunks, self._votes(chunks, sigma, batch)))
                chunks = []
                if len(pending) <= depth:
                    continue
            if not pending:
                return
            _deliver(*pending.popleft(), begun)
            yield from (job for job in active if job.done)
            active = [job for job in active if not job.done]
            begun = time.perf_counter()

    def _votes(self, chunks: Sequence[Chunk], sigma: float, batch: Tensor) -> Tensor:
        """Count the votes of each chunk: int64 (chunks + 2, K), then a row for padding and a mark of NaN."""
        with self._inference():
            filled = 0
            noises = [chunk.noise for chunk in chunks]  # all drawn before threads are wanted for something else
            for chunk, noise in zip(chunks, noises, strict=True):
                end = filled + chunk.size
                torch.add(chunk.job.image, noise, alpha=sigma, out=batch[filled:end])
                filled = end
            batch[filled:] = 0  # every batch has one shape, so that the network computes the same function
            logits = self._parts.run(self._logits, batch, filled, self._kind(batch.shape[1:]))
            rows, classes = len(chunks) + 2, logits.shape[1]
            sizes = torch.tensor([*(chunk.size for chunk in chunks), len(logits) - filled, 0])
            row = torch.repeat_interleave(torch.arange(rows), sizes).to(batch.device, non_blocking=True)
            cell = row * classes + logits.argmax(1)
            votes = torch.zeros(rows * classes, dtype=torch.int64, device=batch.device)
            votes.scatter_add_(0, cell, torch.ones_like(cell))
            votes[-classes] = logits[:filled].isnan().any()
        return votes.view(rows, classes)

    def _logits(self, images: Tensor) -> Tensor:
        """Normalise and classify, on the network's device."""
        logits = self.model(self._input(images.to(self.device, torch.float32)))
        if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[1] < 2:
            shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(
                f"expected logits (B, K) of at least 2 classes from the model, got {shape}: is it a classifier?"
            )
        return logits

    def _input(self, images: Tensor) -> Tensor:
        """Normalise; noise and mean are float32, the network has a type of its own."""
        inputs = normalize(images, self.mean, self.std).to(self.dtype)  # two steps: a third of the time of one
        return inputs.contiguous(memory_format=torch.channels_last)

    @contextmanager
    def _inference(self) -> Iterator[None]:
        """Put every module in eval mode without gradients, and restore each one's mode afterwards."""
        with eval_mode(self.model), torch.inference_mode():
            yield


def uncompiled(model: nn.Module) -> nn.Module:
    """Give the network that `torch.compile` was given, with its names and layers; any other is given back."""
    plain: nn.Module = getattr(model, "_orig_mod", model)
    return plain


def _deliver(chunks: Sequence[Chunk], votes: Tensor, begun: float) -> None:
    """Give jobs the votes of their chunks, and each its share of the seconds since `begun`."""
    table = votes.cpu().numpy()
    _refuse_nan(bool(table[-1, 0]))
    seconds = (time.perf_counter() - begun) / _size(chunks)
    for chunk, row in zip(chunks, table, strict=False):
        chunk.job.seconds += seconds * chunk.size
        chunk.job.count(chunk, row)


def _size(chunks: Iterable[Chunk]) -> int:
    return sum(chunk.size for chunk in chunks)


def _refuse_nan(nan: bool) -> None:
    if nan:
        raise ValueError("the model returned NaN logits, which are no vote: check its weights and input type")


@lru_cache(maxsize=1)
def _drawing(process: int) -> ThreadPoolExecutor:
    """Give the threads that draw noise in a process; a forked one must not wait for its parent's."""
    return ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="noise")


def _draw(seed: int, index: int, shape: Sequence[int], device: torch.device, purpose: str, k: int) -> Future[Tensor]:
    """Draw a block of noise; on the CPU several are drawn at a time, as each has a stream of its own."""
    stream = NoiseStream(seed, index, purpose, shape, device)
    if device.type == "cpu":
        return _drawing(os.getpid()).submit(stream.block, k)
    drawn: Future[Tensor] = Future()
    drawn.set_result(stream.block(k))
    return drawn
