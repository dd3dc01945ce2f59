"""A checkpoint folder: config.json in timm's form and safetensors, with the identity of the weights checked.

Weights of up to 95 MB are one file, model.safetensors; larger ones are split as the Hub splits them, into
model-00001-of-00003.safetensors and so on with their index beside them. A folder may hold a difference to another
checkpoint, its base, in their place (robust_hub.models.difference): the files are then made from the two when they
are read.

Group, instance and layer norm have the same keys and shapes, so the file of one loads into another without a word.
Here it does not: norm kind, architecture, every key and the sha256 of the file are compared first.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from torch import Tensor, nn

from robust_hub.errors import CheckpointError
from robust_hub.files import replace_text
from robust_hub.layout import CONFIG, DIFFERENCE, INDEX
from robust_hub.models import bounds
from robust_hub.models.again import bare, check_again, make_again, plain_args, pooling, state_of, thawed
from robust_hub.models.called import check_called
from robust_hub.models.classes import class_names, count_outputs
from robust_hub.models.config import CheckpointConfig, Difference, read_config
from robust_hub.models.difference import encode
from robust_hub.models.identity import probe
from robust_hub.models.labels import writable_names
from robust_hub.models.plain import in_plain_timm
from robust_hub.models.stored import find_base, metadata_of, read_stored
from robust_hub.models.tensors import pack
from robust_hub.parsing import shown
from robust_hub.provenance import Provenance

SHARD = 95_000_000  # bytes of tensors in one file; many git hosts refuse files of 100 MB
_CFG_KEPT = ("input_size", "interpolation", "crop_pct", "crop_mode", "mean", "std", "first_conv", "classifier")


def save_checkpoint(
    model: nn.Module,
    folder: str | Path,
    *,
    provenance: Provenance | None = None,
    dtype: torch.dtype = torch.float32,
    base: str | None = None,
) -> Path:
    """Write a timm model as config.json and safetensors, split where they exceed 95 MB.

    Args:
        model: A model of `timm.create_model`; of a compiled one and of DataParallel's the model in it is written.
        folder: Where to write; made if need be. Each file appears whole or not at all.
        provenance: How the weights came about; kept in config.json.
        dtype: Floating-point type of the file.
        base: Name of a checkpoint to which a difference is stored in place of the weights; looked for beside the
            folder, then on the shelves.

    Returns:
        The folder.

    Raises:
        CheckpointError: If the base is missing or damaged.
        ValueError: If the model is not one that timm can make again by name and arguments, or the base is no other
            checkpoint with weights of its own.

    Example:
        >>> import tempfile
        >>> import robust_hub
        >>> model = robust_hub.load_model("resnet18s_gn", num_classes=10)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     sorted(path.name for path in save_checkpoint(model, folder).iterdir())
        ['config.json', 'model.safetensors']
    """
    folder = Path(folder)
    config, state, made = _take(model, dtype)
    packed = _pack(state, config)
    stored = probe(made, config.input_size) if config.input_size else None
    config = replace(config, provenance=provenance, sha256=packed.hashes, probe=stored)
    files = packed.files
    if base is not None:
        content, difference = _to_difference(state, base, folder)
        files, config = {DIFFERENCE: content}, replace(config, difference=difference)
    _write(folder, files, packed.index, config)
    return folder


def check_savable(model: nn.Module) -> None:
    """Refuse a network that `save_checkpoint` would refuse, such as before it is trained.

    Args:
        model: A network; compiled ones and wrappers as of DataParallel are looked into.

    Raises:
        ValueError: If it is not one that timm can make again by name and arguments, naming what differs.
    """
    _take(model, torch.float32)


def _take(model: nn.Module, dtype: torch.dtype) -> tuple[CheckpointConfig, dict[str, Tensor], nn.Module]:
    """Give what a network is, its weights as they are stored, and the network that timm makes of both."""
    plain = thawed(bare(model))
    architecture = (getattr(plain, "pretrained_cfg", None) or {}).get("architecture")
    if not architecture:
        raise ValueError(
            f"expected a model of timm.create_model, got {type(model).__name__}: "
            "save its state_dict yourself, a checkpoint folder needs a name to make the model again"
        )
    state, config = state_of(plain, dtype), _describe(plain, str(architecture))
    _check_readable(config)
    made = make_again(config.architecture, {**config.model_args, "num_classes": config.num_classes}, state)
    if (pool := pooling(plain)) and pool != pooling(made):
        config = replace(config, model_args={**config.model_args, "global_pool": pool})
        config = replace(config, plain_timm=in_plain_timm(plain, config.model_args))
        made = make_again(config.architecture, {**config.model_args, "num_classes": config.num_classes}, state)
    words = f"{config.architecture} with {dict(config.model_args)}" if config.model_args else config.architecture
    check_again(plain, made, state, config.input_size, words)
    check_called(model, made, state, config.input_size)
    if config.label_names is None and plain is not model:  # a wrapper may carry them
        names = class_names(model, config.num_classes)
        config = replace(config, label_names=writable_names(names))
    return config, state, made


def _check_readable(config: CheckpointConfig) -> None:
    """Refuse arguments and images that no config.json may hold, see `robust_hub.models.bounds`."""
    try:
        bounds.check_model_args(config.model_args)
        bounds.check_pretrained_cfg(config.pretrained_cfg)
        bounds.check_count("num_classes", config.num_classes)
    except ValueError as error:
        raise ValueError(
            f"expected a network that {CONFIG} can describe, got {error}: make it without, or save its state_dict "
            "yourself"
        ) from None


@dataclass(frozen=True)
class _Packed:
    """Weights as files: content and hash by name, and the index of several."""

    files: Mapping[str, bytes]
    hashes: Mapping[str, str]
    index: Mapping[str, Any] | None


def _describe(model: nn.Module, architecture: str) -> CheckpointConfig:
    """Say what a network is, but for its weights."""
    cfg: Any = model.pretrained_cfg
    args = plain_args(getattr(model, "_model_args", None) or {})
    size = tuple(cfg.get("input_size") or ())
    size = (int(args.get("in_chans", size[0])), *size[1:]) if size else ()
    args = {k: v for k, v in args.items() if k not in ("num_classes", "pretrained")}
    num_classes = count_outputs(model) or 0
    return CheckpointConfig(
        architecture=architecture,
        num_classes=num_classes,
        num_features=int(getattr(model, "num_features", 0)),
        model_args=args,
        pretrained_cfg={
            **{k: cfg[k] for k in _CFG_KEPT if cfg.get(k) is not None},
            **({"input_size": size} if size else {}),
            "num_classes": num_classes,
        },
        norm=str(getattr(model, "norm_kind", "")),
        stem=str(getattr(model, "stem", "")),
        plain_timm=in_plain_timm(model, args),
        label_names=writable_names(class_names(model)),
    )


def _pack(state: Mapping[str, Tensor], config: CheckpointConfig) -> _Packed:
    """Make the files of weights, several where they exceed `SHARD`."""
    split = split_torch_state_dict_into_shards(
        dict(state), filename_pattern="model{suffix}.safetensors", max_shard_size=SHARD
    )
    metadata = metadata_of(config)
    files = {name: pack({k: state[k] for k in keys}, metadata) for name, keys in split.filename_to_tensors.items()}
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename} if split.is_sharded else None
    return _Packed(files, hashes, index)


def _to_difference(state: Mapping[str, Tensor], base: str, folder: Path) -> tuple[bytes, Difference]:
    """Make the file of a difference to a base, and what it is read with."""
    base_folder = find_base(base, folder)
    base_config = read_config(base_folder)
    content = encode(state, read_stored(base_folder, base_config))
    return content, Difference(base, base_config.sha256, hashlib.sha256(content).hexdigest())


def _write(folder: Path, files: Mapping[str, bytes], index: Mapping[str, Any] | None, config: CheckpointConfig) -> None:
    """Put a checkpoint's files in place, config.json last, and remove those of one that was here before."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / (name + ".partial")).write_bytes(content)
    if index is not None:
        replace_text(folder / INDEX, json.dumps(index, indent=2) + "\n")
    for name in files:
        os.replace(folder / (name + ".partial"), folder / name)
    replace_text(folder / CONFIG, json.dumps(config.to_json(), indent=2) + "\n")
    for old in (*folder.glob("model*.safetensors*"), folder / DIFFERENCE):
        if old.name not in files and not (index is not None and old.name == INDEX):
            old.unlink(missing_ok=True)


