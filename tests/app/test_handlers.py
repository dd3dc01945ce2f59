"""What the page's answers say where the machine, and not the visitor, is at fault."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import pytest
from toy_page import TOY, toy_shelf

from robust_hub.app.networks import choices

handlers = pytest.importorskip("robust_hub.app.handlers", reason="needs Gradio: pip install 'robust-hub[app]'")


@pytest.mark.parametrize("words", [(errno.ENOSPC, "No space left on device"), ()])
@pytest.mark.parametrize("full", ["the folder of files", "a file"])
def test_without_room_for_its_files_a_certificate_ends_in_a_sentence(
    full: str, words: tuple[int | str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object, **__: object) -> None:
        raise OSError(*words, str(tmp_path / "secret"))

    folder = toy_shelf(tmp_path, TOY) / TOY
    where = handlers.tempfile if full == "the folder of files" else handlers
    monkeypatch.setattr(where, "TemporaryDirectory" if full == "the folder of files" else "_write", no_room)
    page = handlers.Handlers(choices(str(folder)), tmp_path)
    *_, last = page.certify(str(folder), None, "ship", 0.25, 100, several=False)
    said = re.sub(r"<[^>]+>", "", last.status)
    got = words[1] if words else "an error of the system"
    assert f"Expected room for the files, got {got}: have whoever serves the page make room" in said
    assert "secret" not in said and last.go["interactive"] and not last.stop["interactive"]
