"""A checkpoint folder: config.json in timm's form and safetensors, with the identity of the weights checked.

Weights of up to 95 MB are one file, model.safetensors; larger ones are split as the Hub splits them, into
model-00001-of-00003.safetensors and so on with their index beside them. A folder may hold a difference to another
checkpoint, its base, in their place (robust_hub.difference): the files are then made from the two when they are read.

Group, instance and layer norm have the same keys and shapes, so the file of one loads into another without a word.
Here it does not: norm kind, architecture, every key and the sha256 of the file are compared first.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from timm.layers.norm_act import unfreeze_batch_norm_2d
from torch import Tensor, nn
from torchvision.ops.misc import FrozenBatchNorm2d

from robust_hub.difference import decode, encode
from robust_hub.files import replace_text
from robust_hub.identity import CheckpointError as CheckpointError
from robust_hub.identity import probe
from robust_hub.shelves import CONFIG, checkpoint_folder, not_here
from robust_hub.tensors import pack, unpack

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
DIFFERENCE = "difference.safetensors.zlib"
SHARD = 95_000_000  # bytes of tensors in one file; many git hosts refuse files of 100 MB


def sha256(path: Path) -> str:
    """Hash a file, as lower-case hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_checkpoint(
    model: nn.Module,
    folder: str | Path,
    *,
    recipe: Mapping[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
    base: str | None = None,
) -> Path:
    """Write a timm model as config.json and safetensors, split where they exceed 95 MB.

    Args:
        model: A model of `timm.create_model`.
        folder: Where to write; made if need be. Each file appears whole or not at all.
        recipe: How the weights came about, JSON values; kept in config.json.
        dtype: Floating-point type of the file.
        base: Name of a checkpoint to which a difference is stored in place of the weights; looked for beside the
            folder, then on the shelves.

    Returns:
        The folder.

    Raises:
        CheckpointError: If the base is missing or damaged.
        ValueError: If the model is not one that timm can make again by name, or the base is no other checkpoint with
            weights of its own.
    """
    folder = Path(folder)
    source = getattr(model, "pretrained_cfg", None) or {}
    architecture = source.get("architecture")
    if not architecture:
        raise ValueError(
            f"expected a model of timm.create_model, got {type(model).__name__}: "
            "save its state_dict yourself, a checkpoint folder needs a name to make the model again"
        )
    model = _thawed(model)
    folder.mkdir(parents=True, exist_ok=True)
    norm, stem = str(getattr(model, "norm_kind", "")), str(getattr(model, "stem", ""))
    state = {
        k: (v.to(dtype) if v.is_floating_point() else v).detach().cpu().contiguous()
        for k, v in model.state_dict().items()
    }
    split = split_torch_state_dict_into_shards(
        state, filename_pattern="model{suffix}.safetensors", max_shard_size=SHARD
    )
    metadata = _metadata(architecture, norm, stem)
    files = {name: pack({k: state[k] for k in keys}, metadata) for name, keys in split.filename_to_tensors.items()}
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    difference = {}
    if base is not None:
        source_folder = find_base(base, folder)
        files = {DIFFERENCE: encode(state, _tensors(source_folder))}
        difference = {
            "base": base,
            "base_sha256": weight_files(source_folder),
            "sha256": hashlib.sha256(files[DIFFERENCE]).hexdigest(),
        }
    keep = ("input_size", "interpolation", "crop_pct", "crop_mode", "mean", "std", "first_conv", "classifier")
    model_args = {k: v for k, v in (getattr(model, "_model_args", None) or {}).items() if _plain(v)}
    size = tuple(source.get("input_size") or ())
    size = (int(model_args.get("in_chans", size[0])), *size[1:]) if size else ()
    model_args = {k: v for k, v in model_args.items() if k not in ("num_classes", "pretrained")}
    as_ours = {"architecture": architecture, "model_args": model_args}
    as_timms = _as_timms(model, model_args)
    config = {
        "architecture": (as_timms or as_ours)["architecture"],
        "num_classes": int(getattr(model, "num_classes", 0)),
        "num_features": int(getattr(model, "num_features", 0)),
        "model_args": (as_timms or as_ours)["model_args"],
        "pretrained_cfg": {
            **{k: source[k] for k in keep if source.get(k) is not None},
            **({"input_size": size} if size else {}),
            "num_classes": int(getattr(model, "num_classes", 0)),
        },
        "robust_hub": {
            **(as_ours if as_timms else {}),
            "norm": norm,
            "stem": stem,
            "sha256": digests if split.is_sharded else digests[WEIGHTS],
            **({"difference": difference} if difference else {}),
            "fingerprint": _stored_probe(model, state, size),
            "recipe": dict(recipe or {}),
        },
    }
    for name, content in files.items():
        (folder / (name + ".partial")).write_bytes(content)
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        replace_text(folder / INDEX, json.dumps(index, indent=2) + "\n")
    for name in files:
        os.replace(folder / (name + ".partial"), folder / name)
    replace_text(folder / CONFIG, json.dumps(config, indent=2) + "\n")
    for old in (*folder.glob("model*.safetensors*"), folder / DIFFERENCE):  # of a checkpoint that was here before
        if old.name not in files and not (split.is_sharded and old.name == INDEX):
            old.unlink(missing_ok=True)
    return folder


def weight_files(folder: str | Path) -> dict[str, str]:
    """Name a checkpoint folder's files of weights and the sha256 that config.json promises for each.

    Raises:
        CheckpointError: If config.json is missing or damaged, or names none.
    """
    told = read_config(folder)["robust_hub"].get("sha256")
    files = told if isinstance(told, dict) else {WEIGHTS: told}
    if not files or not all(isinstance(name, str) and Path(name).name == name for name in files):
        raise CheckpointError(f"{Path(folder) / CONFIG} names no files of weights: fetch or train the checkpoint again")
    return {name: str(digest) for name, digest in files.items()}


def read_config(folder: str | Path) -> dict[str, Any]:
    """Read a checkpoint folder's config.json.

    Returns:
        Its content, in our words: a network that plain timm can make, too, has timm's name and arguments in the file
        and ours in its `robust_hub` block.

    Raises:
        CheckpointError: If it is missing or no JSON, or lacks what a model is made from.
    """
    path = Path(folder) / CONFIG
    try:
        config: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        raise CheckpointError(f"expected a checkpoint folder with {CONFIG} and {WEIGHTS}, found no {path}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is damaged ({error}): fetch or train the checkpoint again") from None
    wanted = {"architecture": str, "num_classes": int, "pretrained_cfg": dict, "robust_hub": dict}
    lacks = [k for k, kind in wanted.items() if not isinstance(config, dict) or not isinstance(config.get(k), kind)]
    if lacks:
        raise CheckpointError(f"{path} names no {', no '.join(lacks)}: fetch or train the checkpoint again")
    return config | {k: v for k, v in config["robust_hub"].items() if k in ("architecture", "model_args")}


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
    ours = read_config(folder)["robust_hub"]
    state = _tensors(Path(folder), {"norm": norm, "stem": stem}, ours)
    return {k: v.float() if v.is_floating_point() else v for k, v in state.items()}


def copy_whole(folder: Path, target: Path) -> None:
    """Copy config.json and weights; of a checkpoint that is stored as a difference, the weights that it stands for.

    Args:
        folder: A checkpoint's folder.
        target: A folder that exists.

    Raises:
        CheckpointError: If the weights are not those that config.json promises.
    """
    for name, content in _whole_files(folder):
        (target / name).write_bytes(content)
    text = (folder / CONFIG).read_text()
    config = json.loads(text)
    if config["robust_hub"].pop("difference", None):
        text = json.dumps(config, indent=2) + "\n"
    (target / CONFIG).write_text(text)
    if (folder / INDEX).is_file():
        (target / INDEX).write_bytes((folder / INDEX).read_bytes())


def base_of(folder: str | Path) -> str | None:
    """Name the checkpoint to which a folder holds a difference; None if it holds weights of its own.

    Raises:
        CheckpointError: If config.json is missing or damaged, or does not say what a difference is read with.
    """
    difference = _difference(Path(folder))
    return None if difference is None else str(difference["base"])


def find_base(name: str, folder: Path) -> Path:
    """Find the checkpoint to which a difference is to be stored.

    Args:
        name: Its name; looked for beside the folder, then on the shelves.
        folder: Where the difference is to be stored.

    Returns:
        Its folder.

    Raises:
        CheckpointError: If there is none of this name, or a damaged one.
        ValueError: If it is the folder itself, or holds no weights of its own.
    """
    there = _named(name, folder)
    if not there:
        raise CheckpointError(f"expected the name of a checkpoint as base: {not_here(name)}")
    if there[0].resolve() == folder.resolve() or _difference(there[0]) is not None:
        raise ValueError(f"expected another checkpoint with weights of its own as base, got {there[0]}")
    return there[0]


def _stored_probe(
    model: nn.Module, state: Mapping[str, Tensor], size: Sequence[int]
) -> dict[str, list[list[float]]] | None:
    """Give the probe of the weights as they are stored, read back in float32 on the CPU."""
    if not size:
        return None
    stored = copy.deepcopy(model).cpu().float()
    stored.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    return probe(stored, size)


def _metadata(architecture: str, norm: str, stem: str) -> dict[str, str]:
    """Give the metadata of a file of weights."""
    return {"format": "pt", "architecture": architecture, "norm": norm, "stem": stem}


def _tensors(
    folder: Path, model: Mapping[str, str | None] | None = None, ours: Mapping[str, Any] | None = None
) -> dict[str, Tensor]:
    """Read a folder's weights as they are stored, after checking hashes, and norm and stem if they are given."""
    state: dict[str, Tensor] = {}
    for name, content in _whole_files(folder):
        try:
            part, metadata = unpack(content)
        except ValueError as error:
            raise CheckpointError(
                f"{folder / name} is no safetensors file ({error}): fetch or train the checkpoint again"
            ) from None
        for what, wanted in (model or {}).items():
            found, said = metadata.get(what, ""), (ours or {}).get(what, "")
            if found != said:
                raise CheckpointError(f"{folder / name} was made with {what} {found!r}, {CONFIG} says {said!r}")
            if wanted is not None and found != wanted:
                raise CheckpointError(
                    f"{folder / name} holds weights of {what} {found!r}, the model has {what} {wanted!r}"
                )
        state |= part
    return state


def _whole_files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Give name and content of each file of weights, as it lies there or made from a difference; its hash is right."""
    difference = _difference(folder)
    made = None if difference is None else _from_difference(folder, difference)
    for name, promised in weight_files(folder).items():
        path = folder / name
        if made is None:
            content = _read(path, promised)
        elif hashlib.sha256(content := made.get(name, b"")).hexdigest() != promised:
            raise CheckpointError(
                f"{path.parent / DIFFERENCE} and its base make another {name} than {CONFIG} promises: fetch or train "
                "the checkpoint again"
            )
        yield name, content


def _read(path: Path, promised: str) -> bytes:
    """Read a file whose hash is promised."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(f"expected weights in {path}, found none: fetch or train the checkpoint again") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error})") from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != promised:
        raise CheckpointError(
            f"{path} has sha256 {digest[:12]}..., {CONFIG} promises {promised[:12]}...: the file is "
            "damaged or another one; fetch or train the checkpoint again"
        )
    return content


