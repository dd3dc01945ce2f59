"""The bench of training: each way trains a copy on the same images, rows are consistent; no figure is asserted."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from toys import PIXELS, toy_data, toy_model

from robust_hub.training import bench
from robust_hub.training.bench import bench_train, markdown
from robust_hub.training.options import Options
from robust_hub.training.speed import forward_flop


def test_rows_are_consistent_and_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "has_fast_bf16", lambda device: True)
    model = toy_model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    result = bench_train(model, toy_data(10), batch_size=6, steps=3, repeats=3, **PIXELS)
    assert json.loads(json.dumps(result)) == result
    assert list(result["rows"]) == ["plain", "ours", "ours_bf16"]
    assert result["flop_per_image"] == 3 * forward_flop(toy_model(), torch.rand(1, 3, 12, 12))
    for row in result["rows"].values():
        assert len(row["rounds"]) == 3 and row["images_per_s"] in row["rounds"]
        assert row["share"] == pytest.approx(row["images_per_s"] * result["flop_per_image"] / row["matrix_flop_per_s"])
        assert row["times_plain"] == row["images_per_s"] / result["rows"]["plain"]["images_per_s"]
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    text = markdown(result)
    assert "| plain loop, float32 |" in text and "| ours, bfloat16 |" in text and "3 rounds of 3 steps" in text


@pytest.mark.parametrize(("fast", "compiled"), [(False, False), (True, False), (True, True)])
def test_ours_are_those_that_suit_the_device(monkeypatch: pytest.MonkeyPatch, fast: bool, compiled: bool) -> None:
    monkeypatch.setattr(bench, "has_fast_bf16", lambda device: fast)
    ways = bench._ours(torch.device("cpu"), compiled)
    assert ways["ours"] == {} and ("ours_bf16" in ways) == fast
    assert all(name in bench.LABELS for name in ways)
    assert all(Options(epochs=1, mean=(), std=(), **more) for more in ways.values())


def test_the_rates_are_of_all_images_of_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "has_fast_bf16", lambda device: False)
    monkeypatch.setattr(bench, "_epoch", lambda job, data, options: len(data) / 50)
    monkeypatch.setattr(bench, "timed", lambda device, job: 2.0)
    result = bench_train(toy_model(), toy_data(5), batch_size=4, steps=5, repeats=2, **PIXELS)
    assert result["rows"]["plain"]["images_per_s"] == 10 and result["rows"]["ours"]["images_per_s"] == 50
    assert result["rows"]["ours"]["times_plain"] == 5


def test_the_plain_loop_sees_the_images_as_ours_does() -> None:
    data = toy_data(6)
    files = bench._Files(data, Options(epochs=1, **PIXELS))
    files.transform.transforms = files.transform.transforms[2:]  # neither crop nor flip
    image, label = files[4]
    assert torch.equal(image, (data[4][0] - 0.5) / 0.25) and label == data[4][1]


def test_the_plain_loop_trains() -> None:
    model, data = toy_model(), toy_data(72)
    before = [p.clone() for p in model.parameters()]
    options = Options(epochs=1, batch_size=24, learning_rate=(0.05,), **PIXELS)
    network: Any = bench._plain_way(model, data, options, 0, torch.device("cpu"))
    epoch = network.args[1]
    first, *_, last = [epoch() for _ in range(15)]
    assert last < first
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="expected steps >= 1, got 0"):
        bench_train(toy_model(), toy_data(), steps=0, **PIXELS)
    with pytest.raises(ValueError, match="expected images >= 1, got 0"):
        bench_train(toy_model(), toy_data().subset([]), **PIXELS)
