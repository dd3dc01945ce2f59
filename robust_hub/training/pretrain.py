"""Pretraining on a mixture of clean and noisy images: training plus a noise mixture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from robust_hub.images.data import ImageData, load_data
from robust_hub.images.noise import NoiseMixture
from robust_hub.images.pixels import channels_of
from robust_hub.models.classes import class_names
from robust_hub.models.norms import warn_batch_norm
from robust_hub.models.stems import warn_small_stem
from robust_hub.provenance import Provenance
from robust_hub.training.options import Options
from robust_hub.training.state import check_destination
from robust_hub.training.train import TrainResult, train

EPOCHS, LEARNING_RATE, WEIGHT_DECAY = 100, 0.1, 5e-4


def pretrain_mixed_noise(
    model: nn.Module,
    dataset: Any,
    *,
    mixture: NoiseMixture = NoiseMixture(),  # noqa: B008 (frozen)
    epochs: int = EPOCHS,
    learning_rate: float | Sequence[float] = LEARNING_RATE,
    weight_decay: float = WEIGHT_DECAY,
    out: str | os.PathLike[str] | None = None,
    seed: int = 0,
    batch_size: int = 128,
    momentum: float = 0.9,
    optimizer: str = "sgd",
    label_smoothing: float = 0.0,
    warmup: float | None = None,
    augment: bool = True,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    holdout: float = 0.1,
    size: int | None = None,
    views: int | None = None,
    mixed_precision: str = "no",
    compile: bool = False,
    fast_norm: bool = False,
    save_every: float = 60.0,
    num_workers: int = 0,
    progress: bool = True,
) -> TrainResult:
    """Train a classifier in place on images that each draw their own sigma from a mixture.

    The paper's baselines are other mixtures: `NoiseMixture((0,))` trains on clean images, `NoiseMixture((0.25,))` on
    one sigma. The same call with the same `out` resumes an interrupted training.

    Images larger than the network's input are cropped: in each step a new random part of them, an area of 0.25 to 1 of
    the image with an aspect ratio of 3/4 to 4/3, resized to the input. Images of that size, and smaller ones, are
    trained on as they are.

    Args:
        model: A classifier of timm or torch. A timm model of another number of classes, or of others by name, gets a
            fresh classifier.
        dataset: Training data: an ImageData or anything `load_data` takes.
        mixture: The sigmas, in [0, 1] pixel units, and their weights.
        epochs: Passes over the data.
        learning_rate: The peak learning rate, or several of which the best on held-out training images is kept.
        weight_decay: Weight decay; normalisation layers and biases have none.
        out: Folder of the checkpoint; log and state of the training lie in its sub-folder `training`.
        seed: Seed of everything random here.
        batch_size: Images per step and process.
        momentum: Momentum of the optimizer.
        optimizer: A name of timm's optimizers; "sgd" is SGD with Nesterov momentum.
        label_smoothing: Label smoothing of the cross entropy, in [0, 1).
        warmup: Share of the steps for the linear warm-up, in [0, 1]. None: 10 epochs, or the first tenth of a training
            of fewer than 100.
        augment: Whether to crop and flip at random. If not, larger images are averaged whole to the size.
        mean: Mean per channel, [0, 1] pixel units. None: from the model's pretrained_cfg.
        std: Standard deviation per channel, likewise.
        holdout: Share of the data that judges several learning rates; unused for a single one.
        size: Side of the square that the network sees, in pixels, to which images of any other size are brought. None:
            from the model's pretrained_cfg, for larger images alone.
        views: Train on this many views of each image, the same in every epoch, in place of a new one in each step: the
            whole image averaged to the size, and random ones. An epoch has that many times as many images.
        mixed_precision: "no", "bf16" or "fp16".
        compile: Whether to compile the network's blocks: slow first steps, faster ones then on an accelerator. The
            weights differ from those of an uncompiled training within rounding.
        fast_norm: Whether timm's norms compute in the type of mixed precision, not in float32; without mixed precision
            it changes nothing.
        save_every: Seconds between two saved states; every epoch's end saves one as well.
        num_workers: Processes that read batches; 0 reads in this one.
        progress: Whether to show a progress bar.

    Returns:
        The trained model with its history, its learning rate and its provenance.

    Raises:
        ValueError: If an option, the data, the model or the folder does not fit; see `robust_hub.training.train.train`.
        MemoryError: If memory does not hold a batch, with the size to take.
        FloatingPointError: If the loss is no longer finite.

    Example:
        >>> import robust_hub
        >>> model = robust_hub.load_model("resnet18s_ln")
        >>> digits = robust_hub.load_data("digits").subset(range(32))
        >>> result = robust_hub.pretrain_mixed_noise(model, digits, epochs=1, batch_size=16, progress=False)
        >>> sorted(result.history[0])[:3]
        ['accuracy', 'epoch', 'images_per_s']

    Source: Qiu, Zhang, Wu, Lin 2023, Exploring Transferability for Randomized Smoothing.
    """
    channels = channels_of(model, mean)
    data = dataset if isinstance(dataset, ImageData) else load_data(dataset, channels=channels, progress=progress)
    check_destination(model, out)
    options = Options.of(
        model,
        epochs=epochs,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        seed=seed,
        batch_size=batch_size,
        momentum=momentum,
        optimizer=optimizer,
        label_smoothing=label_smoothing,
        warmup=warmup,
        augment=augment,
        mean=mean,
        std=std,
        holdout=holdout,
        view_size=_view_size(model, data.image_shape, size, views),
        view_count=views,
        mixed_precision=mixed_precision,
        compile=compile,
        fast_norm=fast_norm,
        save_every=save_every,
        num_workers=num_workers,
        progress=progress,
    )
    return pretrain(model, data, mixture, options, out=out, pixels=mean is not None or std is not None)


def _view_size(model: nn.Module, shape: tuple[int, int, int], size: int | None, views: int | None) -> int | None:
    """Give the size that images (C, H, W) are brought to; None if they are trained on as they are."""
    for name, value in (("size", size), ("views", views)):
        if value is not None and value < 1:
            raise ValueError(f"expected {name} to be at least 1, got {value}")
    _, height, width = shape
    if size is not None:
        return None if views is None and height == width == size else size
    config = getattr(model, "pretrained_cfg", None)
    own = (config if isinstance(config, dict) else getattr(config, "__dict__", {})).get("input_size")
    if own is not None and own[1] == own[2]:
        return int(own[2]) if views is not None or max(height, width) > own[2] else None
    if views is not None:
        raise ValueError("expected the size of the views, got a model whose pretrained_cfg does not say it: pass size=")
    return None


def pretrain(
    model: nn.Module,
    data: ImageData,
    mixture: NoiseMixture,
    options: Options,
    *,
    out: str | os.PathLike[str] | None = None,
    pixels: bool = False,
) -> TrainResult:
    """Train as `pretrain_mixed_noise` does, with options that are built already.

    Args:
        model: The classifier.
        data: The training data.
        mixture: The sigmas and their weights.
        options: The options.
        out: Folder of the checkpoint, checked already.
        pixels: Whether mean and std were named, and are recorded.

    Returns:
        As `pretrain_mixed_noise`, and its errors.
    """
    start = Provenance(
        job="pretrain",
        sigmas=mixture.sigmas,
        weights=None if mixture.weights is None else tuple(mixture.weights),
        options=options.recorded(pixels=pixels),
    )
    warn_batch_norm(model, "pretraining")
    warn_small_stem(model, options.shape_of(data.image_shape), "pretraining")
    timm_model: Any = model
    own = class_names(model) or data.classes
    if hasattr(model, "reset_classifier") and (timm_model.num_classes != data.num_classes or own != data.classes):
        where = next(model.parameters()).device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            timm_model.reset_classifier(data.num_classes)
        model.to(where)
    return train(model, data, options, start=start, corrupt=mixture.add, out=out)
