"""The data: what is kept of a source, which labels and sizes it may have, how it is split and moved."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_sources import Items, image_folder, picture, pixels

from robust_hub.images import data as module
from robust_hub.images.augment import crop_flip
from robust_hub.images.data import ImageData, load_data
from robust_hub.images.set_aside import holdout_split


def test_items_are_unit_floats_and_batches_are_bytes() -> None:
    data = load_data(Items([(picture(i), i % 2) for i in range(5)]))
    image, label = data[3]
    assert image.dtype == torch.float32 and label == 1
    assert torch.equal(image, pixels(3).float() / 255)
    batch, labels = data.batch([4, 0])
    assert batch.dtype == torch.uint8 and labels.tolist() == [0, 0]
    assert torch.equal(batch, torch.stack([pixels(4), pixels(0)]))
    loaded = next(iter(torch.utils.data.DataLoader(data, batch_size=5)))
    assert loaded[0].shape == (5, 3, 8, 8) and loaded[1].tolist() == [0, 1, 0, 1, 0]
    with pytest.raises(IndexError, match="expected indices below 5"):
        data.batch([5])


@pytest.mark.parametrize("in_memory", [True, False])
def test_batches_are_those_that_are_asked_for_one_by_one(in_memory: bool) -> None:
    data = load_data(Items([(picture(i), i % 3) for i in range(9)]), in_memory=in_memory).subset([8, 1, 5, 0, 4, 2])
    rows = torch.tensor([[5, 0], [2, 2], [1, 4]])
    cut = list(data.batches(rows))
    assert len(cut) == 3
    for (images, labels), row in zip(cut, rows, strict=True):
        expected = data.batch(row)
        assert torch.equal(images, expected[0]) and torch.equal(labels, expected[1])
    assert list(data.batches(rows[:0])) == []
    with pytest.raises(IndexError, match="expected indices below 6, got 0 to 6"):
        next(data.batches(torch.tensor([[0, 6]])))


@pytest.mark.parametrize("in_memory", [True, False])
def test_subset_keeps_order_and_reads_the_same_pixels(in_memory: bool) -> None:
    data = load_data(Items([(picture(i), i % 2) for i in range(9)]), in_memory=in_memory)
    assert data.in_memory is in_memory
    part = data.subset([7, 2, 4]).subset([2, 0])
    assert part.labels.tolist() == [0, 1]
    assert torch.equal(part.batch([0, 1])[0], torch.stack([pixels(4), pixels(7)]))


def test_lazy_and_in_memory_agree(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "pets", count=40)
    kept, lazy = load_data(root, in_memory=True), load_data(root, in_memory=False)
    assert torch.equal(kept.batch(range(80))[0], lazy.batch(range(80))[0])
    assert kept.data_hash == lazy.data_hash


def test_large_data_stay_encoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = image_folder(tmp_path / "pets")
    assert load_data(root).in_memory
    monkeypatch.setattr(module.psutil, "virtual_memory", lambda: type("M", (), {"available": 8 * 8 * 8 * 3 * 2 - 1})())
    assert not load_data(root).in_memory


def test_the_data_hash_sees_labels_pixels_and_order() -> None:
    items = [(picture(i), i % 2) for i in range(4)]
    prints = [
        load_data(Items(changed)).data_hash
        for changed in (items, items[::-1], [(picture(9), 0), *items[1:]], [(items[0][0], 1), *items[1:]])
    ]
    assert len(set(prints)) == 4


def test_bad_labels() -> None:
    with pytest.raises(ValueError, match="expected at least one image, got an empty data set: Items, split 'train'"):
        load_data(Items([]))
    with pytest.raises(ValueError, match="expected at least two classes, got only '0'"):
        load_data(Items([(picture(0), 0), (picture(1), 0)]))
    with pytest.raises(ValueError, match="expected labels from 0 to 1, got -1 at index 1"):
        load_data(Items([(picture(0), 0), (picture(1), -1), (picture(2), 1)]))
    known = Items([(picture(0), 0), (picture(1), 2)])
    known.classes = ["a", "b"]  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="expected labels from 0 to 1, got 2 at index 1 of Items"):
        load_data(known)
    with pytest.raises(TypeError, match="expected integer labels, got float"):
        load_data(Items([(picture(0), 0.5), (picture(1), 1.0)]))


def test_sizes(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "pets")
    picture(7, width=12, height=6).save(root / "dog" / "9.png")
    with pytest.raises(ValueError, match=r"images of one size, 8x8 as the first, got 6x12 at .*9\.png: pass size"):
        load_data(root)
    data = load_data(root, size=6)
    assert data.image_shape == (3, 6, 6)
    assert torch.equal(data.batch([8])[0][0], pixels(7, width=12, height=6)[:, :, 3:9])  # the centre, not rescaled
    with pytest.raises(ValueError, match="expected a size of at least 1 pixel, got 0"):
        load_data(root, size=0)
    assert load_data(data) is data
    with pytest.raises(ValueError, match="expected images of size 5"):
        load_data(data, size=5)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_crop_flip_is_padding_cropping_and_flipping(dtype: torch.dtype) -> None:
    images = torch.stack([pixels(i, width=10) for i in range(64)]).to(dtype)
    out = crop_flip(images, torch.Generator().manual_seed(1), padding=2)
    assert out.dtype == dtype and out.shape == images.shape
    padded = torch.nn.functional.pad(images.float(), (2, 2, 2, 2), mode="reflect")
    found = set()
    for image, result in zip(padded, out.float(), strict=True):
        ways = [
            (y, x, flip)
            for y in range(5)
            for x in range(5)
            for flip in (False, True)
            if torch.equal(image[:, y : y + 8, x : x + 10].flip(2) if flip else image[:, y : y + 8, x : x + 10], result)
        ]
        assert len(ways) == 1
        found.add(ways[0])
    assert {y for y, _, _ in found} == {x for _, x, _ in found} == set(range(5))
    assert {flip for _, _, flip in found} == {False, True}
    assert torch.equal(out, crop_flip(images, torch.Generator().manual_seed(1), padding=2))
    with pytest.raises(ValueError, match="larger than the padding"):
        crop_flip(images, padding=8)


def test_holdout_split_is_stratified_and_deterministic() -> None:
    data = load_data("digits")
    kept, held = holdout_split(data, 0.1, seed=3)
    assert len(kept) + len(held) == len(data)
    share = held.labels.bincount() / data.labels.bincount()
    assert bool(((share - 0.1).abs() < 0.005).all())
    assert torch.equal(torch.cat([kept.labels, held.labels]).bincount(), data.labels.bincount())
    assert holdout_split(data, 0.1, seed=3)[1].data_hash == held.data_hash
    assert holdout_split(data, 0.1, seed=4)[1].data_hash != held.data_hash
    assert isinstance(held, ImageData) and held.split == "train-held-out"
    small = load_data(Items([(picture(i), i) for i in range(3)]))
    for fraction, words in ((0.0, "fraction in"), (1.0, "fraction in"), (0.9, "holds out an image")):
        with pytest.raises(ValueError, match=words):
            holdout_split(small, fraction, seed=0)


def test_images_move_to_a_device_with_their_order() -> None:
    data = load_data("digits").subset([5, 3, 9])
    moved = data.to("meta")
    assert (moved.device.type, data.device.type) == ("meta", "cpu")
    assert (len(moved), moved.image_shape, moved.name, moved.split) == (3, (3, 32, 32), "digits", "train")
    assert moved.batch([0, 2])[0].device.type == "meta"
    same = data.to("cpu")
    assert torch.equal(same.batch([0, 2])[0], data.batch([0, 2])[0])
    assert same.data_hash == data.data_hash


@pytest.mark.gpu
def test_batches_are_cut_on_cuda() -> None:
    data = load_data("digits")
    pixels, labels = data.to("cuda").batch([4, 7])
    assert pixels.is_cuda
    assert torch.equal(pixels.cpu(), data.batch([4, 7])[0]) and torch.equal(labels, data.labels[[4, 7]])
