"""Where a name is looked for: five shelves, the first that has it wins, and an error names them all."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from robust_hub.layout import CONFIG
from robust_hub.models import shelves
from robust_hub.models.shelves import SHELF, VARIABLE, checkpoint_folder, list_checkpoints, not_here
from robust_hub.publishing.loading import is_found_anywhere

NAME = "resnet18s_ln_mixednoise.here"


@pytest.fixture
def folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """Every shelf, none of which is there yet, in the order of the docstring."""
    (tmp_path / "current").mkdir()
    (tmp_path / "clone").mkdir()
    (tmp_path / "clone" / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path / "current")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "named"))
    monkeypatch.setattr(shelves, "SOURCE_TREE", tmp_path / "clone")
    monkeypatch.setattr(shelves, "PACKAGED", tmp_path / "package")
    monkeypatch.setattr(shelves, "user_data_path", lambda *_, **__: tmp_path / "user")
    return [tmp_path / p for p in ("named", f"current/{SHELF}", f"clone/{SHELF}", f"user/{SHELF}", "package")]


def put(shelf: Path, name: str = NAME) -> Path:
    (shelf / name).mkdir(parents=True)
    (shelf / name / CONFIG).write_text("{}")
    return shelf / name


def test_the_first_shelf_that_has_a_name_wins(folders: list[Path]) -> None:
    assert shelves.shelves() == folders
    assert checkpoint_folder(NAME) is None and list_checkpoints() == []
    for shelf in reversed(folders):
        folder = put(shelf)
        assert checkpoint_folder(NAME) == folder
    put(folders[3], "another")
    (folders[0] / "no checkpoint").mkdir()
    assert list_checkpoints() == ["another", NAME]


def test_without_variable_or_source_tree_there_are_three(folders: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE)
    (folders[2].parent / "pyproject.toml").unlink()
    put(folders[2])  # what lies beside site-packages is nobody's shelf
    assert shelves.shelves() == [folders[1], *folders[3:]]
    assert checkpoint_folder(NAME) is None


def test_the_source_tree_that_one_stands_in_is_one_shelf(folders: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folders[2].parent)
    assert shelves.shelves() == [folders[0], *folders[2:]]


def test_what_is_nowhere_is_one_sentence_with_every_shelf(folders: list[Path]) -> None:
    put(folders[1], "other")
    said = not_here(NAME)
    assert said.startswith(
        f"{NAME} has no trained weights in {folders[0]} (no such folder), {folders[1]}, {folders[2]} ("
    )
    assert all(str(folder) in said for folder in folders)
    assert "set ROBUST_HUB_SHELF to its model_cards" in said and "robust-hub pretrain" in said


def test_the_users_own_folder_and_the_variable_count_in_a_process_of_its_own(tmp_path: Path) -> None:
    put(tmp_path / "data" / "robust_hub" / SHELF, "mine")
    put(tmp_path / "named", "named")
    environment = {**os.environ, "XDG_DATA_HOME": str(tmp_path / "data"), VARIABLE: str(tmp_path / "named")}
    code = "from robust_hub.models.shelves import list_checkpoints; print(list_checkpoints())"
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert "'mine'" in done.stdout and "'named'" in done.stdout, done.stderr


def test_the_table_of_the_docs_has_the_shelves_in_their_order() -> None:
    page = Path(__file__).parents[2] / "docs" / "checkpoints.md"
    if not page.exists():
        pytest.skip("the documentation is not part of this copy")
    section = page.read_text().split("## Where a name is looked for")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (\d) \| (.+?) \|", section, flags=re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 8))
    words = (VARIABLE, f"./{SHELF}", "source tree", f"robust_hub/{SHELF}` of the user's data", "the package")
    assert all(word in row for word, (_, row) in zip(words, rows[1:6], strict=True))
    listed = (shelves.__doc__ or "").split("\n\n")[1].splitlines()
    keys = (VARIABLE, "current folder", "source tree", "user's own data folder", "package's own data")
    assert all(key in line for key, line in zip(keys, listed, strict=True))


def test_a_shelf_that_may_not_be_read_is_one_without_checkpoints(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container whose user may not read HOME: not even timm could be imported there."""
    unreadable = folders[0].parent / ("x" * 300)  # which no system lets anyone read, root neither
    monkeypatch.setenv(VARIABLE, str(unreadable))
    put(folders[1])
    assert list_checkpoints() == [NAME] and checkpoint_folder(NAME) == folders[1] / NAME
    assert f"{unreadable} (no such folder)" in not_here("other")
    assert not is_found_anywhere(NAME, folders[1] / NAME)
