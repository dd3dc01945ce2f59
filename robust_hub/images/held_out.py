"""The part of a data set that is held out of training, known by the content of its images.

An image is known by a hash of its pixels as the network sees them. Files that are added, renamed or listed in another
order therefore never turn an image that was trained on into one that was held out, and copies of an image stand on
one side. Which images are held out depends on the images alone: the same in every training on the same data.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from robust_hub.images.content import as_texts, from_texts, hashes_of
from robust_hub.images.data import ImageData
from robust_hub.numbers import real_number

FEW = 5  # different images of a class, from which on one at least is held out
MOST = 20_000  # held-out images, which config.json lists
SUFFIX = "-held-out"  # of the split that held-out images are


@dataclass(frozen=True)
class HeldOut:
    """Which images are held out.

    Attributes:
        fraction: The share of every class that was asked for.
        images: How many images they were, copies included.
        hashes: What they are, see `robust_hub.images.content`.
    """

    fraction: float
    images: int
    hashes: frozenset[str]

    def to_json(self) -> dict[str, Any]:
        """Give JSON values, the hashes in texts of many."""
        return {"fraction": self.fraction, "images": self.images, "hashes": as_texts(self.hashes)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> HeldOut:
        """Read what `to_json` gave.

        Raises:
            ValueError: If it is something else.
        """
        try:
            return cls(float(values["fraction"]), int(values["images"]), from_texts(values["hashes"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"expected a record of held-out images, got a damaged one ({error}): restore config.json"
            ) from None

    def among(self, data: ImageData) -> list[int]:
        """Give the indices of the images that are of it, in order."""
        return [i for i, one in enumerate(hashes_of(data)) if one in self.hashes]


def hold_out(data: ImageData, fraction: float) -> tuple[ImageData, ImageData, HeldOut]:
    """Split data into a part to train on and a held-out part with about `fraction` of every class.

    Of each class's different images, those with the smallest hashes are held out: at least one where there are five,
    never all. Images that are there with several labels are trained on.

    Args:
        data: The images.
        fraction: Share of every class that is held out, in (0, 1).

    Returns:
        The part to train on, the held-out part, both in the order of the data, and which images the latter is.

    Raises:
        ValueError: If the fraction is outside (0, 1), holds out no image or more than config.json lists.

    Example:
        >>> from robust_hub.images.data import load_data
        >>> train, held, which = hold_out(load_data("digits"), 0.1)
        >>> len(train), len(held), held.split, which.among(train)
        (1167, 130, 'train-held-out', [])
    """
    fraction = real_number("a share of the images in (0, 1)", fraction, above=0, below=1)
    hashes = hashes_of(data)
    chosen = frozenset(_chosen(hashes, data.labels.tolist(), fraction))
    if not chosen:
        raise ValueError(
            f"expected a share that holds out an image, got {fraction} of {len(data)} images: raise it (--val), "
            "or say 0"
        )
    if len(chosen) > MOST:
        raise ValueError(
            f"expected at most {MOST:,} held-out images, got {fraction} of {len(data):,}: make it smaller, or make a "
            "split of them"
        )
    held = torch.tensor([one in chosen for one in hashes])
    part = data.subset(torch.where(held)[0])
    part.split = f"{data.split}{SUFFIX}"
    return data.subset(torch.where(~held)[0]), part, HeldOut(fraction, len(part), chosen)


def _chosen(hashes: Sequence[str], labels: Sequence[int], fraction: float) -> Iterable[str]:
    """Choose hashes of each class, the smallest ones."""
    found: dict[str, set[int]] = defaultdict(set)
    for one, label in zip(hashes, labels, strict=True):
        found[one].add(label)
    classes: dict[int, list[str]] = defaultdict(list)
    for one, of in found.items():
        if len(of) == 1:
            classes[min(of)].append(one)
    for own in classes.values():
        least = 1 if len(own) >= FEW else 0
        yield from sorted(own)[: min(max(round(fraction * len(own)), least), len(own) - 1)]
