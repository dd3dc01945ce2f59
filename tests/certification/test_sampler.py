"""The automatic batch size; votes are tested through the smoothed classifier."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from robust_hub.certification import sampler
from robust_hub.certification.sampler import CACHED, suggest_batch_size


@pytest.fixture(autouse=True)
def two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)


def network(channels: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, channels, 3, 1, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.mark.parametrize("channels", [16, 24, 100])
def test_the_largest_activation_fills_the_cache(channels: int) -> None:
    size = suggest_batch_size(network(channels), torch.zeros(1, 3, 32, 32))
    held = size * channels * 32 * 32 * 4
    room = CACHED * torch.get_num_threads()
    assert held <= room < 2 * held
    assert math.log2(size).is_integer()


def test_half_the_bytes_are_twice_the_batch() -> None:
    x = torch.zeros(1, 3, 32, 32)
    model = network(64)
    assert suggest_batch_size(model.bfloat16(), x.bfloat16()) == 2 * suggest_batch_size(model.float(), x)


def test_never_below_eight_nor_above_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    assert suggest_batch_size(network(4), torch.zeros(1, 3, 2, 2)) == 1024
    monkeypatch.setattr(sampler, "CACHED", 1)
    assert suggest_batch_size(network(4), torch.zeros(1, 3, 32, 32)) == 8


def test_no_hook_is_left_even_if_the_network_fails() -> None:
    model = network(4)
    suggest_batch_size(model, torch.zeros(1, 3, 8, 8))
    with pytest.raises(RuntimeError):
        suggest_batch_size(model, torch.zeros(1, 5, 8, 8))
    assert not any(module._forward_hooks for module in model.modules())


def test_a_layer_without_tensors_of_its_own_counts_nothing() -> None:
    class Pair(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x, x

    class First(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pair = Pair()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            first: torch.Tensor = self.pair(x)[0]
            return first.flatten(1)

    assert suggest_batch_size(First(), torch.zeros(1, 3, 8, 8)) == 1024
