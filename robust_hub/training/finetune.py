"""Fine-tuning on clean images: training plus a fresh classifier."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from robust_hub.bars import hiding_bars
from robust_hub.images.data import ImageData, load_data
from robust_hub.images.noise import NoiseMixture
from robust_hub.images.pixels import channels_of
from robust_hub.models.modes import unwrapped
from robust_hub.models.norms import warn_batch_norm
from robust_hub.models.sizes import at_size_of, own_size, say_resized
from robust_hub.models.stems import warn_small_stem
from robust_hub.notes import say
from robust_hub.numbers import real_number, truth_value
from robust_hub.provenance import CLEAN, Provenance, provenance_of
from robust_hub.training.apart import keep_apart, unseen_before, validation_of
from robust_hub.training.heads import features_hash, reset_head
from robust_hub.training.options import Options
from robust_hub.training.recipes import PLAIN_BATCH, Recipe, suited_recipe
from robust_hub.training.state import check_destination
from robust_hub.training.train import Apart, TrainResult, train

EPOCHS, LEARNING_RATE, WEIGHT_DECAY = 1, 0.01, 0.0


def finetune_clean(
    model: nn.Module,
    dataset: Any,
    *,
    head_only: bool = False,
    epochs: int | None = None,
    learning_rate: float | Sequence[float] | None = None,
    head_scale: float | None = None,
    weight_decay: float = WEIGHT_DECAY,
    out: str | os.PathLike[str] | None = None,
    val: float | ImageData | None = None,
    seed: int = 0,
    batch_size: int | None = None,
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
        epochs: Passes over the data. None: 1, and without a learning rate as many as suit the number of images.
        learning_rate: The peak learning rate, or several of which the best on held-out training images is kept. None:
            rates and head_scale that keep robustness, from 1,000 images on the best of several under noise; see
            `robust_hub.training.recipes`.
        head_scale: Factor on the new classifier's learning rate. A fresh classifier can take larger steps than
            pretrained features, which lose robustness with every step on clean images. None: 1, or what goes with the
            learning rate that is chosen.
        weight_decay: Weight decay; normalisation layers and biases have none.
        out: Folder of the checkpoint; log and state of the training lie in its sub-folder `training`.
        val: What judges the trained network: a share of every class that is held out of training, in [0, 1), or
            images of another split. None: of a name or a folder its validation split, or a tenth of it if it has
            neither that nor a test split; of data that are handed in nothing. What was held out is recorded by
            content, and `certify` takes it where there is no test split.
        seed: Seed of everything random here, the new classifier included.
        batch_size: Images per step and process. None: 128, or 32 where the recipe for few images is chosen.
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
        The fine-tuned model with its history, learning rate and provenance, and what it gets right of the images that
        were kept apart.

    Raises:
        ValueError: If the model has no classifier, or an option, the data or the folder does not fit; see
            `robust_hub.training.train.train`.
        MemoryError: If memory does not hold a batch, with the size to take.
        FloatingPointError: If the loss is no longer finite.

    Example:
        >>> import robust_hub
        >>> model = robust_hub.load_model("resnet18s_ln_mixednoise")
        >>> digits = robust_hub.load_data("digits").subset(range(32))
        >>> result = robust_hub.finetune_clean(model, digits, head_only=True, epochs=1, progress=False)
        >>> result.model.num_classes, len(result.history)
        (10, 1)

    Source: Qiu, Zhang, Wu, Lin 2023, Exploring Transferability for Randomized Smoothing.
    """
    channels = channels_of(model, mean)
    check_destination(model, out)
    data, apart = keep_apart(*_load(model, dataset, val, channels=channels, progress=progress))
    apart = unseen_before(model, apart)
    said: dict[str, Any] = {"epochs": epochs, "head_scale": head_scale, "batch_size": batch_size}
    recipe = _recipe(len(data), learning_rate, head_only=head_only, optimizer=optimizer, holdout=holdout, **said)
    options = Options.of(
        model,
        epochs=recipe.epochs,
        learning_rate=recipe.learning_rate,
        weight_decay=weight_decay,
        seed=seed,
        batch_size=recipe.batch_size,
        momentum=momentum,
        optimizer=optimizer,
        label_smoothing=label_smoothing,
        warmup=warmup,
        augment=augment,
        mean=mean,
        std=std,
        holdout=holdout,
        judge_sigma=recipe.judge_sigma,
        mixed_precision=mixed_precision,
        compile=compile,
        fast_norm=fast_norm,
        save_every=save_every,
        num_workers=num_workers,
        progress=progress,
    )
    pixels = mean is not None or std is not None
    how: dict[str, Any] = {"head_only": head_only, "head_scale": recipe.head_scale}
    say(recipe.words) if recipe.words else None
    return finetune(model, data, NoiseMixture(CLEAN), options, **how, out=out, pixels=pixels, apart=apart)


