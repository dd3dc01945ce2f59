"""Blocks compiled for the time of a training: which, undone, the same draws; seconds of building, hence mostly full."""

from __future__ import annotations

import copy
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import toys
from torch import Tensor, nn
from toys import PIXELS, same_weights, toy_data, toy_run, train, without_times

import robust_hub.models.resnets
from robust_hub.provenance import OPTIONS, Provenance
from robust_hub.training.compilation import compiled, repeated_blocks
from robust_hub.training.loop import _Loop
from robust_hub.training.options import Options
from robust_hub.training.pretrain import pretrain_mixed_noise
from robust_hub.training.sameness import Training, difference

full = pytest.mark.full
needs_compiler = pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="needs a C++ compiler")


class Pair(nn.Module):
    """A residual block."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Add what the convolution makes."""
        return x + self.relu(self.conv(x))


def residual() -> nn.Sequential:
    torch.manual_seed(0)
    stem, head = nn.Conv2d(3, 4, 3, stride=2), nn.Linear(4 * 25, 3)
    return nn.Sequential(stem, nn.Sequential(Pair(), Pair()), nn.Flatten(), head)


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("resnet18s_ln", {"BasicBlock": 8}),
        ("resnet50_bn", {"Bottleneck": 16}),
        ("vit_tiny_patch16_224", {"Block": 12}),
        ("convnext_atto", {"ConvNeXtBlock": 12}),  # not the stages that hold them
        ("vgg11", {"VGG": 1}),  # repeats none
    ],
)
def test_blocks_are_what_a_network_repeats(name: str, kinds: dict[str, int]) -> None:
    with torch.device("meta"):
        model = timm.create_model(name)
    assert Counter(type(block).__name__ for block in repeated_blocks(model)) == kinds


def test_blocks_are_compiled_in_place_and_plain_again_after_an_error() -> None:
    model = residual()
    keys = list(model.state_dict())
    model[1][0].compile(backend="eager")  # the caller's own stays
    own = vars(model[1][0])["_compiled_call_impl"]
    with compiled(model, False):
        assert "_compiled_call_impl" not in vars(model[1][1])
    with pytest.raises(RuntimeError, match="inside"), compiled(model, True):
        assert ["_compiled_call_impl" in vars(part) for part in (model, *model[1])] == [False, True, True]
        assert vars(model[1][0])["_compiled_call_impl"] is not own
        assert list(model.state_dict()) == keys
        raise RuntimeError("inside")
    assert vars(model[1][0])["_compiled_call_impl"] is own
    assert "_compiled_call_impl" not in vars(model[1][1])


def test_both_options_are_recorded_logged_and_compared(tmp_path: Path) -> None:
    options = {"epochs": 1, "mixed_precision": "bf16", "compile": True, "fast_norm": True}
    with torch.compiler.set_stance("force_eager"):
        result = pretrain_mixed_noise(residual(), toy_data(), progress=False, batch_size=12, **PIXELS, **options)
        toy_run(tmp_path, **options)
    recorded = {"compile": True, "fast_norm": True}
    assert result.provenance.options.items() >= recorded.items()
    assert Provenance.from_json(result.provenance.to_json()) == result.provenance
    (row,) = (json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines())
    assert row.items() >= recorded.items()
    assert json.loads((tmp_path / "settings.json").read_text()).items() >= recorded.items()
    with pytest.raises(ValueError, match="compile is true there and absent here; fast_norm is true there"):
        toy_run(tmp_path, epochs=1, mixed_precision="bf16")
    trainings = [Training.asked("pretrain", (0.0,), epochs=1, learning_rate=0.1, compile=on) for on in (True, False)]
    assert difference(*trainings) == "compile True, not False"


def test_every_recorded_option_is_one_of_training() -> None:
    assert set(OPTIONS) <= set(Options.__dataclass_fields__)


def test_a_network_run_eagerly_is_trained_as_without_compile(tmp_path: Path) -> None:
    with torch.compiler.set_stance("force_eager"):
        result = toy_run(tmp_path, compile=True, epochs=2, learning_rate=[0.05, 0.1])
    assert same_weights(result.model, toy_run(None, epochs=2, learning_rate=[0.05, 0.1]).model)
    assert not [module for module in result.model.modules() if "_compiled_call_impl" in vars(module)]


@full
@needs_compiler
def test_a_compiled_training_is_the_plain_one_within_rounding_and_leaves_a_plain_network(tmp_path: Path) -> None:
    data: dict[str, Any] = {"epochs": 2, "batch_size": 12, "learning_rate": 0.05, "progress": False, **PIXELS}
    plain = train(residual(), toy_data(), **data)
    model = residual()
    done = train(model, toy_data(), folder=tmp_path, compile=True, **data)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    for weights, expected in zip(model.state_dict().values(), plain.model.state_dict().values(), strict=True):
        assert torch.allclose(weights, expected, atol=1e-4)
    assert done.history[-1]["loss"] == pytest.approx(plain.history[-1]["loss"], abs=1e-4)
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert same_weights(copied, model)
        assert not [module for module in copied.modules() if "_compiled_call_impl" in vars(module)]


@full
@needs_compiler
def test_kill_and_resume_of_a_compiled_training_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    command = [sys.executable, toys.__file__, "killed", str(folder), "14", "0.0", json.dumps({"compile": True})]
    killed = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [p.name for p in (folder / "state").glob("step-*")] == ["step-14"]
    resumed, whole, plain = toy_run(folder, compile=True), toy_run(None, compile=True), toy_run(None)
    assert same_weights(resumed.model, whole.model)
    assert without_times(resumed.history) == without_times(whole.history)
    assert whole.history[-1]["loss"] == pytest.approx(plain.history[-1]["loss"], abs=1e-3)  # dropout draws the same


@pytest.mark.gpu
def test_compiled_training_on_cuda_has_the_loss_of_the_plain_one() -> None:
    digits = robust_hub.load_data("digits").subset(range(512))
    losses = []
    for compile in (False, True):
        torch.manual_seed(0)
        model = timm.create_model("resnet18s_ln", num_classes=10)
        options: dict[str, Any] = {"epochs": 2, "batch_size": 64, "learning_rate": 0.02, "progress": False}
        result = pretrain_mixed_noise(model, digits, mixed_precision="bf16", compile=compile, **options)
        losses.append([row["loss"] for row in result.history])
    assert losses[1] == pytest.approx(losses[0], abs=0.05)


@pytest.mark.gpu
@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_no_step_on_cuda_waits_for_the_device(monkeypatch: pytest.MonkeyPatch, compile: bool, optimizer: str) -> None:
    """Any copy to the host, and any from memory that is not pinned, is an error after the first steps."""
    step, calls = _Loop.step, []

    def strict(self: _Loop, images: Tensor, labels: Tensor) -> None:
        calls.append(images.device.type)
        torch.cuda.set_sync_debug_mode("error" if len(calls) > 6 and len(calls) % 50 else "default")
        try:
            step(self, images, labels)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(_Loop, "step", strict)
    toy_run(None, epochs=10, mixed_precision="bf16", compile=compile, optimizer=optimizer)
    assert calls == ["cuda"] * 60