def _difference(folder: Path) -> dict[str, Any] | None:
    """Give what config.json says of a difference; None if the folder holds weights of its own."""
    found = read_config(folder)["robust_hub"].get("difference")
    if found is None:
        return None
    wanted = {"base": str, "base_sha256": dict, "sha256": str}
    if not isinstance(found, dict) or any(not isinstance(found.get(k), kind) for k, kind in wanted.items()):
        raise CheckpointError(f"{folder / CONFIG} names no base of its difference: fetch or train the checkpoint again")
    return found


def _from_difference(folder: Path, difference: Mapping[str, Any]) -> dict[str, bytes]:
    """Make the files of weights from a difference and its base."""
    base, config = _base(folder, difference), read_config(folder)
    content = _read(folder / DIFFERENCE, difference["sha256"])
    try:
        tensors = _tensors(base)
    except CheckpointError as error:
        raise CheckpointError(f"the base of {folder}: {error}") from None
    names = list(weight_files(folder))
    try:
        state = decode(content, tensors)
        places = {} if names == [WEIGHTS] else json.loads((folder / INDEX).read_text())["weight_map"]
        parts = {name: {k: v for k, v in state.items() if places.get(k, WEIGHTS) == name} for name in names}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{folder / DIFFERENCE} cannot be read ({error}): fetch or train the checkpoint again"
        ) from None
    ours = config["robust_hub"]
    metadata = _metadata(config["architecture"], str(ours.get("norm", "")), str(ours.get("stem", "")))
    return {name: pack(part, metadata) for name, part in parts.items()}


