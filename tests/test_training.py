"""The loop: schedule, batches, exact resume after kill -9, choice of the learning rate, errors."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file
from torch import Tensor, nn

from robust_hub.data import ImageData
from robust_hub.noise import NoiseMixture
from robust_hub.training import TrainResult, epoch_batches, learning_rate_at, train

PIXELS = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}


def toy_data(count: int = 72, classes: int = 3, seed: int = 0) -> ImageData:
    """Images of 12x12 whose brightness tells the class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    noise = torch.randint(0, 60, (count, 3, 12, 12), generator=generator)
    images = (labels.view(-1, 1, 1, 1) * 90 + noise).clamp(0, 255).to(torch.uint8)
    return ImageData(images, labels, tuple(f"class {k}" for k in range(classes)), name="toy", split="train")


def toy_model(classes: int = 3, seed: int = 0) -> nn.Sequential:
    """A network with dropout, so that a resume has to restore its randomness as well."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(32, classes),
        )


def toy_run(folder: Path | None, kill_at: int | None = None, **options: Any) -> TrainResult:
    """Train four epochs of six steps with mixed noise; die of SIGKILL in step `kill_at`."""
    calls = 0

    def corrupt(images: Tensor, generator: torch.Generator) -> Tensor:
        nonlocal calls
        calls += 1
        if kill_at is not None and calls > kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return NoiseMixture().add(images, generator)

    torch.set_num_threads(2)
    options = {"epochs": 4, "batch_size": 12, "progress": False, **PIXELS, **options}
    return train(toy_model(), toy_data(), corrupt=corrupt, folder=folder, **options)


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    """Whether two models agree bit for bit."""
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def without_times(history: tuple[dict[str, Any], ...]) -> list[dict[str, Any]]:
    """The rows of a history without what the clock decides."""
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_s")} for row in history]


def test_learning_rate_warms_up_and_falls_to_zero() -> None:
    rates = [learning_rate_at(step, 100, 10, 0.4) for step in range(100)]
    assert rates[0] == pytest.approx(0.04)
    assert rates[9] == pytest.approx(0.4)
    assert rates[10] == pytest.approx(0.4)
    assert rates[55] == pytest.approx(0.2)
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))
    assert learning_rate_at(100, 100, 10, 0.4) == pytest.approx(0)
    assert learning_rate_at(0, 5, 0, 0.4) == 0.4


def test_warm_up_lasts_ten_epochs_or_a_tenth() -> None:
    short = train(toy_model(), toy_data(), epochs=20, batch_size=72, learning_rate=0.1, progress=False, **PIXELS)
    assert [row["lr"] for row in short.history[:2]] == pytest.approx([0.05, 0.1])
    long = train(toy_model(), toy_data(12), epochs=110, batch_size=12, learning_rate=0.1, progress=False, **PIXELS)
    assert [long.history[i]["lr"] for i in (0, 4, 9)] == pytest.approx([0.01, 0.05, 0.1])
    assert long.history[20]["lr"] < 0.1


def test_batches_cover_the_data_once_and_split_among_processes() -> None:
    alone = epoch_batches(50, 8, seed=1, epoch=0)
    assert [len(b) for b in alone] == [8] * 6
    assert len({i for batch in alone for i in batch}) == 48
    assert alone == epoch_batches(50, 8, 1, 0)
    assert alone != epoch_batches(50, 8, 1, 1)
    assert alone != epoch_batches(50, 8, 2, 0)
    parts = [epoch_batches(50, 4, 1, 0, rank, 2) for rank in (0, 1)]
    assert [a + b for a, b in zip(*parts, strict=True)] == alone
    assert sorted(epoch_batches(5, 8, 0, 0)[0]) == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="got 1 images for 2 processes"):
        epoch_batches(1, 8, 0, 0, 0, 2)


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


@pytest.mark.parametrize(("save_every", "kept"), [(0.0, 14), (3600.0, 12)])
def test_kill_and_resume_equals_an_uninterrupted_run(tmp_path: Path, save_every: float, kept: int) -> None:
    folder = tmp_path / "killed"
    command = [sys.executable, __file__, str(folder), "14", str(save_every)]
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


def test_rows_after_the_saved_state_and_half_written_states_are_dropped(tmp_path: Path) -> None:
    first = toy_run(tmp_path)
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"epoch": 5, "step": 30}\n{"epo')
    (tmp_path / "state" / "step-99").mkdir()
    toy_run(tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert rows == list(first.history)


def test_workers_and_saving_do_not_change_the_result(tmp_path: Path) -> None:
    assert same_weights(toy_run(None, epochs=2).model, toy_run(tmp_path, epochs=2, num_workers=1, save_every=0).model)


def test_bf16_trains_and_leaves_the_models_forward_as_it_was() -> None:
    result = toy_run(None, mixed_precision="bf16", epochs=1)
    assert "forward" not in vars(result.model)
    assert result.model(torch.zeros(1, 3, 12, 12)).dtype == torch.float32
    assert toy_run(None, mixed_precision="no", epochs=1).history[0]["loss"] != result.history[0]["loss"]


def test_only_given_parameters_move_and_batch_statistics_stay() -> None:
    model, before = toy_model(), toy_model()
    model[0].bias.requires_grad_(False)
    train(model, toy_data(), epochs=2, batch_size=12, parameters=model[-1].parameters(), progress=False, **PIXELS)
    moved = {k for k, v in model.state_dict().items() if not torch.equal(v, before.state_dict()[k])}
    assert moved == {"6.weight", "6.bias"}
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == ["0.bias"]
    with pytest.raises(ValueError, match="are not its own"):
        train(model, toy_data(), epochs=1, parameters=before.parameters(), progress=False, **PIXELS)


def test_norms_and_biases_have_no_weight_decay() -> None:
    model, start = toy_model(), toy_model()
    options: dict[str, Any] = {"epochs": 1, "batch_size": 72, "momentum": 0.0, "warmup": 0, "progress": False, **PIXELS}
    plain = train(model, toy_data(), learning_rate=0.1, weight_decay=0.0, **options).model.state_dict()
    decayed = train(start, toy_data(), learning_rate=0.1, weight_decay=0.5, **options).model.state_dict()
    differ = {k for k in plain if not torch.equal(plain[k], decayed[k])}
    assert differ == {"0.weight", "6.weight"}
    expected = plain["0.weight"] - 0.1 * 0.5 * toy_model()[0].weight
    assert torch.allclose(decayed["0.weight"], expected, atol=1e-6)


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


def test_another_run_in_the_folder_is_an_error_that_names_the_settings(tmp_path: Path) -> None:
    toy_run(tmp_path, epochs=1)
    with pytest.raises(ValueError, match=r"batch_size was 12, is now 24; epochs was 1, is now 2\)"):
        toy_run(tmp_path, epochs=2, batch_size=24)
    with pytest.raises(ValueError, match="data was"):
        train(toy_model(), toy_data(seed=1), epochs=1, batch_size=12, folder=tmp_path, progress=False, **PIXELS)
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        toy_run(tmp_path, epochs=1)


def test_folders_that_cannot_serve_are_errors(tmp_path: Path) -> None:
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="expected a new or empty folder"):
        toy_run(tmp_path / "foreign")
    with pytest.raises(ValueError, match="expected a folder that can be written"):
        toy_run(tmp_path / "foreign" / "notes.txt")
    (tmp_path / "busy").mkdir()
    with FileLock(tmp_path / "busy" / ".lock"), pytest.raises(ValueError, match="another one is at work"):
        toy_run(tmp_path / "busy")


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
        ({"optimizer": "nonesuch"}, "nonesuch"),
        ({"mean": None, "std": None}, "mean"),
    ],
)
def test_bad_options_are_errors(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        toy_run(None, **options)


def test_models_that_do_not_fit_the_data_are_errors() -> None:
    options: dict[str, Any] = {"epochs": 1, "progress": False, **PIXELS}
    with pytest.raises(ValueError, match="expected at least 3 outputs, one per class of the data, got 2"):
        train(toy_model(2), toy_data(), **options)
    with pytest.raises(ValueError, match="give the model a classifier"):
        train(nn.Sequential(nn.Conv2d(3, 3, 3)), toy_data(), **options)
    with pytest.raises(ValueError, match=r"expected a model for images \(3, 12, 12\)"):
        train(nn.Sequential(nn.Conv2d(1, 3, 3)), toy_data(), **options)


if __name__ == "__main__":
    toy_run(Path(sys.argv[1]), kill_at=int(sys.argv[2]), save_every=float(sys.argv[3]))
