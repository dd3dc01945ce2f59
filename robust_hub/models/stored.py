"""The weights of a checkpoint's folder as bytes: whole as they lie there, or made from a difference and its base.

Hashes are compared before anything is read as a tensor.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from robust_hub.errors import CheckpointError
from robust_hub.files import inside
from robust_hub.layout import CONFIG, DIFFERENCE, INDEX, WEIGHTS
from robust_hub.models.config import CheckpointConfig, Difference, read_config, read_json
from robust_hub.models.difference import decode
from robust_hub.models.foreign import adopting, check_promised, unpromised_files, writer
from robust_hub.models.shelves import checkpoint_folder, is_name, not_here
from robust_hub.models.tensors import pack, unpack
from robust_hub.parsing import shown

_AGAIN = "fetch or train the checkpoint again"
_MOST_INDEX = 16_000_000  # bytes
# What the libraries raise of bytes that are no tensors, or none that belong together.
_DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, OverflowError)


def sha256(path: Path) -> str:
    """Hash a file, as lower-case hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def metadata_of(config: CheckpointConfig) -> dict[str, str]:
    """Give the metadata of a checkpoint's files of weights."""
    return {"format": "pt", "architecture": config.architecture, "norm": config.norm, "stem": config.stem}


def read_stored(
    folder: Path, config: CheckpointConfig, network: Mapping[str, str | None] | None = None
) -> dict[str, Tensor]:
    """Read a folder's weights in the type that they are stored in.

    Args:
        folder: The checkpoint's folder.
        config: Its config.
        network: Norm and stem of the network that they are for, compared with the files' own where they are given.

    Raises:
        CheckpointError: If a file is missing, damaged, of another hash, norm or stem.
    """
    state: dict[str, Tensor] = {}
    for name, content in _whole_files(folder, config):
        try:
            part, said = unpack(content)
        except _DAMAGE as error:
            if "memory" in str(error) and "alloc" in str(error):  # torch's words; the file is what it promises
                raise
            raise CheckpointError(f"{folder / name} is no safetensors file ({shown(error)}): {_AGAIN}") from None
        for what in (network or {}) if config.sha256 else {}:
            theirs, promised = said.get(what, ""), getattr(config, what)
            if theirs != promised:
                kind = shown(repr(theirs), 60)
                raise CheckpointError(f"{folder / name} was made with {what} {kind}, {CONFIG} says {promised!r}")
        check_kind(folder, config, (network or {}) if config.sha256 else {})
        state |= part
    return state


def check_kind(folder: Path, config: CheckpointConfig, network: Mapping[str, str | None]) -> None:
    """Refuse the weights of another norm or stem than a network's.

    Args:
        folder: The checkpoint's folder, for the error.
        config: Its config.
        network: The network's norm and stem; None is not compared.

    Raises:
        CheckpointError: If one is another.
    """
    for what, asked in network.items():
        if asked is not None and getattr(config, what) != asked:
            raise CheckpointError(
                f"{folder} holds weights of {what} {getattr(config, what)!r}, the model has {what} {asked!r}"
            )


def copy_whole(folder: Path, target: Path) -> None:
    """Copy config.json and weights; of a checkpoint that is stored as a difference, the weights that it stands for.

    Args:
        folder: A checkpoint's folder.
        target: A folder that exists.

    Raises:
        CheckpointError: If the weights are not those that config.json promises.
    """
    config = read_config(folder)
    for name, content in _whole_files(folder, config):
        (target / name).write_bytes(content)
    if config.difference is None:
        (target / CONFIG).write_bytes((folder / CONFIG).read_bytes())
    else:
        (target / CONFIG).write_text(json.dumps(replace(config, difference=None).to_json(), indent=2) + "\n")
    if (folder / INDEX).is_file():
        (target / INDEX).write_bytes((folder / INDEX).read_bytes())


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
    config = read_config(there[0])
    check_promised(config, there[0])
    if there[0].resolve() == folder.resolve() or config.difference is not None:
        raise ValueError(f"expected another checkpoint with weights of its own as base, got {there[0]}")
    return there[0]


