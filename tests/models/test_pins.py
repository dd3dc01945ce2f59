"""Pins: a user's lie in the user's folder and win, ours are never written, a damaged file is one sentence."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from robust_hub.cli.main import main
from robust_hub.models import pins
from robust_hub.models.pins import read_pins, user_pins, write_pin

OURS = {"a": {"repo_id": "we/a", "revision": "1"}, "b": {"repo_id": "we/b", "revision": "2"}}


@pytest.fixture(autouse=True)
def user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The file of the user's pins, which is not there yet, beside a package that ships two."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "pins.json").write_text(json.dumps(OURS))
    monkeypatch.setattr(pins, "SHIPPED", tmp_path / "pins.json")
    return tmp_path / "config" / "robust_hub" / "pins.json"


def test_a_users_pin_wins_and_ours_stay(user: Path) -> None:
    assert read_pins() == OURS
    before = pins.SHIPPED.read_bytes()
    assert write_pin("b", "me/b", "3") == user == user_pins()
    write_pin("c", "me/c", "4")
    mine = {"b": {"repo_id": "me/b", "revision": "3"}, "c": {"repo_id": "me/c", "revision": "4"}}
    assert read_pins() == {**OURS, **mine}
    assert json.loads(user.read_text()) == mine and pins.SHIPPED.read_bytes() == before
    assert [path.name for path in user.parent.iterdir()] == ["pins.json"]


def test_without_any_file_nothing_is_pinned(user: Path) -> None:
    pins.SHIPPED.unlink()
    assert read_pins() == {} and not user.parent.exists()


def test_a_write_that_fails_leaves_the_old_pins(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pin("c", "me/c", "4")
    before = user.read_bytes()

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_pin("d", "me/d", "5")
    assert user.read_bytes() == before


@pytest.mark.parametrize("text", ["{", "[]", '{"c": 1}', '{"c": {"repo_id": "me/c"}}', '{"c": ["repo_id"]}', "\udcff"])
def test_a_damaged_file_is_one_sentence_and_stays(user: Path, text: str) -> None:
    user.parent.mkdir(parents=True)
    user.write_bytes(text.encode(errors="surrogateescape"))
    said = f"expected names with repo_id and revision as JSON in {user}, got a damaged file: correct or delete it"
    for ask in (read_pins, lambda: write_pin("d", "me/d", "5")):
        with pytest.raises(ValueError) as caught:
            ask()
        assert str(caught.value) == said
    assert user.read_bytes() == text.encode(errors="surrogateescape")
    words = ("certify", "--model", "resnet18s_ln_mixednoise.nosuch", "--data", "digits", "--out", "x")
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2 and result.output == f"robust-hub: {said}\n"
