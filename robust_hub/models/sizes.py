"""Which size of images is a network's own: the one that it was trained at, kept in its pretrained_cfg."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any

from torch import nn

from robust_hub.images.data import ImageData
from robust_hub.images.wrapped import config_of
from robust_hub.models.modes import unwrapped
from robust_hub.notes import say
from robust_hub.provenance import provenance_of


def own_size(model: nn.Module) -> int | None:
    """Give the side of the square images that a network is for; None where it says none, or of no square.

    Example:
        >>> import timm
        >>> own_size(timm.create_model("resnet18")), own_size(nn.Linear(2, 2))
        (224, None)
    """
    size = tuple(config_of(model).get("input_size") or ())
    return int(size[1]) if len(size) == 3 and size[1] == size[2] else None


def note_size(model: nn.Module, shape: tuple[int, int, int]) -> None:
    """Have a network say the shape (C, H, W) of the images that it was trained on, as what is saved then does.

    A network that says no size is left as it is.
    """
    own = config_of(model)
    said = tuple(own.get("input_size") or ())
    if not said or said[1:] == shape[1:]:
        return
    for module in model.modules():
        for holder in (module, getattr(module, "config", None)):
            _say(holder, own, (said[0], *shape[1:]))


def _say(holder: Any, own: Mapping[str, Any], size: tuple[int, ...]) -> None:
    """Give whoever holds a configuration one of its own, with another size: a class's may be that of other networks."""
    for name in ("pretrained_cfg", "default_cfg"):  # the second is timm's older name of the first
        config = getattr(holder, name, None)
        if config is own:
            setattr(holder, name, {**own, "input_size": size})
        elif config is not None and getattr(config, "__dict__", None) is own:
            config = copy(config)
            config.input_size = size
            setattr(holder, name, config)


def check_size(model: nn.Module, shape: tuple[int, int, int]) -> None:
    """Refuse images of another size than that at which a network was trained.

    Only networks that carry how they were trained are asked: one of timm's is certified at the size that is taken.

    Args:
        model: A classifier.
        shape: Shape (C, H, W) of the images.

    Raises:
        ValueError: If they are of another size.
    """
    size = tuple(config_of(model).get("input_size") or shape)[1:]
    if provenance_of(unwrapped(model)) is not None and size != shape[1:]:
        own, got = (f"{height}x{width}" for height, width in (size, shape[1:]))
        advice = f"leave size out on the command line, and in Python call load_data(..., size={size[0]})"
        advice = advice if size[0] == size[1] else "bring them to that shape and pass them in Python"
        raise ValueError(f"expected images of {own}, at which this network was trained, got {got}: {advice}")


def say_resized(data: ImageData) -> None:
    """Say so where images were brought to a network's size without being asked for."""
    if data.came is not None:
        height, width = data.came
        say(f"{data.name}: images of {height}x{width} are resized to the network's {data.resized}x{data.resized}")


def at_size_of(data: ImageData) -> dict[str, Any]:
    """Give the keywords with which `load_data` reads another split at the size of data."""
    _, height, width = data.image_shape
    return {"size": data.resized, "usual_size": height if height == width else None}
