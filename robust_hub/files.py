"""Write a small file whole or not at all, whatever happens in the middle; find a folder's files in the folder alone."""

from __future__ import annotations

import os
from pathlib import Path


def replace_text(path: Path, text: str) -> None:
    """Put a text in the place of a file: a reader, and a machine that lost its power, finds the old or the new one.

    Args:
        path: The file, in a folder that exists.
        text: Its new content, written as UTF-8.

    Raises:
        OSError: If it cannot be written; the old file is kept.
    """
    fresh = path.with_name(path.name + ".new")
    with open(fresh, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Push a folder's list of files to the disk."""
    if os.name == "nt":  # pragma: no cover - Windows cannot open a folder
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def inside(folder: Path, name: str | Path) -> Path:
    """Give the path of a folder's own file, there or not yet; what leads out of the folder is refused.

    A link may lead to another file of the folder, and from a snapshot of the Hub's cache to the cache's own files.

    Args:
        folder: The folder.
        name: The file's path in it.

    Returns:
        The path, not resolved.

    Raises:
        ValueError: If the path or a link on it leads elsewhere, or to something that is no file, such as a device.
    """
    path = folder / name
    try:
        home, real = folder.resolve(), path.resolve()
    except (OSError, RuntimeError):  # a circle of links
        raise ValueError(f"expected a file in {folder}, got {path}, whose links lead nowhere") from None
    own = [home]
    if home.parent.name == "snapshots":  # of the Hub's cache: a repository's own files, and those that all share
        own += [home.parents[1] / "blobs", home.parents[2] / "blobs"]
    if not any(real.is_relative_to(place) for place in own):
        raise ValueError(f"expected a file in {folder}, got {path}, which leads to {real}: copy the file there")
    if real.exists() and not real.is_file():
        raise ValueError(f"expected a file, got {path}, which is none")
    return path
