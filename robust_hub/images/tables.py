"""Tables of images: parquet files, datasets.Dataset and pyarrow.Table, and which of their columns are meant."""

from __future__ import annotations

import json
import re
from functools import partial
from importlib import import_module
from typing import Any

from robust_hub.images.source import Source, need

USUAL = {"image": ("image", "img"), "label": ("label", "labels", "fine_label", "target", "class")}


def read_parquet(files: list[str], name: str) -> Any:
    """Open parquet files as a datasets.Dataset, which stays on disk, or without that package as a pyarrow.Table."""
    try:
        read = partial(import_module("datasets").load_dataset, "parquet", data_files={"part": files}, split="part")
    except ImportError:
        pyarrow = need("pyarrow.parquet", f"reading the parquet files of {name}")
        read = partial(pyarrow.read_table, files, partitioning=None)
    try:
        return read()
    except Exception as error:
        got = f"{files[0]}: {error.__cause__ or error}"
        if unwritable := cache_trouble(error, files):
            raise ValueError(unwritable) from error
        raise ValueError(f"expected parquet files that can be read, got {got}") from error


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


def table_source(table: Any, columns: tuple[str | None, str | None], name: str) -> Source:
    """Choose the columns of a datasets.Dataset or a pyarrow.Table; the images stay encoded."""
    if not hasattr(table, "__len__"):
        raise TypeError("expected a Dataset with a length, got an IterableDataset: load it without streaming=True")
    features = getattr(table, "features", None)
    schema = table.schema if features is None else features.arrow_schema
    images = [field.name for field in schema if re.match(r"struct<.*bytes: binary", str(field.type))]
    image = _column("image", columns[0], images, schema.names, name)
    written = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    kinds = {column: kind for column, kind in written.items() if isinstance(kind, dict)}
    classes = {column: kind["names"] for column, kind in kinds.items() if kind.get("_type") == "ClassLabel"}
    integers = [field.name for field in schema if re.fullmatch(r"u?int\d+", str(field.type))]
    labels = list(classes) or [column for column in integers if column in USUAL["label"]]
    label = _column("label", columns[1], labels, schema.names, name)
    if features is None:
        return Source(name, table.column(image), table.column(label).to_pylist(), classes.get(label))
    table = table.with_format(None)
    rows = table.select_columns([image])
    if type(features[image]).__name__ == "Image":
        rows = rows.cast_column(image, import_module("datasets").Image(decode=False))
    return Source(name, rows, list(table[label]), classes.get(label), key=image)


def _column(word: str, given: str | None, fitting: list[str], columns: list[str], name: str) -> str:
    """Choose a column: the given one, else the first usual one among those of the right type, else their only one."""
    if given is not None:
        if given not in columns:
            raise ValueError(f"expected one of the columns {', '.join(columns)} of {name}, got {word}_column='{given}'")
        return given
    best = [column for column in USUAL[word] if column in fitting][:1] or fitting
    if len(best) != 1:
        got = f"{', '.join(best) or 'none'}: pass {word}_column=, one of {', '.join(columns)}"
        raise ValueError(f"expected one {word} column in {name}, got {got}")
    return best[0]
