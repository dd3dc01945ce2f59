"""What stands in a file of records: all lines at once where each is sound, else one by one, to say what is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

from robust_hub.evidence.columns import DIGITS, OURS, REQUIRED, decode_columns, decoder
from robust_hub.evidence.record import Record, make_records
from robust_hub.layout import RECORDS
from robust_hub.parsing import read_text, shown

_LONG = re.compile(rf"(?<![\d_])[\d_]{{{DIGITS + 1}}}")
_MOST_BYTES = 1_000_000_000  # of a records.tsv


def read_file(path: Path) -> tuple[list[Record], Path, str]:
    """Read what stands in a file of records; nothing is said yet of whether it can be true.

    Args:
        path: A run folder, or a file.

    Returns:
        The records, the file and its text.

    Raises:
        ValueError: If there is no such file, it is not a log, a line is damaged or an image occurs twice.
    """
    file = path / RECORDS if path.is_dir() else path
    try:
        text = read_text(file, _MOST_BYTES)
        records = _parse(text, file)
    except OSError as error:
        raise ValueError(
            f"expected a run folder or a TSV of records, got {shown(path)} ({error.strerror or error}); "
            "name the folder that certify wrote"
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(f"expected a TSV of records, got {shown(file)}, not text; restore the file") from error
    seen: set[int] = set()
    for record in records if len({record.idx for record in records}) < len(records) else ():
        if record.idx in seen:
            raise ValueError(f"expected one record per image, got {record.idx} twice in {shown(file)}; remove one")
        seen.add(record.idx)
    return records, file, text


def _parse(text: str, file: Path) -> list[Record]:
    lines = (text.replace("\r\n", "\n") if "\r" in text else text).split("\n")
    header = lines[0].rstrip("\r").split("\t")
    if not set(REQUIRED) <= set(header):
        raise ValueError(
            f"expected the columns {' '.join(REQUIRED)} in {shown(file)}, got {lines[0][:80]!r}; name a log of "
            "certification"
        )
    try:
        ours, decode = OURS in header, decoder(header)
    except ValueError as error:
        raise ValueError(f"{error} in {shown(file)}; restore the file") from None
    if "\r" not in text and lines[-1] == "" and (whole := _parse_at_once(header, lines[1:-1])) is not None:
        return whole
    return list(_parse_lines(header, lines, decode, file, ours=ours))


def _parse_lines(
    header: list[str], lines: list[str], decode: Callable[[Sequence[str]], dict[str, Any]], file: Path, *, ours: bool
) -> Iterator[Record]:
    """Read lines one by one, to say what is wrong with which."""
    for number, raw in enumerate(lines[1:], start=2):
        line = raw.rstrip("\r")
        texts = line.split("\t")
        if not line.strip() or texts == header:
            continue
        unfinished = number == len(lines)
        if unfinished and ours:
            return  # cut by a kill: even a line that parses may have lost digits
        try:
            if len(line) > DIGITS and _LONG.search(line):
                raise ValueError("a number of too many digits")
            if len(texts) != len(header):
                raise ValueError(f"{len(texts)} values")
            values = decode(texts)
            yield Record(correct=int(values["predict"] == values["label"]), **values)
        except ValueError as error:
            if unfinished:
                return
            raise ValueError(
                f"expected {len(header)} valid values in line {number} of {shown(file)}, got {line[:80]!r} "
                f"({shown(error)}); restore or remove the line"
            ) from error


def _parse_at_once(header: list[str], lines: list[str]) -> list[Record] | None:
    """Read lines that all hold a record; None of others."""
    others = len(header) - 1
    if set(map(str.count, lines, repeat("\t"))) != {others}:
        return None
    if any(map(_LONG.search, (line for line in lines if len(line) > DIGITS))):
        return None
    texts = "\t".join(lines).split("\t")
    try:
        values = decode_columns({name: texts[at :: others + 1] for at, name in enumerate(header)}, len(lines))
        return make_records(values)
    except ValueError:
        return None
