"""What is said of a data set beside its name: its title, its address on the Hub, the terms of its pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class DataSet:
    """What is said of a data set.

    Attributes:
        hub_id: What the Hub calls it; None if it is not there.
        title: What people call it.
        terms: The terms that its pictures come with.
        note: What to know of accuracies on its held-out images.
    """

    hub_id: str | None
    title: str
    terms: str = "not known here, to be named by whoever publishes these weights"
    note: str = ""


_IMAGENET = "whose terms of access are non-commercial research and education"
DATA_SETS = {
    "cifar10": DataSet("uoft-cs/cifar10", "CIFAR-10", "published without a licence, for research"),
    "cifar100": DataSet("uoft-cs/cifar100", "CIFAR-100", "published without a licence, for research"),
    "tiny-imagenet-32": DataSet(
        "zh-plus/tiny-imagenet", "Tiny-ImageNet-200 at 32x32", f"a part of ImageNet, {_IMAGENET}"
    ),
    "imagenet32": DataSet(None, "ImageNet at 32x32", f"of ImageNet, {_IMAGENET}"),
    "imagenet284-64-views9": DataSet(
        None,
        "173,394 photographs of 284 ImageNet classes at 64x64 (Tiny-ImageNet-200, mini-ImageNet and imagenette, merged "
        "by WordNet id), each as nine 32x32 views",
        f"parts of ImageNet, {_IMAGENET}",
        "Tiny-ImageNet and mini-ImageNet share 25 classes, and some of the former's validation images stand among the "
        "latter's training images (six near-duplicates were found at a correlation of 0.985, a lower bound): these "
        "accuracies may be slightly high.",
    ),
    "clothing-small": DataSet(None, "photographs of clothing (alexeygrigorev/clothing-dataset-small)", "CC0 1.0"),
    "digits": DataSet(None, "scikit-learn's digits", "CC BY 4.0"),
}


def data_set(name: Any) -> DataSet:
    """Give what is said of a data set, by its name or its folder; its name alone where there is no more."""
    short = Path(str(name)).name
    return DATA_SETS.get(short, DataSet(None, short))
