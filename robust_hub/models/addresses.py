"""Where timm's addresses lead: "local-dir:folder" and "hf-hub:owner/name@revision" of a checkpoint with hashes.

timm itself compares nothing, and so the weights of a network that it makes alone would be loaded unchecked from there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download, try_to_load_from_cache
from timm.models import get_pretrained_cfg

from robust_hub.errors import CheckpointError
from robust_hub.layout import CONFIG
from robust_hub.models.checkpoint import read_weights
from robust_hub.models.config import read_json
from robust_hub.models.remote import WORLD, fetch
from robust_hub.models.shelves import checkpoint_folder

HUB, FOLDER = "hf-hub:", "local-dir:"


def folder_at(source: str, cache_dir: str | Path | None = None) -> Path | None:
    """Bring about the checkpoint folder that an address leads to.

    Args:
        source: An address, or any other name.
        cache_dir: The Hub's cache; by default the user's.

    Returns:
        The folder; None where the name is no address, or leads to what another library wrote, which timm loads. That of
        a checkpoint's name where it came onto a shelf after timm was told the names there.

    Raises:
        CheckpointError: If the weights of such a checkpoint cannot be had, or are others than it promises.
    """
    if source.startswith(FOLDER):
        folder = Path(source.removeprefix(FOLDER))
        return folder if _is_ours(folder) else None
    if not source.startswith(HUB):
        return checkpoint_folder(source) if _is_new(source) else None
    repo_id, _, revision = source.removeprefix(HUB).partition("@")
    revision = revision or "main"
    where: dict[str, Any] = {"revision": revision, "cache_dir": cache_dir}
    try:
        config = try_to_load_from_cache(repo_id, CONFIG, **where)
        config = config if isinstance(config, str) else hf_hub_download(repo_id, CONFIG, **where)
    except WORLD:  # timm says what it makes of it
        return None
    return fetch(repo_id, revision, check=read_weights, cache_dir=cache_dir) if _is_ours(Path(config).parent) else None


def _is_new(name: str) -> bool:
    """Tell whether a name has a tag that timm does not know."""
    try:
        return "." in name and get_pretrained_cfg(name) is None
    except RuntimeError:
        return True


def _is_ours(folder: Path) -> bool:
    """Tell whether a folder's config.json promises hashes; one that cannot be read is timm's to judge."""
    try:
        ours = read_json(folder, CONFIG).get("robust_hub")
    except (OSError, ValueError, CheckpointError):
        return False
    return isinstance(ours, dict) and bool(ours.get("sha256"))
