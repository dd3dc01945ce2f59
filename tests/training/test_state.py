"""The folder of a run: whose it is, what it holds, and what happens when it cannot be written."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from accelerate import Accelerator
from toys import PIXELS, full_disk, same_weights, toy_data, toy_model, toy_run, train

from robust_hub.layout import TRAINING
from robust_hub.training.state import check_destination


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Make every write beyond a size fail, as a full disk does, in the kernel's own words."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_rows_after_the_saved_state_and_half_written_states_are_dropped(tmp_path: Path) -> None:
    first = toy_run(tmp_path)
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"epoch": 5, "step": 30}\n{"epo')
    (tmp_path / "state" / "step-99").mkdir()
    toy_run(tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert rows == list(first.history)


def test_another_run_in_the_folder_is_an_error_that_names_the_settings(tmp_path: Path) -> None:
    toy_run(tmp_path, epochs=1)
    with pytest.raises(ValueError, match=r"batch_size is 12 there and 24 here; epochs is 1 there and 2 here\)"):
        toy_run(tmp_path, epochs=2, batch_size=24)
    with pytest.raises(ValueError, match="data is"):
        train(toy_model(), toy_data(seed=1), epochs=1, batch_size=12, folder=tmp_path, progress=False, **PIXELS)
    for damaged in ("{", "[1]", "7"):
        (tmp_path / "settings.json").write_text(damaged)
        with pytest.raises(ValueError, match="damaged"):
            toy_run(tmp_path, epochs=1)


def test_the_settings_of_a_run_are_these(tmp_path: Path) -> None:
    """A key more or less, and nobody's interrupted run resumes any more."""
    toy_run(tmp_path, epochs=1)
    settings = json.loads((tmp_path / "settings.json").read_text())
    keys = "epochs learning_rate batch_size momentum weight_decay optimizer label_smoothing warmup mean std augment"
    keys += " seed mixed_precision holdout data images model identity processes"
    assert set(settings) == set(keys.split())
    assert (settings["learning_rate"], settings["warmup"], settings["processes"]) == ([0.1], None, 1)


def test_folders_that_cannot_serve_are_errors(tmp_path: Path) -> None:
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="expected a new or empty folder"):
        toy_run(tmp_path / "foreign")
    with pytest.raises(ValueError, match="expected a folder that can be written"):
        toy_run(tmp_path / "foreign" / "notes.txt")


def test_a_folder_killed_before_its_settings_were_in_place_is_new(tmp_path: Path) -> None:
    (tmp_path / "settings.json.new").write_text('{"ep')
    assert len(toy_run(tmp_path, epochs=1).history) == 1


def test_two_runs_on_one_folder_are_an_error_for_the_second(tmp_path: Path) -> None:
    code = "import sys, filelock; a = filelock.FileLock(sys.argv[1]); a.acquire(); print(1, flush=True); input()"
    command = [sys.executable, "-c", code, str(tmp_path / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout and other.stdout.readline() == "1\n"
        with pytest.raises(ValueError, match="which another process is writing: wait for it"):
            toy_run(tmp_path)
        assert not (tmp_path / "settings.json").exists()
        other.kill()
    assert len(toy_run(tmp_path, epochs=1).history) == 1


@pytest.mark.parametrize(
    "size", [100, pytest.param(1500, marks=pytest.mark.full), 5500]
)  # settings, weights, optimizer: whichever is the first too large
def test_a_full_disk_is_one_sentence_and_keeps_the_old_state(tmp_path: Path, size: int) -> None:
    with files_of_at_most(size), pytest.raises(ValueError, match=r"can be written, got .*: make room") as caught:
        toy_run(tmp_path, epochs=1)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("state/*"))
    assert len(toy_run(tmp_path, epochs=1).history) == 1


def test_a_disk_that_fills_up_in_between_costs_only_the_steps_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, saves = Accelerator.save_state, []

    def save_state(self: Accelerator, folder: str) -> None:
        saves.append(folder)
        if len(saves) == 3:
            good(self, folder)
            full_disk()
        good(self, folder)

    monkeypatch.setattr(Accelerator, "save_state", save_state)
    with pytest.raises(ValueError, match=r"No space left on device\): make room .*; what was saved before is kept"):
        toy_run(tmp_path)
    assert [p.name for p in (tmp_path / "state").iterdir()] == ["step-12"]
    resumed = toy_run(tmp_path)
    assert len(saves) == 5
    assert same_weights(resumed.model, toy_run(None).model)


def test_a_damaged_state_is_an_error_that_names_it(tmp_path: Path) -> None:
    toy_run(tmp_path, epochs=1)
    for name in ("optimizer.bin", "progress.json"):
        path = tmp_path / "state" / "step-6" / name
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ValueError, match=r"expected a whole state in .*step-6, got a damaged one"):
            toy_run(tmp_path, epochs=1)
        path.write_bytes(whole)
    assert len(toy_run(tmp_path, epochs=1).history) == 1


def test_the_checkpoints_folder_is_new_or_of_a_run(tmp_path: Path) -> None:
    model = toy_model()
    model.pretrained_cfg = {"architecture": "toy"}
    check_destination(model, None)
    check_destination(model, tmp_path / "new")
    (tmp_path / TRAINING).mkdir()
    check_destination(model, tmp_path)
