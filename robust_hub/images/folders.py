"""Folders of images: which files belong to a split, and to which class."""

from __future__ import annotations

import warnings
from collections import Counter

from robust_hub.images.class_folders import classes_of, splits_of
from robust_hub.images.files_found import Folder
from robust_hub.images.source import Source


def folder_source(tree: Folder, split: str, layout: str | None) -> Source:
    """Read one split of a folder with one folder a class.

    Files that are no images are passed over, and counted in a warning.

    Raises:
        ValueError: If there is no such split, no image in it, or doubt what the folders are.
    """
    parts = splits_of(tree, split, layout)
    chosen, folders, classes = classes_of(parts, split, str(tree.path))
    number = {name: k for k, name in enumerate(classes)}
    files = [(path, number[name]) for name in sorted(folders) for part in folders[name] for path in part.paths()]
    name = tree.path.resolve().name
    outside = len(chosen.images) + (len(tree.images) if chosen is not tree else 0)
    _say_skipped(chosen, f"{name}, split '{split}'", len(files), outside, set(classes))
    return Source(name, [path for path, _ in files], [label for _, label in files], classes)


def skipped(missed: Counter[str], read: int) -> str:
    """Say how many files were passed over, such as "skipped 5 of 9 files: 3 .heic, 2 .pdf"; empty if none."""
    count = sum(missed.values())
    kinds = ", ".join(f"{number} {kind}" for kind, number in missed.most_common(5))
    return f"skipped {count} of {count + read} files: {kinds}{', ...' if len(missed) > 5 else ''}" if count else ""


def _say_skipped(chosen: Folder, name: str, read: int, outside: int, classes: set[str]) -> None:
    missed = chosen.missed()
    if outside:
        missed["outside the class folders"] = outside
    empty = [folder.name for folder in chosen.folders if not folder.count and folder.name not in classes]
    words = [skipped(missed, read), f"no image in {', '.join(sorted(empty)[:5])}, no class therefore" if empty else ""]
    if any(words):
        # The line that asked for the data: load_data, find, _named and read_folder lie between.
        warnings.warn(f"{name}: {'; '.join(word for word in words if word)}", stacklevel=7)
