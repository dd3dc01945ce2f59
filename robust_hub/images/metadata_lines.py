"""The lines of a metadata.csv, .jsonl or .parquet: which files of them there are, and what each says of an image."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from robust_hub.images.files_found import Folder
from robust_hub.images.seen import first_line
from robust_hub.images.source import need
from robust_hub.images.tables import label_texts

NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
Columns = tuple[str | None, str | None]


@dataclass(frozen=True)
class Listed:
    """One line of a file of metadata: an image, relative to its folder, and what else it says."""

    file: Path
    line: int
    image: str
    cells: dict[str, Any]

    @property
    def path(self) -> str:
        """The image."""
        return os.path.join(self.file.parent, self.image)

    @property
    def where(self) -> str:
        """Name the line for an error message."""
        return f"line {self.line} of {self.file}"


def metadata_of(folder: Folder) -> list[Path]:
    """Give the files of metadata directly in a folder."""
    return [folder.path / name for name in folder.others if name in NAMES]


def tables_of(tree: Folder) -> dict[str, list[Path]]:
    """Give the files of metadata by the name of the folder that they are in: the top alone, else its folders."""
    if metadata_of(tree):
        return {"": metadata_of(tree)}
    return {folder.name: metadata_of(folder) for folder in tree.folders if metadata_of(folder)}


def lists_images(file: Path, columns: Columns) -> bool:
    """Tell whether a file of metadata has a column of file names; one of another kind says something else."""
    return _name_column(_header(file), columns[0]) is not None


def lines_of(file: Path, columns: Columns) -> list[Listed]:
    """Read a file of metadata.

    Raises:
        ValueError: If it is no table that has a file name in each line, below its folder.
    """
    rows = _rows(file)
    found = []
    for line, row in enumerate(rows, 2 if file.suffix == ".csv" else 1):
        column = _name_column(list(row), columns[0])
        if column is None:
            got = f"{', '.join(row)} in {file}"
            raise ValueError(f"expected a column file_name and one of labels, got {got}: rename the columns")
        image = row[column]
        if not isinstance(image, str) or not image:
            raise ValueError(f"expected the name of a file in column {column}, got {image!r} in line {line} of {file}")
        posix = PurePosixPath(image)
        if posix.is_absolute() or ".." in posix.parts:
            got = f"{image} in line {line} of {file}"
            raise ValueError(f"expected file names below the folder of the metadata, got {got}: correct it")
        found.append(Listed(file, line, image, row))
    return found


def _name_column(columns: list[str], given: str | None) -> str | None:
    if given is not None:
        return next((name for name in (given, f"{given}_file_name") if name in columns), None)
    named = [name for name in columns if name.endswith("_file_name")]
    return "file_name" if "file_name" in columns else named[0] if len(named) == 1 else None


def _header(file: Path) -> list[str]:
    """Read the names of the columns."""
    with _readable(file):
        if file.suffix == ".parquet":
            return list(need("pyarrow.parquet", f"reading {file}").read_schema(file).names)
        with open(file, newline="", encoding="utf-8-sig") as text:
            if file.suffix == ".csv":
                return next(csv.reader(text, strict=True), [])
            first = json.loads(next((line for line in text if line.strip()), "{}"))
            return list(first) if isinstance(first, dict) else []


def _rows(file: Path) -> list[dict[str, Any]]:
    with _readable(file):
        if file.suffix == ".parquet":
            rows: list[dict[str, Any]] = label_texts(need("pyarrow.parquet", f"reading {file}").read_table(file))
        else:
            with open(file, newline="", encoding="utf-8-sig") as text:
                csv_file = file.suffix == ".csv"
                lines = csv.DictReader(text, strict=True) if csv_file else map(json.loads, filter(str.strip, text))
                rows = list(lines)
                columns = lines.fieldnames or [] if isinstance(lines, csv.DictReader) else []
                if len(set(columns)) < len(columns):
                    raise ValueError("two of its columns have one name: rename one")
    short = file.suffix == ".csv" and any(None in row or None in row.values() for row in rows)
    if short or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"expected lines that fill every column, got other ones in {file}: correct or remove them")
    return rows


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Say of which file it is that csv, json, pyarrow or the system cannot read it."""
    try:
        yield
    except ImportError:
        raise
    except Exception as error:
        raise ValueError(f"expected a table of images and labels, got {file}: {first_line(error)}") from error
