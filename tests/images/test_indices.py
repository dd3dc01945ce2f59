"""Indices: whole numbers and masks choose images; nothing else does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from robust_hub.images.data import ImageData

DATA = ImageData(
    torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1).expand(5, 3, 2, 2),
    torch.tensor([0, 1, 2, 1, 0]),
    ("a", "b", "c"),
    name="five",
    split="train",
)
MASK = [False, True, False, True, True]


def chosen(data: ImageData) -> list[int]:
    return [int(data.batch([i])[0][0, 0, 0, 0]) for i in range(len(data))]


@pytest.mark.parametrize(
    "mask", [MASK, torch.tensor(MASK), np.array(MASK), tuple(MASK), [np.bool_(one) for one in MASK]]
)
def test_a_mask_marks_images(mask: Any) -> None:
    assert chosen(DATA.subset(mask)) == [1, 3, 4]
    assert DATA.batch(mask)[1].tolist() == [1, 1, 0]


@pytest.mark.parametrize(
    "indices", [[4, 0, -1], torch.tensor([4, 0, -1]), np.array([4.0, 0.0, -1.0]), torch.tensor([4, 0, -1]).int()]
)
def test_whole_numbers_are_indices(indices: Any) -> None:
    assert chosen(DATA.subset(indices)) == [4, 0, 4]


def test_ranges_one_number_and_none() -> None:
    assert chosen(DATA.subset(range(1, 3))) == [1, 2] and chosen(DATA.subset(3)) == [3]  # type: ignore[arg-type]
    assert len(DATA.subset([])) == 0


@pytest.mark.parametrize(
    "indices", [[0.9], [True, False], torch.tensor([0.5, 1]), ["1"], [None], [float("nan")], [[0], [1, 2]]]
)
def test_what_is_no_index_is_refused(indices: Any) -> None:
    for method in (DATA.subset, DATA.batch):
        with pytest.raises(TypeError, match="expected whole numbers for indices, or a mask of 5 truth values, got "):
            method(indices)
    with pytest.raises(TypeError, match=r"indices, .*, got float64 \(1,\)"):
        DATA[1.5]  # type: ignore[index]


def test_indices_outside_the_data_are_refused() -> None:
    for indices in ([5], [-6], [0, 5]):
        with pytest.raises(IndexError, match="expected indices below 5, got "):
            DATA.subset(indices)
