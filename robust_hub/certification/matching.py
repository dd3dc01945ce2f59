"""Classes have names: which output of a network is which class of the data.

Data number their classes as they are found: a folder that lacks one shifts all that follow, and another order permutes
them. So the two are matched by name, and by position where names say nothing or where the caller wants it so.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch

from robust_hub.certification.smoothing import SmoothedClassifier
from robust_hub.images.data import ImageData
from robust_hub.models.classes import class_names
from robust_hub.models.modes import uncompiled
from robust_hub.names import did_you_mean, name_key, without_zeros
from robust_hub.parsing import shown

Classes: TypeAlias = Literal["by position"] | Sequence[str] | None
BY_NAME, BY_POSITION = "by name", "by position"
_NUMBER = re.compile(r"(?:(?:label|class)[\s_-]*)?\d+", re.IGNORECASE)
_TOLD = f"classes={BY_POSITION!r} (--classes by-position)"
_SHOWN = 4  # names in an error


@dataclass(frozen=True)
class ClassMap:
    """Say which output of a network each class of the data is.

    Attributes:
        outputs: The output of each class of the data; None of a class that has no image and no output.
        names: Names of the network's outputs; None where neither network nor data say them.
        matched: "by name" or "by position".
    """

    outputs: tuple[int | None, ...]
    names: tuple[str, ...] | None
    matched: str

    def output(self, label: int) -> int:
        """Give the output that is the class of a label of the data."""
        output = self.outputs[label]
        assert output is not None, label  # of a class that has no image
        return output

    def renumber(self, data: ImageData) -> ImageData:
        """Give the data with outputs of the network for labels, for what compares the two itself."""
        labels = torch.tensor([self.output(label) for label in data.labels.tolist()], dtype=torch.int64)
        return data.renumbered(labels, self.names or data.classes)

    def describe(self) -> dict[str, Any]:
        """Give the values that a run's identity keeps: nothing where labels are outputs and nobody names them."""
        moved = self.outputs != tuple(range(len(self.outputs)))
        named = {} if self.names is None else {"classes": list(self.names), "matched": self.matched}
        return {**named, **({"outputs": list(self.outputs)} if moved else {})}


def match(smoothed: SmoothedClassifier, data: ImageData, classes: Classes = None) -> ClassMap:
    """Match the data's classes with a network's outputs, which one image counts.

    Args:
        smoothed: Brings the network, with the names of its outputs if it has any.
        data: The images, with the names of their classes.
        classes: As of `match_classes`.

    Raises:
        ValueError: As `match_classes`.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from robust_hub.models.classes import note_class_names
        >>> network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3))
        >>> note_class_names(network, ("cat", "dog", "owl"))
        >>> smoothed = SmoothedClassifier(network, mean=(0, 0, 0), std=(1, 1, 1))
        >>> pixels = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
        >>> data = ImageData(pixels, torch.tensor([0, 1]), ("owl", "dog"), name="pets", split="test")
        >>> match(smoothed, data).outputs
        (2, 1)
    """
    plain = uncompiled(smoothed.model)  # a compiled network would be built for this one image
    if plain is not smoothed.model:
        smoothed = SmoothedClassifier(plain, mean=smoothed.mean, std=smoothed.std)
    outputs = smoothed.sampler.logits(torch.zeros(1, *data.image_shape)).shape[1]
    return match_classes(data, class_names(plain, outputs), outputs, classes)


def match_classes(data: ImageData, own: Sequence[str] | None, outputs: int, classes: Classes = None) -> ClassMap:
    """Match the data's classes with a network's outputs.

    Names are compared without regard to case, separators and the form of their Unicode, where that leaves no doubt.
    Only classes that have an image count. Names say nothing where one side has none, or has numbers for words: then
    positions are taken if there are as many classes as outputs, with a warning.

    Args:
        data: The images, with the names of their classes.
        own: Names of the network's outputs; None if it has none.
        outputs: How many outputs the network has.
        classes: None matches by name; "by position" has label k be output k, whatever the names; or the names of the
            network's outputs, in place of its own.

    Raises:
        ValueError: If the data have a class that the network does not know, the names leave a doubt, or `classes` is
            something else.
    """
    own = _choice(classes, own, outputs)
    by_position = isinstance(classes, str) and classes == BY_POSITION
    if not by_position:
        if own is not None and data.classes == own:
            return ClassMap(tuple(range(outputs)), own, BY_NAME)
        found = None if own is None else _by_name(data, own)
        if found is not None:
            return ClassMap(found, own, BY_NAME)
        _check_count(data, own, outputs)
    return _by_position(data, own, outputs, told=by_position)


def _choice(classes: Classes, own: Sequence[str] | None, outputs: int) -> tuple[str, ...] | None:
    """Give the names of the outputs: the caller's, else the network's own."""
    if classes is None or (isinstance(classes, str) and classes == BY_POSITION):
        return None if own is None else tuple(own)
    names: Any = classes.tolist() if hasattr(classes, "tolist") else classes
    ordered = isinstance(names, Sequence) and not isinstance(names, str | bytes)  # a set or a dict has no such order
    if not ordered or not all(isinstance(name, str) for name in names):
        raise ValueError(
            f"expected classes={BY_POSITION!r}, or the names of the network's classes, got {shown(repr(classes), 80)}: "
            "give a list of names in the order of its outputs, or leave it out to match by name"
        )
    if len(names) != outputs:
        raise ValueError(
            f"expected a name for each of the network's {outputs} classes, got {len(names)} names: name them in the "
            "order of its outputs"
        )
    return tuple(map(str, names))


