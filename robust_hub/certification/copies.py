"""The noisy copies of a batch: their noise drawn, written beside the images, their votes counted and given back."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache

import torch
from torch import Tensor

from robust_hub.certification.queue import Chunk
from robust_hub.images.laws import Noise
from robust_hub.images.noise import NoiseStream, Samples


@lru_cache(maxsize=1)
def _drawing(process: int) -> ThreadPoolExecutor:
    """Give the threads that draw noise in a process; a forked one must not wait for its parent's."""
    return ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="noise")


def draw(
    seed: int, index: int, noise: Noise, shape: Sequence[int], device: torch.device, purpose: str, k: int
) -> Future[Tensor | Samples]:
    """Draw a block of noise; on the CPU several are drawn at a time, as each has a stream of its own."""
    stream = NoiseStream(seed, index, purpose, noise, shape, device)
    if device.type == "cpu":
        return _drawing(os.getpid()).submit(stream.samples, k)
    drawn: Future[Tensor | Samples] = Future()
    drawn.set_result(stream.block(k))
    return drawn


def count_votes(chunks: Sequence[Chunk], filled: int, logits: Tensor) -> Tensor:
    """Count the votes of each chunk: int64 (chunks + 2, K), then a row for padding and a mark of NaN."""
    rows, classes = len(chunks) + 2, logits.shape[1]
    sizes = torch.tensor([*(chunk.size for chunk in chunks), len(logits) - filled, 0])
    row = torch.repeat_interleave(torch.arange(rows), sizes).to(logits.device, non_blocking=True)
    cell = row * classes + logits.argmax(1)
    votes = torch.zeros(rows * classes, dtype=torch.int64, device=logits.device)
    votes.scatter_add_(0, cell, torch.ones_like(cell))
    votes[-classes] = logits[:filled].isnan().any()
    return votes.view(rows, classes)


def write_copies(batch: Tensor, chunks: Sequence[Chunk], noise: Noise) -> int:
    """Write noisy copies, then zeros, as every batch has one shape and so one function; count the copies."""
    filled = 0
    noises = [chunk.noise for chunk in chunks]  # all drawn before threads are wanted for something else
    for chunk, drawn in zip(chunks, noises, strict=True):
        end = filled + chunk.size
        noise.add(chunk.job.image, drawn, out=batch[filled:end])
        filled = end
    batch[filled:] = 0
    return filled


def deliver(chunks: Sequence[Chunk], votes: Tensor, begun: float) -> None:
    """Give jobs the votes of their chunks, and each its share of the seconds since `begun`."""
    table = votes.cpu().numpy()
    refuse_nan(bool(table[-1, 0]))
    seconds = (time.perf_counter() - begun) / size_of(chunks)
    for chunk, row in zip(chunks, table, strict=False):
        chunk.job.seconds += seconds * chunk.size
        chunk.job.count(chunk, row)


def size_of(chunks: Iterable[Chunk]) -> int:
    """Give the samples of chunks together."""
    return sum(chunk.size for chunk in chunks)


def refuse_nan(nan: bool) -> None:
    """Refuse logits of which one is NaN.

    Raises:
        ValueError: If one is.
    """
    if nan:
        raise ValueError("the model returned NaN logits, which are no vote: check its weights and input type")
