"""Table files: which parquet files, tar shards and saved Datasets of a folder belong to which split."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from robust_hub.bars import quiet
from robust_hub.images.files_found import Folder
from robust_hub.images.seen import first_line
from robust_hub.images.source import Source, need
from robust_hub.images.splits import pick, split_roles
from robust_hub.images.tables import cache_trouble, read_parquet, table_source

SHARD = re.compile(r"(^|[-_.])\d+([-_.]of[-_.]\d+)?([-_.][0-9a-f]{8,}[-_.0-9a-z]*)?$")
SAVED, SAVED_SPLITS = {"state.json", "dataset_info.json"}, "dataset_dict.json"
Columns = tuple[str | None, str | None]


def split_files(files: list[Path], root: Path) -> dict[str, list[str]]:
    """Give the files of each split: named after it, or in a folder named after it; `part-0001` or `data` is "train".

    Raises:
        ValueError: If several folders hold files of the same split.
    """
    above = {file: [folder.name for folder in file.relative_to(root).parents][:-1] for file in files}
    stems = {file: SHARD.sub("", file.name.split(".")[0]) for file in files}
    folders = split_roles({name for names in above.values() for name in names})
    usual = split_roles(set(stems.values()))
    named = {file.parent for file in files if stems[file] in usual}
    parts: dict[str, list[str]] = {}
    homes: dict[str, set[Path]] = {}
    for file in files:
        inside = next((name for name in above[file] if name in folders), None)
        plain = file.parent == root or file.parent.name == "data" or file.parent in named
        name = inside or (stems[file] if plain else file.parent.name)
        parts.setdefault(name, []).append(str(file))
        homes.setdefault(name, set()).add(file.parents[above[file].index(inside) + 1] if inside else file.parent)
        if len(homes[name]) > 1:
            got = f"files of '{name}' in {' and '.join(sorted(str(home) for home in homes[name]))}"
            raise ValueError(f"expected one set of tables, got {got}: give one of these folders")
    if len(parts) == 1 and not split_roles(parts):
        (only,) = parts.values()
        return {"train": only, **{name: only for name in parts if name}}
    return parts


def parquet_source(files: list[Path], root: Path, split: str, columns: Columns, name: str) -> Source:
    """Read one split of parquet files in a folder."""
    return table_source(read_parquet(pick(split_files(files, root), split, str(root)), name), columns, name)


def has_images(file: Path) -> bool:
    """Tell whether a parquet file has a column of encoded images; also if that cannot be told."""
    try:
        schema = need("pyarrow.parquet", f"reading {file}").read_schema(file)
    except Exception:  # without pyarrow, or of a file that it does not read
        return True
    return any("binary" in str(field.type) for field in schema)


def is_saved(tree: Folder) -> bool:
    """Tell whether a folder, or one of its folders, was written by `save_to_disk`."""
    return SAVED_SPLITS in tree.others or any({*folder.others} >= SAVED for folder in (tree, *tree.folders))


def saved_source(tree: Folder, split: str, columns: Columns, name: str) -> Source:
    """Read one split of what `save_to_disk` of a Dataset or a DatasetDict wrote.

    Raises:
        ValueError: If it cannot be read, or there is no such split.
    """
    if SAVED_SPLITS in tree.others or {*tree.others} >= SAVED:
        loaded = _load_saved(tree.path)
    else:
        folders = {folder.name: folder.path for folder in tree.folders if {*folder.others} >= SAVED}
        loaded = {split: _load_saved(pick(folders, split, str(tree.path)))}
    if not isinstance(loaded, dict):
        loaded = {str(loaded.split or "train"): loaded, name: loaded}
    return table_source(pick(loaded, split, str(tree.path)), columns, name)


def _load_saved(path: Path) -> Any:
    library = need("datasets", f"reading the Dataset saved in {path}")
    try:
        return library.load_from_disk(str(path))
    except Exception as error:  # of datasets, pyarrow and the system
        raise ValueError(f"expected a saved Dataset that can be read, got {path}: {first_line(error)}") from error


def shard_source(files: list[Path], root: Path, split: str, columns: Columns, name: str) -> Source:
    """Read one split of tar shards in the form of webdataset: x.jpg beside x.cls.

    Raises:
        ValueError: If they cannot be read, or have no labels.
    """
    chosen = pick(split_files(files, root), split, str(root))
    library = need("datasets", f"reading the tar shards of {name}")
    try:
        with quiet(library):
            table = library.load_dataset("webdataset", data_files={"part": chosen}, split="part")
    except Exception as error:  # of datasets, tarfile and the system
        if unwritable := cache_trouble(error, chosen):
            raise ValueError(unwritable) from error
        got = f"{chosen[0]}: {first_line(error)}"
        raise ValueError(f"expected tar shards of images with their .cls, got {got}: or unpack them") from error
    image, label = columns
    if label is None and "cls" in table.column_names:
        label = "cls"
    if label is None:
        got = f"{', '.join(column for column in table.column_names if column[:2] != '__')} in {chosen[0]}"
        raise ValueError(
            f"expected the class of each image in its .cls, got {got}: say label_column= (--label-column), or unpack "
            "the shards into one folder a class"
        )
    return table_source(table, (image, label), name)
