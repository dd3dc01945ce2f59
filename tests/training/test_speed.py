"""Images a second and utilisation of a training: what is counted, and that counting changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from toys import toy_model, toy_run

from robust_hub.layout import SPEED
from robust_hub.training import speed
from robust_hub.training.speed import Speedometer, forward_flop


def clock(monkeypatch: pytest.MonkeyPatch, *times: float) -> None:
    ticks = iter(times)
    monkeypatch.setattr(speed.time, "perf_counter", lambda: next(ticks))
    monkeypatch.setattr(speed, "matrix_rate", lambda device, dtype: 1e6)


def test_work_of_a_forward_pass() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, 1, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(256, 5))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert forward_flop(model, torch.rand(2, 3, 8, 8)) == 2 * (8 * 8 * 4 * 27 + 256 * 5)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize(("passes", "processes"), [(3, 1), (1, 1), (3, 4)])
def test_the_first_step_is_warming_up_and_a_minute_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, passes: int, processes: int
) -> None:
    model, images = nn.Sequential(nn.Flatten(), nn.Linear(48, 5)), torch.rand(6, 3, 4, 4)
    meter = Speedometer(tmp_path, model, passes=passes, processes=processes)
    clock(monkeypatch, 100.0, 130.0, 160.5, 161.0)
    meter.add(images, last=False)
    meter.add(images, last=False)
    assert not (tmp_path / SPEED).exists()
    meter.add(images, last=False)
    found = json.loads((tmp_path / SPEED).read_text())
    rate = 12 * processes / 61
    work = passes * 2 * 48 * 5
    assert found["images_per_s"] == round(rate, 1) and found["seconds"] == 61
    assert found["flop_per_image"] == work and found["processes"] == processes
    assert found["utilisation"] == pytest.approx(rate * work / (1e6 * processes))
    meter.add(images, last=True)  # asks no clock any more


def test_a_short_epoch_is_measured_at_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meter = Speedometer(tmp_path, nn.Flatten())
    clock(monkeypatch, 0.0, 2.0)
    meter.add(torch.rand(4, 3, 2, 2), last=False)
    meter.add(torch.rand(4, 3, 2, 2), last=True)
    assert json.loads((tmp_path / SPEED).read_text())["images_per_s"] == 2


def test_no_folder_measures_nothing() -> None:
    meter = Speedometer(None, nn.Flatten())
    meter.add(torch.rand(4, 3, 2, 2), last=False)
    assert meter.images == 0


def test_a_training_writes_it_once_and_trains_the_same(tmp_path: Path) -> None:
    one = toy_run(tmp_path / "a", epochs=2)
    files = list((tmp_path / "a").rglob(SPEED))
    assert len(files) == 1
    found = json.loads(files[0].read_text())
    assert found["flop_per_image"] == 3 * forward_flop(toy_model(), torch.rand(1, 3, 12, 12))
    assert 0 < found["utilisation"] < 10
    stamp = files[0].stat().st_mtime_ns
    toy_run(tmp_path / "a", epochs=2)
    assert files[0].stat().st_mtime_ns == stamp
    two = toy_run(None, epochs=2)
    assert all(
        torch.equal(a, b) for a, b in zip(one.model.state_dict().values(), two.model.state_dict().values(), strict=True)
    )
