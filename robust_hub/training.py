"""The one training loop: schedule, mixed precision, Accelerate, exact save and resume.

Everything random in a step is a function of (seed, step, process), and every epoch's order of (seed, epoch). A run that
was killed therefore continues exactly where its last saved state stands, and nothing random has to be saved.

Files of a run's folder::

    settings.json     what the run is; a resume compares it
    log.jsonl         one row per finished epoch
    state/step-N/     the newest state: weights, optimizer, progress.json
    result.json       written at the end of a run that chooses among learning rates, in each of its lr-* folders
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from filelock import FileLock, Timeout
from timm.optim import create_optimizer_v2  # type: ignore[attr-defined]
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from robust_hub.checkpoint import save_checkpoint
from robust_hub.data import ImageData, crop_flip, holdout_split
from robust_hub.pixels import mean_std, normalize

Corrupt = Callable[[Tensor, torch.Generator], Tensor]

SETTINGS, LOG, STATE, RESULT, PROGRESS, LOCK = (
    "settings.json",
    "log.jsonl",
    "state",
    "result.json",
    "progress.json",
    ".lock",
)
RUN = "training"  # the run's folder inside the folder of its checkpoint
_CHECK_EVERY = 50  # steps between two looks at the loss on an accelerator; each look waits for the device
_SHOW_EVERY = 20  # steps between two refreshes of the progress bar's figures


@dataclass(frozen=True)
class TrainResult:
    """What a training run gives back.

    Attributes:
        model: The model that was passed in, trained, in eval mode.
        folder: Where the run's log and state lie; None if nothing was written.
        history: One row per epoch: epoch, step, lr, loss, accuracy, images_per_s, seconds.
        learning_rate: The peak learning rate, the chosen one if there were several.
        accuracy: Accuracy on the held-out part of the training data; None if nothing was held out.
    """

    model: nn.Module
    folder: Path | None
    history: tuple[dict[str, Any], ...]
    learning_rate: float
    accuracy: float | None


@dataclass
class _Progress:
    """How far a run is; everything of a state that is neither weights nor optimizer."""

    step: int = 0
    loss: float = 0.0  # sums over the images of the running epoch
    correct: float = 0.0
    seen: float = 0.0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class _Options:
    """The options of one run with one learning rate."""

    epochs: int
    learning_rate: float
    batch_size: int
    momentum: float
    weight_decay: float
    optimizer: str
    label_smoothing: float
    warmup: float | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: bool
    save_every: float
    seed: int
    mixed_precision: str
    num_workers: int
    progress: bool


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
    order = torch.randperm(count, generator=torch.Generator().manual_seed(_hash(seed, "epoch", epoch))).tolist()
    steps = count // (size * world)
    return [order[(t * world + rank) * size : (t * world + rank + 1) * size] for t in range(steps)]


def check_out(model: nn.Module, out: str | os.PathLike[str] | None, options: Mapping[str, Any]) -> Path | None:
    """Give the folder of the run for a job whose checkpoint goes to `out`.

    Args:
        model: The model to be trained.
        out: The checkpoint's folder: new, empty, or of the same job. None: nothing is written.
        options: The job's options, which may not name a folder of their own.

    Raises:
        ValueError: If out holds something else, the model cannot be written as a checkpoint, or options name a folder.
    """
    taken = {"folder", "corrupt", "identity", "parameters"} & options.keys()
    if taken:
        raise ValueError(
            f"expected options of training, got {', '.join(sorted(taken))}, which this job sets: leave out"
        )
    if out is None:
        return None
    if not (getattr(model, "pretrained_cfg", None) or {}).get("architecture"):
        raise ValueError(
            f"expected a model of timm.create_model, got {type(model).__name__}, which timm cannot make again by name: "
            "leave out `out` and save its state_dict yourself"
        )
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise ValueError(f"expected a folder, got the file {out}: choose another one")
    if out.exists() and any(out.iterdir()) and not (out / RUN).is_dir():
        raise ValueError(f"expected a new or empty folder or a training run, got {out}: choose another one")
    return out / RUN


def write_checkpoint(
    model: nn.Module,
    data: ImageData,
    result: TrainResult,
    out: str | os.PathLike[str] | None,
    settings: Mapping[str, Any],
) -> None:
    """Write the checkpoint of a finished job, with what made it as its recipe; without `out` do nothing.

    Args:
        model: The trained model.
        data: What it was trained on.
        result: Its run.
        out: The checkpoint's folder.
        settings: The job's settings, JSON values.
    """
    if out is None:
        return
    accelerator = PartialState()
    if accelerator.is_main_process:
        unsaid = ("save_every", "num_workers", "progress", "learning_rate")
        recipe = {k: v for k, v in settings.items() if k not in unsaid}
        recipe |= {"learning_rate": result.learning_rate, "held_out_accuracy": result.accuracy}
        recipe |= {
            "data": data.name,
            "split": data.split,
            "images": len(data),
            "fingerprint": data.fingerprint,
        }
        recipe |= {"history": list(result.history)}
        save_checkpoint(model, Path(out), recipe=recipe)
    accelerator.wait_for_everyone()


def train(
    model: nn.Module,
    data: ImageData,
    *,
    epochs: int,
    corrupt: Corrupt | None = None,
    learning_rate: float | Sequence[float] = 0.1,
    batch_size: int = 128,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    optimizer: str = "sgd",
    label_smoothing: float = 0.0,
    warmup: float | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    augment: bool = True,
    parameters: Iterable[nn.Parameter] | None = None,
    holdout: float = 0.1,
    folder: str | os.PathLike[str] | None = None,
    save_every: float = 60.0,
    seed: int = 0,
    mixed_precision: str = "no",
    num_workers: int = 0,
    progress: bool = True,
    identity: Mapping[str, Any] | None = None,
) -> TrainResult:
    """Train a classifier in place.

    The same call with the same folder continues a run that was interrupted, from its last saved state; on the CPU the
    result equals that of an uninterrupted run bit for bit. A finished run gives its result at once. Under
    `accelerate launch` each process trains on its own share.

    Args:
        model: A classifier: normalised images (B, C, H, W) to logits (B, K).
        data: The training data.
        epochs: Passes over the data.
        corrupt: Changes a batch before normalisation: float32 (B, C, H, W) in [0, 1] and a generator on the same
            device to a tensor of that shape. None trains on the images as they are.
        learning_rate: The peak learning rate. Of several, each is tried on a part of the data, the one with the best
            accuracy on the rest is kept (the model is not trained again on all data).
        batch_size: Images per step and process.
        momentum: Momentum of the optimizer.
        weight_decay: Weight decay; normalisation layers and biases have none.
        optimizer: A name of timm's optimizers; "sgd" is SGD with Nesterov momentum.
        label_smoothing: Label smoothing of the cross entropy, in [0, 1).
        warmup: Share of the steps for the linear warm-up, in [0, 1]. None: 10 epochs, or the first tenth of a run of
            fewer than 100.
        mean: Mean per channel, [0, 1] pixel units. None: from the model's pretrained_cfg.
        std: Standard deviation per channel, likewise.
        augment: Whether to crop and flip at random.
        parameters: The only parameters to train; modules without one of them stay in eval mode. None: all.
        holdout: Share of the data that judges the learning rates; unused for a single one.
        folder: Where log and state are kept. None keeps nothing.
        save_every: Seconds between two saved states; every epoch's end saves one as well.
        seed: Seed of order, augmentation, corruption and dropout.
        mixed_precision: "no", "bf16" or "fp16".
        num_workers: Processes that read batches; 0 reads in this one.
        progress: Whether to show a progress bar.
        identity: Further settings, JSON values, that a resumed run must share.

    Raises:
        ValueError: If an option is outside its range, the model has fewer outputs than the data classes, or the
            folder holds something else, another run, or cannot be written.
        FloatingPointError: If the loss is no longer finite (of several learning rates: for all of them). The last
            good state stays in the folder.
    """
    rates = _checked_rates(learning_rate)
    mean, std = mean_std(model, None if mean is None else tuple(mean), None if std is None else tuple(std))
    options = _Options(
        epochs=epochs,
        learning_rate=rates[0],
        batch_size=batch_size,
        momentum=momentum,
        weight_decay=weight_decay,
        optimizer=optimizer,
        label_smoothing=label_smoothing,
        warmup=warmup,
        mean=mean,
        std=std,
        augment=augment,
        save_every=save_every,
        seed=seed,
        mixed_precision=mixed_precision,
        num_workers=num_workers,
        progress=progress,
    )
    _check_options(options, holdout, data)
    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != mixed_precision:
        AcceleratorState._reset_state()  # a process-wide singleton that remembers the precision of an earlier run
    accelerator = Accelerator(mixed_precision=mixed_precision)
    _check_outputs(model, data)

    settings = {k: v for k, v in asdict(options).items() if k not in ("save_every", "num_workers", "progress")}
    settings |= {"learning_rate": list(rates), "holdout": holdout if len(rates) > 1 else None}
    settings |= {
        "data": data.fingerprint,
        "images": len(data),
        "model": _signature(model),
        "identity": identity,
    }
    settings |= {"processes": accelerator.num_processes}
    folder = None if folder is None else Path(folder)

    main = accelerator.is_main_process
    devices = [accelerator.device] if accelerator.device.type == "cuda" else []
    with (
        _claimed(folder, settings) if folder is not None and main else nullcontext(),
        torch.random.fork_rng(devices=devices),
        _only(model, parameters) as trained,
    ):
        accelerator.wait_for_everyone()
        if len(rates) == 1:
            history = _run(model, data, options, corrupt, trained, folder)
            rate, accuracy = rates[0], None
        else:
            history, rate, accuracy = _choose(model, data, options, rates, holdout, corrupt, trained, folder)
    model.to(memory_format=torch.contiguous_format)
    model.eval()
    return TrainResult(model, folder, tuple(history), rate, accuracy)


def _choose(
    model: nn.Module,
    data: ImageData,
    options: _Options,
    rates: Sequence[float],
    holdout: float,
    corrupt: Corrupt | None,
    trained: set[nn.Parameter] | None,
    folder: Path | None,
) -> tuple[list[dict[str, Any]], float, float]:
    """Train once per learning rate and leave the weights of the best in the model."""
    part, held = holdout_split(data, holdout, options.seed)
    initial = copy.deepcopy(model.state_dict())
    best: tuple[float, float, list[dict[str, Any]], dict[str, Tensor]] | None = None
    last: FloatingPointError | None = None
    for rate in rates:
        model.load_state_dict(initial)
        place = None if folder is None else folder / f"lr-{rate:g}"
        result = place / RESULT if place is not None else None
        known = json.loads(result.read_text()) if result is not None and result.exists() else {}
        try:
            if "diverged" in known:
                raise FloatingPointError(known["diverged"])
            history = _run(model, part, _with_rate(options, rate), corrupt, trained, place)
        except FloatingPointError as error:
            warnings.warn(f"learning rate {rate:g} is left out: {error}", stacklevel=3)
            last = error
            _write_result(result, {"learning_rate": rate, "diverged": str(error)})
            continue
        accuracy = known["accuracy"] if "accuracy" in known else _accuracy(model, held, options, corrupt)
        _write_result(result, {"learning_rate": rate, "accuracy": accuracy, "held_out_images": len(held)})
        if best is None or accuracy > best[0]:
            best = (
                accuracy,
                rate,
                history,
                {k: v.detach().cpu().clone() for k, v in model.state_dict().items()},
            )
    if best is None:
        tried = ", ".join(f"{rate:g}" for rate in rates)
        raise FloatingPointError(f"training diverged at every learning rate ({tried}): try smaller ones") from last
    accuracy, rate, history, weights = best
    model.load_state_dict(weights)
    return history, rate, accuracy


def _run(
    model: nn.Module,
    data: ImageData,
    options: _Options,
    corrupt: Corrupt | None,
    trained: set[nn.Parameter] | None,
    folder: Path | None,
) -> list[dict[str, Any]]:
    """Train with one learning rate, from the newest state in the folder if there is one; give the history."""
    accelerator = Accelerator(mixed_precision=options.mixed_precision)
    rank, world, device = accelerator.process_index, accelerator.num_processes, accelerator.device
    own = set(vars(model))
    model.to(memory_format=torch.channels_last)
    optimizer = create_optimizer_v2(
        model,
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

    keeper = _Keeper(accelerator, folder, model)
    done = keeper.resume()
    dtype = torch.float32 if device.type == "mps" else torch.float64
    sums = torch.zeros(3, dtype=dtype, device=device)  # loss, correct, seen: of this process, in this epoch
    if rank == 0:
        sums += torch.tensor([done.loss, done.correct, done.seen], dtype=dtype, device=device)
    bad_step = torch.full((), -1, dtype=torch.int64, device=device)  # the first step whose loss is not finite
    generator = torch.Generator(device=device)
    mark, saved = time.monotonic(), time.monotonic()
    every = 1 if world == 1 else _SHOW_EVERY

    def check() -> None:
        first = accelerator.gather(bad_step.reshape(1)).tolist()
        bad = min((s for s in first if s >= 0), default=None)
        if bad is not None:
            rate = learning_rate_at(bad, total, warmup_steps, options.learning_rate)
            raise FloatingPointError(_diverged(bad, rate, keeper.newest()))

    def save(step: int) -> None:
        nonlocal mark, saved
        check()
        if not _finite(model):
            rate = learning_rate_at(step - 1, total, warmup_steps, options.learning_rate)
            raise FloatingPointError(_diverged(step - 1, rate, keeper.newest()))
        done.loss, done.correct, done.seen = accelerator.reduce(sums, "sum").tolist()
        now = time.monotonic()
        done.seconds += now - mark
        mark = now
        keeper.save(done)
        saved = time.monotonic()

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
            size = len(batches[0])
            shown = (time.monotonic(), done.step)
            for images, labels in _batches(data, batches[done.step - epoch * per_epoch :], options, device):
                step = done.step
                seed = _hash(options.seed, "step", step, rank)
                generator.manual_seed(seed)
                torch.manual_seed(seed)
                rate = learning_rate_at(step, total, warmup_steps, options.learning_rate)
                for group in optimizer.param_groups:
                    group["lr"] = rate * group.get("lr_scale", 1.0)
                inputs = _prepare(images, options, corrupt, generator, augment=options.augment)
                with accelerator.autocast():
                    logits = network(inputs)
                loss = functional.cross_entropy(logits.float(), labels, label_smoothing=options.label_smoothing)
                accelerator.backward(loss)
                optimizer.step()
                optimizer.zero_grad()
                with torch.no_grad():
                    right = (logits.argmax(1) == labels).sum()
                    value = loss.detach()
                    sums += torch.stack([value.to(dtype) * size, right.to(dtype), torch.full_like(value, size)])
                    bad_step = torch.where((bad_step < 0) & ~value.isfinite(), step, bad_step)
                done.step = step + 1
                bar.update()
                if (world == 1 and device.type == "cpu") or done.step % _CHECK_EVERY == 0:
                    check()
                if not bar.disable and done.step % _SHOW_EVERY == 0:
                    bar.set_postfix(_figures(sums, shown, done.step, size * world), refresh=False)
                    shown = (time.monotonic(), done.step)
                if folder is not None and done.step % per_epoch and done.step % every == 0:
                    due = torch.tensor(float(time.monotonic() - saved >= options.save_every), device=device)
                    if (due if world == 1 else accelerator.reduce(due, "sum")).item() > 0:
                        save(done.step)
            check()
            loss_sum, correct, seen = accelerator.reduce(sums, "sum").tolist()
            sums.zero_()
            seconds = done.seconds + time.monotonic() - mark
            done.history.append(
                {
                    "epoch": epoch + 1,
                    "step": done.step,
                    "lr": rate,
                    "loss": loss_sum / seen,
                    "accuracy": correct / seen,
                    "images_per_s": round(seen / max(seconds, 1e-9), 1),
                    "seconds": round(seconds, 3),
                }
            )
            mark, done.seconds = time.monotonic(), 0.0
            save(done.step)
            done.seconds = 0.0
    finally:
        bar.close()
        for name in ("forward", "_original_forward"):  # what mixed precision left on the model
            if name not in own:
                vars(model).pop(name, None)
        accelerator.free_memory()
    return done.history


class _Keeper:
    """Save and load the state of a run; the newest state only, never a half-written one."""

    def __init__(self, accelerator: Accelerator, folder: Path | None, model: nn.Module) -> None:
        self.accelerator = accelerator
        self.folder = folder
        self.model = model

    def newest(self) -> Path | None:
        """Give the folder of the newest whole state."""
        if self.folder is None:
            return None
        found = [p for p in (self.folder / STATE).glob("step-*") if (p / PROGRESS).exists()]
        return max(found, key=lambda p: int(p.name[5:]), default=None)

    def resume(self) -> _Progress:
        """Load the newest state, if there is one, and bring the log to it."""
        newest = self.newest()
        if newest is None:
            done = _Progress()
        else:
            self.accelerator.load_state(str(newest))
            done = _Progress(**json.loads((newest / PROGRESS).read_text()))
        if self.accelerator.is_main_process:
            self._log(done)
        self.accelerator.wait_for_everyone()
        return done

    def save(self, done: _Progress) -> None:
        """Write the state beside the old one, put it in place by a rename, and remove the old one."""
        if self.folder is None:
            return
        states = self.folder / STATE
        fresh, target = states / "saving", states / f"step-{done.step}"
        main = self.accelerator.is_main_process
        if main:
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(parents=True)
        self.accelerator.wait_for_everyone()
        self.accelerator.save_state(str(fresh))
        self.accelerator.wait_for_everyone()
        if main:
            (fresh / PROGRESS).write_text(json.dumps(asdict(done)))
            shutil.rmtree(target, ignore_errors=True)
            os.replace(fresh, target)
            for old in states.glob("step-*"):
                if old != target:
                    shutil.rmtree(old, ignore_errors=True)
            self._log(done)
        self.accelerator.wait_for_everyone()

    def _log(self, done: _Progress) -> None:
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            _write(self.folder / LOG, "".join(json.dumps(row) + "\n" for row in done.history))


class _Batches(Dataset[tuple[Tensor, Tensor]]):
    """Batches by index, so that a DataLoader's workers read whole batches."""

    def __init__(self, data: ImageData, batches: list[list[int]]) -> None:
        self.data = data
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.data.batch(self.batches[index])


