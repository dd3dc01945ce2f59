"""Votes read at once are those read one by one; what is not plain is left to the reader of one text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robust_hub.evidence.columns import _read_counts
from robust_hub.evidence.votes import read_votes

NUMBER = st.integers(0, 10**18 - 1) | st.integers(0, 120)
COUNTS = st.lists(st.tuples(NUMBER, NUMBER), min_size=1, max_size=6)


@given(st.lists(COUNTS, max_size=6))
def test_votes_are_read(rows: list[list[tuple[int, int]]]) -> None:
    texts = [",".join(f"{label}:{votes}" for label, votes in row) for row in rows]
    assert read_votes(texts) == list(map(_read_counts, texts)) == list(map(tuple, rows))


@given(st.lists(st.text("0189:, -+_\u0661x", min_size=1, max_size=12), min_size=1, max_size=3))
def test_what_is_read_at_once_is_what_one_text_gives(texts: list[str]) -> None:
    try:
        at_once = read_votes(texts)
    except ValueError:
        return
    assert at_once == list(map(_read_counts, texts))


@pytest.mark.parametrize(
    "text", ["1:2,3", "1,2:3,4", "1:2:3,4", "1:", ":1", "1:2,", "1:-2", "1: 2", "1:" + "9" * 19, "\u0661:1"]
)
def test_what_is_not_plain_is_left(text: str) -> None:
    with pytest.raises(ValueError, match="class:votes|ascii"):
        read_votes(["0:1", text])
