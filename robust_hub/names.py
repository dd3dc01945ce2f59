"""The names that a misspelt one may have meant, in words."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


def did_you_mean(name: str, names: Iterable[str], otherwise: Iterable[str] = (), most: int = 3) -> str:
    """Ask for the names that are near to one, such as "did you mean ln or gn?".

    Args:
        name: A name that is none of them.
        names: Those that there are.
        otherwise: What to offer where none is near.
        most: How many near names to offer.

    Returns:
        The question; empty if there is nothing to offer.
    """
    near: Sequence[str] = difflib.get_close_matches(str(name), list(names), n=most) or list(otherwise)
    return f"did you mean {' or '.join(near)}?" if near else ""
