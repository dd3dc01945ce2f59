"""The door of training: what it checks, which parameters it trains, which learning rate it keeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from toys import PIXELS, same_weights, toy_data, toy_model, toy_run, train

from robust_hub.training.train import TrainResult


def test_training_learns_and_leaves_the_callers_randomness_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    model = toy_model()
    result = train(model, toy_data(), epochs=10, batch_size=12, learning_rate=0.1, progress=False, **PIXELS)
    assert torch.equal(torch.rand(3), expected)
    assert result.model is model
    assert not model.training
    assert result.folder is None
    assert result.accuracy is None
    images, labels = toy_data().batch(range(72))
    accuracy = (model((images / 255 - 0.5) / 0.25).argmax(1) == labels).float().mean()
    assert accuracy > 0.9 > 0.7 > result.history[0]["accuracy"]
    assert model[0].weight.is_contiguous()


def test_only_given_parameters_move_and_batch_statistics_stay() -> None:
    model, before = toy_model(), toy_model()
    model[0].bias.requires_grad_(False)
    train(model, toy_data(), epochs=2, batch_size=12, parameters=model[-1].parameters(), progress=False, **PIXELS)
    moved = {k for k, v in model.state_dict().items() if not torch.equal(v, before.state_dict()[k])}
    assert moved == {"6.weight", "6.bias"}
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == ["0.bias"]
    with pytest.raises(ValueError, match="are not its own"):
        train(model, toy_data(), epochs=1, parameters=before.parameters(), progress=False, **PIXELS)


def test_the_best_learning_rate_is_kept(tmp_path: Path) -> None:
    def run() -> TrainResult:
        return toy_run(tmp_path, learning_rate=[1e-6, 0.1], holdout=0.25, epochs=8)

    first = run()
    results = {p.parent.name: json.loads(p.read_text()) for p in tmp_path.glob("lr-*/result.json")}
    assert set(results) == {"lr-1e-06", "lr-0.1"}
    assert first.learning_rate == 0.1
    assert first.accuracy == results["lr-0.1"]["accuracy"] > results["lr-1e-06"]["accuracy"]
    assert results["lr-0.1"]["held_out_images"] == 18
    again = run()
    assert same_weights(first.model, again.model)
    assert again.history == first.history


def test_a_diverging_learning_rate_is_left_out_with_a_warning(tmp_path: Path) -> None:
    for _ in range(2):  # the second time from the folder
        with pytest.warns(UserWarning, match="learning rate 1e\\+30 is left out"):
            result = toy_run(tmp_path, learning_rate=[1e30, 0.1], epochs=2)
        assert result.learning_rate == 0.1
    with (
        pytest.warns(UserWarning, match="left out"),
        pytest.raises(FloatingPointError, match=r"every learning rate \(1e\+30, 1e\+32\)"),
    ):
        toy_run(None, learning_rate=[1e30, 1e32])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epochs": 0}, "expected epochs >= 1, got 0"),
        ({"batch_size": 0}, "expected batch_size >= 1"),
        ({"learning_rate": 0.0}, "learning rates > 0"),
        ({"learning_rate": []}, "learning rates > 0"),
        ({"learning_rate": [0.1, 0.1]}, "different learning rates"),
        ({"learning_rate": float("nan")}, "learning rates > 0"),
        ({"holdout": 1.0}, r"expected holdout in \(0, 1\)"),
        ({"mixed_precision": "int8"}, "expected mixed_precision among"),
        ({"label_smoothing": 1.0}, "expected label_smoothing"),
        ({"warmup": 2.0}, "expected warmup"),
        ({"optimizer": "nonesuch"}, "expected an optimizer of timm, got 'nonesuch': did you mean"),
        ({"optimizer": "adamww"}, "did you mean .*adamw"),
        ({"mean": None, "std": None}, "mean"),
    ],
)
def test_bad_options_are_errors(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        toy_run(tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()  # the corrected call finds a free folder


def test_models_that_do_not_fit_the_data_are_errors() -> None:
    options: dict[str, Any] = {"epochs": 1, "progress": False, **PIXELS}
    with pytest.raises(ValueError, match="expected at least 3 outputs, one per class of the data, got 2"):
        train(toy_model(2), toy_data(), **options)
    with pytest.raises(ValueError, match="is it a classifier"):
        train(nn.Sequential(nn.Conv2d(3, 3, 3)), toy_data(), **options)
    with pytest.raises(ValueError, match=r"expected a model for images \(3, 12, 12\)"):
        train(nn.Sequential(nn.Conv2d(1, 3, 3)), toy_data(), **options)