def _batches(
    data: ImageData, batches: list[list[int]], options: _Options, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (uint8 images, labels) on the device."""
    source: Iterable[tuple[Tensor, Tensor]]
    if options.num_workers:
        source = DataLoader(
            _Batches(data, batches),
            batch_size=None,
            num_workers=options.num_workers,
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),
        )
    else:
        source = (data.batch(batch) for batch in batches)
    for images, labels in source:
        yield images.to(device, non_blocking=True), labels.to(device, non_blocking=True)


def _prepare(
    images: Tensor, options: _Options, corrupt: Corrupt | None, generator: torch.Generator, *, augment: bool
) -> Tensor:
    """Turn uint8 images (B, C, H, W) into the network's input."""
    if augment:
        images = crop_flip(images, generator)
    pixels = images.float() / 255.0
    if corrupt is not None:
        pixels = corrupt(pixels, generator)
    return normalize(pixels, options.mean, options.std).contiguous(memory_format=torch.channels_last)


def _accuracy(model: nn.Module, data: ImageData, options: _Options, corrupt: Corrupt | None) -> float:
    """Give the accuracy on data under the corruption of training, with noise that is the same for every call."""
    accelerator = Accelerator(mixed_precision=options.mixed_precision)
    device, world = accelerator.device, accelerator.num_processes
    order = list(range(len(data)))
    batches = [order[i : i + options.batch_size] for i in range(0, len(order), options.batch_size)]
    right = torch.zeros((), dtype=torch.int64, device=device)
    model.eval()
    for index in range(accelerator.process_index, len(batches), world):
        images, labels = data.batch(batches[index])
        generator = torch.Generator(device=device).manual_seed(_hash(options.seed, "held-out", index))
        inputs = _prepare(images.to(device), options, corrupt, generator, augment=False)
        with torch.no_grad(), accelerator.autocast():
            right += (model(inputs).argmax(1) == labels.to(device)).sum()
    return float(accelerator.reduce(right, "sum").item()) / len(data)


def _figures(sums: Tensor, shown: tuple[float, int], step: int, images: int) -> dict[str, str]:
    loss, correct, seen = sums.tolist()
    speed = (step - shown[1]) * images / max(time.monotonic() - shown[0], 1e-9)
    return {"loss": f"{loss / seen:.3f}", "accuracy": f"{correct / seen:.3f}", "images/s": f"{speed:.0f}"}


def _diverged(step: int, rate: float, newest: Path | None) -> str:
    kept = "no state was saved yet" if newest is None else f"the last good state is kept in {newest}"
    return (
        f"expected a finite loss, got one that is not at step {step} (learning rate {rate:.3g}); {kept}: "
        "start again in a new folder with a smaller learning rate"
    )


def _finite(model: nn.Module) -> bool:
    values = [v.detach().isfinite().all() for v in model.state_dict().values() if v.is_floating_point()]
    return bool(torch.stack(values).all().item())


@contextmanager
def _only(model: nn.Module, parameters: Iterable[nn.Parameter] | None) -> Iterator[set[nn.Parameter] | None]:
    """Let only some parameters need a gradient, and restore what was before."""
    if parameters is None:
        yield None
        return
    trained = set(parameters)
    before = [(p, p.requires_grad) for p in model.parameters()]
    if not trained or not trained <= {p for p, _ in before}:
        raise ValueError(
            f"expected parameters of the model, got {len(trained)} of which "
            f"{len(trained - {p for p, _ in before})} are not its own: pass some of model.parameters()"
        )
    for parameter, _ in before:
        parameter.requires_grad_(parameter in trained)
    try:
        yield trained
    finally:
        for parameter, needed in before:
            parameter.requires_grad_(needed)
            parameter.grad = None


@contextmanager
def _claimed(folder: Path, settings: Mapping[str, Any]) -> Iterator[None]:
    """Hold the folder for this run: it is new, empty, or holds the same run."""
    wanted = json.loads(json.dumps(settings))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK, timeout=0)
        lock.acquire()
    except Timeout:
        raise ValueError(f"expected a folder of no other run, got {folder}, where another one is at work") from None
    except OSError as error:
        raise ValueError(f"expected a folder that can be written, got {folder} ({error})") from error
    try:
        path = folder / SETTINGS
        if path.exists():
            try:
                found = json.loads(path.read_text())
            except ValueError as error:
                raise ValueError(
                    f"expected settings of a run in {path}, got a damaged file: remove {folder}"
                ) from error
            other = sorted(k for k in wanted.keys() | found.keys() if wanted.get(k) != found.get(k))
            if other:
                told = "; ".join(f"{k} was {_short(found.get(k))}, is now {_short(wanted.get(k))}" for k in other)
                raise ValueError(
                    f"expected the settings of the run in {folder}, got others ({told}): "
                    "use the same settings to resume it, or a new folder"
                )
        elif any(p.name != LOCK for p in folder.iterdir()):
            raise ValueError(f"expected a new or empty folder or a training run, got {folder}: choose another one")
        else:
            try:
                _write(path, json.dumps(wanted, indent=1))
            except OSError as error:
                raise ValueError(f"expected a folder that can be written, got {folder} ({error})") from error
        yield
    finally:
        lock.release()


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(text)
    os.replace(fresh, path)


