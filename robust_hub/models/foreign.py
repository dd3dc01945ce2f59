"""Folders that another library wrote: timm's `save_for_hf` and `push_to_hf_hub`, transformers' `save_pretrained`.

timm writes config.json without our part, so that nothing can be compared: such a folder is loaded with a warning.
transformers keeps our part and saves other weights beside it, whose hash is then refused. `robust_hub.models.adopt`
makes a checkpoint of either.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from torch import nn

from robust_hub.errors import CheckpointError
from robust_hub.files import inside
from robust_hub.layout import CONFIG, WEIGHTS
from robust_hub.models.config import CheckpointConfig, read_json
from robust_hub.models.shelves import is_name
from robust_hub.models.tensors import metadata
from robust_hub.parsing import shown

PICKLE = "pytorch_model.bin"


def adopting(folder: Path) -> str:
    """Say what makes a checkpoint of a folder, for errors and warnings; of one in the Hub's cache, a copy."""
    if not is_cached(folder):
        return f"`robust-hub adopt {folder}` checks what it computes and writes the hashes"
    repo_id = folder.absolute().parents[1].name.removeprefix("models--").replace("--", "/", 1)
    return f"`hf download {repo_id} --local-dir FOLDER`, then `robust-hub adopt FOLDER` checks it and writes the hashes"


def is_cached(folder: Path) -> bool:
    """Tell whether a folder is a snapshot in the Hub's cache, whose files are not to be changed."""
    return re.fullmatch(r"models--.+--.+", folder.absolute().parent.parent.name) is not None


def unpromised_files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Give name and content of a folder's files of weights, of which config.json promises nothing.

    Raises:
        CheckpointError: If there are none, or no safetensors.
    """
    names = [WEIGHTS] if (folder / WEIGHTS).exists() else sorted(path.name for path in folder.glob("model-*-of-*"))
    names = [name for name in names if is_name(name) and name.endswith(".safetensors")]
    if not names:
        got, way = "none", "fetch them, or save them with safe_serialization=True where timm saved a pickle alone"
        if (folder / PICKLE).exists():
            got = f"{PICKLE}, a pickle, which is not opened"
            way = f"save them with save_for_hf(..., safe_serialization=True), or {adopting(folder)}"
        raise CheckpointError(f"expected weights in {folder / WEIGHTS}, got {got}: {way}")
    for name in names:
        try:
            yield name, inside(folder, name).read_bytes()
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{folder / name} cannot be read ({error})") from None


def writer(folder: Path, content: bytes) -> str | None:
    """Name the library that saved weights beside our config.json; None where it may well have been ours.

    Args:
        folder: The checkpoint's folder.
        content: A file of its weights, of another hash than config.json promises.
    """
    try:
        config = read_json(folder, CONFIG)
        if "architecture" in metadata(content):  # which ours says
            return None
    except (OSError, ValueError):
        return None
    if "transformers_version" in config:
        return f"transformers {shown(config['transformers_version'], 40)}"
    return "another library" if "robust_hub" in config else "timm"


def described(config: CheckpointConfig, network: nn.Module) -> CheckpointConfig:
    """Take norm and stem from the network that a config.json describes, where it does not name them itself."""
    if config.sha256:
        return config
    return replace(config, norm=str(getattr(network, "norm_kind", "")), stem=str(getattr(network, "stem", "")))


def warn_unchecked(config: CheckpointConfig, folder: Path) -> None:
    """Warn of weights that could not be compared with anything."""
    if not config.sha256:
        warnings.warn(
            f"{folder} is not checked: no hashes, another library wrote its {CONFIG}; {adopting(folder)}",
            stacklevel=2,
        )


def check_promised(config: CheckpointConfig, folder: Path) -> None:
    """Refuse a folder that promises nothing of its weights where a promise is needed.

    Raises:
        CheckpointError: If config.json names no hashes.
    """
    if not config.sha256:
        raise CheckpointError(f"{folder / CONFIG} names no robust_hub, so no hashes to check: {adopting(folder)}")