def _load(
    model: nn.Module, dataset: Any, val: float | ImageData | None, **how: Any
) -> tuple[ImageData, float | ImageData | None]:
    """Load data that are not yet, at the network's size, and find what judges the training where nothing is said."""
    if isinstance(dataset, ImageData):
        return dataset, val
    data = load_data(dataset, usual_size=own_size(model), **how)
    say_resized(data)
    if val is not None or not isinstance(dataset, str | Path | Mapping):
        return data, val
    with hiding_bars(not how["progress"]):
        return data, validation_of(data, dataset, partial(load_data, dataset, **how, **at_size_of(data)))


def _recipe(images: int, learning_rate: float | Sequence[float] | None, **said: Any) -> Recipe:
    """Give what the caller says, the rest being the job's defaults, or suited to the data where no rate is said."""
    if learning_rate is None:
        return suited_recipe(images, **said)
    return Recipe(
        EPOCHS if said["epochs"] is None else said["epochs"],
        learning_rate,  # type: ignore[arg-type]
        1.0 if said["head_scale"] is None else said["head_scale"],
        PLAIN_BATCH if said["batch_size"] is None else said["batch_size"],
    )


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
    apart: Apart | None = None,
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
        apart: Images that judge the trained network.

    Returns:
        As `finetune_clean`, and its errors.
    """
    head_scale = real_number("a finite head_scale > 0", head_scale, above=0)
    head_only = truth_value("head_only", head_only)
    warn_batch_norm(model, "fine-tuning")
    warn_small_stem(model, options.shape_of(data.image_shape), "fine-tuning")
    _say_size(model, options.shape_of(data.image_shape))
    head = reset_head(model, data.num_classes, options.seed)
    noisy = mixture.sigmas != CLEAN
    start = Provenance(
        job="finetune",
        head_only=head_only,
        pretrained=features_hash(model, head),
        head_scale=None if head_scale == 1.0 else head_scale,
        sigmas=mixture.sigmas if noisy else None,
        weights=tuple(mixture.weights) if noisy and mixture.weights else None,
        options=options.recorded(pixels=pixels),
    )
    result = train(
        model,
        data,
        options,
        start=start,
        apart=apart,
        corrupt=mixture.add if noisy else None,
        parameters=head.parameters() if head_only else None,
        scales=None if head_scale == 1.0 else dict.fromkeys(head.parameters(), head_scale),
        out=out,
    )
    if result.judged is not None:
        say(result.judged.words)
    return result


def _say_size(model: nn.Module, shape: tuple[int, int, int]) -> None:
    """Say so where a network that was trained at one size is trained further at another."""
    own = own_size(model)
    if provenance_of(unwrapped(model)) is not None and own is not None and shape[1:] != (own, own):
        trained = f"it is trained, and then certified, at {shape[1]}x{shape[2]}"
        say(f"the network was trained at {own}x{own}: {trained} (load_data with size={own} keeps it as it was)")
