"""Which images are kept apart from a training to judge what comes of it: a split of the data, or a part of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from robust_hub.images.content import SAMPLE, from_texts, hashes_of
from robust_hub.images.data import ImageData
from robust_hub.images.held_out import FEW, hold_out
from robust_hub.images.indices import evenly
from robust_hub.images.parts import has_split
from robust_hub.images.splits import split_roles
from robust_hub.models.modes import unwrapped
from robust_hub.notes import say
from robust_hub.numbers import real_number
from robust_hub.provenance import provenance_of
from robust_hub.training.train import Apart

SHARE, MOST = 0.1, 5_000  # of every class, and of all images, that is held out by default


def validation_of(
    data: ImageData, source: Any, load: Callable[[str], ImageData], **how: Any
) -> float | ImageData | None:
    """Find what judges a training on data where the caller does not say: their validation split, else a part of them.

    Args:
        data: The training data.
        source: The name, folder or DatasetDict that they were loaded from.
        load: Loads another split of it.
        how: Layout and columns, as of `robust_hub.images.parts.has_split`.

    Returns:
        The validation split; a share to hold out, of data without validation and test split; None where there is a test
        split alone, or the training data are no training split.
    """
    if split_roles([data.split]).get(data.split, "train") != "train":
        return None
    if has_split(source, "val", data.split, **how):
        found = _renumbered(load("val"), data)
        if found is None:
            say(f"{data.name}: its validation split has other classes than the training images, and is left aside")
        else:
            say(f"{data.name}: judged on its validation split, {len(found):,} images, after the training")
        return found
    if has_split(source, "test", data.split, **how):
        return None
    if int(torch.bincount(data.labels).max()) < FEW:
        say(f"{data.name}: no class has {FEW} images, so none are held out: certify needs others, or say --val")
        return None
    return min(SHARE, MOST / len(data))


def keep_apart(data: ImageData, val: float | ImageData | None) -> tuple[ImageData, Apart | None]:
    """Split data into those to train on and those that judge.

    Args:
        data: The data.
        val: A share to hold out, images of another split, or None or 0 for none.

    Raises:
        ValueError: If a share is outside [0, 1), holds out no image or too many, or images of another split are of
            another size or class than the data, or all trained on.
    """
    if isinstance(val, ImageData):
        return data, Apart(_judges(val, data))
    if val is None:
        return data, None
    share = real_number("val, the share that is held out, in [0, 1)", val, least=0, below=1)
    if share == 0:
        return data, None
    train, held, which = hold_out(data, share)
    say(
        f"{data.name}: {len(held):,} of {len(data):,} images ({100 * len(held) / len(data):.0f} %) are held out of "
        f"training, for certify (--val){_left_out(data, held)}"
    )
    return train, Apart(held, which, data.data_hash)


def _left_out(data: ImageData, held: ImageData) -> str:
    """Say how many classes have no held-out image."""
    lacking = len(torch.unique(data.labels)) - len(torch.unique(held.labels))
    return f"; {lacking} {'class has' if lacking == 1 else 'classes have'} too few for that" if lacking else ""


def unseen_before(model: nn.Module, apart: Apart | None) -> Apart | None:
    """Leave out what was trained on before, by the trainings that a network starts from; None if nothing is left."""
    start = provenance_of(unwrapped(model))
    if apart is None or start is None:
        return apart
    known = frozenset[str]().union(*(from_texts(one.trained_on or ()) for one in start.lineage()))
    unseen = [i for i, one in enumerate(hashes_of(apart.data) if known else []) if one not in known]
    if not known or len(unseen) == len(apart.data):
        return apart
    say(
        f"{apart.data.name}: {len(apart.data) - len(unseen):,} of {len(apart.data):,} images that are kept apart were "
        "trained on before, by the network that this starts from: they judge nothing"
    )
    return replace(apart, data=apart.data.subset(unseen)) if unseen else None


def _judges(val: ImageData, data: ImageData) -> ImageData:
    """Give the images of another split that can judge a training on data: those that it does not see itself."""
    if val.image_shape != data.image_shape:
        raise ValueError(
            f"expected images in val of the shape that is trained on, {data.image_shape}, got {val.image_shape}: "
            "load both with the same size and channels"
        )
    found = _renumbered(val, data)
    if found is None:
        raise ValueError("expected val of the classes that are trained on, got others as well: leave val out, or say 0")
    trained = set(hashes_of(data, None if data.in_memory else evenly(len(data), SAMPLE)))
    unseen = [i for i, one in enumerate(hashes_of(found)) if one not in trained]
    if not unseen:
        raise ValueError(
            f"expected images in val that are not trained on, got {len(val):,} that all are: say 0.1, or 0"
        )
    if len(unseen) == len(found):
        return found
    say(f"{val.name}: {len(found) - len(unseen):,} of {len(found):,} images are trained on, too, and judge nothing")
    return found.subset(unseen)


def _renumbered(data: ImageData, like: ImageData) -> ImageData | None:
    """Give data the labels of other data's classes; None if they have a class that those lack."""
    if data.classes == like.classes:
        return data
    number = {name: k for k, name in enumerate(like.classes)}
    if not data.named and data.num_classes == like.num_classes:
        return data.renumbered(data.labels, like.classes)
    if not set(data.classes) <= number.keys():
        return None
    labels = torch.tensor([number[name] for name in data.classes])[data.labels]
    return data.renumbered(labels, like.classes)
