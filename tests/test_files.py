"""Files and folders are written whole or not at all, whatever fails in the middle."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from toys import full_disk

from robust_hub import files
from robust_hub.files import rebuilt, replace_files, replace_text, try_place


def tree(folder: Path) -> dict[str, str]:
    """Text by path of all files below a folder."""
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def failing(call: Callable[..., Any], at: int) -> Callable[..., Any]:
    """The same function, whose call number `at` finds the disk full."""
    calls = iter(range(1_000))

    def counted(*values: Any, **options: Any) -> Any:
        if next(calls) == at:
            counted.full = True  # type: ignore[attr-defined]
            full_disk()
        return call(*values, **options)

    return counted


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    (folder / "deep").mkdir(parents=True)
    for name in ("a", "b", "deep/c", "deep/d"):
        (folder / name).write_text(f"old {name}")
    return folder


@pytest.mark.parametrize("at", [0, 1])
def test_files_are_all_old_where_one_cannot_be_written(home: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    before = tree(home)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing(os.fsync, at))
        with pytest.raises(OSError, match="No space left"):
            replace_files({home / "a": b"new", home / "b": b"new"})
    assert tree(home) == before
    replace_files({home / "a": b"new a", home / "b": b"new b"})
    assert tree(home) == before | {"a": "new a", "b": "new b"}


def test_a_first_text_that_does_not_fit_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        replace_text(tmp_path / "first", "text")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_said_of_the_file_and_of_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left on device") as caught:
        replace_text(tmp_path / "first", "text")
    assert caught.value.filename == str(tmp_path / "first")


def test_a_place_is_tried_and_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try_place(tmp_path / "a" / "b")
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(files.tempfile, "TemporaryFile", full_disk)
    with pytest.raises(OSError, match="No space left on device") as caught:
        try_place(tmp_path / "a" / "b")
    assert caught.value.filename == str(tmp_path / "a" / "b")


def change(folder: Path) -> None:
    """Make the folder's next version, whatever stands there."""
    with rebuilt(folder, without=["deep"]) as fresh:
        assert fresh.parent == folder.resolve().parent and fresh.name.startswith(".")
        replace_text(fresh / "a", "new a")
        (fresh / "more").mkdir(exist_ok=True)
        (fresh / "more" / "e").write_text("new e")


NEW = {"a": "new a", "b": "old b", "more/e": "new e"}


@pytest.mark.parametrize("swap", [True, False])
@pytest.mark.parametrize("link", [True, False])
def test_a_folder_is_changed_as_a_whole(home: Path, monkeypatch: pytest.MonkeyPatch, swap: bool, link: bool) -> None:
    if not swap:
        monkeypatch.setattr(files, "_exchange", lambda one, two: False)
    if not link:
        monkeypatch.setattr(os, "link", lambda *_, **__: (_ for _ in ()).throw(OSError(errno.EPERM, "no links")))
    (home / "sign").symlink_to("b")
    change(home)
    assert (home / "sign").is_symlink()
    assert tree(home) == NEW | {"sign": "old b"}
    assert [path.name for path in home.parent.iterdir()] == ["home"]


def test_a_new_folder_and_one_behind_a_link(tmp_path: Path, home: Path) -> None:
    with rebuilt(tmp_path / "new" / "home") as fresh:
        (fresh / "a").write_text("a")
    assert tree(tmp_path / "new") == {"home/a": "a"}
    (tmp_path / "link").symlink_to(home)
    change(tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and tree(home) == NEW


@pytest.mark.parametrize("swap", [True, False])
@pytest.mark.parametrize("call", ["fsync", "replace", "link", "mkdir"])
def test_a_disk_that_is_full_at_any_moment_leaves_the_old_folder(
    home: Path, monkeypatch: pytest.MonkeyPatch, call: str, swap: bool
) -> None:
    before, failed = tree(home), 0
    for at in range(30):
        with monkeypatch.context() as patch:
            if not swap:
                patch.setattr(files, "_exchange", lambda one, two: False)
            counted = failing(getattr(os, call), at)
            patch.setattr(os, call, counted)
            with contextlib.suppress(OSError):
                change(home)
            if not hasattr(counted, "full"):
                break
            failed += 1
        assert tree(home) in (before, NEW)
        assert [path.name for path in home.parent.iterdir()] == ["home"]
    assert failed >= 1 and tree(home) == NEW


def test_a_kill_between_two_renames_is_mended_by_the_next_call(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree(home)
    monkeypatch.setattr(files, "_exchange", lambda one, two: False)
    (home.parent / ".home.new").mkdir()
    home.rename(home.parent / ".home.old")
    with pytest.raises(KeyError), rebuilt(home):
        assert tree(home) == before
        raise KeyError
    assert tree(home) == before and [path.name for path in home.parent.iterdir()] == ["home"]
    change(home)
    assert tree(home) == NEW


def test_an_exchange_that_fails_for_another_reason_is_said(home: Path, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        files._exchange(home / "nothing", home)
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotADirectoryError), rebuilt(tmp_path / "file"):
        pass
    assert (tmp_path / "file").read_text() == "x"
