"""The one loop: a run with one learning rate; order, schedule, mixed precision, exact resume.

Everything random in a step is a function of (seed, step, process), and every epoch's order of (seed, epoch). A run that
was killed therefore continues exactly where its last saved state stands, and nothing random has to be saved.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from timm.optim import create_optimizer_v2, param_groups_weight_decay  # type: ignore[attr-defined]
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader
from tqdm import tqdm

from robust_hub.data import ImageData, crop_flip
from robust_hub.pixels import normalize
from robust_hub.state import Keeper, Progress

Corrupt = Callable[[Tensor, torch.Generator], Tensor]

_CHECK_EVERY = 50  # steps between two looks at the loss on an accelerator; each look waits for the device
_SHOW_EVERY = 20  # steps between two refreshes of the progress bar's figures


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


def network_input(
    images: Tensor, options: Options, corrupt: Corrupt | None, generator: torch.Generator, *, augment: bool
) -> Tensor:
    """Turn uint8 images (B, C, H, W) into the network's input: crop and flip, corrupt, normalise."""
    if augment:
        images = crop_flip(images, generator)
    pixels = images.float() / 255.0
    if corrupt is not None:
        pixels = corrupt(pixels, generator)
    return normalize(pixels, options.mean, options.std).contiguous(memory_format=torch.channels_last)


