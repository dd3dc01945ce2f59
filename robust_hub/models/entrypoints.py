"""timm's entry points of our networks: importing this module registers them, as timm's own model files do.

Registering asks which weights are here and what they are, loads none and imports no network: an entry point does when
it is called. It runs within `import timm`, so that whatever is imported here waits for timm, and timm for it. Nothing
above the functions may therefore import a module of ours that imports timm: a thread that is importing that module
waits for timm in turn, and Python ends such a circle by handing out half a module.
"""

from __future__ import annotations

import warnings
from typing import Any

from timm.models import generate_default_cfgs, is_model, model_entrypoint, register_model, resnet
from torch import nn

from robust_hub.errors import CheckpointError
from robust_hub.layout import WEIGHTS
from robust_hub.models.config import read_outline
from robust_hub.models.family import NAMES, SUFFIX
from robust_hub.models.pins import read_pins
from robust_hub.models.shelves import checkpoint_folder, list_checkpoints


def _cfg(**kwargs: Any) -> dict[str, Any]:
    return {
        "num_classes": 1000,
        "input_size": (3, 32, 32),
        "pool_size": (4, 4),
        "interpolation": "bicubic",
        "crop_pct": 1.0,
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "first_conv": "conv1",
        "classifier": "fc",
        **kwargs,
    }


def _told(name: str) -> dict[str, Any]:
    """Tell timm where a name has weights, and what they are: classes and their names, size of the images, mean, std.

    They are loaded by `create`, or by the network's own `load_pretrained` where timm would read the file: both check
    them, and make them where a difference or several files stand for them. A config.json that cannot be read says
    nothing here, and why when they are loaded.
    """
    folder = checkpoint_folder(name)
    if folder is None:
        return {}
    where = {"file": str(folder / WEIGHTS), "custom_load": True}
    try:
        return {**read_outline(folder), **where}
    except CheckpointError:
        return where


def _tagged() -> dict[str, dict[str, Any]]:
    """Describe checkpoints with a tag, such as resnet152_ln_mixednoise.cifar10, to timm."""
    names = [name for name in {*list_checkpoints(), *read_pins()} if "." in name]
    return {name: _cfg(**_told(name)) for name in names if name.split(".")[0] in NAMES.keys() - set(SHARED)}


def _create(variant: str, pretrained: bool, kwargs: dict[str, Any]) -> nn.Module:
    from robust_hub.models.resnets import create

    return create(variant, *NAMES[variant], pretrained, kwargs)


def _entry(variant: str) -> None:
    def entry(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        return _create(variant, pretrained, kwargs)

    depth, norm = NAMES[variant]
    words = ", pretrained on mixed noise." if variant.endswith(SUFFIX) else "."
    entry.__doc__ = f"{depth} with norm {norm!r}{words}"
    _register(variant, entry)


def _share_entry(variant: str) -> None:
    """Register a name that timm has already: timm's own network and weights, unless a stem is asked for."""
    original = model_entrypoint(variant)

    def entry(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        if "stem" in kwargs:
            return _create(variant, pretrained, kwargs)
        model: nn.Module = original(pretrained, **kwargs)
        return model

    depth, norm = NAMES[variant]
    entry.__doc__ = f"timm's {variant}; with `stem` given, our {depth} with norm {norm!r}."
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Overwriting")
        _register(variant, entry)


def _register(variant: str, entry: Any) -> None:
    entry.__name__ = entry.__qualname__ = variant
    globals()[variant] = register_model(entry)


SHARED = [name for name in NAMES if is_model(name)]  # resnet50_gn, which keeps timm's weights and default stem
default_cfgs = generate_default_cfgs(
    {**{name: _cfg(**_told(name)) for name in NAMES if name not in SHARED}, **_tagged()}
)
for _default in default_cfgs.values():  # a bare name stands for no tag: baselines are loaded by their full name alone
    if "" in _default.tags:
        _default.tags.remove("")
        _default.tags.appendleft("")
default_cfgs |= {name: resnet.default_cfgs[name] for name in SHARED}
for _name in NAMES:
    (_share_entry if _name in SHARED else _entry)(_name)
