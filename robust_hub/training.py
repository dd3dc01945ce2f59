"""The public door of training: checks, the choice of the learning rate, the result and its checkpoint."""

from __future__ import annotations

import copy
import hashlib
import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from robust_hub.checkpoint import save_checkpoint
from robust_hub.data import ImageData, holdout_split
from robust_hub.loop import Corrupt, network_input, run
from robust_hub.modes import eval_mode
from robust_hub.pixels import mean_std
from robust_hub.provenance import commit, versions
from robust_hub.schedule import Options, seed_of
from robust_hub.state import claimed, read_result, write_in_main, write_result


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


def train(
    model: nn.Module,
    data: ImageData,
    *,
    corrupt: Corrupt | None = None,
    learning_rate: float | Sequence[float] = 0.1,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    parameters: Iterable[nn.Parameter] | None = None,
    scales: Mapping[nn.Parameter, float] | None = None,
    holdout: float = 0.1,
    folder: str | os.PathLike[str] | None = None,
    identity: Mapping[str, Any] | None = None,
    then: Callable[[TrainResult], None] | None = None,
    **options: Any,
) -> TrainResult:
    """Train a classifier in place.

    The same call with the same folder continues a run that was interrupted, from its last saved state; on the CPU the
    result equals that of an uninterrupted run bit for bit. A finished run gives its result at once. Under
    `accelerate launch` each process trains on its own share.

    Args:
        model: A classifier: normalised images (B, C, H, W) to logits (B, K).
        data: The training data.
        corrupt: Changes a batch before normalisation: float32 (B, C, H, W) in [0, 1] and a generator on the same
            device to a tensor of that shape. None trains on the images as they are.
        learning_rate: The peak learning rate. Of several, each is tried on a part of the data, the one with the best
            accuracy on the rest is kept (the model is not trained again on all data).
        mean: Mean per channel, [0, 1] pixel units. None: from the model's pretrained_cfg.
        std: Standard deviation per channel, likewise.
        parameters: The only parameters to train; modules without one of them stay in eval mode. None: all.
        scales: Factors on the learning rate of some parameters, a fresh classifier's for example.
        holdout: Share of the data that judges the learning rates; unused for a single one.
        folder: Where log and state are kept. None keeps nothing.
        identity: Further settings, JSON values, that a resumed run must share.
        then: Is given the result while the folder is still held, to write what belongs to the run.
        **options: `epochs`, and the further attributes of `robust_hub.loop.Options`.

    Raises:
        ValueError: If an option is outside its range, the model has fewer outputs than the data classes, or the
            folder holds something else, another run, or cannot be written.
        FloatingPointError: If the loss is no longer finite (of several learning rates: for all of them). The last
            good state stays in the folder.
    """
    rates = _checked_rates(learning_rate)
    mean, std = mean_std(model, None if mean is None else tuple(mean), None if std is None else tuple(std))
    chosen = Options(mean=mean, std=std, learning_rate=rates[0], **options)
    if not 0 < holdout < 1:
        raise ValueError(f"expected holdout in (0, 1), got {holdout}")
    if len(data) < 1:
        raise ValueError("expected training data, got no image")
    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != chosen.mixed_precision:
        AcceleratorState._reset_state()  # a process-wide singleton that remembers the precision of an earlier run
    accelerator = Accelerator(mixed_precision=chosen.mixed_precision, cpu=not torch.accelerator.is_available())
    _check_outputs(model, data)

    settings = {k: v for k, v in asdict(chosen).items() if k not in ("save_every", "num_workers", "progress")}
    settings |= {"learning_rate": list(rates), "holdout": holdout if len(rates) > 1 else None}
    settings |= {"data": data.data_hash, "images": len(data), "model": _signature(model), "identity": identity}
    settings |= {"processes": accelerator.num_processes}
    folder = None if folder is None else Path(folder)

    devices = [accelerator.device] if accelerator.device.type == "cuda" else []
    with claimed(folder, settings):
        with torch.random.fork_rng(devices=devices), _only(model, parameters) as trained:
            if len(rates) == 1:
                history = run(model, data, chosen, corrupt, trained, folder, scales)
                rate, accuracy = rates[0], None
            else:
                history, rate, accuracy = _choose(model, data, chosen, rates, holdout, corrupt, trained, folder, scales)
        model.to(memory_format=torch.contiguous_format)
        model.eval()
        result = TrainResult(model, folder, tuple(history), rate, accuracy)
        if then is not None:
            then(result)
    return result


