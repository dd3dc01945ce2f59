"""A share of every class that is set aside, drawn by a seed: the same of the same labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from robust_hub.numbers import real_number, whole_number

if TYPE_CHECKING:  # which is made of sources that set images aside
    from robust_hub.images.data import ImageData


def stratified(labels: Tensor, fraction: float, seed: int) -> Tensor:
    """Mark about `fraction` of every class and never all of it: bool (N,), the same for the same arguments."""
    generator = torch.Generator().manual_seed(seed)
    held = torch.zeros(len(labels), dtype=torch.bool)
    for label in torch.unique(labels):
        members = torch.where(labels == label)[0]
        count = min(round(fraction * len(members)), len(members) - 1)
        held[members[torch.randperm(len(members), generator=generator)[:count]]] = True
    return held


def holdout_split(data: ImageData, fraction: float, seed: int) -> tuple[ImageData, ImageData]:
    """Split data into a part to train on and a held-out part with about `fraction` of every class.

    The same arguments give the same split; both parts keep the order of the data. Every class keeps at
    least one image to train on.

    Raises:
        ValueError: If the fraction is outside (0, 1) or holds out no image.

    Example:
        >>> from robust_hub.images.data import load_data
        >>> train, held = holdout_split(load_data("digits"), 0.1, seed=0)
        >>> len(train), len(held), held.split
        (1167, 130, 'train-held-out')
    """
    fraction = real_number("a fraction in (0, 1)", fraction, above=0, below=1)
    held = stratified(data.labels, fraction, whole_number("a seed that is a whole number", seed, -(2**63), 2**63 - 1))
    if not bool(held.any()):
        raise ValueError(f"expected a fraction that holds out an image, got {fraction} of {len(data)} images: raise it")
    part = data.subset(held)
    part.split = f"{data.split}-held-out"
    return data.subset(~held), part
