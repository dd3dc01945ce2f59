"""Which parts a data set has: its splits by their meaning, as far as its owner made some."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robust_hub.images.source import Source
from robust_hub.images.sources import find
from robust_hub.images.splits import split_roles

Columns = tuple[str | None, str | None]


def has_split(source: Any, split: str, beside: str | None = None, *, layout: str | None = None, **columns: Any) -> bool:
    """Tell whether a name, folder or DatasetDict has a split, and one of its own where another is named.

    A Dataset that is handed in is one split under whatever name, and so has none by name.

    Args:
        source: What `load_data` takes.
        split: The split that is asked for, such as "test".
        beside: Another one: images that are both are no split of their own.
        layout: As of `load_data`.
        columns: `image_column` and `label_column`, as of `load_data`.

    Example:
        >>> has_split("digits", "test"), has_split("digits", "val"), has_split("digits", "test", beside="testing")
        (True, False, False)
    """
    several = isinstance(source, Mapping) and all(hasattr(part, "features") for part in source.values())
    if not (several or isinstance(source, str | Path)):
        return False
    found = _find(source, split, layout, columns)
    if found is None or beside is None:
        return found is not None
    roles = split_roles([split, beside])
    other = _find(source, beside, layout, columns)
    same = split == beside or (split in roles and roles.get(split) == roles.get(beside))
    return not same and (other is None or not _same(found, other))


def _find(source: Any, split: str, layout: str | None, columns: Mapping[str, Any]) -> Source | None:
    with warnings.catch_warnings():  # of files that are passed over: whoever loads the split is told
        warnings.simplefilter("ignore")
        try:
            return find(source, split, layout=layout, **columns)
        except ValueError:
            return None


def _same(one: Source, two: Source) -> bool:
    """Tell whether two splits are the same rows, as of a folder of classes that is itself called "test"."""
    if len(one.labels) != len(two.labels):
        return False
    return bool(isinstance(one.rows, list) and one.rows == two.rows)
