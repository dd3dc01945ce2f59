"""Fine-tuning on clean images: training plus a fresh classifier."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from robust_hub.images.data import ImageData, load_data
from robust_hub.images.noise import NoiseMixture
from robust_hub.images.pixels import channels_of
from robust_hub.models.norms import warn_batch_norm
from robust_hub.models.stems import warn_small_stem
from robust_hub.numbers import real_number, truth_value
from robust_hub.provenance import CLEAN, Provenance
from robust_hub.training.heads import reset_head
from robust_hub.training.options import Options
from robust_hub.training.state import check_destination
from robust_hub.training.train import TrainResult, train

EPOCHS, LEARNING_RATE, WEIGHT_DECAY = 1, 0.01, 0.0


def finetune_clean(
    model: nn.Module,
    dataset: Any,
    *,
    head_only: bool = False,
    epochs: int = EPOCHS,
    learning_rate: float | Sequence[float] = LEARNING_RATE,
    head_scale: float = 1.0,
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
    mixed_precision: str = "no",
    compile: bool = False,
    fast_norm: bool = False,
    save_every: float = 60.0,
    num_workers: int = 0,
    progress: bool = True,
) -> TrainResult:
    """Fine-tune a pretrained classifier in place, on clean images, with a new random classifier.

    No noise is added: robustness comes from pretraining alone. The same call with the same `out`, on the same
    pretrained weights, resumes an interrupted training.

    Args:
        model: A pretrained classifier of timm or torch.
        dataset: Training data: an ImageData or anything `load_data` takes.
        head_only: Whether to train the classifier only, on fixed features. The other modules stay in eval mode, so
            that batch norm statistics stay as they are.
        epochs: Passes over the data.
        learning_rate: The peak learning rate, or several of which the best on held-out training images is kept.
        head_scale: Factor on the new classifier's learning rate. A fresh classifier can take larger steps than
            pretrained features, which lose robustness with every step on clean images.
        weight_decay: Weight decay; normalisation layers and biases have none.
        out: Folder of the checkpoint; log and state of the training lie in its sub-folder `training`.
        seed: Seed of everything random here, the new classifier included.
        batch_size: Images per step and process.
        momentum: Momentum of the optimizer.
        optimizer: A name of timm's optimizers; "sgd" is SGD with Nesterov momentum.
        label_smoothing: Label smoothing of the cross entropy, in [0, 1).
        warmup: Share of the steps for the linear warm-up, in [0, 1]. None: 10 epochs, or the first tenth of a training
            of fewer than 100.
        augment: Whether to crop and flip at random.
        mean: Mean per channel, [0, 1] pixel units. None: from the model's pretrained_cfg.
        std: Standard deviation per channel, likewise.
        holdout: Share of the data that judges several learning rates; unused for a single one.
        mixed_precision: "no", "bf16" or "fp16".
        compile: Whether to compile the network's blocks: slow first steps, faster ones then on an accelerator. The
            weights differ from those of an uncompiled training within rounding.
        fast_norm: Whether timm's norms compute in the type of mixed precision, not in float32; without mixed precision
            it changes nothing.
        save_every: Seconds between two saved states; every epoch's end saves one as well.
        num_workers: Processes that read batches; 0 reads in this one.
        progress: Whether to show a progress bar.

    Returns:
        The fine-tuned model with its history, its learning rate and its provenance.

    Raises:
        ValueError: If the model has no classifier, or an option, the data or the folder does not fit; see
            `robust_hub.training.train.train`.
        MemoryError: If memory does not hold a batch, with the size to take.
        FloatingPointError: If the loss is no longer finite.

    Example:
        >>> import robust_hub
        >>> model = robust_hub.load_model("resnet18s_ln_mixednoise")
        >>> digits = robust_hub.load_data("digits").subset(range(32))
        >>> result = robust_hub.finetune_clean(model, digits, head_only=True, batch_size=16, progress=False)
        >>> result.model.num_classes, len(result.history)
        (10, 1)

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
        mixed_precision=mixed_precision,
        compile=compile,
        fast_norm=fast_norm,
        save_every=save_every,
        num_workers=num_workers,
        progress=progress,
    )
    pixels = mean is not None or std is not None
    clean = NoiseMixture(CLEAN)
    return finetune(model, data, clean, options, head_only=head_only, head_scale=head_scale, out=out, pixels=pixels)


def finetune(
    model: nn.Module,
    data: ImageData,
    mixture: NoiseMixture,
    options: Options,
    *,
    head_only: bool = False,
    head_scale: float = 1.0,
    out: str | os.PathLike[str] | None = None,
    pixels: bool = False,
) -> TrainResult:
    """Fine-tune on any noise mixture, the paper's baselines; `finetune_clean` is the method.

    Args:
        model: A pretrained classifier.
        data: The training data.
        mixture: The sigmas, and their weights.
        options: The options.
        head_only: As of `finetune_clean`.
        head_scale: As of `finetune_clean`.
        out: Folder of the checkpoint, checked already.
        pixels: Whether mean and std were named, and are recorded.

    Returns:
        As `finetune_clean`, and its errors.
    """
    head_scale = real_number("a finite head_scale > 0", head_scale, above=0)
    head_only = truth_value("head_only", head_only)
    warn_batch_norm(model, "fine-tuning")
    warn_small_stem(model, options.shape_of(data.image_shape), "fine-tuning")
    head = reset_head(model, data.num_classes, options.seed)
    noisy = mixture.sigmas != CLEAN
    start = Provenance(
        job="finetune",
        head_only=head_only,
        pretrained=_features(model, head),
        head_scale=None if head_scale == 1.0 else head_scale,
        sigmas=mixture.sigmas if noisy else None,
        weights=tuple(mixture.weights) if noisy and mixture.weights else None,
        options=options.recorded(pixels=pixels),
    )
    return train(
        model,
        data,
        options,
        start=start,
        corrupt=mixture.add if noisy else None,
        parameters=head.parameters() if head_only else None,
        scales=None if head_scale == 1.0 else dict.fromkeys(head.parameters(), head_scale),
        out=out,
    )


def _features(model: nn.Module, head: nn.Module) -> str:
    """Hash all weights but the classifier's, so that a resume starts from the same pretrained ones."""
    own = {id(p) for p in head.parameters()}
    digest = hashlib.sha256()
    for name, value in model.state_dict(keep_vars=True).items():
        if id(value) not in own:
            raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(name.encode() + raw.numpy().tobytes())
    return digest.hexdigest()[:16]
