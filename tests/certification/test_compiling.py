"""Whether a run's network is compiled; on the CPU with a backend that compiles nothing, so that votes must be equal."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from robust_hub.certification import compiling, task
from robust_hub.certification.compiling import (
    EARLY,
    WORTH,
    check_choice,
    choose,
    compile_network,
    expected_samples,
    is_worth_compiling,
)
from robust_hub.certification.evaluate import certify
from robust_hub.certification.sampler import Sampler
from robust_hub.guarantee.plans import fixed_plan, radius_plan, sequential_plan
from robust_hub.images.data import ImageData, load_data

OPTIONS: dict[str, Any] = {"every": 60, "n": 100, "seed": 7, "mean": (0.5,) * 3, "std": (0.5,) * 3, "progress": False}


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, 10))


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load_data("digits", split="test")


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The arguments of each call of torch.compile, which builds nothing here."""
    calls: list[dict[str, Any]] = []
    real = torch.compile

    def compile_eagerly(network: nn.Module, **options: Any) -> Any:
        calls.append(options)
        return real(network, backend="eager", **options)

    monkeypatch.setattr(torch, "compile", compile_eagerly)
    return calls


@pytest.fixture
def worthwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task, "is_worth_compiling", lambda *arguments: True)


def without_times(run: Any) -> list[dict[str, Any]]:
    return [{k: v for k, v in dataclasses.asdict(record).items() if k != "time"} for record in run.records]


def interrupt(folder: Path) -> None:
    """Take a run's last two records away, and that it is finished."""
    lines = (folder / "records.tsv").read_text().splitlines(keepends=True)
    (folder / "records.tsv").write_text("".join(lines[:-2]))
    run = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**run, "finished": None}))


def never() -> bool:
    raise AssertionError("nobody should ask whether it is worth it")


@pytest.mark.parametrize(
    ("choice", "recorded", "is_worth", "compiled"),
    [
        ("always", None, never, True),
        ("always", False, never, True),
        ("never", None, never, False),
        ("never", True, never, False),
        ("auto", True, never, True),
        ("auto", False, never, False),
        ("auto", None, lambda: True, True),
        ("auto", None, lambda: False, False),
    ],
)
def test_the_caller_then_the_run_then_the_work_decides(
    model: nn.Module, choice: Any, recorded: bool | None, is_worth: Callable[[], bool], compiled: bool
) -> None:
    assert choose(choice, model, recorded, is_worth) is compiled
    assert choose(choice, torch.compile(model, backend="eager"), recorded, never)  # it is, whatever the choice


