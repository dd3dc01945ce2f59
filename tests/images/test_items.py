"""Items: the forms in which a data set may give an image and a label, and that they stay the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_sources import Items, encoded, image_folder, picture, pixels
from torch.utils.data import DataLoader, IterableDataset
from torchvision import transforms
from torchvision.datasets import ImageFolder

from robust_hub.images.data import load_data


@pytest.mark.parametrize(
    "item",
    [
        lambda i: (picture(i), i % 2),
        lambda i: [picture(i), i % 2],
        lambda i: (encoded(i)["bytes"], i % 2),
        lambda i: (np.array(picture(i)), i % 2),
        lambda i: (picture(i), i % 2, f"{i}.png"),
        lambda i: (picture(i), i % 2, i),
        lambda i: (picture(i), i % 2, torch.tensor(i), {"site": 3}, torch.zeros(2)),
        lambda i: (picture(i), i % 2, 0.25),
        lambda i: {"image": picture(i), "label": i % 2, "id": 7},
        lambda i: {"pixel_values": pixels(i), "labels": i % 2},
        lambda i: {"jpg": picture(i), "cls": i % 2, "__key__": "a"},
    ],
)
def test_forms_of_an_item(item: Callable[[int], Any]) -> None:
    data = load_data(Items([item(i) for i in range(4)]))
    assert data.labels.tolist() == [0, 1, 0, 1]
    assert torch.equal(data.batch(range(4))[0], torch.stack([pixels(i) for i in range(4)]))


def test_keys_of_items_may_be_named() -> None:
    items = Items([{"photo": picture(i), "species": i, "label": 1 - i} for i in range(2)])
    with pytest.raises(TypeError, match="one image, got none among the keys photo, species, label at index 0 of Items"):
        load_data(items)
    data = load_data(items, image_column="photo", label_column="species")
    assert data.labels.tolist() == [0, 1]
    assert load_data(items, image_column="photo").labels.tolist() == [1, 0]
    with pytest.raises(TypeError, match="one label, got none among .*: pass label_column=, one of these keys"):
        load_data(items, image_column="photo", label_column="kind")


def test_two_that_may_be_meant_are_refused() -> None:
    with pytest.raises(TypeError, match=r"got one with another number, 5, at index 0 of Items: which is the label\?"):
        load_data(Items([(picture(0), 0, 5), (picture(1), 1, 6)]))
    with pytest.raises(TypeError, match="got one with another number, 0, at index 1"):
        load_data(Items([(picture(0), 0, 0), (picture(1), 1, np.int64(0))]))
    with pytest.raises(TypeError, match="one image, got image, pixel_values among the keys"):
        load_data(Items([{"image": picture(i), "pixel_values": pixels(i), "label": i} for i in range(2)]))


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter([])


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (DataLoader(Items([(1, 2)])), "got DataLoader: pass the data set that it reads"),  # type: ignore[arg-type]
        (Endless(), r"got Endless: collect its items first, list\(dataset\)"),
        ({"image": [1], "label": [0]}, "got dict"),
        (Items([(picture(0),)]), r"expected items \(image, label\), got tuple at index 0"),
        ((torch.zeros(2, 3, 4, 4), torch.zeros(2)), r"expected items \(image, label\), got Tensor at index 0 of tuple"),
    ],
)
def test_what_is_no_data_set_of_items(source: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        load_data(source)


def test_a_table_without_numbered_items_is_one_sentence() -> None:
    class Columns(Items):
        def __getitem__(self, i: int) -> Any:
            raise KeyError(i)

    with pytest.raises(
        TypeError, match=r"expected items by number, 0 to 1, got none at index 0 of Columns \(KeyError\)"
    ):
        load_data(Columns([0, 0]))


@pytest.mark.parametrize(
    "random",
    [
        transforms.RandomCrop(6),
        transforms.RandomHorizontalFlip(),
        transforms.Compose([transforms.ToTensor(), transforms.RandomErasing(0.3)]),
        transforms.Lambda(lambda image: np.array(image) ^ np.random.default_rng().integers(2, dtype=np.uint8)),
    ],
)
def test_random_transforms_are_refused(tmp_path: Path, random: Any) -> None:
    root = image_folder(tmp_path / "pets", count=20)
    for in_memory in (True, False):
        with pytest.raises(
            ValueError, match="items that stay the same, .* of ImageFolder .*: give the data set without"
        ):
            load_data(ImageFolder(root, transform=random), in_memory=in_memory)


def test_fixed_transforms_are_applied(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "pets")
    fixed = transforms.Compose([transforms.CenterCrop(6), transforms.RandomHorizontalFlip(1.0), transforms.ToTensor()])
    data = load_data(ImageFolder(root, transform=fixed))
    assert torch.equal(data.batch([5])[0][0], pixels(101)[:, 1:7, 1:7].flip(2))
    assert data.classes == ("cat", "dog")


def test_items_count_where_targets_say_otherwise() -> None:
    items = Items([(picture(i), 1 - i % 2) for i in range(4)])
    items.targets, items.classes = [0, 1, 0, 1], ["a", "b"]  # type: ignore[attr-defined]
    data = load_data(items)
    assert data.labels.tolist() == [1, 0, 1, 0] and data.classes == ("0", "1")


def test_a_label_that_differs_when_the_image_is_read_is_refused() -> None:
    items = Items([(picture(i), i % 2) for i in range(200)])
    items.targets = [i % 2 for i in range(200)]  # type: ignore[attr-defined]
    items.items[3] = (picture(3), 0)  # not among those that are compared first
    with pytest.raises(
        ValueError, match="expected items that stay the same, got label 1 and then 0 at index 3 of Items"
    ):
        load_data(items)


def test_a_damaged_picture_of_a_data_set_is_named(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "pets")
    (root / "dog" / "1.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="got a damaged one at index 5 of ImageFolder"):
        load_data(ImageFolder(root))
    with pytest.raises(ValueError, match="got a damaged one at index 1 of Items"):
        load_data(Items([(picture(0), 0), (encoded(1)["bytes"][:60], 1)]))


def test_channels(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "pets")
    grey = load_data(root, channels=1)
    assert grey.image_shape == (1, 8, 8)
    assert torch.equal(grey.batch([5])[0][0, 0], torch.from_numpy(np.array(picture(101).convert("L"))))
    assert torch.equal(load_data(ImageFolder(root), channels=1).batch(range(8))[0], grey.batch(range(8))[0])
    assert grey.data_hash != load_data(root).data_hash
    clear = picture(0)
    clear.putalpha(Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)))
    four = load_data(Items([(clear, 0), (picture(1), 1)]), channels=4)
    assert torch.equal(four.batch([0])[0][0, 3].flatten(), torch.arange(64, dtype=torch.uint8))
    assert (four.batch([1])[0][0, 3] == 255).all()
    assert load_data(grey, channels=1) is grey
    with pytest.raises(ValueError, match=r"expected images of 3 channels, got \(1, 8, 8\): give channels to the first"):
        load_data(grey, channels=3)