def run(
    model: nn.Module,
    data: ImageData,
    options: Options,
    corrupt: Corrupt | None,
    trained: set[nn.Parameter] | None,
    folder: Path | None,
    scales: Mapping[nn.Parameter, float] | None = None,
) -> list[dict[str, Any]]:
    """Train with one learning rate, from the newest state in the folder if there is one.

    Args:
        model: The classifier; trained in place.
        data: The training data.
        options: How to train.
        corrupt: Changes a batch before normalisation, as in `robust_hub.training.train`.
        trained: The parameters that are trained; modules without one of them stay in eval mode. None: all.
        folder: Where log and state are kept. None keeps nothing.
        scales: Factors on the learning rate of some parameters; 1 for all others.

    Returns:
        The history, one row per epoch.

    Raises:
        FloatingPointError: If the loss or a weight is no longer finite; the last good state stays in the folder.
        ValueError: If the folder cannot be written or its state is damaged.
    """
    accelerator = Accelerator(mixed_precision=options.mixed_precision)
    rank, world, device = accelerator.process_index, accelerator.num_processes, accelerator.device
    own = set(vars(model))
    model.to(memory_format=torch.channels_last)
    optimizer = create_optimizer_v2(
        _groups(model, options.weight_decay, scales) if scales else model,
        opt="momentum" if options.optimizer == "sgd" and options.momentum == 0 else options.optimizer,
        lr=options.learning_rate,
        weight_decay=options.weight_decay,
        momentum=options.momentum,
    )
    network, optimizer = accelerator.prepare(model, optimizer)
    network.train()
    if trained is not None:
        for module in model.modules():
            if not any(p in trained for p in module.parameters()):
                module.eval()

    per_epoch = len(epoch_batches(len(data), options.batch_size, options.seed, 0, rank, world))
    total = options.epochs * per_epoch
    share = min(10, options.epochs / 10) / options.epochs if options.warmup is None else options.warmup
    warmup_steps = round(share * total)

    keeper = Keeper(accelerator, folder)
    done = keeper.resume()
    meter = _Meter(accelerator, done)
    generator = torch.Generator(device=device)
    begun = time.monotonic() - done.seconds

    def check() -> None:
        bad = meter.bad()
        if bad is not None:
            newest, rate = keeper.newest(), learning_rate_at(bad, total, warmup_steps, options.learning_rate)
            kept = "no state was saved yet" if newest is None else f"the last good state is kept in {newest}"
            raise FloatingPointError(
                f"expected a finite loss, got one that is not at step {bad} (learning rate {rate:.3g}); {kept}: "
                "start again in a new folder with a smaller learning rate"
            )

    def save() -> None:
        meter.look(done.step - 1, _finite(model))
        check()
        done.loss, done.correct, done.seen = meter.total()
        done.seconds = time.monotonic() - begun
        keeper.save(done)

    bar = tqdm(
        total=total,
        initial=done.step,
        unit="step",
        desc=f"lr {options.learning_rate:g}",
        disable=not (options.progress and accelerator.is_main_process) or done.step >= total,
        mininterval=0.5,
    )
    try:
        for epoch in range(done.step // per_epoch, options.epochs):
            batches = epoch_batches(len(data), options.batch_size, options.seed, epoch, rank, world)
            shown = (time.monotonic(), done.step)
            for images, labels in _batches(data, batches[done.step - epoch * per_epoch :], options, device):
                step = done.step
                seed = seed_of(options.seed, "step", step, rank)
                generator.manual_seed(seed)
                torch.manual_seed(seed)
                rate = learning_rate_at(step, total, warmup_steps, options.learning_rate)
                for group in optimizer.param_groups:
                    group["lr"] = rate * group.get("lr_scale", 1.0)
                inputs = network_input(images, options, corrupt, generator, augment=options.augment)
                with accelerator.autocast():
                    logits = network(inputs)
                loss = functional.cross_entropy(logits.float(), labels, label_smoothing=options.label_smoothing)
                accelerator.backward(loss)
                optimizer.step()
                optimizer.zero_grad()
                meter.add(step, loss.detach(), logits.detach(), labels)
                done.step = step + 1
                bar.update()
                if (world == 1 and device.type == "cpu") or done.step % _CHECK_EVERY == 0:
                    check()
                if not bar.disable and done.step % _SHOW_EVERY == 0:
                    bar.set_postfix(
                        meter.figures((done.step - shown[1]) * len(labels) * world, shown[0]), refresh=False
                    )
                    shown = (time.monotonic(), done.step)
                together = world == 1 or done.step % _SHOW_EVERY == 0
                if folder is not None and done.step % per_epoch and together and keeper.due(options.save_every):
                    save()
            loss_sum, correct, seen = meter.total()
            seconds = time.monotonic() - begun
            row = {
                "epoch": epoch + 1,
                "step": done.step,
                "lr": rate,
                "loss": loss_sum / seen,
                "accuracy": correct / seen,
            }
            row |= {"images_per_s": round(seen / max(seconds, 1e-9), 1), "seconds": round(seconds, 3)}
            done.history.append(row)
            begun = time.monotonic()
            meter.sums.zero_()
            save()
        if world > 1:  # each process has batch statistics of its own; the saved ones are the main process's
            broadcast(list(model.buffers()))
    finally:
        bar.close()
        for name in ("forward", "_original_forward"):  # what mixed precision left on the model
            if name not in own:
                vars(model).pop(name, None)
        accelerator.free_memory()
    return done.history


def _groups(model: nn.Module, weight_decay: float, scales: Mapping[nn.Parameter, float]) -> list[dict[str, Any]]:
    """Cut timm's parameter groups, with and without weight decay, by the factor on the learning rate."""
    groups = []
    for group in param_groups_weight_decay(model, weight_decay):
        for scale in sorted({scales.get(p, 1.0) for p in group["params"]}):
            chosen = [p for p in group["params"] if scales.get(p, 1.0) == scale]
            groups.append({**group, "params": chosen, "lr_scale": scale})
    return groups


class _Meter:
    """Loss, correct answers and images of an epoch, kept on the device so that no step waits for it."""

    def __init__(self, accelerator: Accelerator, done: Progress) -> None:
        self.accelerator = accelerator
        kind: Any = {"device": accelerator.device}
        kind["dtype"] = torch.float32 if accelerator.device.type == "mps" else torch.float64
        saved = [done.loss, done.correct, done.seen] if accelerator.is_main_process else [0.0, 0.0, 0.0]
        self.sums = torch.tensor(saved, **kind)  # of this process
        self.first = torch.full((1,), -1, dtype=torch.int64, device=accelerator.device)  # step that is not finite

    def add(self, step: int, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Count a batch; its loss is the mean over its images."""
        size, dtype = len(labels), self.sums.dtype
        right = (logits.argmax(1) == labels).sum()
        self.sums += torch.stack([loss.to(dtype) * size, right.to(dtype), torch.full_like(loss, size)])
        self.look(step, loss.isfinite())

    def look(self, step: int, finite: Tensor) -> None:
        """Remember the step if it is the first that is not finite."""
        self.first = torch.where((self.first < 0) & ~finite, step, self.first)

    def bad(self) -> int | None:
        """Give the first step that was not finite in any process, if there is one."""
        return min((s for s in self.accelerator.gather(self.first).tolist() if s >= 0), default=None)

    def total(self) -> list[float]:
        """Add up loss, correct and seen of all processes."""
        sums: list[float] = self.accelerator.reduce(self.sums, "sum").tolist()
        return sums

    def figures(self, images: int, since: float) -> dict[str, str]:
        """Word the progress bar: means of this process, and the speed of images since a time."""
        loss, correct, seen = self.sums.tolist()
        speed = images / max(time.monotonic() - since, 1e-9)
        return {"loss": f"{loss / seen:.3f}", "accuracy": f"{correct / seen:.3f}", "images/s": f"{speed:.0f}"}


def _batches(
    data: ImageData, batches: list[list[int]], options: Options, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (uint8 images, labels) on the device; workers read whole batches."""
    source: Any = DataLoader(
        batches,  # type: ignore[arg-type]
        batch_size=None,
        collate_fn=data.batch,
        num_workers=options.num_workers,
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),
    )
    for images, labels in source:
        yield images.to(device, non_blocking=True), labels.to(device, non_blocking=True)


def _finite(model: nn.Module) -> Tensor:
    values = [v.detach().isfinite().all() for v in model.state_dict().values() if v.is_floating_point()]
    return torch.stack(values).all()
