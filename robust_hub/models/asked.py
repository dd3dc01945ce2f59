"""Which weights a call of `timm.create_model` asks for: those, or a refusal, and never others beside them.

A source is tensors (`state_dict`), a file or folder (`file`) or a repository (`hf_hub_id`). The first that names one
decides: `pretrained_cfg_overlay`, then `pretrained_cfg`, which timm fills for "local-dir:" and "hf-hub:", then the
name. Of several in one of them, it is the first in timm's order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from timm.models import PretrainedCfg
from torch import Tensor

from robust_hub.errors import CheckpointError
from robust_hub.layout import CONFIG, DIFFERENCE, INDEX, WEIGHTS
from robust_hub.models.checkpoint import read_weights
from robust_hub.models.config import CheckpointConfig, as_timm, read_config
from robust_hub.models.pins import read_pins
from robust_hub.models.remote import fetch
from robust_hub.models.shelves import checkpoint_folder, not_here
from robust_hub.parsing import shown

SOURCES = ("state_dict", "file", "hf_hub_id", "url")  # timm's order
PLACES = (*SOURCES, "hf_hub_filename", "source", "custom_load")
_OF_TIMM = {"hf-hub": "hf_hub_id", "local-dir": "file"}  # what timm's own prefixes of a name fill
_ELSE = "read it yourself, or pass it as checkpoint_path= to timm.create_model, which checks nothing"


@dataclass(frozen=True)
class Asked:
    """Where a call says that weights are.

    Attributes:
        kind: "state_dict", "file", "hf_hub_id" or "url"; "" where nothing but the name says it.
        value: What it says.
        filename: The file of a repository, or of the folder of a name; "" where it is not said.
    """

    kind: str = ""
    value: Any = None
    filename: str = ""


def asked_for(pretrained_cfg: Any, overlay: Mapping[str, Any]) -> Asked:
    """Find the source that a call names.

    Args:
        pretrained_cfg: timm's: a tag, a mapping, a PretrainedCfg, or None.
        overlay: timm's `pretrained_cfg_overlay`.

    Example:
        >>> asked_for({"file": "weights"}, {"hf_hub_id": "me/mine@v1"})
        Asked(kind='hf_hub_id', value='me/mine@v1', filename='')
    """
    theirs = said_of(pretrained_cfg)
    filename = str(overlay.get("hf_hub_filename") or theirs.get("hf_hub_filename") or "")
    for words in (overlay, theirs):
        own = _OF_TIMM.get(str(words.get("source") or ""))
        for kind in (own,) if own else SOURCES:
            if words.get(kind):
                return Asked(kind, words[kind], filename)
    return Asked(filename=filename)


def said_of(pretrained_cfg: Any) -> dict[str, Any]:
    """Give what a `pretrained_cfg` says: nothing of a tag, and of timm's class what is not its default."""
    if isinstance(pretrained_cfg, PretrainedCfg):
        fields = dataclasses.fields(pretrained_cfg)
        return {f.name: v for f in fields if (v := getattr(pretrained_cfg, f.name)) != f.default}
    return dict(pretrained_cfg) if isinstance(pretrained_cfg, Mapping) else {}


def locate(asked: Asked, name: str, cache_dir: str | Path | None = None) -> Path:
    """Bring about the checkpoint folder that is asked for.

    Args:
        asked: The source, no state_dict.
        name: The name for timm, its tag included; decides where nothing else does.
        cache_dir: The Hub's cache; by default the user's.

    Returns:
        The folder, in which the file that is asked for is one of the checkpoint's.

    Raises:
        CheckpointError: If it is not there, or the file is not one that its config.json promises.
    """
    if asked.filename:
        _check_kind(asked.filename)
    if asked.kind == "url":
        raise CheckpointError(
            f"expected weights in a checkpoint folder (file=) or on the Hub (hf_hub_id=), got the url "
            f"{shown(asked.value)}, whose hash, norm and layers are recorded nowhere: {_ELSE}"
        )
    if asked.kind == "file":
        return folder_of(asked.value)
    if asked.kind == "hf_hub_id":
        repo_id, _, revision = str(asked.value).partition("@")  # timm's "owner/name@revision"
        folder = fetch(repo_id, revision or "main", check=read_weights, cache_dir=cache_dir)
    elif (found := checkpoint_folder(name)) is not None:
        folder = found
    elif pin := read_pins().get(name):
        folder = fetch(pin["repo_id"], pin["revision"], check=read_weights, cache_dir=cache_dir)
    else:
        raise CheckpointError(
            f"{not_here(name, 'the Hub (no revision is pinned)')}; pretrained=False makes random ones"
        )
    if asked.filename:
        _check_promised(folder, asked.filename)
    return folder