def test_what_is_no_choice_is_refused(model: nn.Module, digits: ImageData, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected compile to be one of auto, never, always, got 'yes'"):
        certify(model, digits, 0.25, out=tmp_path / "new", compile="yes", **OPTIONS)  # type: ignore[arg-type]
    made = torch.compile(model, backend="eager")
    with pytest.raises(ValueError, match='not compiled with compile="never", got one'):
        certify(made, digits, 0.25, out=tmp_path / "new", compile="never", **OPTIONS)
    assert not (tmp_path / "new").exists()
    check_choice("always", made)


def test_an_image_takes_all_of_a_fixed_plan_and_little_of_another() -> None:
    assert expected_samples(fixed_plan()) == 100_100
    assert expected_samples(sequential_plan()) == expected_samples(radius_plan(0.05)) == EARLY
    assert expected_samples(sequential_plan(n=500)) == 500


def test_compiling_must_save_more_than_it_takes(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = Sampler(model, (0.5,) * 3, (0.5,) * 3)
    monkeypatch.setattr(compiling, "middle_time", lambda device, job: pytest.fail("measured on a CPU"))
    assert not is_worth_compiling(sampler, (3, 32, 32), 10**12, None)
    monkeypatch.setattr(compiling, "_DEVICES", ("cpu",))
    monkeypatch.setattr(compiling, "middle_time", lambda device, job: pytest.fail("measured for so few"))
    assert not is_worth_compiling(sampler, (3, 32, 32), 100 * 16 - 1, 16)
    monkeypatch.setattr(compiling, "middle_time", lambda device, job: (job(), WORTH / 1000)[1])
    assert is_worth_compiling(sampler, (3, 32, 32), 1000 * 16, 16)
    assert not is_worth_compiling(sampler, (3, 32, 32), 1000 * 16 - 1, 16)
    size = sampler.suited_batch_size((3, 32, 32))
    assert is_worth_compiling(sampler, (3, 32, 32), 1000 * size, None)
    assert not is_worth_compiling(sampler, (3, 32, 32), 999 * size, None)


def test_what_is_measured_is_a_batch_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if len(x) not in (1, 2):  # on which it is tried how the network works
                assert x.shape == (16, 3, 8, 8)
                time.sleep(0.01)
            return x.flatten(1)[:, :2]

    monkeypatch.setattr(compiling, "_DEVICES", ("cpu",))
    sampler = Sampler(Slow(), (0.5,) * 3, (0.5,) * 3)
    assert is_worth_compiling(sampler, (3, 8, 8), int(16 * WORTH / 0.01), 16)
    assert not is_worth_compiling(sampler, (3, 8, 8), 16 * 100, 16)


def test_on_a_cpu_nothing_changes(
    model: nn.Module, digits: ImageData, builds: list[dict[str, Any]], tmp_path: Path
) -> None:
    auto = certify(model, digits, 0.25, out=tmp_path / "auto", **OPTIONS)
    plain = certify(model, digits, 0.25, out=tmp_path / "never", compile="never", **OPTIONS)
    assert (without_times(auto), auto.identity) == (without_times(plain), plain.identity)
    assert auto.identity["compiled"] is False
    assert builds == []


def test_compiled_for_the_run_alone(
    model: nn.Module, digits: ImageData, builds: list[dict[str, Any]], tmp_path: Path
) -> None:
    before = dict(vars(model))
    plain = certify(model, digits, 0.25, out=tmp_path / "plain", **OPTIONS)
    run = certify(model, digits, 0.25, out=tmp_path / "compiled", compile="always", **OPTIONS)
    assert builds == [{"dynamic": False}]
    assert without_times(run) == without_times(plain)
    assert run.identity == {**plain.identity, "compiled": True}
    assert {**vars(model), "_is_torch_compile": True} == {**before, "_is_torch_compile": True}  # a mark of torch's own
    assert compile_network(made := torch.compile(model)) is made


@pytest.mark.usefixtures("worthwhile")
def test_work_that_is_worth_it_is_compiled(
    model: nn.Module, digits: ImageData, builds: list[dict[str, Any]], tmp_path: Path
) -> None:
    run = certify(model, digits, 0.25, out=tmp_path, **OPTIONS)
    assert run.identity["compiled"] is True
    assert json.loads((tmp_path / "run.json").read_text())["identity"]["compiled"] is True
    assert len(builds) == 1


def test_a_compiled_run_goes_on_compiled(
    model: nn.Module, digits: ImageData, builds: list[dict[str, Any]], tmp_path: Path
) -> None:
    whole = certify(model, digits, 0.25, out=tmp_path, compile="always", **OPTIONS)
    interrupt(tmp_path)
    with pytest.raises(ValueError, match="compiled"):
        certify(model, digits, 0.25, out=tmp_path, compile="never", **OPTIONS)
    resumed = certify(model, digits, 0.25, out=tmp_path, **OPTIONS)
    assert len(builds) == 2
    assert without_times(resumed) == without_times(whole)
    assert resumed.identity["compiled"] is True


@pytest.mark.usefixtures("worthwhile")
def test_a_run_that_is_not_compiled_goes_on_so(
    model: nn.Module, digits: ImageData, builds: list[dict[str, Any]], tmp_path: Path
) -> None:
    certify(model, digits, 0.25, out=tmp_path, compile="never", **OPTIONS)
    interrupt(tmp_path)
    with pytest.raises(ValueError, match="compiled"):
        certify(model, digits, 0.25, out=tmp_path, compile="always", **OPTIONS)
    builds.clear()
    assert certify(model, digits, 0.25, out=tmp_path, **OPTIONS).identity["compiled"] is False
    assert builds == []


def test_a_compiled_network_halves_too(model: nn.Module, builds: list[dict[str, Any]]) -> None:
    class Tight(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.sizes = model, set[int]()

        @torch.compiler.disable
        def note(self, size: int) -> None:
            self.sizes.add(size)
            if size > 16:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.note(len(x))
            logits: torch.Tensor = self.inner(x.contiguous())
            return logits

    x = torch.randint(0, 256, (50, 3, 32, 32), generator=torch.Generator().manual_seed(1)) / 255
    tight = Tight()
    plain = Sampler(model, (0.5,) * 3, (0.5,) * 3)
    with pytest.warns(UserWarning, match="batch of 50 images: it goes on with 13 at a time"):
        classes = Sampler(compile_network(tight), (0.5,) * 3, (0.5,) * 3).classify(x, 50)
    assert torch.equal(classes, plain.classify(x, 50))
    assert tight.sizes == {50, 25, 13, 2, 1}  # the last two uncompiled, to see how the network works
