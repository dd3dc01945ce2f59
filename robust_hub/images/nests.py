"""Nests: data sets within data sets, and what they say of the labels and class names of each item.

PyTorch's Subset, random_split and ConcatDataset choose and join items; the names of the classes stay with the data sets
within. A wrapper of another kind may change labels: the names within hold for it only where its labels are equal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import ConcatDataset, Subset

from robust_hub.images.indices import evenly
from robust_hub.images.tables import class_names, is_table, is_transformed

UNKNOWN = object()  # a label that only the item itself tells
_COMPARED = 256  # items within a wrapper whose labels are compared with its own, where only items tell them
Names = tuple[str, ...]


@dataclass(frozen=True)
class Told:
    """What a data set says of its items without being read; one entry an item.

    Attributes:
        labels: The labels, or UNKNOWN.
        names: The class names that a label is an index of, or None.
        meant: The labels for which these names are meant, or UNKNOWN where the data set itself says the names.
    """

    labels: list[Any]
    names: list[Names | None]
    meant: list[Any]

    def at(self, indices: Sequence[int]) -> Told:
        """Give the entries of some items."""
        return Told(*([column[i] for i in indices] for column in (self.labels, self.names, self.meant)))


def told(dataset: Any, label_of: Callable[[Any, int], Any], label: str | None = None) -> Told:
    """Say what a data set, and those within it, tell of each item.

    Args:
        dataset: A Dataset with a length and indices.
        label_of: Reads the label of an item: of a data set and an index.
        label: The key of the labels, where items are dicts.
    """
    count = len(dataset)
    own = _own_names(dataset, label)
    if own is not None or not hasattr(dataset, "dataset" if not isinstance(dataset, ConcatDataset) else "datasets"):
        return _leaf(dataset, own, label)
    if isinstance(dataset, ConcatDataset):
        parts = [told(part, label_of, label) for part in dataset.datasets]
        within = Told(*([one for part in parts for one in getattr(part, name)] for name in Told.__annotations__))
        chosen: Sequence[int] = range(count)
        read = [(part, i) for part in dataset.datasets for i in range(len(part))]  # type: ignore[arg-type]
    else:
        inner = dataset.dataset
        if not (hasattr(inner, "__getitem__") and hasattr(inner, "__len__")):
            return _leaf(dataset, None, label)
        chosen = [int(i) for i in getattr(dataset, "indices", range(len(inner)))]
        if len(chosen) != count:
            return _leaf(dataset, None, label)
        within = told(inner, label_of, label)
        read = [(inner, i) for i in range(len(inner))]
    if type(dataset) in (Subset, ConcatDataset):
        return within.at(chosen)
    own_labels = [UNKNOWN] * count if _changes_labels(dataset) else _targets(dataset, label)
    return _wrapper(own_labels, within.at(chosen), [read[i] for i in chosen], label_of)


def _wrapper(
    labels: list[Any], within: Told, read: Sequence[tuple[Any, int]], label_of: Callable[[Any, int], Any]
) -> Told:
    """Say what holds of a data set with labels of its own, which may be others than those of the one within."""
    meant = [m if label is UNKNOWN else label for label, m in zip(within.labels, within.meant, strict=True)]
    for i in evenly(len(meant), _COMPARED):
        if meant[i] is UNKNOWN and within.names[i] is not None:
            meant[i] = label_of(*read[i])
    return Told(labels, within.names, meant)


def _leaf(dataset: Any, names: Names | None, label: str | None) -> Told:
    count = len(dataset)
    targets = _targets(dataset, label)
    known = bool(targets) and targets[0] is not UNKNOWN
    if not _changes_labels(dataset):
        return Told(targets, [names] * count, targets)
    transform = getattr(dataset, "target_transform", None)
    if names is not None and not known and not (callable(transform) and _keeps(transform, len(names))):
        names = None  # nothing tells what its labels were before
    return Told([UNKNOWN] * count, [names] * count, targets)


def _targets(dataset: Any, label: str | None) -> list[Any]:
    """Give the labels that a data set keeps beside its items, or UNKNOWN for each."""
    if is_table(dataset):
        column = _label_column(dataset, label)
        kept: Any = None if column is None else dataset.with_format(None)[column]
    else:
        kept = getattr(dataset, "targets", None)
    if not hasattr(kept, "__len__") or len(kept) != len(dataset):
        return [UNKNOWN] * len(dataset)
    return list(kept.tolist() if hasattr(kept, "tolist") else kept)  # a list of tensors is slow to compare


def _own_names(dataset: Any, label: str | None) -> Names | None:
    """Give the class names that a data set itself has: `classes`, `class_to_idx`, or a ClassLabel feature."""
    if is_table(dataset):
        column = _label_column(dataset, label)
        return None if column is None else class_names(dataset.features, column)
    if getattr(dataset, "named", True) is False:  # an ImageData that calls its classes by their labels
        return None
    listed = _listed(getattr(dataset, "classes", None))
    for owner in (dataset, getattr(dataset, "reader", None)):  # of timm's data sets the reader knows
        numbers = getattr(owner, "class_to_idx", None)
        if listed is not None and isinstance(numbers, Mapping):
            _check_order(listed, numbers, type(dataset).__name__)
        listed = _listed(numbers) if listed is None else listed
    return listed


def _check_order(listed: Names, numbers: Mapping[Any, Any], name: str) -> None:
    """Refuse `classes` that are not where `class_to_idx` says: which of the two the labels follow, nobody knows.

    Raises:
        ValueError: If one is elsewhere. Other words than those of `classes` say nothing.
    """
    moved = [(k, one) for k, one in enumerate(listed) if numbers.get(one, k) != k]
    if moved:
        k, one = moved[0]
        got = f"{one!r}, number {k} of the classes, as {numbers[one]}"
        raise ValueError(
            f"expected classes and class_to_idx of {name} in one order, got {got}: give `classes` in the order of the "
            "labels, and class_to_idx likewise"
        )


def _listed(names: Any) -> Names | None:
    """Give names in the order of their numbers: of a sequence, or of a dict from or to numbers; else None.

    A set has no order. A class with several names, as ImageNet's have them, is called by all.
    """
    if isinstance(names, Mapping):
        turned = {value: key for key, value in names.items() if _is_whole(value)}
        for numbers in (turned, names):
            if len(numbers) == len(names) and set(numbers) == set(range(len(names))):
                return _listed([numbers[k] for k in range(len(names))])
        return None
    if isinstance(names, str | bytes | Set) or not hasattr(names, "__iter__") or not hasattr(names, "__len__"):
        return None
    names = names.tolist() if hasattr(names, "tolist") else names
    return tuple(", ".join(map(str, one)) if isinstance(one, tuple | list) else str(one) for one in names) or None


def _is_whole(number: Any) -> bool:
    return isinstance(number, int | np.integer)


def _label_column(table: Any, label: str | None) -> str | None:
    """Give the column of the labels; where a transform gave them another key, the only one with class names."""
    if label is None or label in table.column_names:
        return label
    named = [column for column in table.column_names if class_names(table.features, column)]
    return named[0] if len(named) == 1 else None


def _changes_labels(dataset: Any) -> bool:
    """Tell whether a data set says that it may make other labels of those that it keeps."""
    joint = type(getattr(dataset, "transforms", None)).__name__ not in ("NoneType", "StandardTransform")
    return is_transformed(dataset) or joint or getattr(dataset, "target_transform", None) is not None


def _keeps(transform: Callable[[int], Any], count: int) -> bool:
    try:
        return all(int(transform(k)) == k for k in range(count))
    except Exception:  # whatever a user's function raises of a label that it does not expect
        return False
