"""What is watched of a training: figures that are read late are those that are read at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from toys import PIXELS, same_weights, toy_data, toy_model, toy_run, train, without_times

from robust_hub.training import monitor
from robust_hub.training.loop import _Loop, make_accelerator
from robust_hub.training.monitor import Monitor, _Meter
from robust_hub.training.state import Progress


def steps(count: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Loss, logits and labels of batches of several sizes."""
    generator = torch.Generator().manual_seed(0)
    sizes = [3 + k % 4 for k in range(count)]
    return [
        (torch.rand((), generator=generator), torch.randn(b, 5, generator=generator), torch.arange(b) % 5)
        for b in sizes
    ]


def test_figures_read_together_are_those_read_step_by_step() -> None:
    late, prompt = (_Meter(make_accelerator(), Progress(loss=7.25, correct=3.0, seen=9.0)) for _ in range(2))
    for index, step in enumerate(steps(20)):
        late.add(index, *step)
        prompt.add(index, *step)
        prompt.read()
    assert late.seen == 9.0
    total = prompt.total()
    assert late.total() == total
    correct = sum(int((logits.argmax(1) == labels).sum()) for _, logits, labels in steps(20))
    assert total[1:] == [3.0 + correct, 9.0 + sum(len(labels) for *_, labels in steps(20))]
    assert total[0] == pytest.approx(7.25 + sum(float(loss) * len(labels) for loss, _, labels in steps(20)))
    late.clear()
    assert late.total() == [0.0, 0.0, 0.0]


def test_the_first_step_that_is_not_finite_is_named_however_late_it_is_read() -> None:
    meter = _Meter(make_accelerator(), Progress())
    for index, (loss, logits, labels) in enumerate(steps(9)):
        meter.add(index, loss * (float("inf") if index in (4, 7) else 1), logits, labels)
    assert meter.bad() is None
    meter.read()
    assert meter.bad() == 4


def test_a_training_whose_figures_are_read_late_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on an accelerator: every fourth step, and wherever a state is saved."""
    prompt = toy_run(tmp_path / "prompt", save_every=0)
    begin = Monitor.begin
    monkeypatch.setattr(monitor, "_SHOW_EVERY", 4)

    def late(self: Monitor) -> None:
        self.every = 4
        begin(self)

    monkeypatch.setattr(Monitor, "begin", late)
    for save_every in (0.0, 3600.0):
        other = toy_run(tmp_path / f"late {save_every}", save_every=save_every, progress=True)
        assert same_weights(prompt.model, other.model)
        assert without_times(prompt.history) == without_times(other.history)


def test_a_loss_read_late_stops_the_training_at_its_step(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def corrupt(images: Tensor, generator: torch.Generator) -> Tensor:
        nonlocal calls
        calls += 1
        return images * float("nan") if calls > 5 else images

    monkeypatch.setattr(Monitor, "begin", lambda self: setattr(self, "every", 4))
    options = {"epochs": 4, "batch_size": 6, "progress": False, "learning_rate": 0.1, **PIXELS}
    with pytest.raises(FloatingPointError, match="not at step 5 "):
        train(toy_model(), toy_data(), corrupt=corrupt, **options)
    assert calls == 8


class Looks(TorchDispatchMode):
    """Counts how often a number is taken out of a tensor, for which a host waits for its device."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count and do as asked."""
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_no_step_looks_at_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    step, looks = _Loop.step, Looks()

    def watched(self: _Loop, images: Tensor, labels: Tensor) -> None:
        with looks:
            step(self, images, labels)

    monkeypatch.setattr(_Loop, "step", watched)
    monkeypatch.setattr(Monitor, "begin", lambda self: setattr(self, "every", 50))
    toy_run(None, mixed_precision="bf16", label_smoothing=0.1)
    assert looks.count == 0
    with looks:
        torch.ones(()).item()
    assert looks.count == 1
