"""Memory that runs out is one sentence with the batch size to take, in every job; the default looks at what is left."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from click.testing import CliRunner
from torch import Tensor, nn
from toys import PIXELS, toy_data, toy_model, train

from robust_hub.certification import batches, sampler
from robust_hub.certification.evaluate import certify
from robust_hub.cli.main import main
from robust_hub.images.data import load_data
from robust_hub.memory import batch_in_memory, ran_out, uncollected
from robust_hub.models.checkpoint import save_checkpoint

ERRORS: list[Callable[[], Exception]] = [
    lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB.\nMore lines."),
    lambda: RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried"),
    lambda: RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
    MemoryError,
]


class Holds(nn.Module):
    """A layer that memory holds for some images alone; all else as before."""

    def __init__(self, most: int, error: Callable[[], Exception]) -> None:
        super().__init__()
        self.most, self.error = most, error

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.most:
            raise self.error()
        return x


def test_torchs_own_error_is_told_from_others() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15)
    assert ran_out(caught.value)
    assert not ran_out(RuntimeError("a mistake of ours")) and not ran_out(ValueError("x"))


@pytest.mark.parametrize("error", ERRORS)
def test_a_batch_that_memory_does_not_hold_names_the_one_to_take(error: Callable[[], Exception]) -> None:
    network = nn.Sequential(Holds(8, error), toy_model())
    with pytest.raises(MemoryError, match=r"batch of 36 images, got too little \(.*: take batch_size=18 .*size 18\)$"):
        train(network, toy_data(), epochs=1, batch_size=36, learning_rate=0.1, progress=False, **PIXELS)
    rates = {"learning_rate": (0.1, 0.2), "holdout": 0.5}
    with pytest.raises(MemoryError, match="take batch_size=18 "):
        train(network, toy_data(), epochs=1, batch_size=36, progress=False, **rates, **PIXELS)
    alone = "batch of 1 images.*: end what else takes it, or use smaller images"
    with pytest.raises(MemoryError, match=alone), batch_in_memory(1):
        raise error()


def test_another_error_and_a_sentence_are_left_alone() -> None:
    with pytest.raises(RuntimeError, match="^of ours$"), batch_in_memory(4):
        raise RuntimeError("of ours")
    with pytest.raises(MemoryError, match="^expected memory for one image"), batch_in_memory(4):
        raise MemoryError("expected memory for one image")


def test_a_certification_names_the_batch_that_suits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    how: dict[str, Any] = {"every": 100, "n": 50, "seed": 1, "progress": False, **PIXELS}
    digits = load_data("digits", "test")
    for size in (10**13, 10**9):  # which no system promises; which this one might, and kill who takes it
        with pytest.raises(
            MemoryError, match=r"batch of [10,]+ images.*: take batch_size=[0-9]{2,4} \(on the command line"
        ):
            certify(network, digits, 0.25, out=tmp_path / str(size), batch_size=size, **how)
    monkeypatch.setattr(batches, "free", lambda: 2 * 8 * 12_288 * 5)
    monkeypatch.setattr(sampler, "free", lambda: 2 * 8 * 12_288 * 5)
    with pytest.raises(MemoryError, match="batch of 64 images.*: take batch_size=4 "):
        certify(network, digits, 0.25, out=tmp_path / "64", batch_size=64, **how)
    run = certify(network, digits, 0.25, out=tmp_path / "none", **how)
    assert run.identity["batch_size"] == 4


@pytest.mark.parametrize(("images", "taken"), [(0, 1), (1, 1), (3, 2), (7, 4), (8, 8), (10**6, 8)])
def test_the_default_on_a_cpu_fits_into_memory(monkeypatch: pytest.MonkeyPatch, images: int, taken: int) -> None:
    x = torch.zeros(1, 3, 224, 224)
    monkeypatch.setattr(batches, "CACHED", 1)  # large images: fewer suit the cache than are worth a call
    monkeypatch.setattr(batches, "free", lambda: images * 2 * 8 * x.nbytes)
    assert batches.suggest_batch_size(nn.Flatten(), x) == taken


def test_every_command_says_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"channels": (32, 32, 32, 32), "layers": (1, 1, 1, 1)}
    save_checkpoint(timm.create_model("resnet18s_ln", num_classes=10, **small), tmp_path / "network")

    def fail(*_: Any, **__: Any) -> Any:
        raise ERRORS[1]()

    monkeypatch.setattr("robust_hub.training.loop.network_input", fail)
    for command in ("finetune", "pretrain"):
        words = ("--model", tmp_path / "network", "--data", "digits", "--out", tmp_path / command, "--quiet")
        result = CliRunner().invoke(main, [command, *map(str, words), "--batch-size", "64"])
        assert result.exit_code == 2 and "Traceback" not in result.output
        assert "robust-hub: expected memory for a batch of 64 images" in result.output.splitlines()[-1]
        assert "--batch-size 32)" in result.output


def test_no_garbage_is_looked_for_meanwhile() -> None:
    assert gc.isenabled()
    with uncollected():
        assert not gc.isenabled()
        with uncollected():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(KeyError), uncollected():
        raise KeyError
    assert gc.isenabled()
