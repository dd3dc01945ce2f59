"""Pretraining on a mixture of clean and noisy images: training plus a noise mixture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from robust_hub.data import ImageData, load_data
from robust_hub.noise import NoiseMixture
from robust_hub.norms import warn_batch_norm
from robust_hub.state import check_out
from robust_hub.training import TrainResult, finish, train


def pretrain_mixed_noise(
    model: nn.Module,
    dataset: Any,
    *,
    mixture: NoiseMixture = NoiseMixture(),  # noqa: B008 (frozen)
    epochs: int = 100,
    learning_rate: float | Sequence[float] = 0.1,
    weight_decay: float = 5e-4,
    out: str | os.PathLike[str] | None = None,
    seed: int = 0,
    **options: Any,
) -> TrainResult:
    """Train a classifier in place on images that each draw their own sigma from a mixture.

    The paper's baselines are other mixtures: `NoiseMixture((0,))` trains on clean images, `NoiseMixture((0.25,))` on
    one sigma. The same call with the same `out` resumes an interrupted run.

    Args:
        model: A classifier of timm or torch. A timm model whose number of classes differs gets a fresh classifier.
        dataset: Training data: an ImageData or anything `load_data` takes.
        mixture: The sigmas, in [0, 1] pixel units, and their weights.
        epochs: Passes over the data.
        learning_rate: The peak learning rate, or several of which the best on held-out training images is kept.
        weight_decay: Weight decay; normalisation layers and biases have none.
        out: Folder of the checkpoint; log and state of the run lie in its sub-folder `training`.
        seed: Seed of everything random here.
        **options: Further options of `robust_hub.training.train`.

    Raises:
        ValueError: If an option, the data, the model or the folder does not fit; see `train`.
        FloatingPointError: If the loss is no longer finite.

    Source: Qiu, Zhang, Wu, Lin 2023, Exploring Transferability for Randomized Smoothing.
    """
    data = dataset if isinstance(dataset, ImageData) else load_data(dataset)
    folder = check_out(model, out, options)
    warn_batch_norm(model, "pretraining")
    timm_model: Any = model
    if hasattr(model, "reset_classifier") and timm_model.num_classes != data.num_classes:
        where = next(model.parameters()).device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            timm_model.reset_classifier(data.num_classes)
        model.to(where)
    identity = {"job": "pretrain", "sigmas": list(mixture.sigmas), "weights": _listed(mixture.weights)}
    settings = {**identity, "epochs": epochs, "weight_decay": weight_decay, "seed": seed, **options}
    return train(
        model,
        data,
        epochs=epochs,
        corrupt=mixture.add,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        seed=seed,
        folder=folder,
        identity=identity,
        then=lambda result: finish(model, data, result, out, settings),
        **options,
    )


def _listed(weights: Sequence[float] | None) -> list[float] | None:
    return None if weights is None else list(weights)
