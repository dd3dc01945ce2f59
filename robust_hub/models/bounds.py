"""What a config.json may say. Whoever made the folder may have written anything, and a network is built from it.

Names are names and lead nowhere, numbers are within what a network can be, and nothing in it says where else weights
lie. How large the network is, the weights themselves bound: see `robust_hub.models.sketch`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from robust_hub.models.shelves import is_name
from robust_hub.parsing import is_number, is_whole, shown

LARGEST_IMAGE = 1024  # pixels of a side
_CHANNELS = 1024
_CLASSES = 10**9
_INTEGER = 100_000  # of a network's argument: blocks, channels, pixels
_MOST = 1000  # values in one list
# Of create_model, build_model_with_cfg and PretrainedCfg: what leads to other weights, networks or devices.
_ELSEWHERE = {
    *("url", "file", "hf_hub_id", "hf_hub_filename", "source", "state_dict", "custom_load"),
    *("checkpoint_path", "cache_dir", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_model_args"),
    *("model_cls", "variant", "model_cfg", "feature_cfg", "features_only", "kwargs_filter", "device", "dtype"),
    *("pretrained_filter_fn", "pretrained_strict", "scriptable", "exportable", "no_jit", "model_name"),
}
_PLAIN = re.compile(r"[A-Za-z0-9_.,:+-]{0,200}")  # of layers and functions that timm finds by name
_LICENSE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,63}")
_LEAST_STD = 1e-6  # of pixels in [0, 1]: by a smaller one a network in half precision gets infinities
_HASH = re.compile(r"[0-9a-f]{64}")


def check_architecture(name: Any) -> str:
    """Take timm's name of a network; one with a colon is an address, to which timm would go.

    Raises:
        ValueError: If it is none.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_]{1,100}", name):
        raise ValueError(f"the architecture {shown(repr(name))}, expected one of timm's names, without prefix or tag")
    return name


def check_model_args(args: Any) -> dict[str, Any]:
    """Take the arguments that a network is made with.

    Raises:
        ValueError: If one is no plain value, is beyond what a network can be, or would fetch something.
    """
    if not isinstance(args, Mapping):
        raise ValueError(f"model_args {shown(repr(args))}, expected names and values")
    for name, value in args.items():
        if name in _ELSEWHERE or name == "pretrained" or not name.isidentifier() or name.startswith("_"):
            raise ValueError(f"the model argument {shown(name)}, which makes no layers")
        _check_argument(name, value, 3)
    return dict(args)