def _by_name(data: ImageData, own: tuple[str, ...]) -> tuple[int | None, ...] | None:
    """Find each of the data's classes among the network's; None where names say nothing."""
    present = set(torch.unique(data.labels).tolist())
    found = _find(data.classes, own)
    unknown = [name for k, name in enumerate(data.classes) if k in present and found[k] is None]
    if not data.named:  # they are their labels
        if not unknown and all(found[k] == k for k in present):
            return found
        if all(name.isdecimal() for name in own):
            raise ValueError(
                f"expected names of the data's classes, as the network calls its own {_list(own)}, got labels without "
                f"names in {shown(data.name)}: pass {_TOLD} if label k is output k"
            )
        return None
    if not unknown:
        return found
    if _are_numbers(data.classes) != _are_numbers(own):
        return None
    alike = [name for name in own if name_key(name) == name_key(unknown[0])]
    near = shown(did_you_mean(unknown[0], () if alike else own, alike or own[:_SHOWN]))
    raise ValueError(
        f"expected classes that the network knows, got {_list(unknown)} in {shown(data.name)} "
        f"({'it has several of that name' if unknown[0] in own else near}): rename or leave out what it does not "
        f"know, fine-tune it on these data, or pass {_TOLD} if label k is its output k"
    )


def _find(names: Sequence[str], own: Sequence[str]) -> tuple[int | None, ...]:
    """Give the place of each name among a network's own, None where there is none or there are several."""
    exact = _places(own)
    alike, mine = _places([name_key(name) for name in own]), Counter(map(name_key, set(names)))
    return tuple(
        exact[name] if name in exact else alike.get(name_key(name)) if mine[name_key(name)] == 1 else None
        for name in names
    )


def _places(names: Sequence[str]) -> dict[str, int | None]:
    """Give where each name stands, None of one that stands in several places."""
    counts = Counter(names)
    return {name: k if counts[name] == 1 else None for k, name in enumerate(names)}


def _check_count(data: ImageData, own: Sequence[str] | None, outputs: int) -> None:
    """Refuse to take positions for another number of classes."""
    if (count := len(data.classes)) == outputs:
        return
    what = f"{count} classes, {_list(data.classes)}" if data.named else f"labels up to {count - 1} without names"
    why = "it has no names to match them by" if own is None else f"its own are {_list(own)}"
    raise ValueError(
        f"expected labels of the model's {outputs} classes, got {what}, in {shown(data.name)}, and {why}: fine-tune it "
        f"on these data, or pass {_TOLD} if label k is its output k"
    )


def _by_position(data: ImageData, own: tuple[str, ...] | None, outputs: int, *, told: bool) -> ClassMap:
    """Take label k for output k, and say so where there is a doubt that the caller has not settled."""
    largest = int(data.labels.max()) if len(data) else -1
    if largest >= outputs:
        raise ValueError(
            f"expected labels of the model's {outputs} classes, got {largest} ({shown(data.classes[largest], 80)}) in "
            f"{shown(data.name)}: fine-tune it on these data"
        )
    theirs = data.classes if data.named else None
    words = [names for names in (own, theirs) if names is not None and not _are_numbers(names)]
    order = _order(theirs)
    if words and not told:
        why = "has no class names" if own is None else f"calls its classes {_list(own)}"
        _warn(
            f"this network {why}, so the classes of {shown(data.name)}, {_list(data.classes)}, are taken by position, "
            f"label k for output k{order}: pass {_TOLD} if that is right"
        )
    elif order:
        _warn(f"the classes of {shown(data.name)} are taken by position, label k for output k{order}")
    known = own or (data.classes if len(data.classes) == outputs else None)
    return ClassMap(tuple(k if k < outputs else None for k in range(len(data.classes))), known, BY_POSITION)


def _order(names: Sequence[str] | None) -> str:
    """Say how numbers that are names are ordered, where text and number differ; else nothing."""
    if names is None or not all(name.isdecimal() for name in names):
        return ""
    numbers = [(len(without_zeros(name)), without_zeros(name)) for name in names]
    if numbers == sorted(numbers):
        return ""
    return (
        f", in the order {_list(names)}, that of text and of torchvision's ImageFolder (timm's readers count 1, 2, 10)"
    )


def _warn(words: str) -> None:
    warnings.warn(words, UserWarning, stacklevel=6)  # at the call of certify


def _are_numbers(names: Sequence[str]) -> bool:
    """Tell whether names are numbers alone, such as "0" or "LABEL_0", which say no more than a position."""
    return all(_NUMBER.fullmatch(name) for name in names)


def _list(names: Sequence[str]) -> str:
    return ", ".join(repr(shown(name, 40)) for name in names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
