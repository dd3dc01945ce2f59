"""BatchedMuon is timm's Muon bit for bit where both orthogonalise in one type, and has its state."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
import torch
from timm.optim import create_optimizer_v2, muon
from torch import nn

from robust_hub.training.bf16 import has_fast_bf16
from robust_hub.training.muon import BatchedMuon, batch_muon


class Float32(BatchedMuon):
    """As on a CPU without fast bfloat16, whatever this one has."""

    newton_schulz_dtype = staticmethod(lambda device: torch.float32)


class Bfloat16(BatchedMuon):
    """As on a device with fast bfloat16 that is no CPU."""

    newton_schulz_dtype = staticmethod(lambda device: torch.bfloat16)


def network() -> nn.Module:
    """Convolutions, wide and tall matrices, several of one shape, and parameters that AdamW takes."""
    torch.manual_seed(0)
    convolutions = [nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3, bias=False), nn.GroupNorm(2, 8)]
    linear = [nn.Flatten(), nn.Linear(288, 8), nn.Linear(8, 24), nn.Linear(24, 8), nn.Linear(8, 24)]
    return nn.Sequential(*convolutions, *linear).to(memory_format=torch.channels_last)


def steps(model: nn.Module, optimizer: torch.optim.Optimizer, count: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for step in range(count):
        for group in optimizer.param_groups:
            group["lr"] = 0.02 / (1 + step) * group.get("lr_scale", 1.0)
        model(torch.rand(5, 3, 12, 12, generator=generator)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def timms(model: nn.Module, name: str = "nmuon", **options: Any) -> torch.optim.Optimizer:
    optimizer: torch.optim.Optimizer = create_optimizer_v2(
        model, opt=name, **{"lr": 0.02, "weight_decay": 0.05, "momentum": 0.95, **options}
    )
    return optimizer


def ours(kind: type[BatchedMuon], optimizer: torch.optim.Optimizer) -> BatchedMuon:
    return kind(optimizer.param_groups, **optimizer.defaults)


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


CASES: list[dict[str, Any]] = [
    {},
    {"name": "muon"},
    {"weight_decay": 0.0},
    {"adjust_lr_fn": None, "scale_eps": True},
    {"conv_mode": "batched"},
    {"fallback_list": ("5.weight",)},
]


@pytest.mark.parametrize("kind", [Float32, Bfloat16])
@pytest.mark.parametrize("options", CASES)
def test_steps_are_timms_bit_for_bit(
    monkeypatch: pytest.MonkeyPatch, kind: type[BatchedMuon], options: dict[str, Any]
) -> None:
    dtype = kind.newton_schulz_dtype(torch.device("cpu"))
    whole = partial(muon.zeropower_via_newtonschulz, dtype=dtype)
    monkeypatch.setattr(muon, "zeropower_via_newtonschulz", whole)
    one, other = network(), network()
    first, second = timms(one, **options), ours(kind, timms(other, **options))
    steps(one, first, 4, 1)
    steps(other, second, 4, 1)
    assert equal(one.state_dict(), other.state_dict())
    assert equal(first.state_dict(), second.state_dict())
    assert not equal(one.state_dict(), network().state_dict())


def test_matrices_of_one_shape_are_orthogonalised_together(monkeypatch: pytest.MonkeyPatch) -> None:
    from robust_hub.training import muon as module

    shapes = []

    def watched(matrices: torch.Tensor, *arguments: Any, **keywords: Any) -> torch.Tensor:
        shapes.append(tuple(matrices.shape))
        return muon.zeropower_via_newtonschulz(matrices, *arguments, **keywords)

    monkeypatch.setattr(module, "zeropower_via_newtonschulz", watched)
    model = network()
    steps(model, ours(Float32, timms(model)), 1, 0)
    assert sorted(shapes) == [(1, 8, 24), (1, 8, 27), (1, 8, 288), (2, 8, 72), (2, 24, 8)]


@pytest.mark.parametrize("before", [BatchedMuon, Float32])
def test_a_saved_state_goes_on_in_the_other(monkeypatch: pytest.MonkeyPatch, before: type[BatchedMuon]) -> None:
    monkeypatch.setattr(
        muon, "zeropower_via_newtonschulz", partial(muon.zeropower_via_newtonschulz, dtype=torch.float32)
    )
    straight = network()
    optimizer = timms(straight)
    steps(straight, optimizer, 2, 1)
    model = copy.deepcopy(straight)
    resumed = ours(Float32, timms(model))
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    steps(straight, optimizer, 2, 2)
    steps(model, resumed, 2, 2)
    assert equal(straight.state_dict(), model.state_dict())
    back = timms(copy.deepcopy(model))
    back.load_state_dict(resumed.state_dict())
    assert equal(back.state_dict(), optimizer.state_dict())


def test_a_cpu_with_fast_bfloat16_takes_timms_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robust_hub.training.muon.has_fast_bf16", lambda device: True)
    one, other = network(), network()
    steps(one, timms(one), 3, 1)
    optimizer = batch_muon(timms(other))
    monkeypatch.setattr("robust_hub.training.muon.zeropower_via_newtonschulz", None)
    steps(other, optimizer, 3, 1)
    assert type(optimizer) is BatchedMuon
    assert equal(one.state_dict(), other.state_dict())


def test_types_of_newton_schulz(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    monkeypatch.setattr("robust_hub.training.muon.has_fast_bf16", lambda device: True)
    assert BatchedMuon.newton_schulz_dtype(cpu) is None
    assert BatchedMuon.newton_schulz_dtype(cuda) == torch.bfloat16
    monkeypatch.setattr("robust_hub.training.muon.has_fast_bf16", lambda device: False)
    assert BatchedMuon.newton_schulz_dtype(cpu) == BatchedMuon.newton_schulz_dtype(cuda) == torch.float32


def test_a_closure_gives_its_loss_and_gradients_stay() -> None:
    model = network()
    optimizer = ours(Float32, timms(model))

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = model(torch.ones(2, 3, 12, 12)).square().mean()
        loss.backward()
        return loss

    assert optimizer.step(closure) > 0
    assert all(p.grad is not None for p in model.parameters())


def test_other_optimizers_stay_what_they_are() -> None:
    for name in ("sgd", "adamw", "lookahead_nmuon"):
        optimizer = timms(network(), name)
        assert batch_muon(optimizer) is optimizer


@pytest.mark.gpu
def test_on_a_device_with_fast_bfloat16_steps_are_near_timms() -> None:
    device = torch.device("cuda")
    one, other = network().to(device), network().to(device)
    first, second = timms(one), batch_muon(timms(other))
    for model, optimizer in ((one, first), (other, second)):
        torch.manual_seed(1)
        for _ in range(3):
            model(torch.rand(5, 3, 12, 12, device=device)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
    assert has_fast_bf16(device) == (second.newton_schulz_dtype(device) == torch.bfloat16)
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.allclose(a, b, atol=2e-3)
