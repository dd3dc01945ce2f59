"""Tables: which columns are meant, what kinds they may have, and what a table's owner makes of its rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ImageOps
from test_sources import encoded, hide, picture, pixels

from robust_hub.images.data import load_data

datasets = pytest.importorskip("datasets")
arrow, writer = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")


def table(labels: Any = (0, 1, 0), kind: Any = None, image: str = "image", label: str = "label") -> Any:
    features = {image: datasets.Image(), label: kind or datasets.ClassLabel(names=["x", "y"])}
    rows = {image: [encoded(i) for i in range(len(labels))], label: list(labels)}
    return datasets.Dataset.from_dict(rows, features=datasets.Features(features))


def inverted(batch: dict[str, Any]) -> dict[str, Any]:
    return {"image": [ImageOps.invert(one) for one in batch["image"]], "label": batch["label"]}


def test_a_transform_of_a_table_is_applied() -> None:
    plain = table()
    changed = plain.with_format(None)
    changed.set_transform(inverted)
    for whole in (plain.with_transform(inverted), changed, datasets.DatasetDict(train=changed)):
        data = load_data(whole)
        assert data.classes == ("x", "y") and data.labels.tolist() == [0, 1, 0] and data.name == "dataset"
        assert torch.equal(data.batch(range(3))[0], 255 - load_data(plain).batch(range(3))[0])


def test_a_transform_may_name_and_number_its_own_way() -> None:
    def renamed(batch: dict[str, Any]) -> dict[str, Any]:
        return {"pixel_values": [np.array(one) for one in batch["image"]], "labels": batch["label"]}

    assert load_data(table().with_transform(renamed)).classes == ("x", "y")
    swapped = table().with_transform(lambda batch: {**batch, "label": [1 - y for y in batch["label"]]})
    assert load_data(swapped).labels.tolist() == [1, 0, 1] and load_data(swapped).classes == ("0", "1")
    words = table().with_transform(lambda batch: {**batch, "label": ["xy"[y] for y in batch["label"]]})
    assert load_data(words).labels.tolist() == [0, 1, 0] and load_data(words).classes == ("x", "y")
    with pytest.raises(TypeError, match="one label, got none among the keys image at index 0 of dataset"):
        load_data(table().with_transform(lambda batch: {"image": batch["image"]}))


def test_a_random_transform_of_a_table_is_refused() -> None:
    draws = np.random.default_rng(0)

    def noisy(batch: dict[str, Any]) -> dict[str, Any]:
        return {**batch, "image": [one.rotate(90 * int(draws.integers(4))) for one in batch["image"]]}

    with pytest.raises(ValueError, match="items that stay the same, got another one at index 0 of dataset"):
        load_data(table().with_transform(noisy))


def test_columns_that_a_format_leaves_out_are_not_meant() -> None:
    both = table((0, 1, 2), datasets.ClassLabel(names=["a", "b", "c"]), label="fine_label")
    both = both.add_column("coarse_label", [0, 1, 1])
    both = both.cast_column("coarse_label", datasets.ClassLabel(names=["u", "v"]))
    assert load_data(both).classes == ("a", "b", "c")
    shown = {"columns": ["image", "coarse_label"]}
    assert load_data(both.with_format("torch", **shown)).classes == ("u", "v")
    assert load_data(both.with_format("torch", **shown, output_all_columns=True)).classes == ("a", "b", "c")


def test_a_mode_of_the_table_is_kept() -> None:
    grey = load_data(table().cast_column("image", datasets.Image(mode="L")))
    luma = torch.from_numpy(np.array(picture(2).convert("L")))
    assert torch.equal(grey.batch([2])[0][0], luma.expand(3, -1, -1)) and grey.classes == ("x", "y")


@pytest.mark.parametrize("library", ["datasets", "pyarrow"])
@pytest.mark.parametrize("form", ["string", "large_string", "dictionary"])
def test_strings_are_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, form: str) -> None:
    names = arrow.array(["dog", "cat", "dog"], arrow.string() if form == "dictionary" else getattr(arrow, form)())
    names = names.dictionary_encode() if form == "dictionary" else names
    for column in ("label", "class", "kind"):
        rows = arrow.table({"img": [encoded(i) for i in range(3)], column: names})
        writer.write_table(rows, tmp_path / f"{column}.parquet")
    if library == "pyarrow":
        hide(monkeypatch, "datasets")
    for column in ("label", "class"):
        data = load_data(tmp_path, column)
        assert data.classes == ("cat", "dog") and data.labels.tolist() == [1, 0, 1]
    with pytest.raises(ValueError, match=r"one label column in .*, got none: pass label_column=, one of img, kind"):
        load_data(tmp_path, "kind")
    assert load_data(tmp_path, "kind", label_column="kind").classes == ("cat", "dog")


@pytest.mark.parametrize("library", ["datasets", "pyarrow"])
@pytest.mark.parametrize("image", ["jpg", "png", "webp", "photo"])
def test_columns_of_plain_bytes_and_of_webdataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, image: str
) -> None:
    rows = {image: [encoded(i)["bytes"] for i in range(3)], "cls": [1, 0, 1], "__key__": ["a", "b", "c"]}
    writer.write_table(arrow.table(rows), tmp_path / "train.parquet")
    if library == "pyarrow":
        hide(monkeypatch, "datasets")
    data = load_data(tmp_path)
    assert data.labels.tolist() == [1, 0, 1]
    assert torch.equal(data.batch(range(3))[0], torch.stack([pixels(i) for i in range(3)]))


def test_webdataset_columns_of_the_library() -> None:
    for image in ("jpg", "png", "webp"):
        assert load_data(table(kind=datasets.Value("int64"), image=image, label="cls")).labels.tolist() == [0, 1, 0]


def test_labels_that_are_missing_are_named() -> None:
    with pytest.raises(ValueError, match="from 0 to 1, got -1 at index 1 of dataset, split 'train', and 1 more: corr"):
        load_data(table([0, -1, -1]))
    with pytest.raises(
        TypeError, match="expected integer labels, got None at index 2 of dataset, split 'train': leave"
    ):
        load_data(table([0, 1, None]))
    with pytest.raises(TypeError, match="got None at index 1 of dataset"):
        load_data(table(["a", None, "b"], datasets.Value("string")))
    with pytest.raises(TypeError, match="got list of 1 at index 0 of dataset, .*one-hot"):
        load_data(table([[0], [1]], datasets.List(datasets.Value("int64"))), label_column="label")
    assert load_data(table([0.0, 1.0], datasets.Value("float64")), label_column="label").labels.tolist() == [0, 1]


@pytest.mark.parametrize("kind", ["lists", "Array3D"])
def test_nested_numbers_are_no_encoded_images(kind: str) -> None:
    array = np.arange(96, dtype=np.uint8).reshape(4, 8, 3)
    types = {"image": datasets.Array3D((4, 8, 3), "uint8"), "label": datasets.Value("int64")}
    rows = {"image": [array, array] if kind == "Array3D" else [array.tolist()] * 2, "label": [0, 1]}
    whole = datasets.Dataset.from_dict(rows, features=datasets.Features(types) if kind == "Array3D" else None)
    words = r"encoded images, got .* in column image of dataset: cast the column to datasets.Image\(\)"
    for given in (None, "image"):
        with pytest.raises(ValueError, match=words):
            load_data(whole, image_column=given)
    cast = load_data(whole.cast_column("image", datasets.Image()))  # as the words advise
    assert torch.equal(cast.batch([0])[0][0], torch.from_numpy(array).permute(2, 0, 1))


def test_label_columns_of_other_kinds_of_numbers() -> None:
    for kind, labels in (("bool", [False, True]), ("float64", [0.0, 1.0]), ("uint8", [0, 1])):
        data = load_data(table(labels, datasets.Value(kind)))
        assert data.classes == ("0", "1") and data.labels.tolist() == [0, 1]
    with pytest.raises(TypeError, match="got float 0.5 at index 1 of dataset"):
        load_data(table([0.0, 0.5], datasets.Value("float64")))


def test_files_of_a_split_number_their_classes_alike(tmp_path: Path) -> None:
    for part, names in (("a", ["x", "y"]), ("b", ["y", "x"])):
        root = tmp_path / part
        root.mkdir()
        table((0, 1), datasets.ClassLabel(names=["x", "y"])).to_parquet(root / "train-0.parquet")
        table((0, 1), datasets.ClassLabel(names=names)).to_parquet(root / "train-1.parquet")
    assert load_data(tmp_path / "a").classes == ("x", "y")
    with pytest.raises(
        ValueError, match="the same classes in all files of b, got other names, or another order, of col"
    ):
        load_data(tmp_path / "b")


def test_a_column_called_label_beside_classes_of_something_else_is_a_doubt() -> None:
    both = table(("x", "y", "x"), datasets.Value("string")).add_column("sex", [0, 0, 1])
    both = both.cast_column("sex", datasets.ClassLabel(names=["f", "m"]))
    with pytest.raises(
        ValueError, match="got label, without names of classes, beside sex, with them: pass label_column"
    ):
        load_data(both)
    assert load_data(both, label_column="label").classes == ("x", "y")
    assert load_data(both, label_column="sex").classes == ("f", "m")
    assert load_data(both.rename_column("label", "caption")).classes == ("f", "m")


def test_classes_of_a_metadata_table_keep_their_names(tmp_path: Path) -> None:
    for k in range(3):
        picture(k).save(tmp_path / f"{k}.png")
    rows = {"file_name": [f"{k}.png" for k in range(3)], "label": [0, 1, 1]}
    features = {"file_name": datasets.Value("string"), "label": datasets.ClassLabel(names=["owl", "cat"])}
    datasets.Dataset.from_dict(rows, features=datasets.Features(features)).to_parquet(tmp_path / "metadata.parquet")
    data = load_data(tmp_path)
    assert [data.classes[label] for label in data.labels] == ["owl", "cat", "cat"]
