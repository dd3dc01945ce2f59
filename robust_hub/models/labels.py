"""The names of a network's outputs in config.json: timm's `label_names`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robust_hub.files import replace_text
from robust_hub.layout import CONFIG
from robust_hub.parsing import read_bounded_json, shown

FIELD = "label_names"
_BEFORE = (
    "global_pool",
    "num_features",
    "num_classes",
    "architecture",
)  # what it stands after, the first that is there
_LONGEST, _MOST_BYTES = 1000, 2_000_000  # characters of a name, bytes of all: config.json has to stay readable


def check_label_names(names: Any, num_classes: int) -> tuple[str, ...] | None:
    """Take the names that a config.json gives a network's outputs.

    Args:
        names: A list in the order of the outputs, or timm's other form, a name by its number. What is left out, or
            made up (transformers writes LABEL_0, LABEL_1 and so on where it knows none), names nothing.
        num_classes: Outputs of the network.

    Returns:
        A name for each output; None where not each has one.

    Raises:
        ValueError: If they are no texts, or of another number of outputs.

    Example:
        >>> check_label_names(["cat", "dog"], 2), check_label_names({"1": "dog", "0": "cat"}, 2)
        (('cat', 'dog'), ('cat', 'dog'))
        >>> check_label_names(["LABEL_0", "LABEL_1"], 2)
    """
    if isinstance(names, Mapping):
        numbered = {str(number): name for number, name in names.items()}
        names = [numbered.get(str(k)) for k in range(num_classes)] if numbered else None
        if names is not None and None in names:  # timm lets a number have no name
            return None
    if names is None or (isinstance(names, Sequence) and len(names) == 0):
        return None
    if not isinstance(names, list | tuple) or not all(isinstance(one, str) and len(one) <= _LONGEST for one in names):
        raise ValueError(f"{FIELD} {shown(repr(names), 60)}, expected a text for each class")
    if len(names) != num_classes:
        raise ValueError(f"{len(names)} {FIELD} for {num_classes} classes, expected one a class")
    return None if all(one == f"LABEL_{k}" for k, one in enumerate(names)) else tuple(names)


def writable_names(names: Sequence[str] | None) -> tuple[str, ...] | None:
    """Give the names that config.json keeps: none where they would make it unreadably long."""
    return None if names is None or len(json.dumps(names, indent=2)) >= _MOST_BYTES else tuple(names)


def name_classes(folder: str | Path, names: Sequence[str]) -> Path:
    r"""Give the outputs of a checkpoint their names, in its config.json; whatever else that says is left as it is.

    timm, transformers and robust_hub then say the names of classes, and match labels by them.

    Args:
        folder: A checkpoint's folder.
        names: A name for each output, in their order: that of the classes of the data that it was trained on.

    Returns:
        The path of config.json.

    Raises:
        ValueError: If config.json cannot be read, or has another number of classes than there are names.

    Example:
        >>> import tempfile
        >>> import robust_hub
        >>> model = robust_hub.load_model("resnet18s_gn", num_classes=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = name_classes(robust_hub.save_checkpoint(model, folder), ["cat", "dog"])
        ...     robust_hub.load_model(folder).pretrained_cfg["label_names"]
        ('cat', 'dog')
    """
    path = Path(folder) / CONFIG
    values = read_bounded_json(path, CONFIG)
    count = values.get("num_classes")
    if not isinstance(count, int) or len(names) != count:
        raise ValueError(f"expected {count} names for the classes of {path}, got {len(names)}: give one a class")
    if len(set(names)) < len(names):
        twice = next(name for k, name in enumerate(names) if name in names[:k])
        raise ValueError(f"expected names that tell classes apart, got {shown(twice, 60)!r} twice: correct them")
    check_label_names(list(names), count)
    values.pop(FIELD, None)
    after = next((name for name in _BEFORE if name in values), None)
    told: dict[str, Any] = {} if after else {FIELD: list(names)}
    for name, value in values.items():
        told[name] = value
        if name == after:
            told[FIELD] = list(names)
    replace_text(path, json.dumps(told, indent=2) + "\n")
    return path