def _base(folder: Path, difference: Mapping[str, Any]) -> Path:
    """Find the base of a difference."""
    name = difference["base"]
    there = _named(name, folder)
    if not there:
        raise CheckpointError(f"{folder} holds a difference to {name}, but {not_here(name)}")
    for place in there:
        if weight_files(place) == difference["base_sha256"] and _difference(place) is None:
            return place
    raise CheckpointError(
        f"{folder} holds a difference to {name}, but not to the weights in {there[0]}: config.json says that those "
        "have another sha256"
    )


def _named(name: str, folder: Path) -> list[Path]:
    """Find the checkpoints of a name: the one beside a folder, then the shelves'."""
    inside = Path(name).name == name and name not in ("", "..")
    places = [folder.absolute().parent / name, checkpoint_folder(name)] if inside else []
    return [place for place in places if place is not None and (place / CONFIG).is_file()]


def check_keys(state: Mapping[str, Tensor], model: nn.Module) -> None:
    """Refuse a state dict whose keys or shapes are not the model's own.

    Raises:
        CheckpointError: Naming what is missing, left over or of another shape.
    """
    wanted = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    missing, left = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    wrong = sorted(k for k in wanted.keys() & state.keys() if tuple(state[k].shape) != wanted[k])
    if missing or left or wrong:
        raise CheckpointError(
            "these weights are not this model's: "
            + "; ".join(
                f"{title} {', '.join(keys[:4])}{', ...' if len(keys) > 4 else ''}"
                for title, keys in (("missing", missing), ("left over", left), ("of another shape", wrong))
                if keys
            )
        )


