"""Training: checks, the result and its checkpoint."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robust_hub.images.content import sample_of
from robust_hub.images.data import ImageData
from robust_hub.images.held_out import HeldOut
from robust_hub.images.pixels import note_mean_std
from robust_hub.layout import TRAINING
from robust_hub.models.checkpoint import check_savable, save_checkpoint
from robust_hub.models.classes import note_class_names
from robust_hub.models.modes import fast_norms, unwrapped
from robust_hub.models.sizes import note_size
from robust_hub.models.untouched import note_training
from robust_hub.provenance import Provenance, commit, provenance_of, versions
from robust_hub.training.admission import admit
from robust_hub.training.bf16 import warn_slow_bf16
from robust_hub.training.judged import Judged, judge
from robust_hub.training.loop import Corrupt, Job, make_accelerator
from robust_hub.training.options import Options
from robust_hub.training.rates import Trained, train_rates
from robust_hub.training.shown import result_html, result_line
from robust_hub.training.state import claimed, write_in_main


@dataclass(frozen=True, repr=False)
class TrainResult:
    """What a training gives back.

    Attributes:
        model: The model that was passed in, trained, in eval mode.
        folder: Where log and state lie; None if nothing was written.
        history: One row per epoch: epoch, step, lr, loss, accuracy, images_per_s, seconds; compile and
            fast_norm where they were on.
        learning_rate: The peak learning rate, the chosen one if there were several.
        accuracy: Accuracy on the held-out part of the training data; None if nothing was held out.
        provenance: How the weights came about; the model carries it as well, see `robust_hub.provenance`.
        judged: Right answers on images that were kept apart, clean and under noise; None if there were none.
        held_out: Those images, which `robust_hub.certify` takes; None likewise.
    """

    model: nn.Module
    folder: Path | None
    history: tuple[dict[str, Any], ...]
    learning_rate: float
    accuracy: float | None
    provenance: Provenance
    judged: Judged | None = None
    held_out: ImageData | None = None

    def __repr__(self) -> str:
        """Say it on one line."""
        return result_line(self)

    def _repr_html_(self) -> str:
        return result_html(self)


@dataclass(frozen=True)
class Apart:
    """Images that are kept apart from a training, and judge what came of it.

    Attributes:
        data: The images.
        which: What they are by content, where they were held out of the training data; None of a split of its own.
        whole: Hash of all these data, likewise.
    """

    data: ImageData
    which: HeldOut | None = None
    whole: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Give JSON values."""
        which = {} if self.which is None else {**self.which.to_json(), "whole": self.whole}
        return {"split": self.data.split, **which}