def _whole_files(folder: Path, config: CheckpointConfig) -> Iterator[tuple[str, bytes]]:
    """Give each file of weights, as it lies there or made from a difference, with the hash that config.json promises.

    Of a folder that another library wrote, which promises none, they are given as they are.
    """
    if not config.sha256:
        yield from unpromised_files(folder)
        return
    if (folder / INDEX).is_file():
        _index(folder, config)
    made = None if config.difference is None else _from_difference(folder, config, config.difference)
    for name, promised in config.sha256.items():
        if made is None:
            content = _read(folder, name, promised)
        elif hashlib.sha256(content := made.get(name, b"")).hexdigest() != promised:
            raise CheckpointError(
                f"{folder / DIFFERENCE} and its base make another {name} than {CONFIG} promises: {_AGAIN}"
            )
        yield name, content


def _index(folder: Path, config: CheckpointConfig) -> dict[str, Any]:
    """Read which tensor lies in which file of weights; the files are those of config.json and no others."""
    try:
        index = read_json(folder, INDEX, _MOST_INDEX)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder / INDEX} is damaged ({error}): {_AGAIN}") from None
    files = index.get("weight_map")
    if not isinstance(files, dict):
        raise CheckpointError(f"{folder / INDEX} has no weight_map: {_AGAIN}")
    for key, name in files.items():
        if not isinstance(name, str) or name not in config.sha256:
            raise CheckpointError(
                f"{folder / INDEX} has {shown(key, 60)} in {shown(repr(name), 60)}, which {CONFIG} does not name: "
                f"{_AGAIN}"
            )
    return index


def _read(folder: Path, name: str, promised: str) -> bytes:
    """Read a file whose hash is promised."""
    path = folder / name
    try:
        content = inside(folder, name).read_bytes()
    except FileNotFoundError:
        raise CheckpointError(f"expected weights in {path}, found none: {_AGAIN}") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error})") from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != promised:
        other = writer(folder, content)
        why = "the file is damaged or another one" if other is None else f"{other} saved it after {CONFIG} was written"
        raise CheckpointError(
            f"{path} has sha256 {digest[:12]}..., {CONFIG} promises {promised[:12]}...: {why}; "
            f"{_AGAIN if other is None else adopting(folder)}"
        )
    return content


def _from_difference(folder: Path, config: CheckpointConfig, difference: Difference) -> dict[str, bytes]:
    """Make the files of weights from a difference and its base."""
    base = _base(folder, difference)
    content = _read(folder, DIFFERENCE, difference.sha256)
    try:
        tensors = read_stored(base, read_config(base))
    except CheckpointError as error:
        raise CheckpointError(f"the base of {folder}: {error}") from None
    names = list(config.sha256)
    try:
        state = decode(content, tensors)
        file_of = {} if names == [WEIGHTS] else _index(folder, config)["weight_map"]
        parts = {name: {k: v for k, v in state.items() if file_of.get(k, WEIGHTS) == name} for name in names}
    except CheckpointError:
        raise
    except _DAMAGE as error:
        raise CheckpointError(f"{folder / DIFFERENCE} cannot be read ({shown(error)}): {_AGAIN}") from None
    return {name: pack(part, metadata_of(config)) for name, part in parts.items()}


def _base(folder: Path, difference: Difference) -> Path:
    """Find the base of a difference."""
    name = difference.base
    there = _named(name, folder)
    if not there:
        raise CheckpointError(f"{folder} holds a difference to {name}, but {not_here(name)}")
    for candidate in there:
        config = read_config(candidate)
        if config.sha256 == difference.base_sha256 and config.difference is None:
            return candidate
    raise CheckpointError(
        f"{folder} holds a difference to {name}, but not to the weights in {there[0]}: config.json says that those "
        "have another sha256"
    )


def _named(name: str, folder: Path) -> list[Path]:
    """Find the checkpoints of a name: the one beside a folder, then the shelves'."""
    folders = [folder.absolute().parent / name, checkpoint_folder(name)] if is_name(name) else []
    return [one for one in folders if one is not None and (one / CONFIG).is_file()]
