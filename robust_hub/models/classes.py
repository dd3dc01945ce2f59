"""The names of a network's outputs, as timm has them: `label_names` of its `pretrained_cfg`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from robust_hub.models.labels import FIELD, check_label_names
from robust_hub.models.modes import unwrapped


def class_names(model: nn.Module, outputs: int | None = None) -> tuple[str, ...] | None:
    """Give the names of a network's outputs, `label_names` of its `pretrained_cfg`.

    Args:
        model: Any classifier; timm's carry a `pretrained_cfg`, also where DataParallel or the like holds them.
        outputs: How many outputs it has; by default what its classifier or its `num_classes` says, if anything.

    Returns:
        The names in the order of the outputs; None where they are not said, or are another classifier's.

    Example:
        >>> network = nn.Linear(4, 2)
        >>> note_class_names(network, ("cat", "dog"))
        >>> class_names(network)
        ('cat', 'dog')
    """
    plain = unwrapped(model)
    names = _config(plain).get(FIELD)
    outputs = count_outputs(plain) if outputs is None else outputs
    if outputs is None:
        outputs = len(names) if isinstance(names, Sequence | Mapping) else 0
    try:
        return check_label_names(names, outputs)
    except ValueError:  # of a classifier that is there no more
        return None


def count_outputs(model: nn.Module) -> int | None:
    """Count a classifier's outputs, those of a linear layer that replaced timm's among them; None where nobody says."""
    head = model.get_classifier() if hasattr(model, "get_classifier") else None  # type: ignore[operator]
    said = head.out_features if isinstance(head, nn.Linear) else getattr(model, "num_classes", None)
    return said if isinstance(said, int) else None


def note_class_names(model: nn.Module, names: Sequence[str] | None) -> None:
    """Have a network carry the names of its outputs, as `label_names` of its `pretrained_cfg`; None forgets them.

    Args:
        model: Any classifier.
        names: One name an output.
    """
    plain: Any = unwrapped(model)
    config = getattr(plain, "pretrained_cfg", None)
    value = None if names is None else tuple(names)
    if isinstance(config, dict):
        config.pop(FIELD, None)
        config.update({} if value is None else {FIELD: value})
    elif config is not None:
        config.label_names = value
    elif value is not None:
        plain.pretrained_cfg = {FIELD: value}


def _config(model: nn.Module) -> Mapping[str, Any]:
    config = getattr(model, "pretrained_cfg", None)
    return config if isinstance(config, dict) else getattr(config, "__dict__", {}) or {}