def train(
    model: nn.Module,
    data: ImageData,
    options: Options,
    *,
    start: Provenance = Provenance(),  # noqa: B008 (frozen)
    corrupt: Corrupt | None = None,
    parameters: Iterable[nn.Parameter] | None = None,
    scales: Mapping[nn.Parameter, float] | None = None,
    out: str | os.PathLike[str] | None = None,
    folder: str | os.PathLike[str] | None = None,
    apart: Apart | None = None,
) -> TrainResult:
    """Train a classifier in place.

    The same call with the same folder continues a training that was interrupted, from its last saved state; on the CPU
    the result equals that of an uninterrupted one bit for bit. A finished one gives its result at once. Under
    `accelerate launch` each process trains on its own share. Of several learning rates, each is tried on a part of the
    data, and the one with the best accuracy on the rest is kept (the model is not trained again on all data).

    Args:
        model: A classifier: normalised images (B, C, H, W) to logits (B, K).
        data: The training data.
        options: How to train.
        start: What of the provenance is settled before: the job, its mixture, the options to record.
        corrupt: Changes a batch before normalisation: float32 (B, C, H, W) in [0, 1] and a generator on the same
            device to a tensor of that shape. None trains on the images as they are.
        parameters: The only parameters to train; modules without one of them stay in eval mode. None: all.
        scales: Factors on the learning rate of some parameters, a fresh classifier's for example.
        out: Folder of the checkpoint to write; None writes none.
        folder: Where log and state are kept; by default the sub-folder `training` of `out`. None keeps nothing.
        apart: Images that judge the trained network and are never trained on.

    Returns:
        The model with its history and provenance.

    Raises:
        ValueError: If the model has fewer outputs than the data classes, or with out is not one that timm makes again
            from its name and arguments, or the folder holds something else, another training, or cannot be written.
        MemoryError: If memory does not hold a batch, with the size to take.
        FloatingPointError: If the loss is no longer finite (of several learning rates: for all of them). The last
            good state stays in the folder.
    """
    if len(data) < 1:
        raise ValueError("expected training data, got no image")
    accelerator = make_accelerator()
    admitted = admit(model, data, options.view_size)
    note_class_names(model, data.classes if admitted.outputs == data.num_classes else None)
    note_mean_std(model, options.mean, options.std)
    note_size(model, options.shape_of(data.image_shape))
    if out is not None:
        check_savable(model)  # now, not after the training
    _warn_slow(options, accelerator.device)
    folder = Path(folder) if folder is not None else None if out is None else Path(out) / TRAINING
    settings = options.settings()
    settings |= {"data": data.data_hash, "images": len(data), "model": _signature(model)}
    settings |= {} if apart is None else {"apart": apart.data.data_hash}
    settings |= {"identity": replace(start, options={}).to_json(), "processes": accelerator.num_processes}
    devices = [accelerator.device] if accelerator.device.type == "cuda" else []
    with claimed(folder, settings):
        with torch.random.fork_rng(devices=devices), _only(model, parameters) as trained:
            job = Job(model, corrupt, trained, scales, admitted.memory)
            with fast_norms(model, options.fast_norm):
                done = train_rates(job, data, options, folder)
                judged = None if apart is None else judge(job, apart.data, options)
        model.to(memory_format=torch.contiguous_format)
        model.eval()
        provenance = _provenance(start, model, data, options, done)
        if apart is not None and judged is not None:
            provenance = replace(provenance, held_out={**apart.to_json(), **judged.to_json()})
        note_training(unwrapped(model), provenance)
        if out is not None:
            whole = replace(provenance, history=tuple(done.history))
            write_in_main(Path(out), lambda: save_checkpoint(model, Path(out), provenance=whole))
    held = None if apart is None else apart.data
    history = tuple(done.history)
    return TrainResult(model, folder, history, done.learning_rate, done.accuracy, provenance, judged, held)


def _provenance(start: Provenance, model: nn.Module, data: ImageData, options: Options, done: Trained) -> Provenance:
    """Say how trained weights came about; those that the model started from become the base."""
    return replace(
        start,
        epochs=options.epochs,
        weight_decay=options.weight_decay,
        seed=options.seed,
        learning_rate=done.learning_rate,
        held_out_accuracy=done.accuracy,
        data=data.name,
        split=data.split,
        images=len(data),
        data_hash=data.data_hash,
        trained_on=sample_of(data) if options.shape_of(data.image_shape) == data.image_shape else None,  # not of views
        versions=versions(),
        commit=commit(),
        base=provenance_of(unwrapped(model)),
    )


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


def _warn_slow(options: Options, device: torch.device) -> None:
    """Warn of options that compute in bfloat16 where that is slow."""
    if options.mixed_precision == "bf16":
        warn_slow_bf16(device, "train without mixed precision")
    elif options.optimizer.lower().endswith("muon") and options.optimizer.lower() not in ("muon", "nmuon"):
        warn_slow_bf16(device, f"{options.optimizer} computes in it: take nmuon")


def _signature(model: nn.Module) -> str:
    """Name a model by its class and the names and shapes of its weights."""
    shapes = [(name, tuple(value.shape)) for name, value in model.state_dict().items()]
    return f"{type(model).__name__} {hashlib.sha256(repr(shapes).encode()).hexdigest()[:16]}"
