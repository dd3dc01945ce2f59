"""Fine-tuning on clean images: training plus a fresh classifier."""

from __future__ import annotations

import hashlib
import math
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

_HEADS = ("fc", "head", "classifier")  # where models that are not timm's keep their last layer


def finetune_clean(
    model: nn.Module,
    dataset: Any,
    *,
    head_only: bool = False,
    epochs: int = 1,
    learning_rate: float | Sequence[float] = 0.01,
    head_scale: float = 1.0,
    weight_decay: float = 0.0,
    out: str | os.PathLike[str] | None = None,
    seed: int = 0,
    **options: Any,
) -> TrainResult:
    """Fine-tune a pretrained classifier in place, on clean images, with a new random classifier.

    No noise is added: robustness comes from pretraining alone. The same call with the same `out`, on the same
    pretrained weights, resumes an interrupted run.

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
        out: Folder of the checkpoint; log and state of the run lie in its sub-folder `training`.
        seed: Seed of everything random here, the new classifier included.
        **options: Further options of `robust_hub.training.train`.

    Raises:
        ValueError: If the model has no classifier, or an option, the data or the folder does not fit; see `train`.
        FloatingPointError: If the loss is no longer finite.

    Source: Qiu, Zhang, Wu, Lin 2023, Exploring Transferability for Randomized Smoothing.
    """
    return finetune(
        model,
        dataset,
        NoiseMixture((0.0,)),
        head_only=head_only,
        epochs=epochs,
        learning_rate=learning_rate,
        head_scale=head_scale,
        weight_decay=weight_decay,
        out=out,
        seed=seed,
        **options,
    )


def finetune(
    model: nn.Module,
    dataset: Any,
    mixture: NoiseMixture,
    *,
    head_only: bool = False,
    epochs: int = 1,
    learning_rate: float | Sequence[float] = 0.01,
    head_scale: float = 1.0,
    weight_decay: float = 0.0,
    out: str | os.PathLike[str] | None = None,
    seed: int = 0,
    **options: Any,
) -> TrainResult:
    """Fine-tune on any noise mixture: the baselines of the paper; `finetune_clean` is the method.

    Arguments and errors are those of `finetune_clean`, but for the mixture of sigmas.
    """
    data = dataset if isinstance(dataset, ImageData) else load_data(dataset)
    folder = check_out(model, out, options)
    warn_batch_norm(model, "fine-tuning")
    head = reset_head(model, data.num_classes, seed)
    if not (math.isfinite(head_scale) and head_scale > 0):
        raise ValueError(f"expected a finite head_scale > 0, got {head_scale}")
    identity: dict[str, Any] = {"job": "finetune", "head_only": head_only, "pretrained": _features(model, head)}
    if head_scale != 1.0:
        identity["head_scale"] = head_scale
    if mixture.sigmas != (0.0,):
        identity |= {"sigmas": list(mixture.sigmas), "weights": mixture.weights and list(mixture.weights)}
    settings = {**identity, "epochs": epochs, "weight_decay": weight_decay, "seed": seed, **options}
    return train(
        model,
        data,
        corrupt=None if mixture.sigmas == (0.0,) else mixture.add,
        epochs=epochs,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        parameters=head.parameters() if head_only else None,
        scales=None if head_scale == 1.0 else dict.fromkeys(head.parameters(), head_scale),
        seed=seed,
        folder=folder,
        identity=identity,
        then=lambda result: finish(model, data, result, out, settings),
        **options,
    )


def reset_head(model: nn.Module, num_classes: int, seed: int) -> nn.Module:
    """Give a model a new random classifier, in place.

    Args:
        model: A timm model, or one whose last layer is a Linear called fc, head or classifier.
        num_classes: Outputs of the new classifier.
        seed: Seed of its weights.

    Returns:
        The new classifier, a module of the model, on the model's device.

    Raises:
        ValueError: If the model has no such layer.
    """
    where = next(model.parameters(), torch.empty(0)).device
    with torch.random.fork_rng(devices=[where] if where.type == "cuda" else []):
        torch.manual_seed(seed)
        if hasattr(model, "reset_classifier") and hasattr(model, "get_classifier"):
            timm_model: Any = model
            timm_model.reset_classifier(num_classes)
            model.to(where)
            head = timm_model.get_classifier()
            if isinstance(head, nn.Module) and any(True for _ in head.parameters()):
                return head
        else:
            for name in _HEADS:
                place = getattr(model, name, None)
                if isinstance(place, nn.Linear):
                    head = _fresh(place, num_classes)
                    setattr(model, name, head)
                    return head
                if isinstance(place, nn.Sequential) and len(place) and isinstance(place[-1], nn.Linear):
                    place[-1] = head = _fresh(place[-1], num_classes)
                    return head
            if isinstance(model, nn.Sequential) and len(model) and isinstance(model[-1], nn.Linear):
                model[-1] = head = _fresh(model[-1], num_classes)
                return head
    raise ValueError(
        f"expected a model with a classifier (timm's reset_classifier, or a Linear called {', '.join(_HEADS)}), "
        f"got a {type(model).__name__} without one: add the layer first"
    )


def _fresh(old: nn.Linear, num_classes: int) -> nn.Linear:
    return nn.Linear(old.in_features, num_classes, old.bias is not None, old.weight.device, old.weight.dtype)


def _features(model: nn.Module, head: nn.Module) -> str:
    """Hash all weights but the classifier's, so that a resume starts from the same pretrained ones."""
    own = {id(p) for p in head.parameters()}
    digest = hashlib.sha256()
    for name, value in model.state_dict(keep_vars=True).items():
        if id(value) not in own:
            raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(name.encode() + raw.numpy().tobytes())
    return digest.hexdigest()[:16]
