"""The sources: every kind of them, the names they give, and the words of every error."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image

from robust_hub.images import damaged, source, tables
from robust_hub.images.data import load_data


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
    assert load_data("digits").data_hash == train.data_hash != test.data_hash


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
    with pytest.raises(ValueError, match=r"expected one of the splits train, validation of .*, got 'test': sort some"):
        load_data(tmp_path / "zoo", "test")
    with pytest.raises(ValueError, match=r"splits train, pets of .*, got 'test'"):
        load_data(image_folder(tmp_path / "pets"), "test")
    with pytest.raises(ValueError, match="splits train, test of digits, got 'validation'"):
        load_data("digits", "validation")
    with pytest.raises(ValueError, match=r"splits train of .*, got 'test'"):
        load_data(parquet(tmp_path / "table"), "test")
    with pytest.raises(ValueError, match="splits train, test of torch/cifar10, got 'val'"):
        load_data("torch/cifar10", "val")


def test_split_names_are_those_of_the_source(tmp_path: Path) -> None:
    table = parquet(parquet(tmp_path / "tiny", label=[0, 1, 1]), split="validation", label=[1, 0])
    (table / "classes.tsv").write_text("a\tant\nb\tbee\n")
    assert [load_data(table, split).labels.tolist() for split in ("train", "validation")] == [[0, 1, 1], [1, 0]]
    image_folder(tmp_path / "zoo" / "train", count=3)
    image_folder(tmp_path / "zoo" / "validation", count=2)
    image_folder(tmp_path / "zoo" / "corrupted", count=1)
    parts = [load_data(tmp_path / "zoo", split) for split in ("train", "validation", "corrupted")]
    assert [len(part) for part in parts] == [6, 4, 2]
    assert [part.split for part in parts] == ["train", "validation", "corrupted"]


@pytest.mark.parametrize("fill", [image_folder, parquet])
def test_a_folder_is_named_by_its_last_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fill: Callable[[Path], Path]
) -> None:
    root = fill(tmp_path / "pets")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(root)
    for given in (root, str(root), f"{root}/", Path(), ".", "../pets", "~/pets"):
        data = load_data(given)
        assert data.name == "pets"
        assert str(tmp_path) not in str((data.name, data.split, data.classes))


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
    assert load_data(tmp_path / "table", in_memory=False).data_hash == data.data_hash


def hide(monkeypatch: pytest.MonkeyPatch, *hidden: str) -> None:
    """Let the optional packages look as if they were not installed."""
    real = source.import_module

    def fake(name: str) -> Any:
        if name.split(".")[0] in hidden:
            raise ImportError(name)
        return real(name)

    for module in (source, tables):
        monkeypatch.setattr(module, "import_module", fake)


def test_missing_extra_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = parquet(tmp_path / "table")
    hide(monkeypatch, "datasets", "pyarrow")
    with pytest.raises(ImportError, match=r'needs pyarrow: pip install "robust-hub\[data\]"'):
        load_data(root)
    with pytest.raises(
        ImportError, match=r"no folder .*, and reading 'someone/pictures' from the Hub needs datasets: pip install"
    ):
        load_data("someone/pictures")


def test_timms_data_that_cannot_be_fetched_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr("timm.data.dataset_factory.create_dataset", unreachable)
    with pytest.raises(
        ValueError, match=r"got 'torch/cifar10', split 'test': .*not known.*: it is fetched into .*check"
    ):
        load_data("torch/cifar10", "test")


def test_hub_that_does_not_answer_is_one_sentence_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    waited: list[bool] = []

    def silent(*_: object, **__: object) -> None:
        raise ConnectionError("no route")

    def asked(*_: object, **__: object) -> None:
        waited.append(True)
        raise ConnectionError("the client asked the Hub again")

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", silent)
    monkeypatch.setattr("huggingface_hub.HfApi.hf_hub_download", asked)
    before = datasets.config.HF_HUB_OFFLINE
    with pytest.raises(
        ValueError, match=r"got 'some/where', which is not in the cache, and the Hub cannot be re.*: check the"
    ):
        load_data("some/where")
    assert not waited
    assert before == datasets.config.HF_HUB_OFFLINE


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


@pytest.mark.parametrize("kind", [[{"dtype": "int64", "_type": "Value"}], None])
def test_notes_of_the_hub_may_be_of_any_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any) -> None:
    arrow, writer = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    names = {"names": ["a", "b"], "_type": "ClassLabel"}
    notes = json.dumps({"info": {"features": {"boxes": kind, "kind": names}}})
    rows = {"img": [encoded(0), encoded(1)], "boxes": [[1], []], "kind": [1, 0], "weight": [0, 0]}
    table = arrow.table(rows).replace_schema_metadata({"huggingface": notes})
    writer.write_table(table, tmp_path / "train.parquet")
    hide(monkeypatch, "datasets")
    data = load_data(tmp_path)
    assert data.classes == ("a", "b") and data.labels.tolist() == [1, 0]


def test_hf_dataset_and_dict_handed_in() -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["x", "y"])})
    table = datasets.Dataset.from_dict({"image": [encoded(i) for i in range(3)], "label": [0, 1, 0]}, features=features)
    for form in (None, "torch", "numpy", "pandas"):
        data = load_data(table.with_format(form), "test", in_memory=False)
        assert data.classes == ("x", "y") and data.split == "test" and data.labels.tolist() == [0, 1, 0]
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
    assert again.data_hash == data.data_hash


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


def test_bad_dataset() -> None:
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


@pytest.mark.parametrize("asked", [True, False])
def test_without_progress_the_bars_of_datasets_are_hidden_and_come_back(
    asked: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, datasets = parquet(tmp_path / "table"), pytest.importorskip("datasets")
    assert not datasets.are_progress_bars_disabled()
    load_data(root, progress=asked)
    assert ("Generating" in capsys.readouterr().err) == asked
    assert not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        load_data(parquet(tmp_path / "other"), progress=asked)
        assert datasets.are_progress_bars_disabled() and capsys.readouterr().err == ""
    finally:
        datasets.enable_progress_bars()


@pytest.mark.parametrize("first", [True, False])
def test_all_damaged_image_files_are_named_at_once(
    first: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = image_folder(tmp_path / "pets")
    files = sorted(root.glob("*/*.png"))
    bad = files[0 if first else 1 :: 2]
    for file in bad:
        file.write_bytes(file.read_bytes()[:40])
    for named, more in ((10, ""), (2, f" and {len(bad) - 2} more")):
        monkeypatch.setattr(damaged, "NAMED", named)
        with pytest.raises(ValueError, match=f"got a damaged one at {bad[0]}.*: replace or remove it. ") as refused:
            load_data(root)
        words = f"{len(files)} that were looked at {len(bad)} can't be read: {', '.join(map(str, bad[:named]))}{more}"
        assert str(refused.value).partition(". Of the ")[2] == words
    monkeypatch.setattr(damaged, "SECONDS", 0.0)
    with pytest.raises(ValueError, match="replace or remove it$"):
        load_data(root)


@pytest.mark.parametrize("in_memory", [True, False])
def test_damaged_image_file_is_named(tmp_path: Path, in_memory: bool) -> None:
    root = image_folder(tmp_path / "pets")
    whole = (root / "dog" / "2.png").read_bytes()
    for rest in (whole[: len(whole) // 2], b"", b"text"):
        (root / "dog" / "2.png").write_bytes(rest)
        with pytest.raises(ValueError, match=r"got a damaged one at .*dog/2\.png.*: replace or remove it"):
            load_data(root, in_memory=in_memory).batch(range(8))


def test_damaged_image_in_a_table_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = encoded

    def third_damaged(i: int) -> dict[str, Any]:
        return {"bytes": good(i)["bytes"][:60], "path": None} if i == 3 else good(i)

    monkeypatch.setitem(globals(), "encoded", third_damaged)
    with pytest.raises(ValueError, match=r"got a damaged one at index 3 of .*table"):
        load_data(parquet(tmp_path / "table"))
