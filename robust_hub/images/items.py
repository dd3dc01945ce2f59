"""Items: the torch Datasets that users bring, read as they give them."""

from __future__ import annotations

from typing import Any

from torch.utils.data import IterableDataset

from robust_hub.images.source import Source


def items_source(dataset: Any, name: str) -> Source:
    """Read the labels of a torch Dataset, from its `targets` if it has them, else from its items."""
    if isinstance(dataset, IterableDataset) or not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
        raise TypeError(f"expected a name, a folder or a Dataset with a length and indices, got {name}")
    joint = type(getattr(dataset, "transforms", None)).__name__ not in ("NoneType", "StandardTransform")
    plain = getattr(dataset, "target_transform", None) is None and not joint
    labels = getattr(dataset, "targets", None) if plain else None
    if labels is None or len(labels) != len(dataset):
        labels = []
        for i in range(len(dataset)):
            item = dataset[i]
            if not isinstance(item, tuple | list) or len(item) != 2:
                raise TypeError(f"expected items (image, label), got {type(item).__name__} at index {i} of {name}")
            labels.append(item[1])
    classes = getattr(dataset, "classes", None) or getattr(getattr(dataset, "dataset", None), "classes", None)
    return Source(name, dataset, labels, [str(c) for c in classes] if classes else None, key=0, encoded=False)
