"""Metadata: images whose labels stand in a metadata.csv, .jsonl or .parquet, as `datasets` has them."""

from __future__ import annotations

import os
import re
import warnings
from typing import Any

from robust_hub.images.files_found import Folder
from robust_hub.images.labels import numbered_classes
from robust_hub.images.metadata_lines import Columns, Listed, lines_of, tables_of
from robust_hub.images.source import Source
from robust_hub.images.splits import pick, split_roles
from robust_hub.images.tables import USUAL
from robust_hub.names import two_spellings


def metadata_source(tree: Folder, split: str, columns: Columns, name: str) -> Source:
    """Read one split of the images that metadata list, with their labels.

    Labels in words are classes in the order of the alphabet, over all splits; whole numbers are taken as they are.

    Raises:
        ValueError: If there is no such split or column, or a line cannot be followed.
    """
    for files in tables_of(tree).values():
        if len(files) > 1:
            got = f"{', '.join(file.name for file in files)} in {files[0].parent}"
            raise ValueError(f"expected one table of metadata, got {got}: remove all but one")
    listed = {
        part: [line for file in files for line in lines_of(file, columns)] for part, files in tables_of(tree).items()
    }
    every = [line for lines in listed.values() for line in lines]
    if not every:
        raise ValueError(f"expected lines of images in the metadata of {tree.path}, got none")
    column = _label_column(every, columns[1])
    parts = _parts(listed[""], column, name) if "" in listed else listed
    if len(parts) == 1 and not split_roles(parts):
        (only,) = parts.values()
        parts = {"train": only, **parts}
    chosen = pick(parts, split, str(tree.path))
    numbered = _numbered_together([*parts.values()], chosen, column, str(tree.path))
    labels, classes = _labels(numbered, column, name)
    number = {id(line): label for line, label in zip(numbered, labels, strict=True)}
    _check(chosen, column, every)
    folder = tree if "" in listed else next(f for f in tree.folders if listed.get(f.name) is chosen)
    _say_unlisted(folder, every, f"{name}, split '{split}'")
    return Source(name, [line.path for line in chosen], [number[id(line)] for line in chosen], classes)


def _label_column(every: list[Listed], given: str | None) -> str:
    columns = list(every[0].cells)
    found = [name for name in ([given] if given is not None else USUAL["label"]) if name in columns]
    if not found:
        say = "label_column= (--label-column)"
        got = f"{', '.join(columns)} in {every[0].file}"
        raise ValueError(
            f"expected a column of labels called {given or 'label'}, got {got}: say which it is with {say}, or say "
            'layout="classes" (--layout classes) if the folders are the classes'
        )
    for line in every:
        label = line.cells.get(found[0])
        if label in (None, ""):
            raise ValueError(f"expected a label in column {found[0]}, got none in {line.where}: add it")
        if not isinstance(label, str | int) and _number(label) is None:
            raise ValueError(f"expected one class an image in column {found[0]}, got {label!r} in {line.where}")
    return found[0]


def _parts(lines: list[Listed], column: str, name: str) -> dict[str, list[Listed]]:
    """Give the splits of one table: by its column `split`, by the folders that it names, or it is one split.

    Where a name of a split stands among others, such as train, test and extra, all of them are splits; but one folder
    called so may be a class, and is where all images in it have one label.

    Raises:
        ValueError: If the column names no split of an image.
    """
    by_column = ["" if line.cells.get("split") is None else str(line.cells["split"]) for line in lines]
    by_folder = [line.image.split("/")[0] if "/" in line.image else "" for line in lines]
    for names in (by_column, by_folder):
        roles = split_roles(set(names))
        told = column != "split" and any(names) if names is by_column else roles and "" not in names
        if not told:
            continue
        if "" in names:
            raise ValueError(f"expected a split of each image, got none in {lines[names.index('')].where}: add it")
        parts = {part: [line for line, own in zip(lines, names, strict=True) if own == part] for part in names}
        lone = roles.keys() != parts.keys() and len(roles) == 1 and names is by_folder
        if lone and len({line.cells[column] for line in parts[next(iter(roles))]}) == 1:
            continue
        return parts
    return {"train": lines, name: lines}


def _numbered_together(parts: list[list[Listed]], chosen: list[Listed], column: str, where: str) -> list[Listed]:
    """Give the lines whose labels are numbered with a split's own: of all splits that share some, as of folders.

    Raises:
        ValueError: If a class is spelt in two ways.
    """
    named = [{str(line.cells[column]) for line in lines} for lines in parts]
    every = [line for lines in {id(lines): lines for lines in parts}.values() for line in lines]
    if all(_number(line.cells[column]) is not None for line in every):
        return every
    if twins := two_spellings(named):
        got = f"{twins[0]!r} and {twins[1]!r} in column {column} in {where}"
        raise ValueError(f"expected one spelling of a class, got {got}: correct one of them")
    labels = {str(line.cells[column]) for line in chosen}
    while more := [names for names in named if names & labels and not names <= labels]:
        labels = labels.union(*more)
    return [line for line in every if str(line.cells[column]) in labels]


def _labels(lines: list[Listed], column: str, name: str) -> tuple[list[int], list[str]]:
    """Give the labels as numbers, and the classes."""
    values = [line.cells[column] for line in lines]
    numbers = [number for value in values if (number := _number(value)) is not None]
    if len(numbers) == len(values):
        return numbers, numbered_classes(max(numbers), name)
    classes = sorted({str(value) for value in values})
    places = {value: k for k, value in enumerate(classes)}
    return [places[str(value)] for value in values], classes


def _number(value: Any) -> int | None:
    """Give the whole number that a label is, also as other programs write it, such as 2.0; None of any other."""
    if isinstance(value, bool) or not re.fullmatch(r"-?(0|[1-9][0-9]*)([.]0+)?", str(value)):
        return None
    return int(str(value).split(".")[0])


def _check(lines: list[Listed], column: str, every: list[Listed]) -> None:
    """Refuse images that are not there, and those that have two labels."""
    seen: dict[str, Listed] = {}
    for line in every:
        first = seen.setdefault(os.path.normpath(line.path), line)
        if first.cells[column] != line.cells[column]:
            got = f"{first.cells[column]} and {line.cells[column]} in {first.where} and {line.where}"
            raise ValueError(f"expected one label for {line.image}, got {got}: remove one of them")
    for line in lines:
        if not os.path.isfile(line.path):
            got = f"{line.image}, which is not there, in {line.where}"
            raise ValueError(f"expected images that are there, got {got}: bring it, or remove the line")


def _say_unlisted(folder: Folder, every: list[Listed], name: str) -> None:
    known = {os.path.normpath(line.path) for line in every}
    images = folder.paths()
    missing = sum(os.path.normpath(path) not in known for path in images)
    if missing:
        # The line that asked for the data: load_data, find, _named and read_folder lie between.
        warnings.warn(
            f"{name}: skipped {missing} of {len(images)} images, which the metadata do not list", stacklevel=7
        )
