"""What a training run does when: its options, its order of the images, the size of its steps."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import torch
from timm.optim import list_optimizers  # type: ignore[attr-defined]

from robust_hub.names import did_you_mean


@dataclass(frozen=True)
class Options:
    """The options of one run.

    Attributes:
        epochs: Passes over the data.
        mean: Mean per channel, [0, 1] pixel units.
        std: Standard deviation per channel, likewise.
        learning_rate: The peak learning rate.
        batch_size: Images per step and process.
        momentum: Momentum of the optimizer.
        weight_decay: Weight decay; normalisation layers and biases have none.
        optimizer: A name of timm's optimizers; "sgd" is SGD with Nesterov momentum.
        label_smoothing: Label smoothing of the cross entropy, in [0, 1).
        warmup: Share of the steps for the linear warm-up, in [0, 1]. None: 10 epochs, or the first tenth of a run of
            fewer than 100.
        augment: Whether to crop and flip at random.
        save_every: Seconds between two saved states; every epoch's end saves one as well.
        seed: Seed of order, augmentation, corruption and dropout.
        mixed_precision: "no", "bf16" or "fp16".
        num_workers: Processes that read batches; 0 reads in this one.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: If an option is outside its range.
    """

    epochs: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    learning_rate: float = 0.1
    batch_size: int = 128
    momentum: float = 0.9
    weight_decay: float = 5e-4
    optimizer: str = "sgd"
    label_smoothing: float = 0.0
    warmup: float | None = None
    augment: bool = True
    save_every: float = 60.0
    seed: int = 0
    mixed_precision: str = "no"
    num_workers: int = 0
    progress: bool = True

    def __post_init__(self) -> None:
        ranges = {
            "epochs >= 1": self.epochs >= 1 and self.epochs == int(self.epochs),
            "batch_size >= 1": self.batch_size >= 1,
            "momentum in [0, 1)": 0 <= self.momentum < 1,
            "weight_decay >= 0": math.isfinite(self.weight_decay) and self.weight_decay >= 0,
            "label_smoothing in [0, 1)": 0 <= self.label_smoothing < 1,
            "warmup in [0, 1]": self.warmup is None or 0 <= self.warmup <= 1,
            "save_every >= 0": self.save_every >= 0,
            "num_workers >= 0": self.num_workers >= 0,
            "mixed_precision among 'no', 'bf16', 'fp16'": self.mixed_precision in ("no", "bf16", "fp16"),
        }
        for rule, holds in ranges.items():
            if not holds:
                raise ValueError(f"expected {rule}, got {getattr(self, rule.split()[0])}")
        known = [str(name) for name in list_optimizers()]
        if self.optimizer.lower().removeprefix("lookahead_") not in known:
            hint = did_you_mean(self.optimizer, known, ["sgd", "adamw", "nmuon"])
            raise ValueError(f"expected an optimizer of timm, got {self.optimizer!r}: {hint}")


def learning_rate_at(step: int, total: int, warmup_steps: int, base: float) -> float:
    """Give the learning rate of a step: linear warm-up to base, then a half cosine to 0.

    Args:
        step: Index of the step, 0 <= step < total.
        total: Steps of the whole run.
        warmup_steps: Steps of the warm-up; the last of them has the learning rate base.
        base: The peak learning rate.
    """
    if step < warmup_steps:
        return base * (step + 1) / warmup_steps
    return 0.5 * base * (1.0 + math.cos(math.pi * (step - warmup_steps) / max(1, total - warmup_steps)))


def epoch_batches(count: int, batch_size: int, seed: int, epoch: int, rank: int = 0, world: int = 1) -> list[list[int]]:
    """List the batches of one process in one epoch.

    The order is a permutation that depends on seed and epoch only. A last, partial batch is left out; data smaller
    than one batch of all processes make one step.

    Args:
        count: Images in the data.
        batch_size: Images per batch of one process.
        seed: Seed of the run.
        epoch: Index of the epoch.
        rank: Index of the process.
        world: Number of processes.

    Returns:
        One list of image indices per step; the same number of steps for every process.

    Raises:
        ValueError: If there are fewer images than processes.
    """
    if count < world:
        raise ValueError(f"expected at least one image per process, got {count} images for {world} processes")
    size = min(batch_size, count // world)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed_of(seed, "epoch", epoch))).tolist()
    steps = count // (size * world)
    return [order[(t * world + rank) * size : (t * world + rank + 1) * size] for t in range(steps)]


def seed_of(*parts: object) -> int:
    """Give a seed in [0, 2**63) that depends on all parts."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
