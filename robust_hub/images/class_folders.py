"""Class folders: whether the folders of a tree of images are classes or splits, a sentence where there is doubt."""

from __future__ import annotations

import re
import unicodedata
from typing import NoReturn

from robust_hub.images.files_found import Folder
from robust_hub.images.splits import FILLERS, pick, split_roles
from robust_hub.names import two_spellings

TABLES = (".csv", ".jsonl", ".parquet")  # in which the labels of images may stand
SAY = 'say layout="classes" if its folders are classes, layout="splits" if they are splits (--layout)'


def splits_of(tree: Folder, split: str, layout: str | None) -> dict[str, Folder]:
    """Give the splits of a folder, each a folder with one folder a class.

    Args:
        tree: The folder, with images in it at some depth.
        split: The split that is asked for; a folder of that very name that holds class folders is one.
        layout: "classes" or "splits" if it is known; None recognises it.

    Returns:
        The splits by name. A folder without splits is "train", and what it is itself called.

    Raises:
        ValueError: If there is doubt: the sentence says what was seen and how to say what is meant.
    """
    if not tree.filled:
        _refuse_flat(tree)
    if layout is None and len(tree.filled) == 1 and not tree.images and _holds_splits(tree.filled[0]):
        return splits_of(tree.filled[0], split, None)  # as a class it would be the only one
    if layout == "splits":
        return {folder.name: _unwrapped(folder) for folder in tree.filled}
    usual = split_roles(folder.name for folder in tree.filled)
    named = [folder for folder in tree.filled if folder.name in usual or (folder.name == split and folder.filled)]
    parts = _told_apart(tree, named) if named and layout is None else []
    if parts:
        return {folder.name: _unwrapped(folder) for folder in parts}
    if layout is None:
        _refuse_splits_below(tree)
        _refuse_same_below(tree)
    return {"train": tree, tree.path.resolve().name: tree}


def classes_of(parts: dict[str, Folder], split: str, where: str) -> tuple[Folder, dict[str, list[Folder]], list[str]]:
    """Choose a split, and number the classes of all splits that share some with it.

    Returns:
        The split; its class folders by class, and the names of all classes in order.

    Raises:
        ValueError: If there is no such split, its images are in no class folder, or a class is spelt in two ways.
    """
    chosen = pick(parts, split, where)
    if not chosen.filled:
        _refuse_flat(chosen)
    by_part = [{_class(folder) for folder in part.filled} for part in parts.values()]
    here: dict[str, list[Folder]] = {}
    for folder in chosen.filled:
        here.setdefault(_class(folder), []).append(folder)
    classes = set(here)
    while shared := [names for names in by_part if names & classes and not names <= classes]:
        classes = classes.union(*shared)
    if len(here) == 1 and len(classes) == 1 and any(len(names) > 1 for names in by_part):
        got = f"{chosen.path} with images in {chosen.filled[0].name} alone, no class of the other splits"
        raise ValueError(
            f"expected images in one subfolder a class, got {got}: sort them by class, or add a metadata.csv with the "
            "columns file_name and label"
        )
    if twins := two_spellings(by_part):
        got = f"{twins[0]!r} and {twins[1]!r} in {where}"
        raise ValueError(f"expected one spelling of a class, got {got}: rename one of them")
    only = chosen.filled[0]
    if len(classes) == 1 and re.fullmatch(FILLERS, only.name.casefold()) and only.images:
        _refuse_flat(only, chosen)
    if len(classes) == 1 and len(only.filled) > 1 and not only.images:
        got = f"only {only.path}, which holds {_listed(list(only.filled))}"
        raise ValueError(f"expected at least two classes, got {got}: give {only.path} if these are the classes")
    return chosen, here, sorted(classes)


def _class(folder: Folder) -> str:
    """Give a class's name in composed letters, as one system writes it and another does not."""
    return unicodedata.normalize("NFC", folder.name)


