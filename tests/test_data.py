"""The data: every kind of source, what is kept of it, and the words of every error."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from robust_hub import data as module
from robust_hub.data import ImageData, crop_flip, holdout_split, load_data

CIFAR10 = Path(__file__).parents[2] / "shared" / "data" / "cifar10"


def picture(i: int, width: int = 8, height: int = 8) -> Image.Image:
    pixels = np.random.default_rng(i).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def pixels(i: int, **shape: int) -> torch.Tensor:
    return torch.from_numpy(np.array(picture(i, **shape))).permute(2, 0, 1)


def encoded(i: int) -> dict[str, Any]:
    file = io.BytesIO()
    picture(i).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def image_folder(root: Path, count: int = 4, classes: tuple[str, ...] = ("cat", "dog")) -> Path:
    for k, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(count):
            picture(100 * k + i).save(root / name / f"{i}.png")
    return root


def parquet(root: Path, *, hub_types: bool = True, split: str = "train", **columns: list[int]) -> Path:
    datasets = pytest.importorskip("datasets")
    root.mkdir(parents=True, exist_ok=True)
    labels = columns or {"label": [0, 1, 1, 0, 1, 0]}
    count = len(next(iter(labels.values())))
    rows: dict[str, Any] = {"img": [encoded(i) for i in range(count)], **labels}
    if hub_types:
        features = {"img": datasets.Image()} | {name: datasets.ClassLabel(names=["a", "b"]) for name in labels}
        datasets.Dataset.from_dict(rows, features=datasets.Features(features)).to_parquet(
            root / f"{split}-00000-of-00001.parquet"
        )
    else:
        arrow, writer = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        writer.write_table(arrow.table(rows), root / f"{split}-00000-of-00001.parquet")
    return root


class Items(torch.utils.data.Dataset[Any]):
    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> Any:
        return self.items[i]


@pytest.fixture(autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def test_digits_split_is_fixed_disjoint_and_balanced() -> None:
    train, test = load_data("digits"), load_data("digits", "test")
    assert (len(train), len(test)) == (1297, 500)
    assert train.image_shape == test.image_shape == (3, 32, 32)
    assert train.num_classes == 10
    assert test.labels.bincount().tolist() == [50, 51, 49, 51, 50, 51, 50, 50, 48, 50]
    seen = {image.numpy().tobytes() for image in train.batch(range(1297))[0]}
    assert not any(image.numpy().tobytes() in seen for image in test.batch(range(500))[0])
    assert int(train.batch(range(1297))[0].max()) == 255
    assert load_data("digits").fingerprint == train.fingerprint != test.fingerprint


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
    assert kept.fingerprint == lazy.fingerprint


def test_large_data_stay_encoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = image_folder(tmp_path / "pets")
    assert load_data(root).in_memory
    monkeypatch.setattr(module.psutil, "virtual_memory", lambda: type("M", (), {"available": 8 * 8 * 8 * 3 * 2 - 1})())
    assert not load_data(root).in_memory


def test_fingerprint_sees_labels_pixels_and_order() -> None:
    items = [(picture(i), i % 2) for i in range(4)]
    prints = [
        load_data(Items(changed)).fingerprint
        for changed in (items, items[::-1], [(picture(9), 0), *items[1:]], [(items[0][0], 1), *items[1:]])
    ]
    assert len(set(prints)) == 4


def test_image_folder_with_and_without_splits(tmp_path: Path) -> None:
    plain = load_data(image_folder(tmp_path / "pets"))
    assert plain.classes == ("cat", "dog") and plain.labels.tolist() == [0] * 4 + [1] * 4 and plain.name == "pets"
    assert torch.equal(plain.batch([5])[0][0], pixels(101))
    image_folder(tmp_path / "zoo" / "train", classes=("ant", "bee", "cow"))
    image_folder(tmp_path / "zoo" / "test", classes=("bee", "cow"))
    test = load_data(str(tmp_path / "zoo"), "test")
    assert test.classes == ("ant", "bee", "cow") and set(test.labels.tolist()) == {1, 2}
    assert load_data(tmp_path / "zoo" / "test", "test").num_classes == 2


def test_unknown_split_names_the_available(tmp_path: Path) -> None:
    image_folder(tmp_path / "zoo" / "train")
    image_folder(tmp_path / "zoo" / "validation")
    with pytest.raises(ValueError, match=r"expected one of the splits train, validation of .*, got 'val'"):
        load_data(tmp_path / "zoo", "val")
    with pytest.raises(ValueError, match=r"splits train, pets of .*, got 'test'"):
        load_data(image_folder(tmp_path / "pets"), "test")
    with pytest.raises(ValueError, match="splits train, test of digits, got 'validation'"):
        load_data("digits", "validation")
    with pytest.raises(ValueError, match=r"splits train of .*, got 'test'"):
        load_data(parquet(tmp_path / "table"), "test")
    with pytest.raises(ValueError, match="splits train, test of torch/cifar10, got 'val'"):
        load_data("torch/cifar10", "val")


@pytest.mark.parametrize("library", ["datasets", "pyarrow"])
@pytest.mark.parametrize("hub_types", [True, False])
@pytest.mark.parametrize("folder", ["", "data"])
def test_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, hub_types: bool, folder: str) -> None:
    parquet(tmp_path / "table" / folder, hub_types=hub_types)
    if library == "pyarrow":
        hide(monkeypatch, "datasets")
    data = load_data(tmp_path / "table")
    assert data.classes == (("a", "b") if hub_types else ("0", "1"))
    assert data.labels.tolist() == [0, 1, 1, 0, 1, 0] and data.name == "table"
    assert torch.equal(data.batch(range(6))[0], torch.stack([pixels(i) for i in range(6)]))
    assert load_data(tmp_path / "table", in_memory=False).fingerprint == data.fingerprint


def hide(monkeypatch: pytest.MonkeyPatch, *hidden: str) -> None:
    """Let the optional packages look as if they were not installed."""
    real = module.import_module

    def fake(name: str) -> Any:
        if name.split(".")[0] in hidden:
            raise ImportError(name)
        return real(name)

    monkeypatch.setattr(module, "import_module", fake)


def test_missing_extra_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = parquet(tmp_path / "table")
    hide(monkeypatch, "datasets", "pyarrow")
    with pytest.raises(ImportError, match=r'needs pyarrow: pip install "robust-hub\[data\]"'):
        load_data(root)
    with pytest.raises(ImportError, match=r"reading 'someone/pictures' from the Hub needs datasets: pip install"):
        load_data("someone/pictures")


def test_columns_by_type_by_name_and_missing(tmp_path: Path) -> None:
    labels = {"coarse_label": [0, 0, 1, 1], "fine_label": [0, 1, 0, 1]}
    root = parquet(tmp_path / "two", **labels)
    assert load_data(root).labels.tolist() == [0, 1, 0, 1]
    assert load_data(root, label_column="coarse_label").labels.tolist() == [0, 0, 1, 1]
    with pytest.raises(ValueError, match=r"columns img, coarse_label, fine_label of .*, got label_column='lable'"):
        load_data(root, label_column="lable")
    with pytest.raises(ValueError, match=r"columns img, .*, got image_column='picture'"):
        load_data(root, image_column="picture")
    unclear = parquet(tmp_path / "unclear", hub_types=False, kind=[0, 1])
    with pytest.raises(ValueError, match=r"one label column in .*, got none: pass label_column=, one of img, kind"):
        load_data(unclear)
    assert load_data(unclear, label_column="kind").labels.tolist() == [0, 1]


def test_hf_dataset_and_dict_handed_in() -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["x", "y"])})
    table = datasets.Dataset.from_dict({"image": [encoded(i) for i in range(3)], "label": [0, 1, 0]}, features=features)
    data = load_data(table.with_format("torch"), "test")
    assert data.classes == ("x", "y") and data.split == "test"
    assert torch.equal(data.batch([2])[0][0], pixels(2))
    both = datasets.DatasetDict({"train": table, "test": table.select([1, 0])})
    assert load_data(both, "test").labels.tolist() == [1, 0]
    with pytest.raises(ValueError, match=r"splits train, test of .*, got 'val'"):
        load_data(both, "val")
    with pytest.raises(TypeError, match="got an IterableDataset"):
        load_data(table.to_iterable_dataset())


def test_torch_tensors_grey_and_float() -> None:
    grey = torch.arange(16, dtype=torch.uint8).view(1, 4, 4)
    data = load_data(Items([(grey, 0), (torch.full((3, 4, 4), 0.5), torch.tensor(1))]))
    assert torch.equal(data.batch([0])[0][0], grey.expand(3, 4, 4))
    assert data.batch([1])[0].unique().tolist() == [128]
    again = load_data(Items([data[0], data[1]]))
    assert again.fingerprint == data.fingerprint


@pytest.mark.parametrize(
    ("image", "error", "words"),
    [
        (
            torch.full((3, 4, 4), 2.64),
            ValueError,
            r"expected pixels in \[0, 1\], got 2.64 to 2.64 at index 0 of Items",
        ),
        (torch.full((3, 4, 4), -0.1), ValueError, r"expected pixels in \[0, 1\]"),
        (torch.full((3, 4, 4), torch.nan), ValueError, r"expected pixels in \[0, 1\], got nan"),
        (torch.zeros(4, 4, 3), ValueError, "1 or 3 channels, got shape"),
        (
            torch.zeros(3, 4, 4, dtype=torch.int64),
            TypeError,
            "expected uint8 or float pixels, got torch.int64",
        ),
        ("cat.png", TypeError, "expected a PIL image or a tensor, got str"),
        (Image.new("I;16", (4, 4)), ValueError, "expected an 8-bit image, got mode I;16"),
    ],
)
def test_bad_pixels(image: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        load_data(Items([(image, 0), (image, 1)]))


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
    with pytest.raises(TypeError, match=r"expected items \(image, label\), got Image"):
        load_data(Items([picture(0)]))
    with pytest.raises(TypeError, match="expected a name, a folder or a Dataset with a length and indices, got int"):
        load_data(3)


def test_bad_folders(tmp_path: Path) -> None:
    (tmp_path / "empty" / "cat").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"got a folder without images: .*empty"):
        load_data(tmp_path / "empty")
    (tmp_path / "bare").mkdir()
    with pytest.raises(ValueError, match=r"got a folder without images: .*bare"):
        load_data(tmp_path / "bare")
    with pytest.raises(ValueError, match=r"expected a folder of images or parquet files, got .*nowhere"):
        load_data(tmp_path / "nowhere")
    (tmp_path / "train-0.parquet").write_bytes(b"not parquet")
    with pytest.raises(ValueError, match=r"expected parquet files that can be read, got .*train-0\.parquet"):
        load_data(tmp_path)


@pytest.mark.parametrize("in_memory", [True, False])
def test_damaged_image_file_is_named(tmp_path: Path, in_memory: bool) -> None:
    root = image_folder(tmp_path / "pets")
    whole = (root / "dog" / "2.png").read_bytes()
    for rest in (whole[: len(whole) // 2], b"", b"text"):
        (root / "dog" / "2.png").write_bytes(rest)
        with pytest.raises(ValueError, match=r"got a damaged one at .*dog/2\.png .*: replace or remove it"):
            load_data(root, in_memory=in_memory).batch(range(8))


def test_damaged_image_in_a_table_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = encoded

    def third_damaged(i: int) -> dict[str, Any]:
        return {"bytes": good(i)["bytes"][:60], "path": None} if i == 3 else good(i)

    monkeypatch.setitem(globals(), "encoded", third_damaged)
    with pytest.raises(ValueError, match=r"got a damaged one at index 3 of .*table"):
        load_data(parquet(tmp_path / "table"))


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
    assert holdout_split(data, 0.1, seed=3)[1].fingerprint == held.fingerprint
    assert holdout_split(data, 0.1, seed=4)[1].fingerprint != held.fingerprint
    assert isinstance(held, ImageData) and held.split == "train-held-out"
    small = load_data(Items([(picture(i), i) for i in range(3)]))
    for fraction, words in ((0.0, "fraction in"), (1.0, "fraction in"), (0.9, "holds out an image")):
        with pytest.raises(ValueError, match=words):
            holdout_split(small, fraction, seed=0)


@pytest.mark.skipif(not CIFAR10.is_dir(), reason="CIFAR-10 is not here")
def test_cifar10() -> None:
    data = load_data(CIFAR10, "test", in_memory=False)
    assert len(data) == 10_000 and data.image_shape == (3, 32, 32) and data.num_classes == 10
    assert data.labels.bincount().tolist() == [1000] * 10
