"""Which code made something: versions and commit, from a source tree, a package, or neither."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from robust_hub import provenance

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
ASK = "from robust_hub import provenance as p; print(p.commit())"


def git(folder: Path, *words: str) -> str:
    options = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    return subprocess.run(
        ["git", "-C", str(folder), *options, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


def tree(folder: Path) -> Path:
    """A source tree with the file that asks, committed."""
    package = folder / "robust_hub"
    package.mkdir(parents=True)
    shutil.copyfile(provenance.__file__, package / "provenance.py")
    (package / "__init__.py").touch()
    git(folder, "init", "-q")
    git(folder, "add", "robust_hub")
    git(folder, "commit", "-qm", "first")
    return folder


def asked(folder: Path) -> str:
    run = subprocess.run([sys.executable, "-c", ASK], cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_versions_are_of_what_runs() -> None:
    found = provenance.versions()
    assert found["torch"] == importlib.metadata.version("torch")
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))


def test_an_absent_package_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "PACKAGES", ("torch", "no-such-package"))
    assert set(provenance.versions()) == {"python", "torch"}


def test_commit_of_a_source_tree(tmp_path: Path) -> None:
    folder = tree(tmp_path)
    head = git(folder, "rev-parse", "HEAD")
    git(folder, "tag", "v1")  # a tag is no reason to name the commit otherwise
    assert asked(folder) == head
    (folder / "robust_hub" / "__init__.py").write_text("x = 1\n")
    assert asked(folder) == f"{head}-dirty"


def test_the_repository_around_a_package_is_not_its_source(tmp_path: Path) -> None:
    folder = tree(tmp_path)
    shutil.copytree(folder / "robust_hub", folder / "venv" / "robust_hub")
    assert git(folder, "rev-parse", "HEAD") not in asked(folder / "venv")


class Installed:
    def __init__(self, note: dict[str, object] | None) -> None:
        self.note = note

    def read_text(self, name: str) -> str | None:
        return json.dumps(self.note) if name == "direct_url.json" and self.note is not None else None


@pytest.mark.parametrize(
    ("note", "commit"),
    [
        ({"url": "https://x", "vcs_info": {"vcs": "git", "commit_id": "c" * 40}}, "c" * 40),
        ({"url": "file:///x", "dir_info": {}}, None),
        (None, None),
    ],
)
def test_commit_of_an_installed_package(
    note: dict[str, object] | None, commit: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "_HERE", tmp_path / "provenance.py")
    monkeypatch.setattr(provenance.importlib.metadata, "distribution", lambda name: Installed(note))
    assert provenance.commit.__wrapped__() == commit


def test_neither_git_nor_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(provenance, "PACKAGES", ())

    def absent(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(provenance.importlib.metadata, "distribution", absent)
    assert provenance.commit.__wrapped__() is None