def _told_apart(tree: Folder, named: list[Folder]) -> list[Folder]:
    """Give the splits among the folders; none if the one that is called so is a class beside others."""
    rest = [folder for folder in tree.filled if folder not in named]
    nested = [folder for folder in named if folder.filled]
    if not nested and rest and len(named) == 1:
        return []
    if not nested:
        beside = f"beside {_listed(rest)} in" if rest else "of"
        got = f"{_listed(named)} {beside} {tree.path} with images directly in them"
        _doubt(f"{got}: splits without classes, or classes with the names of splits;")
    known = {_class(folder) for part in nested for folder in _unwrapped(part).filled}
    others = [part for part in rest if not part.filled or not {_class(folder) for folder in part.filled} <= known]
    if others:
        got = f"{_listed(nested)}, which look like splits, beside {_listed(others)} in {tree.path}, which do not"
        _doubt(f"{got}: move what is neither out of it, or")
    return named + rest


def _holds_splits(folder: Folder) -> bool:
    """Tell whether a folder holds nothing but splits, with class folders in each."""
    usual = split_roles(part.name for part in folder.filled)
    return not folder.images and all(part.name in usual and part.filled for part in folder.filled)


def _refuse_splits_below(tree: Folder) -> None:
    """Refuse class folders that hold nothing but splits: images of all splits would be one data set."""
    for folder in tree.filled:
        below = split_roles(part.name for part in folder.filled)
        if below and len(below) == len(folder.filled) and not folder.images:
            seen = f"{_listed(list(folder.filled))} in {folder.path}"
            advice = f"give {folder.path} itself" if len(tree.filled) == 1 else "put the splits above the classes"
            got = f"{seen}, which look like splits within a class"
            raise ValueError(
                f'expected classes within splits, got {got}: {advice}, or say layout="classes" (--layout classes) to '
                "take all of them as one split"
            )


def _refuse_same_below(tree: Folder) -> None:
    """Refuse folders that all hold the same folders, such as folds or domains; numbers are parts of a large class.

    One of them may lack some, or have more: a split need not have every class. Two in common are no accident.
    """
    below = [{_class(part) for part in folder.filled} for folder in tree.filled]
    most = max(below, key=len)
    same = len(below) > 1 and all(len(names & most) > 1 for names in below)
    if same and not any(folder.images for folder in tree.filled) and not all(map(str.isdecimal, most)):
        shared = _listed(list(tree.filled[below.index(most)].filled))
        some = "" if all(names == most for names in below) else ", or some of these"
        got = f"{_listed(list(tree.filled))} in {tree.path}, which all hold {shared}{some}"
        _doubt(f"{got}: ask for one of them as the split, or")


def _refuse_flat(folder: Folder, *above: Folder) -> NoReturn:
    """Refuse images without classes; a table that lies there has another name, or other columns, than are read."""
    tables = sorted(place.path / name for place in (folder, *above) for name in place.others if name.endswith(TABLES))
    unread = next((table for table in tables if table.stem == "metadata"), tables[0] if tables else None)
    way = "add a metadata.csv with the columns file_name and label"
    if unread is not None:
        way = f"rename {unread} to metadata{unread.suffix}, its columns file_name and label"
        if unread.stem == "metadata":
            way = f"say which column of {unread} has the names of the files (--image-column, --label-column)"
    got = f"{len(folder.images)} images directly in {folder.path}, such as {folder.images[0]}, and nothing that says "
    raise ValueError(f"expected images in one subfolder a class, got {got}their classes: sort them by class, or {way}")


def _unwrapped(folder: Folder) -> Folder:
    """Go into `seg_train/seg_train`, the trace of an archive that was unpacked into a folder of its name."""
    only = folder.filled[0] if len(folder.filled) == 1 and not folder.images else None
    return _unwrapped(only) if only is not None and only.name == folder.name and only.filled else folder


def _listed(folders: list[Folder]) -> str:
    names = [f"{folder.name}/" for folder in folders]
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _doubt(seen: str) -> NoReturn:
    raise ValueError(f"expected one folder a class or one folder a split, got {seen} {SAY}")
