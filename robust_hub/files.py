"""Write a small file whole or not at all, whatever happens in the middle."""

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
