"""The one loop: a run with one learning rate; order, schedule, mixed precision, exact resume.

Everything random in a step is a function of (seed, step, process), and every epoch's order of (seed, epoch). A run that
was killed therefore continues exactly where its last saved state stands, and nothing random has to be saved.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
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
from robust_hub.schedule import Options, epoch_batches, learning_rate_at, seed_of
from robust_hub.speed import Speedometer
from robust_hub.state import Keeper, Progress

Corrupt = Callable[[Tensor, torch.Generator], Tensor]

_CHECK_EVERY = 50  # steps between two looks at the loss on an accelerator; each look waits for the device
_SHOW_EVERY = 20  # steps between two refreshes of the progress bar's figures


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

    data = _near(data, options, device)
    per_epoch = len(epoch_batches(len(data), options.batch_size, options.seed, 0, rank, world))
    total = options.epochs * per_epoch
    share = min(10, options.epochs / 10) / options.epochs if options.warmup is None else options.warmup
    warmup_steps = round(share * total)

    keeper = Keeper(accelerator, folder)
    done = keeper.resume()
    meter = _Meter(accelerator, done)
    generator = torch.Generator(device=device)
    begun = time.monotonic() - done.seconds
    speed = Speedometer(
        folder if accelerator.is_main_process else None,
        model,
        precision=options.mixed_precision,
        passes=3 if trained is None else 1,
        processes=world,
    )

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
                speed.add(inputs, last=done.step % per_epoch == 0)
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


def _near(data: ImageData, options: Options, device: torch.device) -> ImageData:
    """Put the images on the accelerator if they take no more than a quarter of its free memory."""
    if device.type != "cuda" or options.num_workers or not data.in_memory:
        return data
    free, _ = torch.cuda.mem_get_info(device)
    return data.to(device) if len(data) * math.prod(data.image_shape) <= free // 4 else data


def _batches(
    data: ImageData, batches: list[list[int]], options: Options, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (uint8 images, labels) on the device; workers read whole batches."""
    source: Any = DataLoader(
        batches,  # type: ignore[arg-type]
        batch_size=None,
        collate_fn=data.batch,
        num_workers=options.num_workers,
        pin_memory=device.type == "cuda" and data.device.type == "cpu",
        generator=torch.Generator(),
    )
    for images, labels in source:
        yield images.to(device, non_blocking=True), labels.to(device, non_blocking=True)


def _finite(model: nn.Module) -> Tensor:
    values = [v.detach().isfinite().all() for v in model.state_dict().values() if v.is_floating_point()]
    return torch.stack(values).all()
