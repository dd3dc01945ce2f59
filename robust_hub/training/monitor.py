"""What is watched of a training while it runs: loss, accuracy, finiteness, speed, when a state is saved."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from robust_hub.bars import tqdm
from robust_hub.training.options import Options
from robust_hub.training.speed import Speedometer
from robust_hub.training.state import Keeper, Progress

_READ_EVERY = 50  # steps between two looks at the loss on an accelerator; each look waits for the device
_SHOW_EVERY = 20  # steps between two refreshes of the progress bar's figures, where looks are no rarer


class Monitor:
    """Count what happens in a training, show it, stop it where it diverges, and save its state.

    Args:
        accelerator: Accelerate's handle.
        keeper: Saves and loads states; the newest one is loaded.
        model: The model, as it is saved.
        options: How it is trained.
        total: Steps of the training.
        per_epoch: Steps of an epoch.
        learning_rate: The peak learning rate.
        rate_at: Gives the learning rate of a step.
        passes: Forward passes that a step costs, for the measure of speed.

    Attributes:
        done: How far the training is.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        keeper: Keeper,
        model: nn.Module,
        options: Options,
        *,
        total: int,
        per_epoch: int,
        learning_rate: float,
        rate_at: Callable[[int], float],
        passes: int,
    ) -> None:
        self.accelerator, self.keeper, self.model, self.options = accelerator, keeper, model, options
        self.per_epoch, self.rate_at = per_epoch, rate_at
        self.alone = accelerator.num_processes == 1
        self.every = 1 if self.alone and accelerator.device.type == "cpu" else _READ_EVERY
        self.done: Progress = keeper.resume()
        self.meter = _Meter(accelerator, self.done)
        self.begun = time.monotonic() - self.done.seconds
        self.shown = self.begun, self.done.step
        self.speed = Speedometer(
            keeper.folder if accelerator.is_main_process else None,
            model,
            precision=options.mixed_precision,
            passes=passes,
            processes=accelerator.num_processes,
        )
        self.bar = tqdm(
            total=total,
            initial=self.done.step,
            unit="step",
            desc=f"lr {learning_rate:g}",
            disable=not (options.progress and accelerator.is_main_process and sys.stderr) or self.done.step >= total,
            mininterval=0.5,
        )

    def begin(self) -> None:
        """Begin, or go on with, an epoch."""
        self.shown = time.monotonic(), self.done.step

    def stepped(self, inputs: Tensor, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Take note of a finished step, check it and save a state where one is due.

        Args:
            inputs: The network's input, (B, C, H, W).
            loss: Mean loss of the batch.
            logits: The network's output, (B, K).
            labels: True classes, (B,).
        """
        self.meter.add(self.done.step, loss, logits, labels)
        self.done.step += 1
        step = self.done.step
        self.bar.update()
        self.speed.add(inputs, last=step % self.per_epoch == 0)
        if step % self.every == 0:
            self._check()
        if not self.bar.disable and step % max(_SHOW_EVERY, self.every) == 0:
            images = (step - self.shown[1]) * len(labels) * self.accelerator.num_processes
            self.bar.set_postfix(self.meter.figures(images, self.shown[0]), refresh=False)
            self.shown = time.monotonic(), step
        together = self.alone or step % self.every == 0
        within = self.keeper.folder is not None and step % self.per_epoch != 0
        if within and together and self.keeper.due(self.options.save_every):
            self._save()

    def end_epoch(self, epoch: int, learning_rate: float) -> None:
        """Write the epoch's row, with the learning rate of its last step, and save the state."""
        loss_sum, correct, seen = self.meter.total()
        seconds = time.monotonic() - self.begun
        row = {
            "epoch": epoch + 1,
            "step": self.done.step,
            "lr": learning_rate,
            "loss": loss_sum / seen,
            "accuracy": correct / seen,
            "images_per_s": round(seen / max(seconds, 1e-9), 1),
            "seconds": round(seconds, 3),
        }
        row |= {name: True for name in ("compile", "fast_norm") if getattr(self.options, name)}
        self.done.history.append(row)
        self.begun = time.monotonic()
        self.meter.clear()
        self._save()

    def close(self) -> None:
        """Close the progress bar."""
        self.bar.close()

    def _check(self) -> None:
        """Raise FloatingPointError if a step was not finite in any process."""
        self.meter.read()
        bad = self.meter.bad()
        if bad is not None:
            newest = self.keeper.newest()
            kept = "no state was saved yet" if newest is None else f"the last good state is kept in {newest}"
            raise FloatingPointError(
                f"expected a finite loss, got one that is not at step {bad} (learning rate {self.rate_at(bad):.3g}); "
                f"{kept}: start again in a new folder with a smaller learning rate"
            )

    def _save(self) -> None:
        if not _finite(self.model):
            self.meter.note(self.done.step - 1)
        self._check()
        self.done.loss, self.done.correct, self.done.seen = self.meter.total()
        self.done.seconds = time.monotonic() - self.begun
        self.keeper.save(self.done)


class _Meter:
    """Loss, correct answers and images of an epoch in this process.

    What a step adds stays on the device until it is read, many steps together, so that no step waits for it.
    """

    def __init__(self, accelerator: Accelerator, done: Progress) -> None:
        self.accelerator = accelerator
        self.clear()
        if accelerator.is_main_process:
            self.loss, self.correct, self.seen = done.loss, done.correct, done.seen
        self.first: int | None = None  # step that is not finite
        self.unread: list[tuple[int, int, Tensor, Tensor]] = []  # step, images, mean loss, correct answers

    def clear(self) -> None:
        """Begin to count anew."""
        self.loss = self.correct = self.seen = 0.0

    def add(self, step: int, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Take note of a batch; its loss is the mean over its images."""
        self.unread.append((step, len(labels), loss, (logits.argmax(1) == labels).sum()))

    def read(self) -> None:
        """Wait for the device, and count the batches that were added."""
        if not self.unread:
            return
        steps, sizes, losses, correct = zip(*self.unread, strict=True)
        self.unread = []
        rows = zip(steps, sizes, torch.stack(losses).tolist(), torch.stack(correct).tolist(), strict=True)
        for step, size, loss, right in rows:
            self.loss, self.correct, self.seen = self.loss + loss * size, self.correct + right, self.seen + size
            if not math.isfinite(loss):
                self.note(step)

    def note(self, step: int) -> None:
        """Remember a step that is not finite, the earliest one."""
        self.first = step if self.first is None else min(step, self.first)

    def bad(self) -> int | None:
        """Give the first step that was not finite in any process, if there is one."""
        if self.accelerator.num_processes == 1:
            return self.first
        first = torch.tensor([-1 if self.first is None else self.first], device=self.accelerator.device)
        return min((step for step in self.accelerator.gather(first).tolist() if step >= 0), default=None)

    def total(self) -> list[float]:
        """Add up loss, correct and seen of all processes."""
        self.read()
        kind = torch.float32 if self.accelerator.device.type == "mps" else torch.float64
        sums = torch.tensor([self.loss, self.correct, self.seen], dtype=kind, device=self.accelerator.device)
        total: list[float] = self.accelerator.reduce(sums, "sum").tolist()
        return total

    def figures(self, images: int, since: float) -> dict[str, str]:
        """Word the progress bar: means of this process, as far as they were read; the speed of images since a time."""
        speed, seen = images / max(time.monotonic() - since, 1e-9), self.seen
        return {"loss": f"{self.loss / seen:.3f}", "accuracy": f"{self.correct / seen:.3f}", "images/s": f"{speed:.0f}"}


def _finite(model: nn.Module) -> bool:
    values = [v.detach().isfinite().all() for v in model.state_dict().values() if v.is_floating_point()]
    return bool(torch.stack(values).all())
