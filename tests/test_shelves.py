"""Where a name is looked for: five places, the first that has it wins, and an error names them all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from robust_hub import shelves
from robust_hub.layout import CONFIG
from robust_hub.shelves import SHELF, VARIABLE, checkpoint_folder, list_checkpoints, not_here

NAME = "resnet18s_ln_mixednoise.here"


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """Every place, none of which is there yet, in the order of the docstring."""
    (tmp_path / "current").mkdir()
    (tmp_path / "clone").mkdir()
    (tmp_path / "clone" / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path / "current")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "named"))
    monkeypatch.setattr(shelves, "SOURCE_TREE", tmp_path / "clone")
    monkeypatch.setattr(shelves, "PACKAGED", tmp_path / "package")
    monkeypatch.setattr(shelves, "user_data_path", lambda *_, **__: tmp_path / "user")
    return [tmp_path / p for p in ("named", f"current/{SHELF}", f"clone/{SHELF}", f"user/{SHELF}", "package")]


def put(place: Path, name: str = NAME) -> Path:
    (place / name).mkdir(parents=True)
    (place / name / CONFIG).write_text("{}")
    return place / name


def test_the_first_place_that_has_a_name_wins(places: list[Path]) -> None:
    assert shelves.shelves() == places
    assert checkpoint_folder(NAME) is None and list_checkpoints() == []
    for place in reversed(places):
        folder = put(place)
        assert checkpoint_folder(NAME) == folder
    put(places[3], "another")
    (places[0] / "no checkpoint").mkdir()
    assert list_checkpoints() == ["another", NAME]


def test_without_variable_or_source_tree_there_are_three(places: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE)
    (places[2].parent / "pyproject.toml").unlink()
    put(places[2])  # what lies beside site-packages is nobody's shelf
    assert shelves.shelves() == [places[1], *places[3:]]
    assert checkpoint_folder(NAME) is None


def test_the_source_tree_that_one_stands_in_is_one_place(places: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(places[2].parent)
    assert shelves.shelves() == [places[0], *places[2:]]


def test_what_is_nowhere_is_one_sentence_with_every_place(places: list[Path]) -> None:
    put(places[1], "other")
    said = not_here(NAME)
    assert said.startswith(f"{NAME} has no trained weights in {places[0]} (no such folder), {places[1]}, {places[2]} (")
    assert all(str(place) in said for place in places)
    assert "set ROBUST_HUB_SHELF to its model_cards" in said and "robust-hub pretrain" in said


def test_the_users_own_folder_and_the_variable_count_in_a_process_of_its_own(tmp_path: Path) -> None:
    put(tmp_path / "data" / "robust_hub" / SHELF, "mine")
    put(tmp_path / "named", "named")
    environment = {**os.environ, "XDG_DATA_HOME": str(tmp_path / "data"), VARIABLE: str(tmp_path / "named")}
    code = "from robust_hub.shelves import list_checkpoints; print(list_checkpoints())"
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert "'mine'" in done.stdout and "'named'" in done.stdout, done.stderr
