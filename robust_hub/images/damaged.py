"""All damaged images are named at once, so that whoever owns them need not come back for each."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from robust_hub.images.source import Source

SECONDS, NAMED = 20.0, 10  # to look for more of them, and how many are named


@contextmanager
def naming_all(source: Source, rows: Sequence[int], size: int | None, channels: int) -> Iterator[None]:
    """Where an image is found damaged, look for more, and add them to what is said of the first.

    Args:
        source: Whose images are read.
        rows: Which of them.
        size: The side that they are fitted to; None keeps their own.
        channels: What each is brought to.

    Raises:
        ValueError: As it was raised within, with the other damaged images behind if there are any.
    """
    try:
        yield
    except ValueError as error:
        if error.__cause__ is None:  # it was decoded: of another size may be all
            raise
        raise ValueError(f"{error}{_others(source, rows, size, channels)}") from error.__cause__


def _others(source: Source, rows: Sequence[int], size: int | None, channels: int) -> str:
    found, looked, ends = [], 0, time.monotonic() + SECONDS
    for row in rows:
        try:
            source.pixels(row, size, channels)
        except (ValueError, TypeError) as error:
            found += [source.where(row)] if error.__cause__ is not None else []
        looked += 1
        if time.monotonic() > ends:
            break
    if len(found) < 2:
        return ""
    more = f" and {len(found) - NAMED:,} more" if len(found) > NAMED else ""
    return f". Of the {looked:,} that were looked at {len(found):,} can't be read: {', '.join(found[:NAMED])}{more}"
