"""Killed or stopped at any moment, a command that is given once more ends with what it would have ended with."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from click.testing import CliRunner, Result

from robust_hub.cli.main import main
from robust_hub.evidence.records import read_run
from robust_hub.models.checkpoint import read_weights, save_checkpoint

SCRIPT = Path(__file__).parent / "support" / "kills.py"


def children(*words: object) -> dict[str, Any]:
    """Run the script and read what it says."""
    line = [sys.executable, str(SCRIPT), *map(str, words)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


def records(folder: Path) -> list[dict[str, Any]]:
    """The records of a finished run, their times aside."""
    run = read_run(folder)
    assert run.finished
    return [{name: value for name, value in vars(one).items() if name != "time"} for one in run.records]


@pytest.mark.full
@pytest.mark.parametrize("seed", [1, 2])
def test_a_certification_killed_at_random_moments_ends_as_if_it_had_not_been(tmp_path: Path, seed: int) -> None:
    said = children("certification", tmp_path, 15, seed)
    assert said["killed"] == 15 and len(said["folders"]) >= 2
    whole = records(tmp_path / "whole")
    assert len(whole) == 20
    for name in said["folders"]:
        assert records(tmp_path / name) == whole


@pytest.mark.full
def test_a_training_killed_at_random_moments_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    said = children("training", tmp_path, 9, 3)
    assert said["killed"] == 9
    whole = read_weights(tmp_path / "whole")
    for name in said["folders"]:
        weights = read_weights(tmp_path / name)
        assert weights.keys() == whole.keys()
        assert all(torch.equal(weights[key], value) for key, value in whole.items())


@pytest.mark.full
def test_a_shelf_holds_the_old_or_the_new_checkpoint_whatever_the_moment_of_a_kill(tmp_path: Path) -> None:
    left = children("moments", tmp_path)["shelve"]
    assert len(left) > 10 and set(left) == {"old", "new"}
    assert left == sorted(left, reverse=True)  # one moment decides


KEPT = "every record so far is kept: the same command goes on where it stopped\n"


@pytest.mark.parametrize(
    ("name", "number", "code", "said"),
    [
        ("certify", signal.SIGINT, 130, f"robust-hub: stopped; {KEPT}"),
        pytest.param("certify", signal.SIGTERM, 143, f"robust-hub: stopped; {KEPT}", marks=pytest.mark.full),
        (
            "finetune",
            signal.SIGTERM,
            143,
            "stopped; what was saved is kept: the same command goes on from there, or begins again where nothing was\n",
        ),
        pytest.param("finetune", signal.SIGINT, 130, "stopped; what was saved is kept", marks=pytest.mark.full),
    ],
)
def test_a_stop_is_one_sentence_and_the_exit_code_of_its_signal(
    tmp_path: Path, name: str, number: int, code: int, said: str
) -> None:
    result = children("stop", tmp_path, name, int(number))
    assert result["code"] == code, result
    assert said in result["said"] and "Traceback" not in result["said"]
    if name == "certify":
        assert 2 <= len(read_run(tmp_path / "certify" / "sigma_0.25").records) < 90
    else:
        assert list((tmp_path / "finetune" / "training" / "state").glob("step-*"))


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Make every write beyond a size fail, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = timm.create_model("resnet18s_ln", num_classes=10, channels=(32, 32, 32, 32), layers=(1, 1, 1, 1))
    return save_checkpoint(model, tmp_path_factory.mktemp("network"))


def certify(network: Path, out: Path) -> Result:
    """Certify 36 images on the command line."""
    words = ("--data", "digits", "--n", "100", "--every", "15", "--seed", "1", "--quiet", "--out", out)
    return CliRunner().invoke(main, [str(word) for word in ("certify", "--model", network, *words)])


@pytest.fixture
def shelved(network: Path, tmp_path: Path) -> Path:
    """A checkpoint on a shelf, with a run and a card."""
    pytest.importorskip("matplotlib")
    assert certify(network, tmp_path / "runs").exit_code == 0
    assert put(network, tmp_path).exit_code == 0
    assert CliRunner().invoke(main, ["card", str(tmp_path / "shelf" / "resnet18s_ln.x")]).exit_code == 0
    return tmp_path / "shelf" / "resnet18s_ln.x"


def put(network: Path, home: Path) -> Result:
    """Shelve the network on the command line."""
    words = ("shelve", network, "resnet18s_ln.x", "--shelf", home / "shelf", "--certified", home / "runs/sigma_0.25")
    return CliRunner().invoke(main, list(map(str, words)))


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("size", [100, 3_000])
def test_a_full_disk_leaves_card_and_shelf_as_they_were(network: Path, shelved: Path, size: int) -> None:
    before = contents(shelved.parent)
    assert (shelved / "certification/digits_sigma_0.25/records.tsv").stat().st_size > 3_000
    with files_of_at_most(size):
        full = [put(network, shelved.parents[1]), CliRunner().invoke(main, ["card", str(shelved)])]
    for result in full:
        assert result.exit_code == 2 and len(result.output.splitlines()) == 1, result.output
        assert "expected a folder that can be written, got" in result.output and "make room" in result.output
    assert contents(shelved.parent) == before


def test_records_without_their_run_json_are_refused(shelved: Path) -> None:
    (shelved / "certification/digits_sigma_0.25/run.json").unlink()
    result = CliRunner().invoke(main, ["verify", str(shelved)])
    assert result.exit_code == 2 and "expected run.json beside" in result.output
    for words in (["card"], ["publish", "--dry-run", "--namespace", "me"]):
        assert "expected run.json beside" in CliRunner().invoke(main, [*words, str(shelved)]).output


def test_a_full_disk_is_one_sentence_and_the_same_command_goes_on(network: Path, tmp_path: Path) -> None:
    assert certify(network, tmp_path / "whole").exit_code == 0
    whole = tmp_path / "whole" / "sigma_0.25"
    settings, lines = ((whole / name).stat().st_size for name in ("run.json", "records.tsv"))
    assert settings + 500 < lines
    for size, there in ((1000, None), (settings + 200, 1), (lines - 100, 10)):
        with files_of_at_most(size):
            full = certify(network, tmp_path / "full")
        assert full.exit_code == 2 and len(full.output.splitlines()) == 1, full.output
        assert "File too large" in full.output or "make room and give the same command" in full.output
        if there is not None:
            assert there <= len(read_run(tmp_path / "full" / "sigma_0.25").records) < 36
    assert certify(network, tmp_path / "full").exit_code == 0
    assert records(tmp_path / "full" / "sigma_0.25") == records(whole)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            MemoryError("Unable to allocate 9 GiB"),
            "memory ran out (Unable to allocate 9 GiB): try a smaller --batch-size",
        ),
        (
            RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
            "memory ran out (DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes.): try a smaller",
        ),
        (MemoryError("expected memory for one image, got none: end"), "robust-hub: expected memory for one image, got"),
    ],
)
def test_memory_that_runs_out_is_one_sentence(
    network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("robust_hub.certification.evaluate.certify", fail)
    result = certify(network, tmp_path / "run")
    assert result.exit_code == 2 and said in result.output and len(result.output.splitlines()) == 1


def test_another_runtime_error_is_not_taken_for_memory(
    network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr("robust_hub.certification.evaluate.certify", fail)
    assert isinstance(certify(network, tmp_path / "run").exception, RuntimeError)
