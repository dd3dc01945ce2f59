"""What is asked of a network before it is trained: parameters, a training mode, logits of the data's classes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from robust_hub.images.data import ImageData
from robust_hub.memory import batch_in_memory
from robust_hub.models.calling import Calling, check_weights, find_calling
from robust_hub.models.logits import logits_of
from robust_hub.models.modes import eval_mode, uncompiled


@dataclass(frozen=True)
class Admitted:
    """What was learnt of a network on the way.

    Attributes:
        memory: The memory format that it trains in, images and weights: channels_last where it takes it.
        outputs: How many logits it gives.
    """

    memory: torch.memory_format
    outputs: int


def admit(model: nn.Module, data: ImageData, size: int | None) -> Admitted:
    """Ask a network what a training needs of it.

    Args:
        model: A classifier.
        data: The training data.
        size: Side of the images that it sees, in pixels; None for their own size.

    Raises:
        ValueError: If it cannot be trained, does not take such images, or has fewer outputs than the data classes.
    """
    check_weights(model)
    _check_trainable(model)
    where = next(model.parameters()).device
    shape = data.image_shape if size is None else (data.image_shape[0], size, size)
    images = torch.rand((2, *shape), generator=torch.Generator().manual_seed(0)).to(where)
    with batch_in_memory(len(images)), eval_mode(model), torch.autocast(where.type, enabled=False):
        calling = _calling(model, images)
        if calling.dtype != torch.float32:
            raise ValueError(
                f"expected a model that takes float32 images, got one in {calling.dtype}: call model.float() first; "
                "mixed_precision computes in another type"
            )
        with torch.no_grad():
            logits = logits_of(uncompiled(model)(calling.place(images)))
    if logits.shape[1] < data.num_classes:
        raise ValueError(
            f"expected at least {data.num_classes} outputs, one per class of the data, got {logits.shape[1]}: "
            f"reset the classifier with model.reset_classifier({data.num_classes})"
        )
    return Admitted(calling.memory, int(logits.shape[1]))


def _calling(model: nn.Module, images: Tensor) -> Calling:
    """Find how a network is called with weights in channels_last memory, else in contiguous, where they end."""
    plain = uncompiled(model)
    model.to(memory_format=torch.channels_last)
    try:
        calling = find_calling(plain, images)
    except ValueError:
        calling = Calling(torch.contiguous_format)
    finally:
        model.to(memory_format=torch.contiguous_format)
    return calling if calling.memory == torch.channels_last else find_calling(plain, images)


def _check_trainable(model: nn.Module) -> None:
    """Refuse a network that has nothing to train, or no training mode."""
    if not any(parameter.is_floating_point() for parameter in model.parameters()):
        raise ValueError(
            f"expected a network with parameters to train, got a {type(model).__name__} without: train the network "
            "that it was quantised or made from"
        )
    if any(isinstance(module, GraphModule) and "train" in vars(module) for module in model.modules()):
        raise ValueError(
            "expected a network that can be put in training mode, got one that torch.export made: train the network "
            "that it was exported from, and export it again"
        )
