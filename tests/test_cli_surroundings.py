"""The command in a poor terminal: no UTF-8, no home, no colours, a reader that leaves, warnings as errors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import robust_hub.cli.output as output
from robust_hub.cli.main import main
from robust_hub.cli.output import in_columns

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
LOG = "idx\tlabel\tpredict\tradius\tcorrect\ttime\n0\t1\t1\t0.3\t1\t0.1\n"


def command(*words: object, flags: tuple[str, ...] = (), **environment: str) -> subprocess.CompletedProcess[bytes]:
    line = [sys.executable, *flags, "-m", "robust_hub", *map(str, words)]
    return subprocess.run(line, env={**os.environ, **environment}, capture_output=True, timeout=120)


def test_warnings_as_errors() -> None:
    done = command("--help", flags=("-W", "error"))
    assert done.returncode == 0 and not done.stderr


@pytest.mark.parametrize("words", [["-h"], ["certify", "-h"], ["models"], ["models", "--json"]], ids=" ".join)
def test_without_utf8_everything_is_ascii(words: list[str], tmp_path: Path) -> None:
    done = command(*words, **ASCII)
    assert done.returncode == 0 and done.stdout.isascii() and b"\x1b" not in done.stdout, done.stderr


def test_paths_beyond_ascii_without_utf8(tmp_path: Path) -> None:
    folder = tmp_path / "für-mich"
    folder.mkdir()
    (folder / "log.tsv").write_text(LOG)
    done = command("report", folder / "log.tsv", **ASCII)
    assert done.returncode == 0 and b"| 1 |" in done.stdout, done.stderr
    refused = command("report", folder / "none", **ASCII)
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1 and b"Traceback" not in refused.stderr


def test_no_home_and_no_colours(tmp_path: Path) -> None:
    done = command("models", HOME="/proc/no-home", NO_COLOR="1", XDG_CACHE_HOME="/proc/none", MPLCONFIGDIR="/proc/none")
    assert done.returncode == 0 and b"resnet18s_ln_mixednoise" in done.stdout and not done.stderr


def test_a_reader_that_leaves_is_no_error() -> None:
    line = f"{sys.executable} -m robust_hub models | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120)
    assert not done.stderr and done.stdout.split()[-1] in ("0", "1")


def test_columns_that_a_terminal_has_no_room_for_are_left_out() -> None:
    rows = [("model", "clean %", "trained"), ("a-long-name", "88.8", "for long"), ("b", "1.0", "")]
    assert in_columns(rows, None).splitlines() == [
        "model        clean %  trained",
        "a-long-name  88.8     for long",
        "b            1.0",
    ]
    assert in_columns(rows, 30) == in_columns(rows, None)
    narrow = in_columns(rows, 29).splitlines()
    assert narrow[1] == "a-long-name  88.8" and narrow[-1].startswith("Left out for want of width: trained;")
    assert in_columns(rows, 3).splitlines()[:3] == ["model", "a-long-name", "b"]


@pytest.mark.parametrize(("columns", "fits"), [("90", False), ("400", True)])
def test_the_models_fit_the_terminal(columns: str, fits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal:
        def __getattr__(self, name: str) -> object:
            return (lambda: True) if name == "isatty" else getattr(sys.__stdout__, name)

    monkeypatch.setattr("robust_hub.cli.publish.sys", type("Sys", (), {"stdout": Terminal()}))
    result = CliRunner().invoke(main, ["models"], env={"COLUMNS": columns})
    assert result.exit_code == 0 and (max(map(len, result.output.splitlines())) <= 100) != fits
    assert ("Left out for want of width" in result.output) != fits


def test_a_failure_of_another_process_waits_for_the_main_one(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("robust_hub.cli.group.time.sleep", waited.append)
    assert output.is_main()
    alone = CliRunner().invoke(main, ["report", "nosuch"])
    assert alone.stderr.startswith("robust-hub: expected") and not waited
    for words, beginning in ((["report", "nosuch"], "robust-hub (process 1): expected"), (["report"], "Usage: ")):
        other = CliRunner().invoke(main, words, env={"LOCAL_RANK": "1", "RANK": "1"})
        assert other.exit_code == 2 and other.stderr.startswith(beginning)
    assert len(waited) == 2