def finish(
    model: nn.Module,
    data: ImageData,
    result: TrainResult,
    out: str | os.PathLike[str] | None,
    settings: Mapping[str, Any],
) -> None:
    """Note in a trained model how it came about, as `model.recipe`; write its checkpoint where there is a folder.

    Args:
        model: The trained model; the recipe of the weights that it started from becomes the new one's "base".
        data: What it was trained on.
        result: Its run.
        out: The checkpoint's folder; None writes nothing.
        settings: The job's settings, JSON values.

    Raises:
        ValueError: If the folder cannot be written.
    """
    unsaid = ("save_every", "num_workers", "progress", "learning_rate")
    recipe = {k: v for k, v in settings.items() if k not in unsaid}
    recipe |= {"learning_rate": result.learning_rate, "held_out_accuracy": result.accuracy}
    recipe |= {"data": data.name, "split": data.split, "images": len(data), "fingerprint": data.data_hash}
    recipe |= {"versions": versions(), "commit": commit()}
    if base := getattr(model, "recipe", None):
        recipe["base"] = base
    model.recipe = recipe  # type: ignore[assignment]
    if out is not None:
        folder, told = Path(out), {**recipe, "history": list(result.history)}
        write_in_main(folder, lambda: save_checkpoint(model, folder, recipe=told))


def _choose(
    model: nn.Module,
    data: ImageData,
    options: Options,
    rates: Sequence[float],
    holdout: float,
    corrupt: Corrupt | None,
    trained: set[nn.Parameter] | None,
    folder: Path | None,
    scales: Mapping[nn.Parameter, float] | None,
) -> tuple[list[dict[str, Any]], float, float]:
    """Train once per learning rate and leave the weights of the best in the model."""
    part, held = holdout_split(data, holdout, options.seed)
    initial = copy.deepcopy(model.state_dict())
    best: tuple[float, float, list[dict[str, Any]], dict[str, Tensor]] | None = None
    for rate in rates:
        model.load_state_dict(initial)
        place = None if folder is None else folder / f"lr-{rate:g}"
        known = read_result(place)
        try:
            if "diverged" in known:
                raise FloatingPointError(known["diverged"])
            history = run(model, part, replace(options, learning_rate=rate), corrupt, trained, place, scales)
        except FloatingPointError as error:
            warnings.warn(f"learning rate {rate:g} is left out: {error}", stacklevel=3)
            write_result(place, {"learning_rate": rate, "diverged": str(error)})
            continue
        accuracy = known["accuracy"] if "accuracy" in known else _accuracy(model, held, options, corrupt)
        write_result(place, {"learning_rate": rate, "accuracy": accuracy, "held_out_images": len(held)})
        if best is None or accuracy > best[0]:
            weights = {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}
            best = (accuracy, rate, history, weights)
    if best is None:
        tried = ", ".join(f"{rate:g}" for rate in rates)
        raise FloatingPointError(f"training diverged at every learning rate ({tried}): try smaller ones")
    accuracy, rate, history, weights = best
    model.load_state_dict(weights)
    return history, rate, accuracy


def _accuracy(model: nn.Module, data: ImageData, options: Options, corrupt: Corrupt | None) -> float:
    """Give the accuracy on data under the corruption of training, with noise that is the same for every call."""
    accelerator = Accelerator(mixed_precision=options.mixed_precision)
    device, world = accelerator.device, accelerator.num_processes
    order = list(range(len(data)))
    batches = [order[i : i + options.batch_size] for i in range(0, len(order), options.batch_size)]
    right = torch.zeros((), dtype=torch.int64, device=device)
    model.eval()
    for index in range(accelerator.process_index, len(batches), world):
        images, labels = data.batch(batches[index])
        generator = torch.Generator(device=device).manual_seed(seed_of(options.seed, "held-out", index))
        inputs = network_input(images.to(device), options, corrupt, generator, augment=False)
        with torch.no_grad(), accelerator.autocast():
            right += (model(inputs).argmax(1) == labels.to(device)).sum()
    return float(accelerator.reduce(right, "sum").item()) / len(data)


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


def _signature(model: nn.Module) -> str:
    """Name a model by its class and the names and shapes of its weights."""
    shapes = [(name, tuple(value.shape)) for name, value in model.state_dict().items()]
    return f"{type(model).__name__} {hashlib.sha256(repr(shapes).encode()).hexdigest()[:16]}"


def _checked_rates(learning_rate: float | Sequence[float]) -> tuple[float, ...]:
    rates = tuple(learning_rate) if isinstance(learning_rate, Sequence) else (learning_rate,)
    rates = tuple(float(rate) for rate in rates)
    if not rates or len(set(rates)) < len(rates) or not all(math.isfinite(rate) and rate > 0 for rate in rates):
        raise ValueError(f"expected one or several different learning rates > 0, got {learning_rate}")
    return rates


def _check_outputs(model: nn.Module, data: ImageData) -> None:
    """Raise unless the model takes the data's images and has an output for each of their classes."""
    where = next(model.parameters()).device
    try:
        with eval_mode(model), torch.no_grad():
            logits = model(torch.zeros(2, *data.image_shape, device=where))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise ValueError(
            f"expected a model for images {tuple(data.image_shape)}, got one that fails: {error}"
        ) from error
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise ValueError("expected a classifier with logits (B, K), got another output: give the model a classifier")
    if logits.shape[1] < data.num_classes:
        raise ValueError(
            f"expected at least {data.num_classes} outputs, one per class of the data, got {logits.shape[1]}: "
            f"reset the classifier with model.reset_classifier({data.num_classes})"
        )
