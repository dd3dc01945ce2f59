"""What a training does when: its order of the images, the size of its steps, its seeds."""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor


def learning_rate_at(step: int, total: int, warmup_steps: int, base: float) -> float:
    """Give the learning rate of a step: linear warm-up to base, then a half cosine to 0.

    Args:
        step: Index of the step, 0 <= step < total.
        total: Steps of the whole training.
        warmup_steps: Steps of the warm-up; the last of them has the learning rate base.
        base: The peak learning rate.
    """
    if step < warmup_steps:
        return base * (step + 1) / warmup_steps
    return 0.5 * base * (1.0 + math.cos(math.pi * (step - warmup_steps) / max(1, total - warmup_steps)))


def epoch_batches(count: int, batch_size: int, seed: int, epoch: int, rank: int = 0, world: int = 1) -> Tensor:
    """List the batches of one process in one epoch.

    The order is a permutation that depends on seed and epoch only. A last, partial batch is left out; data smaller
    than one batch of all processes make one step.

    Args:
        count: Images in the data.
        batch_size: Images per batch of one process.
        seed: Seed of the training.
        epoch: Index of the epoch.
        rank: Index of the process.
        world: Number of processes.

    Returns:
        Indices of the images, int64 (steps, B); the same number of steps for every process.

    Raises:
        ValueError: If there are fewer images than processes.
    """
    if count < world:
        raise ValueError(f"expected at least one image per process, got {count} images for {world} processes")
    size = min(batch_size, count // world)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed_of(seed, "epoch", epoch)))
    steps = count // (size * world)
    return order[: steps * world * size].view(steps, world, size)[:, rank]


def seed_of(*parts: object) -> int:
    """Give a seed in [0, 2**63) that depends on all parts."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def seed_modules(seed: int, device: torch.device) -> None:
    """Seed what modules draw from, such as dropout: `torch.manual_seed`, which takes longer, on this device alone."""
    if device.type not in ("cpu", "cuda"):
        torch.manual_seed(seed)
        return
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
