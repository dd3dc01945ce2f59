"""The codec of records.tsv: one row a column, with its name, how a value is written and how it is read.

The first six columns are those of Cohen et al. 2019, which every log has; ours are optional, an absent value is empty.
Who reads a file refuses whole numbers of more than `DIGITS` digits in long lines first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from robust_hub.evidence.votes import read_votes

DIGITS = 280  # of a whole number: no shorter line holds one beyond a float
_SAMPLE = 1000  # texts of a column that tell whether most of them are different


@dataclass(frozen=True)
class Column:
    """A column of records.tsv.

    Attributes:
        name: Its name in the header, which is the attribute's of `robust_hub.evidence.record.Record`.
        write: Gives a value's text.
        read: Gives the value of a text that is not empty; raises a ValueError if it is none.
        optional: Whether a log may lack it, and an empty text stands for None.
        derived: Whether its value follows from other columns, so that its text is never read.
        read_all: Gives the values of many texts that are not empty; raises a ValueError if one of them needs `read`.
            None: `read` is asked for each.
    """

    name: str
    write: Callable[[Any], str]
    read: Callable[[str], Any]
    optional: bool = True
    derived: bool = False
    read_all: Callable[[Sequence[str]], list[Any]] | None = None


def _write_int(value: Any) -> str:
    return str(int(value))


def _write_float(value: Any) -> str:
    """Keep full precision."""
    return repr(float(value))


def _read_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"expected a finite number, got {text[:20]}")
    return value


def _write_counts(pairs: Sequence[tuple[int, int]]) -> str:
    return ",".join(f"{int(label)}:{int(votes)}" for label, votes in pairs)


def _read_counts(text: str) -> tuple[tuple[int, int], ...]:
    return tuple((int(label), int(votes)) for label, votes in (pair.split(":") for pair in text.split(",")))


def _write_radii(radii: Sequence[float]) -> str:
    return ",".join(map(_write_float, radii))


def _read_radii(text: str) -> tuple[float, ...]:
    return tuple(map(_read_float, text.split(",")))


def _read_seconds(text: str) -> float:
    """Read seconds, or H:MM:SS.ffffff with days before it as Python's timedelta prints them."""
    if ":" not in text:
        return _read_float(text)
    days, _, clock = text.rpartition(",")
    hours, minutes, seconds = clock.split(":")
    whole = int(days.partition(" ")[0]) if days else 0
    return 86400.0 * whole + 3600 * int(hours) + 60 * int(minutes) + _read_float(seconds)


def _read_plain_seconds(texts: Sequence[str]) -> list[float]:
    values = list(map(float, texts))
    if not all(map(math.isfinite, values)):
        raise ValueError("expected finite numbers")
    return values


CODEC = (
    Column("idx", _write_int, int, optional=False),
    Column("label", _write_int, int, optional=False),
    Column("predict", _write_int, int, optional=False),
    Column("radius", _write_float, float, optional=False),
    Column("correct", _write_int, int, optional=False, derived=True),
    Column("time", _write_float, _read_seconds, optional=False, read_all=_read_plain_seconds),
    Column("base", _write_int, int),
    Column("p_lower", _write_float, float),
    Column("count", _write_int, int),
    Column("n", _write_int, int),
    Column("n0", _write_int, int),
    Column("alpha", _write_float, float),
    Column("sigma", _write_float, float),
    Column("seed", _write_int, int),
    Column("counts", _write_counts, _read_counts, read_all=read_votes),
    Column("plan", str, str),
    Column("radii", _write_radii, _read_radii),
    Column("undecided", _write_radii, _read_radii),
    Column("out_of_reach", _write_radii, _read_radii),
    Column("tau", _write_float, float),
)
COLUMNS = tuple(column.name for column in CODEC)
REQUIRED = tuple(column.name for column in CODEC if not column.optional)
OURS = "p_lower"  # a header that has it is of a file that we wrote


def encode(record: object) -> str:
    """Give the line, without its newline, of a record: any value with an attribute for each column.

    Args:
        record: The record; an attribute that is None is written as an empty text.
    """
    values = [getattr(record, column.name) for column in CODEC]
    return "\t".join(["" if v is None else column.write(v) for column, v in zip(CODEC, values, strict=True)])


def decoder(header: Sequence[str]) -> Callable[[Sequence[str]], dict[str, Any]]:
    """Give a function that reads the values of a line, by the name of the column, of a file with this header.

    Args:
        header: The names of the file's columns, in any order, with the required ones.

    Returns:
        Takes the texts of a line, as many as the header has names; raises a ValueError at a text that is no value.

    Raises:
        ValueError: If a column stands twice.
    """
    if twice := [name for name in COLUMNS if header.count(name) > 1]:
        raise ValueError(f"expected each column once, got {twice[0]} twice")
    positions: Mapping[str, int] = {name: at for at, name in enumerate(header)}
    absent = {column.name: None for column in CODEC if column.name not in positions}
    present = [(column, positions[column.name]) for column in CODEC if column.name in positions and not column.derived]
    steps = [(column.name, column.read, column.optional, at) for column, at in present]

    def decode(texts: Sequence[str]) -> dict[str, Any]:
        values: dict[str, Any] = dict(absent)
        for name, read, optional, at in steps:
            text = texts[at].strip()
            values[name] = None if optional and not text else read(text)
        return values

    return decode


def decode_columns(texts: Mapping[str, Sequence[str]], rows: int) -> dict[str, list[Any]]:
    """Read all lines of a file at once, column by column.

    Args:
        texts: The texts of each column of the file by its name, the required ones among them.
        rows: How many lines there are.

    Returns:
        For each column that is not derived, its values in the order of the lines.

    Raises:
        ValueError: If a text is no value; `decoder` tells which.
    """
    values: dict[str, list[Any]] = {}
    for column in CODEC:
        if column.name not in texts:
            values[column.name] = [None] * rows
        elif not column.derived:
            values[column.name] = _read_column(column, texts[column.name])
    return values


def _read_column(column: Column, texts: Sequence[str]) -> list[Any]:
    """Read a column, of at least one text, at once where most differ, else each once, however often it stands."""
    if texts.count(texts[0]) == len(texts):
        return [_read(column, texts[0].strip())] * len(texts)
    few = texts[:_SAMPLE]
    if 2 * len(set(few)) > len(few):
        bare = list(map(str.strip, texts))
        try:
            if all(bare) or not column.optional:
                return _read_all(column, bare)
            there = iter(_read_all(column, list(filter(None, bare))))
            return [next(there) if text else None for text in bare]
        except ValueError:  # such as a time of hours and minutes
            pass
    known = {text: _read(column, text.strip()) for text in set(texts)}
    return list(map(known.__getitem__, texts))


def _read_all(column: Column, texts: Sequence[str]) -> list[Any]:
    return list(map(column.read, texts)) if column.read_all is None else column.read_all(texts)


def _read(column: Column, text: str) -> Any:
    return None if column.optional and not text else column.read(text)
