"""One document on standard output with --json, whatever libraries print; one process of several speaks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from robust_hub.cli.output import emit, is_main, json_option, note, process_index, wants_json

NOISY = """
import os, subprocess, click
from robust_hub.cli.output import emit, json_option, note
@click.command()
@json_option
def command():
    print("of a library")
    os.write(1, b"of a library in C\\n")
    subprocess.run(["echo", "of a child"])
    note("beside it")
    emit({"radius": 0.1 + 0.2, "name": "\\u00e4"}, "in words")
command(standalone_mode=False)
print("afterwards")
"""


def said(*words: str, **environment: str) -> tuple[str, str]:
    line = [sys.executable, "-c", NOISY, *words]
    done = subprocess.run(line, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_json_is_all_that_is_on_standard_output() -> None:
    out, err = said("--json", PYTHONUNBUFFERED="1")
    document, _, rest = out.rpartition("}\n")
    assert json.loads(document + "}") == {"radius": 0.1 + 0.2, "name": "ä"}
    assert rest == "afterwards\n"  # the stream is as it was
    assert {"of a library", "of a library in C", "of a child", "beside it"} <= set(err.splitlines())


def test_words_are_for_people_and_notes_beside_them() -> None:
    out, err = said()
    assert "in words\n" in out and "radius" not in out and err == "beside it\n"


@pytest.mark.parametrize(
    ("environment", "index"),
    [
        ({}, 0),
        ({"RANK": "1"}, 0),  # a machine's, not a process's
        ({"RANK": "3", "LOCAL_RANK": "1"}, 3),
        ({"OMPI_COMM_WORLD_RANK": "2"}, 2),
    ],
)
def test_of_several_processes_the_first_one_speaks(
    environment: dict[str, str], index: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "LOCAL_RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert process_index() == index and is_main() == (index == 0)

    @click.command()
    @json_option
    def command() -> None:
        note("beside it")
        emit({"sigma": 0.25}, "words")

    for words, expected in (([], "words\n"), (["--json"], '{\n "sigma": 0.25\n}\n')):
        result = CliRunner().invoke(command, words)
        assert (result.stdout, result.stderr) == ((expected, "beside it\n") if index == 0 else ("", ""))


@dataclass(frozen=True)
class _Found:
    name: str
    radii: tuple[float, ...]


def test_paths_dataclasses_and_arrays_are_json_and_nan_is_not() -> None:
    value = {
        "path": Path("a/b"),
        "found": _Found("x", (0.25, 1 / 3)),
        "array": np.float32(0.5),
        "tensor": torch.tensor([1, 2]),
    }

    @click.command()
    @click.option("--nan", is_flag=True)
    @click.option("--odd", is_flag=True)
    @json_option
    def command(nan: bool, odd: bool) -> None:
        assert wants_json()
        emit({"nan": float("nan")} if nan else {"odd": {1j}} if odd else value, lambda: 1 / 0)  # type: ignore[arg-type, return-value]

    result = CliRunner().invoke(command, ["--json"])
    assert json.loads(result.stdout) == {
        "path": "a/b",
        "found": {"name": "x", "radii": [0.25, 1 / 3]},
        "array": 0.5,
        "tensor": [1, 2],
    }
    assert isinstance(CliRunner().invoke(command, ["--json", "--nan"]).exception, ValueError)
    assert "expected a value that JSON can hold" in str(CliRunner().invoke(command, ["--json", "--odd"]).exception)
    assert not wants_json()