def check_pretrained_cfg(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Take what timm is told of the images and layers; what it has no use for here is left out.

    Raises:
        ValueError: If a value cannot be, or says where else weights lie.
    """
    if elsewhere := sorted(name for name in _ELSEWHERE & cfg.keys() if cfg[name]):
        raise ValueError(f"{elsewhere[0]} in pretrained_cfg, expected weights in the folder alone")
    taken = {name: cfg[name] for name in _CFG if cfg.get(name) is not None}
    for name, value in taken.items():
        if not _CFG[name](value):
            raise ValueError(f"{name} {shown(repr(value))} in pretrained_cfg, expected {_EXPECTED[name]}")
    mean, std = (taken.get(name, ()) for name in ("mean", "std"))
    if mean and std and len(mean) != len(std):
        raise ValueError(f"mean and std of {len(mean)} and {len(std)} channels, expected as many")
    return taken


def check_count(name: str, value: Any) -> int:
    """Take a number of classes or features.

    Raises:
        ValueError: If it is none.
    """
    if not is_whole(value, 0, _CLASSES):
        raise ValueError(f"{name} {shown(repr(value))}, expected a whole number from 0 to {_CLASSES:,}")
    return int(value)


def check_hash(value: Any) -> str:
    """Take a sha256 in hexadecimal digits.

    Raises:
        ValueError: If it is none.
    """
    if not isinstance(value, str) or not _HASH.fullmatch(value):
        raise ValueError(f"the sha256 {shown(repr(value), 80)}, expected 64 hexadecimal digits")
    return value


def check_license(value: Any) -> str | None:
    """Take the id of a licence; None where none is said.

    Raises:
        ValueError: If it is no id.
    """
    if value is not None and (not isinstance(value, str) or not _LICENSE.fullmatch(value)):
        raise ValueError(f"the licence {shown(repr(value), 60)}, expected the Hub's id of one, such as apache-2.0")
    return value


def check_file(name: str) -> str:
    """Take the name of a file of weights.

    Raises:
        ValueError: If it is none, or leads out of the folder.
    """
    if not is_name(name) or not name.endswith(".safetensors"):
        raise ValueError(f"the file {shown(name)}, expected a name that ends with .safetensors, without a folder")
    return name


def check_probe(probe: Any) -> dict[str, list[list[float]]] | None:
    """Take what a network computes of two fixed images: rows of numbers by name; None where it is not said.

    Raises:
        ValueError: If it is something else.
    """
    if probe is None:
        return None
    if not isinstance(probe, Mapping) or not all(_are_rows(rows) for rows in probe.values()):
        raise ValueError(f"the fingerprint {shown(repr(probe), 60)}, expected features and logits as rows of numbers")
    return {str(name): [list(row) for row in rows] for name, rows in probe.items()}


def _check_argument(name: str, value: Any, deep: int) -> None:
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else None
    if inner is not None:
        if deep and len(inner) <= _MOST:
            for one in inner:
                _check_argument(name, one, deep - 1)
            return
    elif value is None or isinstance(value, bool):
        return
    elif isinstance(value, str):
        if _PLAIN.fullmatch(value):
            return
    elif is_number(value) and abs(value) <= _INTEGER:
        return
    raise ValueError(
        f"the model argument {shown(name)} = {shown(repr(value), 60)}, expected plain names and numbers of at most "
        f"{_INTEGER:,}"
    )


def _list(value: Any, most: int) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) and len(value) <= most else [None]


def _is_size(value: Any) -> bool:
    size = _list(value, 3)
    return len(size) == 3 and is_whole(size[0], 1, _CHANNELS) and all(is_whole(v, 1, LARGEST_IMAGE) for v in size[1:])


def _are_numbers(value: Any) -> bool:
    return bool(value) and all(is_number(v) and abs(v) <= _INTEGER for v in _list(value, _CHANNELS))


def _are_rows(value: Any) -> bool:
    rows = _list(value, 8)
    numbers = all(isinstance(row, list) and all(is_number(v) for v in _list(row, 64)) for row in rows)
    return numbers and len({len(row) for row in rows}) <= 1


def _are_layers(value: Any) -> bool:
    names = [value] if isinstance(value, str) else _list(value, 8)
    return all(isinstance(name, str) and _PLAIN.fullmatch(name) for name in names)


_CFG: dict[str, Callable[[Any], bool]] = {
    "input_size": _is_size,
    "interpolation": lambda value: isinstance(value, str) and bool(_PLAIN.fullmatch(value)),
    "crop_pct": lambda value: is_number(value) and 0 < value <= 16,
    "crop_mode": lambda value: isinstance(value, str) and bool(_PLAIN.fullmatch(value)),
    "mean": _are_numbers,
    "std": lambda value: _are_numbers(value) and min(value) >= _LEAST_STD,
    "first_conv": _are_layers,
    "classifier": _are_layers,
    "num_classes": lambda value: is_whole(value, 0, _CLASSES),
}
_EXPECTED = {
    "input_size": f"channels, height and width of at most {LARGEST_IMAGE} pixels",
    "mean": "finite numbers, one a channel",
    "std": "positive numbers, one a channel",
    **dict.fromkeys(("interpolation", "crop_mode"), "a name"),
    **dict.fromkeys(("first_conv", "classifier"), "names of layers"),
    "crop_pct": "a part above 0",
    "num_classes": f"a whole number up to {_CLASSES:,}",
}
