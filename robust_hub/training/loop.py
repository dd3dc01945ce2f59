"""The one loop: a training with one learning rate; order, schedule, mixed precision, exact resume.

Everything random in a step is a function of (seed, step, process), and every epoch's order of (seed, epoch). A training
that was killed therefore continues exactly where its last saved state stands, and nothing random has to be saved.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from timm.optim import create_optimizer_v2, param_groups_weight_decay  # type: ignore[attr-defined]
from torch import Tensor, nn
from torch.nn import functional

from robust_hub.images.augment import crop_flip
from robust_hub.images.data import ImageData
from robust_hub.images.pixels import normalize
from robust_hub.images.views import to_size
from robust_hub.memory import batch_in_memory
from robust_hub.models.logits import logits_of
from robust_hub.training.compilation import compiled
from robust_hub.training.feed import batches_of, near, views_of
from robust_hub.training.monitor import Monitor
from robust_hub.training.muon import batch_muon
from robust_hub.training.options import Options
from robust_hub.training.schedule import epoch_batches, learning_rate_at, seed_modules, seed_of
from robust_hub.training.state import Keeper

Corrupt = Callable[[Tensor, torch.Generator], Tensor]
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}  # of mixed precision


@dataclass(frozen=True)
class Job:
    """What is trained, the same for every learning rate that is tried.

    Attributes:
        model: The classifier; trained in place.
        corrupt: Changes a batch before normalisation, as in `robust_hub.training.train.train`.
        trained: The parameters that are trained; modules without one of them stay in eval mode. None: all.
        scales: Factors on the learning rate of some parameters; 1 for all others.
        memory: Memory format of images and weights.
    """

    model: nn.Module
    corrupt: Corrupt | None = None
    trained: set[nn.Parameter] | None = None
    scales: Mapping[nn.Parameter, float] | None = None
    memory: torch.memory_format = torch.channels_last


def train_at(
    job: Job, data: ImageData, options: Options, learning_rate: float, folder: Path | None
) -> list[dict[str, Any]]:
    """Train with one learning rate, from the newest state in the folder if there is one.

    Args:
        job: What is trained.
        data: The training data.
        options: How to train.
        learning_rate: The peak learning rate.
        folder: Where log and state are kept. None keeps nothing.

    Returns:
        The history, one row per epoch.

    Raises:
        MemoryError: If memory does not hold a batch, with the size to take.
        FloatingPointError: If the loss or a weight is no longer finite; the last good state stays in the folder.
        ValueError: If the folder cannot be written or its state is damaged.
    """
    loop = _Loop(job, data, options, learning_rate, folder)
    try:
        with compiled(job.model, options.compile):
            loop.train()
    finally:
        loop.close()
    return loop.monitor.done.history


class _Loop:
    """One training while it runs."""

    def __init__(self, job: Job, data: ImageData, options: Options, learning_rate: float, folder: Path | None) -> None:
        self.job, self.options, self.learning_rate = job, options, learning_rate
        self.accelerator = accelerator = make_accelerator()
        self.rank, self.world, self.device = accelerator.process_index, accelerator.num_processes, accelerator.device
        job.model.to(memory_format=job.memory)
        self.optimizer = _optimizer(job, options, learning_rate)
        self.network, _ = accelerator.prepare(job.model, self.optimizer)  # a state is saved with what was prepared
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=options.mixed_precision == "fp16")
        if self.scaler.is_enabled():
            accelerator.register_for_checkpointing(self.scaler)
        _set_modes(job, self.network)
        self.data = views_of(near(data, options, self.device), options)
        self.per_epoch = len(epoch_batches(len(self.data), options.batch_size, options.seed, 0, self.rank, self.world))
        self.total = options.epochs * self.per_epoch
        share = min(10, options.epochs / 10) / options.epochs if options.warmup is None else options.warmup
        self.warmup_steps = round(share * self.total)
        self.generator = torch.Generator(device=self.device)
        self.monitor = Monitor(
            accelerator,
            Keeper(accelerator, folder),
            job.model,
            options,
            total=self.total,
            per_epoch=self.per_epoch,
            learning_rate=learning_rate,
            rate_at=self.rate_at,
            passes=3 if job.trained is None else 1,
        )

    def rate_at(self, step: int) -> float:
        """Give the learning rate of a step."""
        return learning_rate_at(step, self.total, self.warmup_steps, self.learning_rate)

    def train(self) -> None:
        """Train the epochs that are left."""
        options, done = self.options, self.monitor.done
        for epoch in range(done.step // self.per_epoch, options.epochs):
            batches = epoch_batches(len(self.data), options.batch_size, options.seed, epoch, self.rank, self.world)
            self.monitor.begin()
            left = batches[done.step - epoch * self.per_epoch :]
            for images, labels in batches_of(self.data, left, options, self.device):
                with batch_in_memory(len(images)):
                    self.step(images, labels)
            self.monitor.end_epoch(epoch, self.rate_at(done.step - 1))
        if self.world > 1:  # each process has batch statistics of its own; the saved ones are the main process's
            broadcast(list(self.job.model.buffers()))

    def step(self, images: Tensor, labels: Tensor) -> None:
        """Take one step on a batch, uint8 (B, C, H, W) and its labels (B,)."""
        options, step = self.options, self.monitor.done.step
        seed = seed_of(options.seed, "step", step, self.rank)
        self.generator.manual_seed(seed)
        seed_modules(seed, self.device)
        rate = self.rate_at(step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)
        inputs = network_input(images, options, self.job, self.generator, augment=options.augment)
        with autocast(self.device, options.mixed_precision):
            logits = logits_of(self.network(inputs))
        loss = functional.cross_entropy(logits.float(), labels, label_smoothing=options.label_smoothing)
        torch.autograd.backward(self.scaler.scale(loss))
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        self.monitor.stepped(inputs, loss.detach(), logits.detach(), labels)

    def close(self) -> None:
        """Close the progress bar and give memory back."""
        self.monitor.close()
        self.accelerator.free_memory()


def make_accelerator() -> Accelerator:
    """Make Accelerate's handle on devices and processes; mixed precision is the loop's own.

    Raises:
        ValueError: If the process has an Accelerator with a mixed precision already.
    """
    try:
        return Accelerator(mixed_precision="no", cpu=not torch.accelerator.is_available())
    except ValueError as error:
        raise ValueError(
            f"expected a process whose Accelerator has no mixed precision of its own, got another ({error}): create "
            "yours with mixed_precision='no' and pass mixed_precision to the training"
        ) from None


def autocast(device: torch.device, mixed_precision: str) -> contextlib.AbstractContextManager[Any]:
    """Compute in mixed precision, "bf16" or "fp16"; with "no", in the types that there are."""
    if mixed_precision == "no":
        return contextlib.nullcontext()
    return torch.autocast(device.type, DTYPES[mixed_precision])


def network_input(images: Tensor, options: Options, job: Job, generator: torch.Generator, *, augment: bool) -> Tensor:
    """Turn uint8 images (B, C, H, W) into the network's input: to its size, crop and flip, corrupt, normalise."""
    images = to_size(images, options.view_size, generator if augment else None)
    if augment:
        images = crop_flip(images, generator)
    pixels = images.float() / 255.0
    if job.corrupt is not None:
        pixels = job.corrupt(pixels, generator)
    return normalize(pixels, options.mean, options.std).contiguous(memory_format=job.memory)


