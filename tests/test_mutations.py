"""The mistakes that are made on purpose: each is of a line that is there, and asks tests that are."""

from __future__ import annotations

import pytest
from mutations import MUTATIONS, ROOT


@pytest.mark.parametrize("mutation", MUTATIONS, ids=[what for what, *_ in MUTATIONS])
def test_a_mistake_is_of_a_line_that_is_there(mutation: tuple[str, str, str, str, str]) -> None:
    _, file, before, after, tests = mutation
    text = (ROOT / "robust_hub" / f"{file}.py").read_text()
    assert before in text and text.replace(before, after, 1) != text
    assert all((ROOT / name).is_file() for name in tests.split())


def test_no_mistake_is_listed_twice() -> None:
    assert len({mutation[1:4] for mutation in MUTATIONS}) == len(MUTATIONS)
