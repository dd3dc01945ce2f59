"""Folders of images: which files belong to a split, and to which class."""

from __future__ import annotations

import re
from pathlib import Path

from robust_hub.images.source import Source, pick

SPLIT_FOLDERS = ("train", "val", "valid", "validation", "test")


def folder_source(root: Path, split: str) -> Source:
    """Read one split of a folder with one subfolder a class.

    Raises:
        ValueError: If there is no such split, or no image in it.
    """
    from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

    name = root.resolve().name
    parts = {p.name: p for p in sorted(root.iterdir()) if p.is_dir() and p.name in {*SPLIT_FOLDERS, split}}
    # A folder without split folders is its own split: "train", or whatever the folder is called.
    parts = parts or {"train": root, name: root}
    classes = sorted({p.name for part in parts.values() for p in part.iterdir() if p.is_dir() and p.name[0] != "."})
    if not classes:
        raise ValueError(f"expected images in one subfolder a class, got a folder without images: {root}")
    chosen = pick(parts, split, str(root))
    present = {label: k for k, label in enumerate(classes) if (chosen / label).is_dir()}
    files = make_dataset(str(chosen), present, extensions=IMG_EXTENSIONS, allow_empty=True) if present else []
    if not files:
        raise ValueError(f"expected images in one subfolder a class, got a folder without images: {chosen}")
    return Source(name, [path for path, _ in files], [label for _, label in files], classes)


def parquet_files(root: Path) -> dict[str, list[str]]:
    """Find <split>-*.parquet in a folder, its data/ folder, or a folder named like the split."""
    by_name: dict[str, list[str]] = {}
    for path in sorted([*root.glob("*.parquet"), *root.glob("*/*.parquet")]):
        inside = path.parent != root and path.parent.name != "data"
        name = path.parent.name if inside else re.sub(r"-\d.*$", "", path.stem)
        by_name.setdefault(name, []).append(str(path))
    return by_name