def _optimizer(job: Job, options: Options, learning_rate: float) -> torch.optim.Optimizer:
    optimizer: torch.optim.Optimizer = create_optimizer_v2(
        _groups(job.model, options.weight_decay, job.scales) if job.scales else job.model,
        opt="momentum" if options.optimizer == "sgd" and options.momentum == 0 else options.optimizer,
        lr=learning_rate,
        weight_decay=options.weight_decay,
        momentum=options.momentum,
    )
    return batch_muon(optimizer)


def _set_modes(job: Job, network: nn.Module) -> None:
    """Put the network in training mode, but for modules none of whose parameters is trained."""
    network.train()
    if job.trained is not None:
        for module in job.model.modules():
            if not any(p in job.trained for p in module.parameters()):
                module.eval()


def _groups(model: nn.Module, weight_decay: float, scales: Mapping[nn.Parameter, float]) -> list[dict[str, Any]]:
    """Cut timm's parameter groups, with and without weight decay, by the factor on the learning rate."""
    groups = []
    for group in param_groups_weight_decay(model, weight_decay):
        for scale in sorted({scales.get(p, 1.0) for p in group["params"]}):
            chosen = [p for p in group["params"] if scales.get(p, 1.0) == scale]
            groups.append({**group, "params": chosen, "lr_scale": scale})
    return groups
