"""Arrays: how tensors and NumPy arrays become bytes, and what is refused because it could be read in two ways."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_sources import Items, picture, pixels

from robust_hub.images.arrays import array_bytes
from robust_hub.images.data import load_data

HIGH = np.array(picture(3, height=6))  # uint8 (6, 8, 3)
EXPECTED = pixels(3, height=6).numpy()


@pytest.mark.parametrize(
    "item",
    [
        HIGH,
        HIGH.transpose(2, 0, 1),
        HIGH / 255,
        (HIGH / 255).astype(np.float32),
        HIGH[::-1][::-1],
        HIGH.astype(">f8") / 255,
        torch.from_numpy(HIGH).permute(2, 0, 1),
        (torch.from_numpy(HIGH).permute(2, 0, 1) / 255).requires_grad_(),
    ],
)
def test_every_form_of_an_array_gives_the_same_bytes(item: Any) -> None:
    found = array_bytes(item, None, 3, "here")
    assert found.dtype == np.uint8 and np.array_equal(found, EXPECTED)
    assert np.array_equal(
        array_bytes(item, 4, 3, "here"), load_data(two(picture(3, height=6)), size=4).batch([0])[0][0]
    )


def two(image: Any) -> Items:
    return Items([(image, 0), (image, 1)])


def test_grey_and_colours_become_one_another() -> None:
    grey = HIGH[:, :, 0]
    for item in (grey, grey[None], grey[:, :, None], torch.from_numpy(grey.copy())[None]):
        assert np.array_equal(array_bytes(item, None, 3, "here"), np.stack([grey] * 3))
        assert np.array_equal(array_bytes(item, None, 1, "here"), grey[None])
    luma = np.array(Image.fromarray(HIGH).convert("L"))[None]
    assert np.array_equal(array_bytes(HIGH, None, 1, "here"), luma)


def test_a_fourth_channel_is_alpha_in_arrays_and_stays_where_it_is_asked_for() -> None:
    clear = np.dstack([HIGH, np.zeros_like(HIGH[:, :, :1])])
    assert (array_bytes(clear, None, 3, "here") == 255).all()
    opaque = np.dstack([HIGH, np.full_like(HIGH[:, :, :1], 255)])
    assert np.array_equal(array_bytes(opaque, None, 3, "here"), EXPECTED)
    bands = torch.from_numpy(clear).permute(2, 0, 1)
    for item in (clear, bands):
        assert np.array_equal(array_bytes(item, None, 4, "here"), bands.numpy())
    with pytest.raises(ValueError, match=r"with 1 or 3 channels, got shape \(4, 6, 8\) at here"):
        array_bytes(bands, None, 3, "here")


def test_bands_are_kept_apart_when_they_are_resized() -> None:
    bands = torch.zeros(5, 8, 8, dtype=torch.uint8)
    bands[:3], bands[4] = 90, 200  # a fourth band of 0 would hide the rest, were it alpha
    assert array_bytes(bands, 4, 5, "here")[:, 0, 0].tolist() == [90, 90, 90, 0, 200]
    assert array_bytes(bands[:4], 4, 4, "here")[:, 0, 0].tolist() == [90, 90, 90, 0]
    data = load_data(two(bands), channels=5)
    assert data.image_shape == (5, 8, 8) and torch.equal(data.batch([1])[0][0], bands)
    with pytest.raises(ValueError, match=r"tensors of 5 channels, got a picture at index 0 of Items: it has 1, 3 or 4"):
        load_data(two(picture(0)), channels=5)


@pytest.mark.parametrize(
    ("item", "error", "words"),
    [
        (HIGH[:3], ValueError, r"got shape \(3, 8, 3\) at here, which may be either: pass a tensor \(C, H, W\)"),
        (HIGH.astype(np.uint16), TypeError, "expected uint8 or float pixels, got uint16 at here"),
        (HIGH > 9, TypeError, "expected uint8 or float pixels, got bool at here"),
        (HIGH * 1.0, ValueError, r"expected pixels in \[0, 1\], got 0 to 255 at here"),
        (HIGH[..., :2], ValueError, r"1 or 3 channels, got shape \(6, 8, 2\) at here"),
        (HIGH[None], ValueError, r"1 or 3 channels, got shape \(1, 6, 8, 3\) at here"),
        (HIGH[:0], ValueError, r"1 or 3 channels, got shape \(3, 0, 8\) at here"),
        (torch.zeros(0, 8, 8), ValueError, r"1 or 3 channels, got shape \(0, 8, 8\) at here"),
        ([[1]], TypeError, "expected a PIL image or a tensor, got list at here"),
    ],
)
def test_what_is_no_image_or_may_be_two(item: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        array_bytes(item, None, 3, "here")


def test_rounding_of_a_resize_is_no_other_range() -> None:
    white = np.full((8, 8, 3), 1 + 6e-7)
    assert array_bytes(white, None, 3, "here").min() == 255
    assert array_bytes(np.full((8, 8, 3), -6e-7), None, 3, "here").max() == 0
    with pytest.raises(ValueError, match=r"expected pixels in \[0, 1\], got 1\.01 to 1\.01 at here"):
        array_bytes(np.full((8, 8, 3), 1.01), None, 3, "here")
