"""The loop: warm-up, exact resume after kill -9, several processes, losses that are not finite."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import toys
from safetensors.torch import load_file
from torch import Tensor
from toys import PIXELS, plain_run, same_weights, toy_data, toy_model, toy_run, train, without_times


def test_warm_up_lasts_ten_epochs_or_a_tenth() -> None:
    short = train(toy_model(), toy_data(), epochs=20, batch_size=72, learning_rate=0.1, progress=False, **PIXELS)
    assert [row["lr"] for row in short.history[:2]] == pytest.approx([0.05, 0.1])
    long = train(toy_model(), toy_data(12), epochs=110, batch_size=12, learning_rate=0.1, progress=False, **PIXELS)
    assert [long.history[i]["lr"] for i in (0, 4, 9)] == pytest.approx([0.01, 0.05, 0.1])
    assert long.history[20]["lr"] < 0.1


@pytest.mark.parametrize(("save_every", "kept"), [(0.0, 14), pytest.param(3600.0, 12, marks=pytest.mark.full)])
def test_kill_and_resume_equals_an_uninterrupted_run(tmp_path: Path, save_every: float, kept: int) -> None:
    folder = tmp_path / "killed"
    command = [sys.executable, toys.__file__, "killed", str(folder), "14", str(save_every)]
    killed = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [p.name for p in (folder / "state").glob("step-*")] == [f"step-{kept}"]
    assert len((folder / "log.jsonl").read_text().splitlines()) == 2

    resumed, whole = toy_run(folder), toy_run(None)
    assert same_weights(resumed.model, whole.model)
    assert without_times(resumed.history) == without_times(whole.history)
    assert [row["step"] for row in resumed.history] == [6, 12, 18, 24]
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert log == list(resumed.history)
    assert not same_weights(whole.model, toy_run(None, seed=1).model)


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    first = toy_run(tmp_path)
    again = toy_run(tmp_path, kill_at=0)  # a single step would kill this process
    assert same_weights(first.model, again.model)
    assert first.history == again.history


def test_workers_and_saving_do_not_change_the_result(tmp_path: Path) -> None:
    assert same_weights(toy_run(None, epochs=2).model, toy_run(tmp_path, epochs=2, num_workers=1, save_every=0).model)


def test_bf16_trains_and_leaves_the_models_forward_as_it_was() -> None:
    result = toy_run(None, mixed_precision="bf16", epochs=1)
    assert "forward" not in vars(result.model)
    assert result.model(torch.zeros(1, 3, 12, 12)).dtype == torch.float32
    assert toy_run(None, mixed_precision="no", epochs=1).history[0]["loss"] != result.history[0]["loss"]


def test_norms_and_biases_have_no_weight_decay() -> None:
    model, start = toy_model(), toy_model()
    options: dict[str, Any] = {"epochs": 1, "batch_size": 72, "momentum": 0.0, "warmup": 0, "progress": False, **PIXELS}
    plain = train(model, toy_data(), learning_rate=0.1, weight_decay=0.0, **options).model.state_dict()
    decayed = train(start, toy_data(), learning_rate=0.1, weight_decay=0.5, **options).model.state_dict()
    differ = {k for k in plain if not torch.equal(plain[k], decayed[k])}
    assert differ == {"0.weight", "6.weight"}
    expected = plain["0.weight"] - 0.1 * 0.5 * toy_model()[0].weight
    assert torch.allclose(decayed["0.weight"], expected, atol=1e-6)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    calls = 0

    def corrupt(images: Tensor, generator: torch.Generator) -> Tensor:
        nonlocal calls
        calls += 1
        return images * float("nan") if calls > 10 else images

    options: dict[str, Any] = {"epochs": 4, "batch_size": 12, "progress": False, "learning_rate": 0.1, **PIXELS}
    with pytest.raises(FloatingPointError, match=r"at step 10 \(learning rate 0.0.*\).*kept in .*step-6"):
        train(toy_model(), toy_data(), corrupt=corrupt, folder=tmp_path, **options)
    calls = -100
    good = train(toy_model(), toy_data(), corrupt=corrupt, folder=tmp_path, **options)
    assert all(v.isfinite().all() for v in good.model.state_dict().values())
    assert len(good.history) == 4
    calls = 10
    with pytest.raises(FloatingPointError, match="no state was saved yet"):
        train(toy_model(), toy_data(), corrupt=corrupt, **options)


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match="smaller learning rate"):
        toy_run(tmp_path, learning_rate=1e38, save_every=0, epochs=1, warmup=0)
    for state in (tmp_path / "state").glob("step-*"):
        weights = load_file(state / "model.safetensors")
        assert all(v.isfinite().all() for v in weights.values())


def test_two_processes_train_as_one_and_fail_together(tmp_path: Path) -> None:
    """Two batches of 6 make the gradient of one of 12; what fails for the main process fails for both, none waits."""
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    both = [
        subprocess.Popen(
            [sys.executable, toys.__file__, "shared", str(tmp_path)],
            env={**os.environ, **place, "CUDA_VISIBLE_DEVICES": "", "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        for process in both:
            assert process.communicate(timeout=300)[1].count("Traceback") == process.returncode == 0
    finally:
        for process in both:
            process.kill()
    found = [torch.load(tmp_path / f"rank-{rank}.pt") for rank in (0, 1)]
    for name, (weights, rate, history) in found[0]["rows"].items():
        other = found[1]["rows"][name]
        assert all(torch.equal(v, other[0][k]) for k, v in weights.items()), name
        assert (rate, history) == other[1:]

    one = plain_run(None, 12)
    weights, _, history = found[0]["rows"]["plain"]
    assert all(torch.allclose(v, weights[k], atol=1e-6) for k, v in one.model.state_dict().items())
    assert [row["accuracy"] for row in history] == [row["accuracy"] for row in one.history]
    assert [row["loss"] for row in history] == pytest.approx([row["loss"] for row in one.history])

    first, again = found[0]["rows"]["chosen"], found[0]["rows"]["chosen again"]
    assert first[1] == again[1] == 0.1
    assert first[2] == again[2]
    assert all(torch.equal(v, again[0][k]) for k, v in first[0].items())
    assert found[0]["said"] == found[1]["said"]
    assert "expected a new or empty folder" in found[0]["said"]["foreign"]
    assert "No space left on device" in found[0]["said"]["full"]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return int(door.getsockname()[1])