def read_weights(folder: str | Path, *, norm: str | None = None, stem: str | None = None) -> dict[str, Tensor]:
    """Read a checkpoint folder's weights after checking that they are the ones it promises.

    Args:
        folder: A folder of `save_checkpoint`.
        norm: The norm kind of the network they are for, compared with the file's own.
        stem: The stem of that network, compared likewise.

    Returns:
        The state dict, in float32.

    Raises:
        CheckpointError: If the file is missing, damaged, of another sha256, norm kind or stem.
    """
    state = read_stored(Path(folder), read_config(folder), {"norm": norm, "stem": stem})
    return {k: v.float() if v.is_floating_point() else v for k, v in state.items()}


def check_keys(state: Mapping[str, Tensor], model: nn.Module) -> None:
    """Refuse a state dict whose keys or shapes are not the model's own.

    Raises:
        CheckpointError: Naming what is missing, left over or of another shape.
    """
    own = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    missing, left = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    wrong = sorted(k for k in own.keys() & state.keys() if tuple(state[k].shape) != own[k])
    if missing or left or wrong:
        raise CheckpointError(
            "these weights are not this model's: "
            + "; ".join(
                f"{title} {', '.join(shown(key, 80) for key in keys[:4])}{', ...' if len(keys) > 4 else ''}"
                for title, keys in (("missing", missing), ("left over", left), ("of another shape", wrong))
                if keys
            )
        )