def _write_result(path: Path | None, result: Mapping[str, Any]) -> None:
    if path is not None and AcceleratorState().is_main_process:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, json.dumps(result))


def _hash(*parts: object) -> int:
    """Give a seed in [0, 2**63) that depends on all parts."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _signature(model: nn.Module) -> str:
    """Name a model by its class and the names and shapes of its weights."""
    shapes = [(name, tuple(value.shape)) for name, value in model.state_dict().items()]
    return f"{type(model).__name__} {hashlib.sha256(repr(shapes).encode()).hexdigest()[:16]}"


def _with_rate(options: _Options, rate: float) -> _Options:
    return _Options(**{**asdict(options), "learning_rate": rate})


def _checked_rates(learning_rate: float | Sequence[float]) -> tuple[float, ...]:
    rates = tuple(learning_rate) if isinstance(learning_rate, Sequence) else (learning_rate,)
    rates = tuple(float(rate) for rate in rates)
    if not rates or len(set(rates)) < len(rates) or not all(math.isfinite(rate) and rate > 0 for rate in rates):
        raise ValueError(f"expected one or several different learning rates > 0, got {learning_rate}")
    return rates


def _check_options(options: _Options, holdout: float, data: ImageData) -> None:
    ranges = {
        "epochs >= 1": options.epochs >= 1 and options.epochs == int(options.epochs),
        "batch_size >= 1": options.batch_size >= 1,
        "momentum in [0, 1)": 0 <= options.momentum < 1,
        "weight_decay >= 0": math.isfinite(options.weight_decay) and options.weight_decay >= 0,
        "label_smoothing in [0, 1)": 0 <= options.label_smoothing < 1,
        "warmup in [0, 1]": options.warmup is None or 0 <= options.warmup <= 1,
        "save_every >= 0": options.save_every >= 0,
        "num_workers >= 0": options.num_workers >= 0,
        "mixed_precision among 'no', 'bf16', 'fp16'": options.mixed_precision in ("no", "bf16", "fp16"),
    }
    for rule, holds in ranges.items():
        if not holds:
            raise ValueError(f"expected {rule}, got {getattr(options, rule.split()[0])}")
    if not 0 < holdout < 1:
        raise ValueError(f"expected holdout in (0, 1), got {holdout}")
    if len(data) < 1:
        raise ValueError("expected training data, got no image")


def _check_outputs(model: nn.Module, data: ImageData) -> None:
    """Raise unless the model takes the data's images and has an output for each of their classes."""
    was_training = [(module, module.training) for module in model.modules()]
    where = next(model.parameters()).device
    model.eval()
    try:
        with torch.no_grad():
            logits = model(torch.zeros(2, *data.image_shape, device=where))
    except RuntimeError as error:
        raise ValueError(
            f"expected a model for images {tuple(data.image_shape)}, got one that fails: {error}"
        ) from error
    finally:
        for module, mode in was_training:
            module.training = mode
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise ValueError("expected a classifier with logits (B, K), got another output: give the model a classifier")
    if logits.shape[1] < data.num_classes:
        raise ValueError(
            f"expected at least {data.num_classes} outputs, one per class of the data, got {logits.shape[1]}: "
            f"reset the classifier with model.reset_classifier({data.num_classes})"
        )
