"""What strangers wrote: JSON ends in an object or in one sentence, a name prints on one line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robust_hub.parsing import DEEPEST, read_bounded_json, shown, table_cell

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=20,
)


@settings(deadline=None, max_examples=100)
@given(st.dictionaries(st.text(), VALUES, max_size=5))
def test_what_json_writes_is_read_as_it_was(values: dict[str, object]) -> None:
    assert read_bounded_json(json.dumps(values), "x") == values


def deep(levels: int) -> str:
    return '{"a": ' * (levels - 1) + "{}" + "}" * (levels - 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "Expecting value"),
        ("[]", "no object of names and values"),
        ('"a"', "no object of names and values"),
        ('{"a": 1', "delimiter"),
        ('{"a": NaN}', "NaN, which is no number"),
        ('{"a": -Infinity}', "-Infinity, which is no number"),
        ('{"a": 1e400}', "1e400, which is beyond any number"),
        ('{"a": -1e999999}', "beyond any number"),
        ('{"a": %s}' % ("9" * 5000), "a number of 5,000 digits"),
        ('{"a": {"b": 1, "b": 1}}', "'b' twice in one object"),
        ('{"\\u001b[2J": 1, "\\u001b[2J": 1}', r"x1b\[2J' twice"),
        ('{"a": "\x00"}', "control character"),
        (deep(DEEPEST + 1), "more than 64 deep"),
        ('{"a": ' + "[" * 900 + "]" * 900 + "}", "more than 64 deep"),
        ("[" * 1_000_000, "more than 64 deep"),
        ('{"a": ' * 300_000, "more than 64 deep"),
    ],
)
def test_what_is_no_object_within_limits_is_one_sentence(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=f"^expected a readable run.json, got .*{words}.*; restore the file$") as error:
        read_bounded_json(text, "run.json")
    assert len(str(error.value)) < 300
    assert read_bounded_json(deep(DEEPEST), "run.json").keys() == {"a"}


def test_files_are_named(tmp_path: Path) -> None:
    file = tmp_path / "a\x1b.json"
    for prepare, words in [
        (lambda: None, "No such file"),
        (lambda: file.write_bytes(b"\xff\xfe{}"), "can't decode byte 0xff"),
        (lambda: file.write_bytes(b"{" + b" " * 100 + b"}"), "more than 100 bytes"),
    ]:
        prepare()
        with pytest.raises(ValueError, match=rf"^expected a readable config.json in .*a\\x1b.json, got .*{words}"):
            read_bounded_json(file, "config.json", most_bytes=100)
    with pytest.raises(ValueError, match="got no file"):
        read_bounded_json(tmp_path, "config.json")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")  # opening it would wait for a writer, for ever
        with pytest.raises(ValueError, match="got no file"):
            read_bounded_json(tmp_path / "pipe", "config.json")
    file.write_text('{"a": "ä"}', encoding="utf-8")
    assert read_bounded_json(file, "config.json") == {"a": "ä"}


@settings(deadline=None, max_examples=200)
@given(st.text(st.characters(exclude_categories=[])))
def test_any_text_is_shown_on_one_printable_line(text: str) -> None:
    assert shown(text).isprintable() and len(shown(text, 10)) <= 10 * len(r"\U0010ffff")
    shown(text).encode()  # which half of a surrogate pair would refuse
    assert "|" not in table_cell(text).replace(r"\|", "")


def test_what_prints_is_left_alone_and_what_does_not_is_seen() -> None:
    assert shown("Füße 猫 a\\b") == "Füße 猫 a\\b"
    assert shown("\x1b[31m\x07\r\n\t\x00\x9b\u202e\ud800") == r"\x1b[31m\x07\r\n\t\x00\x9b\u202e\ud800"
    assert shown("x" * 3000) == "x" * 997 + "..." and shown(None) == "None"
    assert table_cell("a|b\nc") == r"a\|b\nc"
