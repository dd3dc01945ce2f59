"""Layouts: how a folder keeps labelled images, recognised or said, and read."""

from __future__ import annotations

from pathlib import Path

from robust_hub.images.files_found import Folder, look_into
from robust_hub.images.folders import folder_source
from robust_hub.images.metadata import metadata_source
from robust_hub.images.metadata_lines import lists_images, tables_of
from robust_hub.images.source import Source
from robust_hub.images.splits import split_roles
from robust_hub.images.table_files import has_images, is_saved, parquet_source, saved_source, shard_source

LAYOUTS = ("classes", "splits", "metadata", "table", "saved", "shards")
SHARDS = (".tar", ".tar.gz", ".tgz")
Columns = tuple[str | None, str | None]


def read_folder(root: Path, split: str, layout: str | None, columns: Columns) -> Source:
    """Read one split of a folder, in the layout that is said or recognised.

    Raises:
        ValueError: If there is no such split, or doubt what the folder is.
    """
    if layout is not None and layout not in LAYOUTS:
        raise ValueError(f"expected one of the layouts {', '.join(LAYOUTS)}, got '{layout}'")
    tree, name = look_into(root), root.resolve().name
    kind = layout or _recognised(tree, split, columns)
    if kind == "saved":
        return saved_source(tree, split, columns, name)
    if kind == "metadata" and tables_of(tree):
        return metadata_source(tree, split, columns, name)
    files = _parquet(tree) if kind == "table" else tree.files(*SHARDS) if kind == "shards" else []
    if files:
        return (parquet_source if kind == "table" else shard_source)(files, root, split, columns, name)
    if kind not in ("classes", "splits") or not tree.count:
        raise ValueError(_nothing(tree, kind))
    return folder_source(tree, split, layout)


def _recognised(tree: Folder, split: str, columns: Columns) -> str:
    """Recognise how a folder keeps its images; "classes" stands for splits of classes too."""
    if is_saved(tree):
        return "saved"
    tables = _parquet(tree)
    if tree.count and _listed(tree, split, columns):
        return "metadata"
    if not tree.count:
        return "table" if tables else "shards" if tree.files(*SHARDS) else "classes"
    embedded = [table for table in tables if has_images(table)]
    if embedded:
        got = f"{embedded[0].name} beside {tree.count} image files in {tree.path}"
        raise ValueError(
            f'expected image files or tables of images, got {got}: say layout="table" for the tables, layout="classes" '
            'or layout="splits" for the folders (--layout)'
        )
    return "classes"


def _parquet(tree: Folder) -> list[Path]:
    return [file for file in tree.files(".parquet") if file.name.lower() != "metadata.parquet"]


def _listed(tree: Folder, split: str, columns: Columns) -> bool:
    """Tell whether metadata say the labels: a table of file names at the top, or in the folders of splits."""
    tables = {name: files for name, files in tables_of(tree).items() if any(lists_images(f, columns) for f in files)}
    alone = "" in tables or len(tree.filled) == 1
    if tables and not alone and split not in tables and not split_roles(tables):
        got = f"{next(iter(tables.values()))[0].name} in {', '.join(f'{name}/' for name in tables)}"
        raise ValueError(
            f"expected metadata at the top or in folders of splits, got {got} of {tree.path}: ask for one of these "
            'folders as the split, give one of them, or say layout="classes" if they are classes (--layout)'
        )
    return bool(tables) or ("" in tables_of(tree) and not tree.filled)  # nothing else could say the labels


def _nothing(tree: Folder, kind: str) -> str:
    """Say that a folder does not hold what it was taken for, and what it holds instead."""
    wanted, none = {
        "metadata": ("a metadata.csv, .jsonl or .parquet", "without one"),
        "table": ("parquet files", "without any"),
        "shards": ("tar shards", "without any"),
    }.get(kind, ("images in one subfolder a class", "without images"))
    seen = ", ".join(f"{count} {ending}" for ending, count in tree.missed().most_common(4))
    return f"expected {wanted}, got a folder {none}: {tree.path}" + (f" (it has {seen})" if seen else "")
