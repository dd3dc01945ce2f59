"""What anyone may have written: JSON read within limits, and names made fit to be shown.

A checkpoint's folder, a run and a log come from strangers. Reading one ends in a value or in one sentence, whatever
its bytes are, and showing a name of it moves no cursor and breaks no table.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

MOST_BYTES = 4_000_000
DEEPEST = 64  # objects and lists in one another; ours are 6 deep
_DIGITS = 100  # of a whole number: far beyond any seed, and within a float
_SHOWN = 1000


def read_bounded_json(source: Path | str, what: str, most_bytes: int = MOST_BYTES) -> dict[str, Any]:
    r"""Read an object of JSON that a stranger may have written, in bounded time and memory.

    Strict where Python is not: a name stands once in an object, a number is finite and has at most 100 digits, NaN and
    Infinity are none, and at most 64 objects and lists stand in one another. Texts in it may still hold control
    characters: see `shown`.

    Args:
        source: The file; or the JSON itself, as a str.
        what: What it is, for errors, such as "run.json"; for a file its path is said, too.
        most_bytes: The longest file that is read.

    Returns:
        The object's values by their names.

    Raises:
        ValueError: If there is no such file, or it holds no such object; one sentence that names it.

    Example:
        >>> read_bounded_json('{"sigma": 0.25}', "run.json")
        {'sigma': 0.25}
        >>> read_bounded_json('{"sigma": NaN}', "run.json")
        Traceback (most recent call last):
        ValueError: expected a readable run.json, got NaN, which is no number; restore the file
    """
    name = what if isinstance(source, str) else f"{what} in {shown(source)}"
    try:
        text = source if isinstance(source, str) else read_text(source, most_bytes)
        value = json.loads(
            text, object_pairs_hook=_object, parse_int=_whole, parse_float=_finite, parse_constant=_no_number
        )
        if not isinstance(value, dict):
            raise ValueError("no object of names and values")
        _check_depth(value)
    except OSError as error:
        reason = error.strerror or str(error)
    except RecursionError:
        reason = f"objects in one another, more than {DEEPEST} deep"
    except ValueError as error:
        reason = shown(error)
    else:
        return value
    raise ValueError(f"expected a readable {name}, got {reason}; restore the file")


def read_text(path: Path, most_bytes: int) -> str:
    """Read a file of text.

    Raises:
        OSError: If there is none, or it is no file or longer.
        UnicodeDecodeError: If it is no text.
    """
    if path.exists() and not path.is_file():
        raise OSError("no file")
    if path.stat().st_size > most_bytes:
        raise OSError(f"more than {most_bytes:,} bytes")
    return path.read_bytes().decode()


def is_number(value: object) -> bool:
    """Tell whether a value of JSON is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_whole(value: object, least: int, most: int = 2**63 - 1) -> bool:
    """Tell whether a value of JSON is a whole number within bounds."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def shown(value: object, most: int = _SHOWN) -> str:
    r"""Give a name from a file as it may be printed: control characters escaped, cut where it is long.

    Args:
        value: The name, or any value that is one as a text.
        most: The most characters of it.

    Returns:
        Characters that print, on one line; what does not, such as an escape, a newline, a NUL or a mark that turns
        the direction of writing, is written as Python writes it.

    Example:
        >>> shown("cifar10\n\x1b[2J")
        'cifar10\\n\\x1b[2J'
    """
    text = str(value)
    text = text if len(text) <= most else text[: most - 3] + "..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def table_cell(value: object) -> str:
    r"""Give a name from a file as a cell of a Markdown table: as `shown`, and pipes escaped.

    Example:
        >>> table_cell("a|b\n")
        'a\\|b\\n'
    """
    return shown(value).replace("|", "\\|")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        (name, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"'{shown(name, 40)}' twice in one object")
    return values


def _whole(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError(f"a number of {len(digits):,} digits")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{shown(digits, 40)}, which is beyond any number")
    return value


def _no_number(word: str) -> float:
    raise ValueError(f"{word}, which is no number")


def _check_depth(value: dict[str, Any]) -> None:
    level: list[Any] = [value]
    for _ in range(DEEPEST):
        inner = (one.values() if isinstance(one, dict) else one for one in level)
        level = [one for several in inner for one in several if isinstance(one, (dict, list))]
        if not level:
            return
    raise RecursionError
