"""Tables of images: parquet files, datasets.Dataset and pyarrow.Table, and which of their columns are meant."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from importlib import import_module
from typing import Any

from robust_hub.bars import quiet
from robust_hub.images.source import Source, need

PREFERRED = {"image": ("image", "img"), "label": ("label", "labels", "fine_label", "target", "class")}
USUAL = {
    "image": (*PREFERRED["image"], "jpg", "jpeg", "png", "webp", "pixel_values"),
    "label": (*PREFERRED["label"], "targets", "cls"),
}


def read_parquet(files: list[str], name: str) -> Any:
    """Open parquet files as a datasets.Dataset, which stays on disk, or without that package as a pyarrow.Table."""
    read: Callable[[], Any]
    try:
        datasets = import_module("datasets")
        read = partial(datasets.load_dataset, "parquet", data_files={"part": files}, split="part")
        bars: AbstractContextManager[None] = quiet(datasets)
    except ImportError:
        pyarrow = need("pyarrow.parquet", f"reading the parquet files of {name}")
        read, bars = partial(pyarrow.read_table, files, partitioning=None), nullcontext()
    try:
        with bars:
            table = read()
    except Exception as error:
        got = f"{files[0]}: {error.__cause__ or error}"
        if unwritable := cache_trouble(error, files):
            raise ValueError(unwritable) from error
        raise ValueError(f"expected parquet files that can be read, got {got}") from error
    _check_same_classes(files, name)
    return table


def _check_same_classes(files: list[str], name: str) -> None:
    """Refuse files of one split that number their classes in other orders: read together, the first one's names count.

    Raises:
        ValueError: If they do.
    """
    read_schema = need("pyarrow.parquet", f"reading the parquet files of {name}").read_schema
    first = _classes(read_schema(files[0]))
    for file in files[1:]:
        own = _classes(read_schema(file))
        if differing := [column for column in own.keys() & first.keys() if own[column] != first[column]]:
            got = f"other names, or another order, of column {differing[0]} in {files[0]} and {file}"
            raise ValueError(
                f"expected the same classes in all files of {name}, got {got}: load each with datasets, cast_column to "
                "one ClassLabel and write them again"
            )


def _classes(schema: Any) -> dict[str, list[str]]:
    """Give the names of the classes of each ClassLabel column of a pyarrow schema."""
    kinds = _kinds(schema)
    return {column: kind["names"] for column, kind in kinds.items() if kind.get("_type") == "ClassLabel"}


def label_texts(table: Any) -> list[dict[str, Any]]:
    """Give the rows of a pyarrow table; labels of a ClassLabel column are names of classes, or None."""
    rows: list[dict[str, Any]] = table.to_pylist()
    for column, names in _classes(table.schema).items():
        for row in rows:
            label = row[column]
            row[column] = names[label] if label is not None and 0 <= label < len(names) else None
    return rows


def _kinds(schema: Any) -> dict[str, dict[str, Any]]:
    """Give what `datasets` notes of each column in a pyarrow schema."""
    noted = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    return {column: kind for column, kind in noted.items() if isinstance(kind, dict)}


def cache_trouble(error: Exception, files: list[str]) -> str:
    """Say that the cache of `datasets` cannot be written, where that is what an error of the system is of; else ""."""
    cause = error.__cause__ or error
    if not isinstance(cause, OSError) or cause.filename is None or str(cause.filename) in files:
        return ""
    got = f"{cause.filename} ({cause.strerror})"
    return (
        f"expected a cache folder of datasets that can be written, got {got}: name another one in the environment "
        "variable HF_DATASETS_CACHE"
    )


def is_table(source: Any) -> bool:
    """Tell whether something is a table of the library `datasets`."""
    return hasattr(source, "features") and hasattr(source, "column_names")


def is_transformed(source: Any) -> bool:
    """Tell whether a table gives what a function of its owner makes of its rows (`with_transform`)."""
    form = getattr(source, "format", None)
    return isinstance(form, dict) and form.get("type") == "custom"


def class_names(features: Any, column: str) -> tuple[str, ...] | None:
    """Give the names of a ClassLabel column; None of another one."""
    feature = features.get(column)
    return tuple(feature.names) if type(feature).__name__ == "ClassLabel" else None


def table_source(table: Any, columns: tuple[str | None, str | None], name: str) -> Source:
    """Choose the columns of a datasets.Dataset or a pyarrow.Table; the images stay encoded.

    Raises:
        ValueError: If there is no such column, or not exactly one that fits.
        TypeError: If the table has no length.
    """
    if not hasattr(table, "__len__"):
        raise TypeError("expected a Dataset with a length, got an IterableDataset: load it without streaming=True")
    features = getattr(table, "features", None)
    schema = table.schema if features is None else features.arrow_schema
    kinds = _kinds(schema)
    shown = _shown(table, schema.names)
    types = {field.name: str(field.type) for field in schema if field.name in shown}
    image = _image_column(columns[0], types, kinds, name)
    classes = _classes(schema)
    label = _label_column(columns[1], types, [column for column in classes if column in types], image, name)
    if features is None:
        return Source(name, table.column(image), table.column(label).to_pylist(), classes.get(label))
    table = table.with_format(None)
    rows, labels, feature = table.select_columns([image]), list(table[label]), features[image]
    if getattr(feature, "mode", None) is not None:  # which the library itself brings an image to, as its owner asked
        return Source(name, rows, labels, classes.get(label), key=image, encoded=False)
    if type(feature).__name__ == "Image":
        rows = rows.cast_column(image, import_module("datasets").Image(decode=False))
    return Source(name, rows, labels, classes.get(label), key=image)


def _shown(table: Any, columns: list[str]) -> list[str]:
    """Give the columns that a table shows, of which `with_format(..., columns=)` may have chosen some."""
    form = getattr(table, "format", None)
    if not isinstance(form, dict) or form.get("output_all_columns") or not form.get("columns"):
        return columns
    return [column for column in columns if column in form["columns"]]


def _image_column(given: str | None, types: dict[str, str], kinds: dict[str, Any], name: str) -> str:
    structs = [column for column, kind in types.items() if re.match(r"struct<.*bytes: (large_)?binary", kind)]
    images = [column for column in structs if kinds.get(column, {}).get("_type", "Image") == "Image"]
    bare = [column for column, kind in types.items() if re.fullmatch(r"(large_)?binary(_view)?", kind)]
    images = images or [column for column in bare if column in USUAL["image"]] or bare
    nested = [column for column, kind in types.items() if re.match(r"(large_|fixed_size_)?list|extension", kind)]
    if given in nested or (given is None and not images and set(nested) & set(USUAL["image"])):
        column = given or next(column for column in nested if column in USUAL["image"])
        got = f"{types[column]} in column {column} of {name}: cast the column to datasets.Image()"
        raise ValueError(f"expected encoded images, got {got}")
    return _column("image", given, images, list(types), name)


def _label_column(given: str | None, types: dict[str, str], classes: list[str], image: str, name: str) -> str:
    usual = {column: kind for column, kind in types.items() if column in USUAL["label"]}
    kinds = (r"u?int\d+", r"bool", r"(large_)?string(_view)?|dictionary<values=(large_)?string.*", r"double|float")
    fitting = [[column for column, kind in usual.items() if re.fullmatch(one, kind)] for one in kinds]
    plain = next(filter(None, fitting), [])
    best = next((column for column in PREFERRED["label"] if column in types and column != image), None)
    if given is None and best in plain and classes and best not in classes and not set(classes) & set(USUAL["label"]):
        got = f"{best}, without names of classes, beside {', '.join(classes)}, with them"
        raise ValueError(f"expected one label column in {name}, got {got}: pass label_column=, one of these")
    return _column("label", given, classes or plain, list(types), name)


def _column(word: str, given: str | None, fitting: list[str], columns: list[str], name: str) -> str:
    """Choose a column: the given one, else the first preferred one of the right type, else their only one."""
    if given is not None:
        if given not in columns:
            raise ValueError(f"expected one of the columns {', '.join(columns)} of {name}, got {word}_column='{given}'")
        return given
    best = [column for column in PREFERRED[word] if column in fitting][:1] or fitting
    if len(best) != 1:
        got = f"{', '.join(best) or 'none'}: pass {word}_column=, one of {', '.join(columns)}"
        raise ValueError(f"expected one {word} column in {name}, got {got}")
    return best[0]
