"""Labels: what a source gives for labels becomes whole numbers, and names of the classes."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from robust_hub.names import two_spellings

MISSING = "missing"
MOST_CLASSES = 1_000_000  # a larger label is no number of a class


def class_indices(labels: Sequence[Any], classes: Sequence[str] | None, name: str) -> tuple[Tensor, Sequence[str]]:
    """Give labels as indices into names of classes.

    Whole numbers are indices, however they are held (1, np.int64(1), tensor(1), True, 1.0). Strings are names: of the
    classes that the source has, else each its own class, in sorted order.

    Args:
        labels: One label an image, at least one.
        classes: Names of the classes; None if the source does not say.
        name: What the data are, for an error's words.

    Returns:
        int64 (N,), and the names: those that were given, else the strings, else "0", "1" up to the largest label.

    Raises:
        TypeError: If a label is missing or of another kind, with its index.
        ValueError: If a label is outside the classes, with its index.
    """
    kinds = [_kind(label) for label in labels]
    strange = next((i for i, kind in enumerate(kinds) if kind not in (int, str)), None)
    if strange is not None:
        raise TypeError(_refusal(labels[strange], strange, kinds, name))
    if len(set(kinds)) > 1 and classes is None:
        first = kinds.index(str if kinds[0] is int else int)
        got = f"whole numbers and strings, the first of these kinds at indices 0 and {first} of {name}"
        raise TypeError(f"expected integer labels, got {got}: make them all numbers or all names")
    if str in kinds:
        classes = sorted(set(map(str, labels))) if classes is None else classes
        if twins := two_spellings([classes]):
            got = f"{twins[0]!r} and {twins[1]!r} in {name}"
            raise ValueError(f"expected one spelling of a class, got {got}: correct one of them")
        labels = _numbered(labels, classes, name)
    numbers = [_whole(label) for label in labels]
    if not classes:
        classes = numbered_classes(max(numbers), name)
    # What no int64 holds is outside as well.
    indices = torch.tensor([k if 0 <= k < len(classes) else -1 for k in numbers], dtype=torch.int64)
    outside = torch.where(indices < 0)[0].tolist()
    if outside:
        got = f"{numbers[outside[0]]} at index {outside[0]} of {name}{_more(len(outside))}"
        raise ValueError(
            f"expected labels from 0 to {len(classes) - 1}, got {got}: correct them or choose a split that has them"
        )
    return indices, classes


def numbered_classes(largest: int, name: str) -> list[str]:
    """Name classes by their numbers, "0", "1" and so on up to the largest label.

    Raises:
        ValueError: If that is too large for the number of a class.
    """
    if largest >= MOST_CLASSES:
        got = f"{largest} in {name}"
        raise ValueError(
            f"expected whole numbers from 0 for labels, below {MOST_CLASSES:,}, got {got}: number the classes 0, 1, 2 "
            "and so on, or give their names as texts"
        )
    return [str(k) for k in range(largest + 1)]


def _kind(label: Any) -> Any:
    """Tell what a label is: int, str, MISSING, or its own type for what is none of these."""
    if isinstance(label, str):
        return str
    if label is None or (isinstance(label, float) and label != label):
        return MISSING
    try:
        _whole(label)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return type(label)
    return int


def _whole(label: Any) -> int:
    """Give a whole number, of a float or of an array of one number as well.

    Raises:
        TypeError: If it is none.
    """
    if hasattr(label, "item") and getattr(label, "ndim", 0) <= 1:
        label = label.item()
    if isinstance(label, float) and label.is_integer():
        return int(label)
    return operator.index(label)


def _numbered(labels: Sequence[Any], classes: Sequence[str], name: str) -> list[Any]:
    """Give names as their places among those of the classes; numbers stay."""
    places = {str(one): k for k, one in enumerate(classes)}
    counts = Counter(map(str, classes))
    for i, label in enumerate(labels):
        if isinstance(label, str) and counts[label] > 1:
            got = f"{counts[label]} called {label!r}, the label at index {i} of {name}"
            raise ValueError(f"expected classes with names of their own, got {got}: rename them, or give numbers")
        if isinstance(label, str) and label not in places:
            known = ", ".join(list(places)[:5]) + (", ..." if len(places) > 5 else "")
            raise ValueError(f"expected labels among the classes {known}, got {str(label)!r} at index {i} of {name}")
    return [places[label] if isinstance(label, str) else label for label in labels]


def _refusal(label: Any, i: int, kinds: Sequence[Any], name: str) -> str:
    where, kind = f"at index {i} of {name}", type(label).__name__
    if kinds[i] == MISSING:
        count = Counter(map(str, kinds))[MISSING]
        return f"expected integer labels, got {label} {where}{_more(count)}: leave out the images without a label"
    if isinstance(label, dict | bytes) or not hasattr(label, "__len__") or not getattr(label, "ndim", 1):
        got = f"{kind} {label}" if isinstance(label, float) or hasattr(label, "ndim") else kind
        return f"expected integer labels, got {got} {where}: give the number of the class, or its name"
    advice = "give one class an image, such as label.argmax() of a one-hot one"
    return f"expected integer labels, got {kind} of {len(label)} {where}: {advice}"


def _more(count: int) -> str:
    return f", and {count - 1:,} more" if count > 1 else ""
