"""Votes of many records at once, as arrays: read from their texts, or taken from the records."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice, repeat

import numpy as np
from numpy.typing import NDArray

_COLON, _COMMA, _ZERO = b":,0"
_DIGITS = 18  # of a number that surely fits


def read_votes(texts: Sequence[str]) -> list[tuple[tuple[int, int], ...]]:
    """Read votes of many images, each as the pairs class:votes with commas between them.

    Args:
        texts: The texts, none of them empty.

    Returns:
        Pairs (class, votes), a tuple an image.

    Raises:
        ValueError: If a text is not digits, colons and commas in their plain order, or a number has over 18 digits.

    Example:
        >>> read_votes(["0:3,7:97", "1:100"])
        [((0, 3), (7, 97)), ((1, 100),)]
    """
    characters = np.frombuffer(",".join([*texts, ""]).encode("ascii"), np.uint8)
    ends = np.flatnonzero((characters == _COLON) | (characters == _COMMA))
    lengths = np.diff(ends, prepend=-1) - 1
    in_order = len(ends) % 2 == 0 and (characters[ends[::2]] == _COLON).all()
    in_order = in_order and (characters[ends[1::2]] == _COMMA).all()
    # a colon is the character after the digits
    plain = (((characters >= _ZERO) & (characters <= _COLON)) | (characters == _COMMA)).all()
    if not (in_order and plain) or lengths.min(initial=_DIGITS) < 1 or lengths.max(initial=1) > _DIGITS:
        raise ValueError("expected class:votes with commas between them")
    numbers = _whole_numbers(characters, ends, lengths)
    pairs = zip(numbers[::2].tolist(), numbers[1::2].tolist(), strict=True)
    return [tuple(islice(pairs, several)) for several in map(str.count, texts, repeat(":"))]


def _whole_numbers(
    characters: NDArray[np.uint8], ends: NDArray[np.int64], lengths: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Give the numbers whose digits stand before each end, from the last digit to the first."""
    numbers = np.zeros(len(ends), np.int64)
    for place in range(lengths.max(initial=0)):
        has = lengths > place
        numbers[has] += (characters[ends[has] - 1 - place].astype(np.int64) - _ZERO) * 10**place
    return numbers
