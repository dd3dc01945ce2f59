"""What a shell offers for values, and that neither that nor help imports anything slow."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from robust_hub.cli.completion import SCALES, TABLES
from robust_hub.cli.main import main
from robust_hub.models.family import NAMES
from robust_hub.paper import rows, tables

SLOW = {"torch", "timm", "numpy", "scipy", "matplotlib", "huggingface_hub", "PIL", "accelerate", "datasets", "gradio"}
CHECKPOINT = "resnet18s_ln_mixednoise"


def offered(*words: str) -> list[tuple[str, str]]:
    """What a shell offers for the last word, and of which kind."""
    found = ShellComplete(main, {}, "robust-hub", "_ROBUST_HUB_COMPLETE").get_completions(list(words[:-1]), words[-1])
    return [(one.type, one.value) for one in found]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "digits" / "certified" / "sigma_0.25").mkdir(parents=True)
    (tmp_path / "runs" / "digits" / "config.json").write_text("{}")
    (tmp_path / "runs" / "digits" / "certified" / "sigma_0.25" / "run.json").write_text("{}")
    (tmp_path / "runs" / "other").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [["certify"], ["finetune"], ["pretrain"], ["bench", "certify"], ["bench", "train"], ["verify-certificate"]],
)
def test_names_of_models(command: list[str], home: Path) -> None:
    names = [value for kind, value in offered(*command, "--model", "resnet18s_ln") if kind == "plain"]
    assert {CHECKPOINT, "resnet18s_ln"} <= set(names) and len(names) == len(set(names))
    assert all(name.startswith("resnet18s_ln") for name in names)
    assert f"{CHECKPOINT.replace('ln', 'bn')}x" not in names and "resnet152_in_mixednoise" not in names  # no weights


def test_folders_of_models(home: Path) -> None:
    assert offered("certify", "--model", "runs/") == [("plain", "runs/digits")]
    assert offered("certify", "--model", "ru") == [("dir", "ru")]
    for command in ("card", "publish", "verify", "adopt", "name-classes", "shelve"):
        assert offered(command, "runs/d") == [("plain", "runs/digits")]
        assert offered(command, "run") == [("dir", "run")]


def test_runs_data_tables_and_scales(home: Path) -> None:
    assert offered("report", "runs/digits/certified/s") == [("plain", "runs/digits/certified/sigma_0.25")]
    assert offered("report", "runs/digits/certified/sigma_0.25", "ru") == [("dir", "ru")]
    assert offered("certify", "--data", "di") == [("plain", "digits")]
    assert offered("certify", "--data", "photos/") == [("dir", "photos/")]
    assert offered("certify", "--out", "ru") == [("dir", "ru")]
    assert offered("reproduce", "figure") == [("plain", "figure2"), ("plain", "figure3")]
    assert offered("reproduce", "table6", "--scale", "small") == [("plain", "small"), ("plain", "small42")]
    assert ("plain", CHECKPOINT) in offered("shelve", "--base", "resnet18s")


def test_a_pattern_in_a_word_is_no_pattern(home: Path) -> None:
    assert offered("verify", "runs/*") == [("dir", "runs/*")]


def test_the_names_that_are_offered_are_all_that_there_are() -> None:
    assert tuple(tables.TABLES) == TABLES and tuple(rows.SCALES) == SCALES
    assert {"resnet18s_ln", "resnet152_gn"} <= set(NAMES)


def imported(*words: str, **environment: str) -> set[str]:
    """The packages that a command imports, as Python itself counts them."""
    line = [sys.executable, "-X", "importtime", "-m", "robust_hub", *words]
    done = subprocess.run(line, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout
    found = set(re.findall(r"^import time:[^|]*\|[^|]*\|\s*([\w]+)", done.stderr, re.MULTILINE))
    assert {"robust_hub", "click"} <= found
    return found


@pytest.mark.parametrize(
    "words", [["--help"], ["-h"], ["--version"], ["certify", "--help"], ["report", "-h"]], ids=" ".join
)
def test_help_imports_nothing_slow(words: list[str]) -> None:
    assert not imported(*words) & SLOW


@pytest.mark.parametrize(
    "words", ["robust-hub ce", "robust-hub certify --model resnet18s", "robust-hub reproduce tab"], ids=str
)
def test_completion_imports_nothing_slow(words: str) -> None:
    count = str(len(words.split()) - 1)
    environment = {"_ROBUST_HUB_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": count}
    assert not imported(**environment) & SLOW


def test_what_is_slow_would_be_seen() -> None:
    assert {"numpy", "scipy"} <= imported("reproduce", "table6", "--show", "--json")


@pytest.mark.full
def test_bash_completes_the_names(tmp_path: Path) -> None:
    command = tmp_path / "robust-hub"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m robust_hub "$@"\n')
    command.chmod(0o755)
    script = """
    eval "$(_ROBUST_HUB_COMPLETE=bash_source robust-hub)"
    COMP_WORDS=(robust-hub certify --model resnet18s_ln_mixed) COMP_CWORD=3
    _robust_hub_completion robust-hub
    printf '%s\\n' "${COMPREPLY[@]}"
    """
    path = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=120, env=path)
    assert CHECKPOINT in done.stdout.splitlines(), done.stderr
