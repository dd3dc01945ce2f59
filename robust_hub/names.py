"""Names: which are one name in two spellings, and which a misspelt one may have meant, in words."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence


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


def name_key(name: str) -> str:
    """Give a name as it is compared: file systems and people differ in case, separators, zeros and Unicode's forms.

    Example:
        >>> name_key("Hot_Dog ") == name_key("hot dog"), name_key("007") == name_key("7")
        (True, True)
    """
    folded = unicodedata.normalize("NFKC", name).casefold()
    return without_zeros(folded) if folded.isdecimal() else " ".join(re.split(r"[\s_-]+", folded.strip()))


def without_zeros(number: str) -> str:
    """Give a number in decimal digits without the zeros before it."""
    return number.lstrip("0") or "0"


def two_spellings(groups: Sequence[Collection[str]]) -> tuple[str, str] | None:
    """Find two names that are one name in two spellings, such as a class of two splits.

    Within a group, names that differ in spaces at their ends alone are one. Across groups, those are that are compared
    as equal, unless a group has both: there they are two names.

    Args:
        groups: The names that stand together.

    Returns:
        The two, in order; None if there are none.

    Example:
        >>> two_spellings([["hot dog", "owl"], ["hot_dog", "owl"]]), two_spellings([["Cat", "cat"]])
        (('hot dog', 'hot_dog'), None)
        >>> two_spellings([["cat", "cat "]])
        ('cat', 'cat ')
    """
    sets = [*map(set, groups)]
    alike: dict[str, list[str]] = {}
    for name in sorted(set().union(*sets)):
        alike.setdefault(name_key(name), []).append(name)
    for names in alike.values():
        for k, one in enumerate(names):
            for other in names[k + 1 :]:
                if one.strip() == other.strip() or not any({one, other} <= group for group in sets):
                    return one, other
    return None
