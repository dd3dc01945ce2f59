"""The contract on pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from robust_hub.images.pixels import check_pixels, mean_std, normalize


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_pixels_in_range_pass(dtype: torch.dtype) -> None:
    check_pixels(torch.tensor([[[0.0, 0.5, 1.0]]], dtype=dtype))


@pytest.mark.parametrize("x", [np.zeros((3, 4, 4)), [0.5], None])
def test_no_tensor(x: object) -> None:
    with pytest.raises(
        TypeError, match=r"expected a torch tensor with pixels in \[0, 1\], got (ndarray|list|NoneType)"
    ):
        check_pixels(x)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool])
def test_integers(dtype: torch.dtype) -> None:
    with pytest.raises(
        TypeError, match=r"expected floating-point pixels in \[0, 1\], got torch\..*: divide integers 0..255 by 255"
    ):
        check_pixels(torch.zeros(3, 4, 4, dtype=dtype))


def test_empty() -> None:
    with pytest.raises(ValueError, match=r"expected an image, got an empty tensor of shape \(0, 3, 4, 4\)"):
        check_pixels(torch.zeros(0, 3, 4, 4))


@pytest.mark.parametrize("others", [0.5, 7.0])
def test_nan(others: float) -> None:
    x = torch.full((3, 4, 4), others)
    x[1, 2, 3] = torch.nan
    with pytest.raises(ValueError, match=r"expected pixels in \[0, 1\], got NaN: mend or leave out the image"):
        check_pixels(x)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (2.64, "from 0.5 to 2.64"),
        (-0.01, "from -0.01 to 0.5"),
        (float("inf"), "0.5 to inf"),
        (float("-inf"), "-inf to"),
    ],
)
def test_outside(value: float, words: str) -> None:
    x = torch.full((3, 4, 4), 0.5)
    x[0, 0, 0] = value
    with pytest.raises(
        ValueError, match=rf"expected pixels in \[0, 1\], got values.*{words}.*mean and std are applied after"
    ):
        check_pixels(x)


def test_normalize_by_hand() -> None:
    x = torch.tensor([0.5, 0.25, 1.0]).view(1, 3, 1, 1).expand(2, 3, 2, 2)
    got = normalize(x, (0.5, 0.0, 0.5), (0.1, 0.5, 0.25))
    assert torch.equal(got, torch.tensor([0.0, 0.5, 2.0]).view(1, 3, 1, 1).expand(2, 3, 2, 2))
    assert got.dtype == torch.float32


@dataclass
class Config:
    mean: tuple[float, ...] = (0.1, 0.2, 0.3)
    std: tuple[float, ...] = (0.4, 0.5, 0.6)


@pytest.mark.parametrize("config", [{"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}, Config()])
def test_mean_and_std_of_the_model(config: object) -> None:
    model = nn.Identity()
    model.pretrained_cfg = config
    assert mean_std(model) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert mean_std(model, mean=(0, 0, 0)) == ((0.0, 0.0, 0.0), (0.4, 0.5, 0.6))
    assert mean_std(model, (0.5,), (0.5,)) == ((0.5,), (0.5,))


@pytest.mark.parametrize("config", [None, {}, {"mean": (0.5,)}])
def test_nobody_says_mean_and_std(config: object) -> None:
    model = nn.Identity()
    if config is not None:
        model.pretrained_cfg = config
    with pytest.raises(
        ValueError, match=r"expected mean and std: this model has no pretrained_cfg .*pass mean=\(\.\.\.\)"
    ):
        mean_std(model)


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ((0.5,), (0.5, 0.5)),
        ((), ()),
        ((0.5,), (0.0,)),
        ((0.5,), (-1.0,)),
    ],
)
def test_mean_and_std_that_do_not_fit(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected as many positive stds as means, all finite, got mean=\("):
        mean_std(nn.Identity(), mean, std)


@pytest.mark.parametrize(
    "value",
    [(float("nan"),), (float("inf"),), "0.5", ("0.5",), (True,), [[0.5]], {0.5}, 1j],
    ids=lambda v: type(v).__name__,
)
def test_mean_and_std_that_are_no_finite_numbers(value: Any) -> None:
    for name in ("mean", "std"):
        given = {"mean": 0.5, "std": 0.5, name: value}
        with pytest.raises(
            ValueError, match=rf"^expected a finite number of {name} for each channel, or one for all, got"
        ):
            mean_std(nn.Identity(), **given)


def test_mean_and_std_of_pixels_to_255_are_refused() -> None:
    for mean, std in (((123.7, 116.3, 103.5), (58.4, 57.1, 57.4)), (0.5, 58.4), (123.7, 0.25)):
        with pytest.raises(ValueError, match=r"expected mean and std in \[0, 1\]-pixel units, got .*: divide those of"):
            mean_std(nn.Identity(), mean, std)
    assert mean_std(nn.Identity(), 0, 1 / 255) == ((0.0,), (1 / 255,))  # of a network that takes 0 to 255