def folder_of(file: str | Path) -> Path:
    """Give the checkpoint folder that a path means: itself, or the one whose file of weights it names.

    Args:
        file: A folder, or a file of one.

    Raises:
        CheckpointError: If there is none, or the file is not one that config.json beside it promises.
    """
    path = Path(file).expanduser()
    if path.is_dir():
        return path
    if not path.exists() and not (path.parent / CONFIG).is_file():
        raise CheckpointError(f"expected a checkpoint folder or a file of its weights, got {path}, which is not there")
    if path.exists():
        _check_kind(path.name)
    if not (path.parent / CONFIG).is_file():
        raise CheckpointError(f"expected weights with their {CONFIG} beside them, got {path} without one: {_ELSE}")
    _check_promised(path.parent, path.name)
    return path.parent


def check_facts(config: CheckpointConfig, overlay: Mapping[str, Any]) -> None:
    """Refuse an overlay that says other classes or channels of the weights than they have.

    A negative number of classes is timm's word for a fresh classifier, as of train.py's `--pretrained-path`.

    Raises:
        ValueError: Naming the argument that asks for what is said.
    """
    size = tuple(overlay.get("input_size") or config.input_size)
    channels = (size or (None,))[0], (config.input_size or size or (None,))[0]
    classes = overlay.get("num_classes", config.num_classes), config.num_classes
    classes = (classes[1], classes[1]) if classes[0] is None or classes[0] < 0 else classes
    for what, argument, (told, own) in (("classes", "num_classes", classes), ("channels", "in_chans", channels)):
        if told != own:
            raise ValueError(
                f"expected the {own} {what} of the weights in pretrained_cfg_overlay, got {told}: leave it out, and "
                f"pass {argument}={told} for a network of so many"
            )


def overlay_of(
    config: CheckpointConfig, state: Mapping[str, Tensor], folder: Path, said: Mapping[str, Any]
) -> dict[str, Any]:
    """Make timm load a state dict, adapting head and first layer to the model as it does for its own weights.

    What the caller says of images wins over config.json; where the weights are is settled.

    Args:
        config: The checkpoint's config.
        state: Its weights.
        folder: Where they lie.
        said: The caller's overlay; None in it says nothing.

    Returns:
        timm's `pretrained_cfg_overlay`.

    Raises:
        ValueError: As `check_facts`.
    """
    check_facts(config, said)
    cfg = as_timm(config.pretrained_cfg)
    words = {k: v for k, v in said.items() if k not in PLACES and v is not None}
    here = {"source": "", "file": str(folder / WEIGHTS), "state_dict": state}
    return {**cfg, "num_classes": config.num_classes, **words, **here}


def _check_kind(name: str) -> None:
    """Refuse a file that is no safetensors, such as a pickle of timm's train.py."""
    if not name.endswith(".safetensors") and name not in (CONFIG, INDEX, DIFFERENCE):
        raise CheckpointError(
            f"expected a checkpoint folder or a file of weights in safetensors, got {shown(name)}: no other is opened "
            f"here; {_ELSE}"
        )


def _check_promised(folder: Path, name: str) -> None:
    """Refuse a file that is not of a folder's checkpoint, though it may lie beside it."""
    config = read_config(folder)
    known = {CONFIG, *config.sha256, *([DIFFERENCE] if config.difference else [])}
    if set(config.sha256) != {WEIGHTS}:
        known |= {INDEX} if config.sha256 else {WEIGHTS, INDEX}  # another library's config.json promises nothing
    there = (folder / name).exists()
    if name not in known and (name != WEIGHTS or there):  # timm's listings have that name of any folder
        raise CheckpointError(
            f"expected a file of weights that {folder / CONFIG} names ({', '.join(config.sha256)}), got {shown(name)}, "
            + (f"whose hash, norm and layers are recorded nowhere: {_ELSE}" if there else "which is not there")
        )
