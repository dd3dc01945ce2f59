"""What a config.json may say of how weights came about: values of their types, and lines of text."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from robust_hub.parsing import is_number, shown

_LONGEST = 4096  # characters of a text
_RECIPE: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("architecture", "job", "pretrained", "data", "split", "fingerprint", "commit"), str),
    **dict.fromkeys(("epochs", "seed", "images"), int),
    **dict.fromkeys(("head_scale", "weight_decay", "learning_rate", "held_out_accuracy"), (int, float)),
    **{"head_only": bool, "sigmas": list, "weights": list, "versions": dict, "base": dict, "history": list},
    **{"held_out": dict, "trained_on": list},
}


def check_recipe(recipe: Any) -> dict[str, Any]:
    """Take how weights came about.

    Raises:
        ValueError: If a value is of another type than it is written with, or a text holds control characters.
    """
    if recipe is None:
        return {}
    if not isinstance(recipe, Mapping):
        raise ValueError(f"the recipe {shown(repr(recipe), 60)}, expected names and values")
    one: Any = recipe
    while isinstance(one, Mapping):
        for name, kind in _RECIPE.items():
            value = one.get(name)
            if value is not None and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
                raise ValueError(f"{name} {shown(repr(value), 60)} in its recipe, expected another type")
        for name in ("sigmas", "weights"):
            if not all(is_number(value) for value in one.get(name) or ()):
                raise ValueError(f"{name} {shown(repr(one[name]), 60)} in its recipe, expected numbers")
        if not all(isinstance(row, Mapping) for row in one.get("history") or ()):
            raise ValueError("a history in its recipe that is no list of epochs")
        one = one.get("base")
    for text in _texts(recipe):
        if len(text) > _LONGEST or any(unicodedata.category(c) == "Cc" for c in text):
            raise ValueError(f"{shown(repr(text), 60)} in its recipe, expected a line of text")
    return dict(recipe)


def printable(value: Any) -> Any:
    """Give JSON values with control characters escaped, as `check_recipe` wants the texts."""
    if isinstance(value, str):
        return shown(value, _LONGEST) if any(unicodedata.category(c) == "Cc" for c in value) else value[:_LONGEST]
    if isinstance(value, Mapping):
        return {printable(name): printable(inner) for name, inner in value.items()}
    return [printable(inner) for inner in value] if isinstance(value, list | tuple) else value


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield str(name)
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)
