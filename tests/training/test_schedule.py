"""The schedule: learning rates and the order of the images."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from robust_hub.training.schedule import epoch_batches, learning_rate_at, seed_modules


def test_learning_rate_warms_up_and_falls_to_zero() -> None:
    rates = [learning_rate_at(step, 100, 10, 0.4) for step in range(100)]
    assert rates[0] == pytest.approx(0.04)
    assert rates[9] == pytest.approx(0.4)
    assert rates[10] == pytest.approx(0.4)
    assert rates[55] == pytest.approx(0.2)
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))
    assert learning_rate_at(100, 100, 10, 0.4) == pytest.approx(0)
    assert learning_rate_at(0, 5, 0, 0.4) == 0.4


def batches(*arguments: Any, **named: Any) -> list[list[int]]:
    rows: list[list[int]] = epoch_batches(*arguments, **named).tolist()
    return rows


def test_batches_cover_the_data_once_and_split_among_processes() -> None:
    alone = batches(50, 8, seed=1, epoch=0)
    assert [len(b) for b in alone] == [8] * 6
    assert len({i for batch in alone for i in batch}) == 48
    assert alone == batches(50, 8, 1, 0)
    assert alone != batches(50, 8, 1, 1)
    assert alone != batches(50, 8, 2, 0)
    parts = [batches(50, 4, 1, 0, rank, 2) for rank in (0, 1)]
    assert [a + b for a, b in zip(*parts, strict=True)] == alone
    assert sorted(batches(5, 8, 0, 0)[0]) == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="got 1 images for 2 processes"):
        batches(1, 8, 0, 0, 0, 2)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_modules_draw_what_they_draw_after_torchs_own_seed(device: str) -> None:
    for seed in (0, 7, 2**62 + 1):
        torch.manual_seed(seed)
        expected = torch.rand(9, device=device), torch.rand(9)
        torch.rand(5, device=device)
        seed_modules(seed, torch.device(device))
        assert torch.equal(torch.rand(9, device=device), expected[0]) and torch.equal(torch.rand(9), expected[1])
