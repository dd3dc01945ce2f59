"""Items: the torch Datasets that users bring, read as they give them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from robust_hub.images.indices import evenly
from robust_hub.images.nests import UNKNOWN, Names, Told, told
from robust_hub.images.seen import decodable
from robust_hub.images.source import Source
from robust_hub.images.tables import USUAL
from robust_hub.names import two_spellings

READINGS = 32  # pairs of readings that are compared: of an image flipped with probability 1/2, one in 2**32 is missed
Columns = tuple[str | None, str | None]


def items_source(dataset: Any, name: str, columns: Columns = (None, None)) -> Source:
    """Read the labels of a torch Dataset, from its `targets` if items agree with them, else from its items.

    Args:
        dataset: The Dataset; its items are (image, label), perhaps with more behind, or dicts with usual keys.
        name: What to call it.
        columns: The keys of image and label where items are dicts; None for a usual one.

    Raises:
        TypeError: If it has no length and indices, or its items are of another form.
        ValueError: If an item changes from one reading to the next, or its data sets disagree on class names.
    """
    if isinstance(dataset, IterableDataset | Mapping) or not _has_items(dataset):
        hint = ""
        if isinstance(dataset, DataLoader):
            hint = ": pass the data set that it reads, without random transforms"
        elif isinstance(dataset, IterableDataset):
            hint = ": collect its items first, list(dataset)"
        raise TypeError(f"expected a name, a folder or a Dataset with a length and indices, got {name}{hint}")
    if not len(dataset):
        return Source(name, dataset, [], None, encoded=False)
    items = _Items(dataset, name, columns)
    first = items.item(0)
    key = _key(first, "label", columns[1], items.where(0)) if isinstance(first, Mapping) else None
    known = told(dataset, lambda part, i: _Items(part, name, columns).pair(i)[1], key)
    sample = _compare_readings(items)
    if not all(_same(known.labels[i], label) for i, label in sample.items() if known.labels[i] is not UNKNOWN):
        known = Told([UNKNOWN] * len(dataset), known.names, known.labels)  # what items say counts
    labels = [items.pair(i)[1] if label is UNKNOWN else label for i, label in enumerate(known.labels)]
    merged, classes = _merged(labels, known, name)
    return Source(name, _Images(items, labels), merged, classes, encoded=False)


def _has_items(dataset: Any) -> bool:
    return hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__") and not isinstance(dataset, type)


@dataclass(frozen=True)
class _Items:
    """The items of a data set, each cut into image and label."""

    dataset: Any
    name: str
    columns: Columns

    def where(self, i: int) -> str:
        return f"index {i} of {self.name}"

    def item(self, i: int) -> Any:
        with decodable(self.where(i)):
            try:
                return self.dataset[i]
            except (KeyError, IndexError) as error:
                got = f"none at {self.where(i)} ({type(error).__name__})"
                raise TypeError(f"expected items by number, 0 to {len(self.dataset) - 1}, got {got}") from error

    def pair(self, i: int) -> tuple[Any, Any]:
        """Give image and label of item i.

        Raises:
            TypeError: If it is not clear which of its parts these are.
        """
        item, where = self.item(i), self.where(i)
        if isinstance(item, Mapping):
            image, label = (_key(item, word, given, where) for word, given in zip(USUAL, self.columns, strict=True))
            return item[image], item[label]
        if not isinstance(item, tuple | list) or len(item) < 2:
            raise TypeError(f"expected items (image, label), got {type(item).__name__} at {where}")
        numbers = [one for one in item[2:] if _is_number(one) and int(one) != i]  # the index of an item is no label
        if numbers:
            raise TypeError(
                f"expected items (image, label), got one with another number, {numbers[0]}, at {where}: which is the "
                "label? pass a data set that gives it alone"
            )
        return item[0], item[1]


@dataclass(frozen=True)
class _Images:
    """The images of items; one is refused whose label is another than it was before."""

    items: _Items
    labels: Sequence[Any]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> Any:
        image, label = self.items.pair(i)
        if not _same(label, self.labels[i]):
            got = f"label {self.labels[i]} and then {label} at {self.items.where(i)}"
            raise ValueError(f"expected items that stay the same, got {got}: give the data set without what changes it")
        return image


def _key(item: Mapping[str, Any], word: str, given: str | None, where: str) -> str:
    fitting = [key for key in item if key in USUAL[word]] if given is None else [given] if given in item else []
    if len(fitting) != 1:
        got = f"{', '.join(fitting) or 'none'} among the keys {', '.join(map(str, item))} at {where}"
        raise TypeError(f"expected items with one {word}, got {got}: pass {word}_column=, one of these keys")
    return fitting[0]


def _is_number(one: Any) -> bool:
    if isinstance(one, Tensor | np.ndarray | np.generic):
        return one.ndim == 0 and (not one.is_floating_point() if isinstance(one, Tensor) else one.dtype.kind in "iub")
    return isinstance(one, int)


def _compare_readings(items: _Items) -> dict[int, Any]:
    """Read some items twice or more, evenly spaced, and give their labels.

    Raises:
        ValueError: If one is not the same again.
    """
    chosen = evenly(len(items.dataset), READINGS)
    labels = {}
    for i in chosen:
        with decodable(items.where(i)):
            image, labels[i] = items.pair(i)
            for _ in range(-(-READINGS // len(chosen))):
                again, label = items.pair(i)
                if not (_same(image, again) and _same(label, labels[i])):
                    raise ValueError(
                        f"expected items that stay the same, got another one at {items.where(i)} when it was read "
                        "again: give the data set without random transforms (training crops and flips by itself, anew "
                        "in each epoch)"
                    )
    return labels


def _same(a: Any, b: Any) -> bool:
    """Tell whether two images, or two labels, are equal; NaN equals itself."""
    if a is b or (type(a) is int and type(b) is int):
        return a is b or bool(a == b)
    if isinstance(a, Image.Image) and isinstance(b, Image.Image):
        return a.size == b.size and a.mode == b.mode and a.tobytes() == b.tobytes()
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        a, b = (one.nan_to_num(2.0) if one.is_floating_point() else one for one in (a, b))
        return a.shape == b.shape and torch.equal(a, b)
    try:
        equal = a == b
        return bool(np.all(np.asarray(equal) | (np.asarray(a != a) & np.asarray(b != b))))
    except Exception:  # whatever objects of a user raise when they are compared: nothing is known
        return True


def _merged(labels: list[Any], known: Told, name: str) -> tuple[list[Any], Names | None]:
    """Give labels as indices into the names of all parts together.

    Parts whose names differ are matched by name, in the order of the part that has all names, else sorted.
    """
    false = {
        id(names)
        for label, names, meant in zip(labels, known.names, known.meant, strict=True)
        if names is not None and meant is not UNKNOWN and not _means(label, meant, names)
    }
    of_item = [None if id(names) in false else names for names in known.names]
    lists = list(dict.fromkeys(of_item))
    if len(lists) == 1:
        return labels, lists[0]
    if None in lists:
        got = f"some without, the first at index {of_item.index(None)} of {name}"
        raise ValueError(f"expected class names of all its data sets or of none, got {got}: give each its `classes`")
    together = sorted({one for names in lists if names is not None for one in names})
    if any(len(set(names)) < len(names) for names in lists if names is not None):
        raise ValueError(f"expected different class names in each data set of {name}, got one twice: rename it")
    if twins := two_spellings([names for names in lists if names is not None]):
        got = f"{twins[0]!r} and {twins[1]!r} in the data sets of {name}"
        raise ValueError(f"expected one spelling of a class, got {got}: rename one of them")
    merged = next((names for names in lists if names is not None and len(names) == len(together)), tuple(together))
    places = {one: k for k, one in enumerate(merged)}
    return [_place(i, label, of_item[i] or (), places, name) for i, label in enumerate(labels)], merged


def _means(label: Any, meant: Any, names: Names) -> bool:
    return _same(label, meant) or (isinstance(label, str) and label in names)


def _place(i: int, label: Any, names: Names, places: Mapping[str, int], name: str) -> Any:
    """Give the place of a label of item i among all names; what is no number or name stays, to be refused in words."""
    if isinstance(label, str):
        return label
    try:
        own = int(label) if float(label) == int(label) else None
    except (TypeError, ValueError, RuntimeError):
        own = None
    if own is None or own < 0:
        return label
    if own >= len(names):
        raise ValueError(f"expected labels from 0 to {len(names) - 1}, got {own} at index {i} of {name}: correct them")
    return places[names[own]]