def _thawed(model: nn.Module) -> nn.Module:
    """Give batch norm that was frozen its usual form, whose keys are those that its architecture is made with."""
    if not any(isinstance(module, FrozenBatchNorm2d) for module in model.modules()):
        return model
    thawed: nn.Module = unfreeze_batch_norm_2d(copy.deepcopy(model))  # type: ignore[no-untyped-call]
    return thawed.eval()


def _as_timms(model: nn.Module, model_args: Mapping[str, Any]) -> dict[str, Any] | None:
    """Give name and arguments with which plain timm makes this network; None where it cannot."""
    told: Any = getattr(model, "plain_timm", None)
    if told is None:
        return None
    name, args = told
    return {"architecture": name, "model_args": {**args, **{k: v for k, v in model_args.items() if k != "stem"}}}


def loads_in_plain_timm(folder: str | Path) -> bool:
    """Tell whether timm without robust_hub makes a checkpoint's network.

    Raises:
        CheckpointError: If config.json is missing or damaged.
    """
    return "architecture" in read_config(folder)["robust_hub"]


def check_plain_timm(folder: str | Path, model: nn.Module) -> None:
    """Refuse a config.json that would have plain timm make another network than ours.

    Args:
        folder: The checkpoint's folder.
        model: The network that robust_hub made from it.

    Raises:
        CheckpointError: If name or arguments in timm's words are not those of the model.
    """
    if not loads_in_plain_timm(folder):
        return
    told = json.loads((Path(folder) / CONFIG).read_text())
    wanted = _as_timms(model, told["robust_hub"].get("model_args") or {})
    if {key: told.get(key) for key in ("architecture", "model_args")} != wanted:
        raise CheckpointError(
            f"{Path(folder) / CONFIG} has plain timm make {told['architecture']} with {told.get('model_args')}, these "
            f"weights are of {wanted or 'a network that it does not know'}"
        )


def _plain(value: Any) -> bool:
    """Tell whether a value survives JSON."""
    try:
        return bool(json.loads(json.dumps(value)) == (list(value) if isinstance(value, tuple) else value))
    except TypeError:
        return False
