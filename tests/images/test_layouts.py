"""Layouts of folders: each is read as it is meant, or one sentence says what was seen and how to say what is meant."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import tarfile
import tempfile
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin
from torchvision.datasets import ImageFolder

from robust_hub.images.data import load_data
from robust_hub.images.files_found import image_endings, look_into
from robust_hub.images.layouts import LAYOUTS
from robust_hub.images.sources import find
from robust_hub.images.splits import answering, split_roles


def encoded(kind: str = "PNG", shade: int = 0) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, 0, 0)).save(file, kind)
    return file.getvalue()


PNG = encoded()


def tree(root: Path, *paths: str) -> Path:
    """Make files at these paths below a new folder `pets`; those that end so are images."""
    root = root / "pets"
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(PNG if path.endswith((".png", ".JPEG")) else b"x")
    return root


def both(*splits: str) -> list[str]:
    return [f"{split}/{name}/{i}.png" for split in splits for name in ("cat", "dog") for i in range(2)]


def read(root: Path, split: str = "train", **rest: Any) -> list[tuple[str, str]]:
    """Give the images that are found, relative to their folder, each with its class."""
    source = find(root, split, **rest)
    assert source.name == "pets" and source.classes is not None
    images = [os.path.relpath(path, root) for path in source.rows]
    return [(image, source.classes[label]) for image, label in zip(images, source.labels, strict=True)]


@pytest.mark.parametrize(
    ("train", "test", "asked"),
    [
        ("Train", "Test", "test"),
        ("training", "testing", "test"),
        ("trn", "tst", "test"),
        ("train_set", "test_set", "test"),
        ("TRAIN", "Validation", "val"),
        ("train", "valid", "validation"),
        ("Training Data", "Dev", "val"),
        ("trainset", "devset", "val"),
        ("train2017", "val2017", "val"),
        ("TrainImages", "TestImages", "test"),
        ("seg_train", "seg_test", "test"),
        ("cifar-10-train", "cifar-10-test", "test"),
        ("train", "eval", "test"),
        ("train", "eval", "val"),
    ],
)
def test_splits_answer_to_the_usual_names_and_their_own(tmp_path: Path, train: str, test: str, asked: str) -> None:
    root = tree(tmp_path, *both(train, test))
    for name, folder in (("train", train), (train, train), (asked, test), (test, test)):
        assert {image.split("/")[0] for image, _ in read(root, name)} == {folder}
        assert {label for _, label in read(root, name)} == {"cat", "dog"}
    with pytest.raises(ValueError, match=f"expected one of the splits .*{train}.* of .*pets, got 'extra'"):
        find(root, "extra")


def test_names_of_splits_are_no_part_of_other_words() -> None:
    assert split_roles(["bullet_train", "test_tube", "trainer", "latest", "developer", "goldfish"]) == {}
    assert split_roles(["train_test", "trainval", "train_val"]) == {"trainval": "trainval", "train_val": "trainval"}
    assert answering(["train", "val", "eval"], "test") == ["eval"]
    assert answering(["train", "val", "test", "eval"], "val") == ["val"]
    assert answering(["train", "val"], "test") == []
    assert answering(["Corrupted", "clean"], "corrupted") == ["Corrupted"]


def test_two_splits_of_one_meaning_are_asked_for_by_their_names(tmp_path: Path) -> None:
    root = tree(tmp_path, *both("train1", "train2"))
    with pytest.raises(ValueError, match=r"one split of .*pets for 'train', got train1, train2: ask for one by its na"):
        find(root, "train")
    assert len(read(root, "train2")) == 4


@pytest.mark.parametrize("name", ["train", "test", "valid", "Dev"])
def test_a_class_may_be_called_as_a_split(tmp_path: Path, name: str) -> None:
    root = tree(tmp_path, "cat/0.png", "dog/0.png", f"{name}/0.png")
    assert {label for _, label in read(root)} == {"cat", "dog", name}
    with pytest.raises(ValueError, match="expected one of the splits train, pets of "):
        find(root, "test")


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        (
            ["train/0.png", "test/0.png"],
            "test/, train/ of .*pets with images directly in them: splits without classes, or",
        ),
        (["train/0.png"], "train/ of .*pets with images directly in them"),
        (["cat/0.png", "dog/0.png", "train/0.png", "test/0.png"], "test/, train/ beside cat/, dog/ in .*pets with"),
        (["cat/0.png", *both("train")], "train/, which look like splits, beside cat/ in .*pets, which do not: move"),
        (["docs/figure.png", *both("train", "test")], "test/, train/, which look like splits, beside docs/"),
        ([*both("train"), "birds/owl/0.png"], "train/, which look like splits, beside birds/"),
    ],
)
def test_doubt_is_refused_and_can_be_said(tmp_path: Path, paths: list[str], words: str) -> None:
    root = tree(tmp_path, *paths)
    with pytest.raises(ValueError, match=rf'{words}.* say layout="classes" if .*, layout="splits" if .* \(--layout\)'):
        find(root, "train")
    classes = {path.split("/")[0] for path in paths}
    assert {label for _, label in read(root, layout="classes")} == classes
    if any(path.startswith("train/cat") for path in paths):
        assert read(root, layout="splits") == [(path, path.split("/")[1]) for path in both("train")]


def test_what_stands_below_or_above_is_seen(tmp_path: Path) -> None:
    wrapped = tree(tmp_path / "a", *both("pets/train", "pets/test"))
    assert len(read(wrapped, "test")) == 4
    unpacked = tree(tmp_path / "b", *both("seg_train/seg_train", "seg_test/seg_test"))
    assert {label for _, label in read(unpacked)} == {"cat", "dog"}
    within = tree(tmp_path / "c", "cat/train/0.png", "cat/test/0.png", "dog/train/0.png", "dog/test/0.png")
    with pytest.raises(
        ValueError, match=r"got test/, train/ in .*cat, which look like splits within a class: put the "
    ):
        find(within, "train")
    assert len(read(within, layout="classes")) == 4
    coarse = tree(tmp_path / "d", "vehicle/train/0.png", "vehicle/bus/0.png", "animal/cat/0.png")
    assert {label for _, label in read(coarse)} == {"vehicle", "animal"}
    folds = tree(tmp_path / "f", *both("fold1", "fold2"))
    with pytest.raises(
        ValueError, match="got fold1/, fold2/ in .*pets, which all hold cat/, dog/: ask for one of them as"
    ):
        find(folds, "train")
    assert len(read(folds, "fold2")) == 4
    assert len(read(tree(tmp_path / "g", "cat/00/0.png", "cat/01/0.png", "dog/00/0.png", "dog/01/0.png"))) == 4
    one = tree(tmp_path / "e", "PetImages/cat/0.png", "PetImages/dog/0.png")
    with pytest.raises(ValueError, match="at least two classes, got only .*PetImages, which holds cat/, dog/: give .*"):
        find(one, "train")


def test_flat_images_are_refused_with_what_is_missing(tmp_path: Path) -> None:
    flat = tree(tmp_path / "a", "ILSVRC2012_val_00000001.JPEG", "ILSVRC2012_val_00000002.JPEG")
    words = "got 2 images directly in .*, such as {}, and nothing that says their classes: sort them by class, or add a"
    with pytest.raises(ValueError, match=words.format("ILSVRC2012_val_00000001.JPEG")):
        find(flat, "train")
    listed = tree(tmp_path / "c", "images/0.png", "images/1.png", "labels.csv")
    with pytest.raises(ValueError, match="rename .*labels.csv to metadata.csv, its columns file_name and label"):
        find(listed, "train")
    (listed / "metadata.csv").write_text("filename,kind\nimages/0.png,cat\nimages/1.png,dog\n")
    with pytest.raises(ValueError, match="say which column of .*metadata.csv has the names of the files .--image-col"):
        find(listed, "train")
    half = tree(tmp_path / "b", *both("train"), "test/0.png", "test/1.png")
    assert len(read(half)) == 4
    with pytest.raises(ValueError, match=words.format("0.png")):
        find(half, "test")


def test_classes_of_a_split_without_any_of_the_others_are_not_theirs(tmp_path: Path) -> None:
    tiny = tree(tmp_path, "train/n1/images/0.JPEG", "train/n2/images/0.JPEG", "val/images/0.JPEG", "val/images/1.JPEG")
    assert find(tiny, "train").classes == ["n1", "n2"]
    with pytest.raises(ValueError, match="got .*val with images in images alone, no class of the other splits: sort"):
        find(tiny, "val")
    shots = tree(tmp_path / "b", *both("train"), "test/owl/0.png", "test/emu/0.png")
    assert (find(shots, "train").classes, find(shots, "test").classes) == (["cat", "dog"], ["emu", "owl"])
    cased = tree(tmp_path / "c", *both("train"), "test/Cat/0.png", "test/dog/0.png")
    with pytest.raises(ValueError, match="one spelling of a class, got 'Cat' and 'cat' in .*: rename"):
        find(cased, "train")
    composed = tree(
        tmp_path / "d", "train/caf\u00e9/0.png", "train/dog/0.png", "test/cafe\u0301/0.png", "test/dog/0.png"
    )
    assert find(composed, "test").classes == ["caf\u00e9", "dog"] and find(composed, "test").labels == [0, 1]


SPLITS = {"train": "train", "Test": "test", "val": "val"}
FIRST = ("cat", "dog", "train", "Test", "val", "extra")
FILES = ("0.png", "1.JPEG", "2.heic", "._0.png", "Thumbs.db", "notes.txt")
STRAYS = st.builds(
    lambda folders, file: "/".join([*folders, file]),
    st.one_of(*(st.tuples(*[st.sampled_from(FIRST)] * depth) for depth in (0, 1, 2, 2, 3))),
    st.sampled_from(FILES),
)


@st.composite
def trees(draw: Any) -> list[str]:
    """Paths of a tree in some order, such as splits of classes, and up to two strays."""
    classes = draw(st.lists(st.sampled_from(("cat", "dog", "extra", "train")), min_size=2, max_size=3, unique=True))
    splits = draw(st.lists(st.sampled_from(tuple(SPLITS)), min_size=2, max_size=3, unique=True))
    order = draw(
        st.sampled_from(("{c}", "{s}/{c}", "{s}/{c}", "{c}/a", "{s}/{c}/a", "{c}/{s}", "extra/{s}/{c}", "{s}"))
    )
    ordered = {f"{order.format(s=s, c=c)}/{draw(st.sampled_from(FILES[:2]))}" for s in splits for c in classes}
    paths = [*ordered, *draw(st.lists(STRAYS, max_size=draw(st.integers(0, 2))))]
    # A folder within one of its own name is looked through, which a test of its own holds.
    return [path for path in paths if len({*path.split("/")}) == len(path.split("/"))]


def meant(paths: set[str], split: str) -> list[tuple[str, str]] | None:
    """Say plainly what a tree of files means, of the paths of its images alone; None if it is to be refused."""
    images = sorted(p.split("/") for p in paths if p.endswith((".png", ".JPEG")) and p.split("/")[-1][0] != ".")
    tops = {p[0] for p in images if len(p) > 1}
    inner = {top: {p[1] for p in images if p[0] == top and len(p) > 2} for top in tops}
    direct = {p[0] for p in images if len(p) == 2}
    if len(tops) == 1 and min(map(len, images)) > 2:
        (top,) = tops
        if inner[top] <= SPLITS.keys() and inner[top] == {p[1] for p in images if len(p) > 3}:
            below = meant({"/".join(p[1:]) for p in images}, split)
            return below and [(f"{top}/{path}", name) for path, name in below]
    splits = {top for top in tops if top in SPLITS or (top == split and inner[top])}
    nested = {top for top in splits if inner[top]}
    rows = []
    if nested:
        known = {name for top in nested for name in inner[top]}
        answers = [top for top in tops if split in (top, SPLITS.get(top))]
        if answers and all(inner[top] and inner[top] <= known for top in tops - splits):
            rows = [("/".join(p), p[1]) for p in images if p[0] == answers[0] and len(p) > 2]
    elif len(splits) < 2 and tops != splits and split in ("train", "pets"):
        most = max((inner[top] for top in sorted(tops)), key=len, default=set())
        same = len(tops) > 1 and all(len(inner[top] & most) > 1 for top in tops)
        merged = (same and not direct) or any(inner[top] and inner[top] <= SPLITS.keys() for top in tops - direct)
        rows = [("/".join(p), p[0]) for p in images if len(p) > 1 and not merged]
    return rows if len({name for _, name in rows}) > 1 else None


@settings(max_examples=100, deadline=None)
@given(trees(), st.sampled_from(["train", "train", "test", "val", "extra", "pets"]))
@example([*both("train", "Test"), "extra/cat/0.png"], "extra")
@example(["cat/0.png", "dog/a/0.png", "train/0.png", "0.png"], "train")
@example(["cat/0.png", "dog/0.png", "train/0.png", "val/0.png"], "train")
@example(["extra/train/cat/0.png", "extra/train/dog/0.png"], "train")
@example(["cat/train/0.png", "cat/val/0.png", "dog/0.png"], "train")
def test_a_tree_is_read_as_it_is_meant_or_refused(paths: list[str], split: str) -> None:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root = tree(Path(folder), *paths)
        root.mkdir(exist_ok=True)
        said = ""
        try:
            found = read(root, split)
        except ValueError as error:
            found, said = [], str(error)
        assert found or (said.startswith("expected ") and "got " in said)
        wanted = meant(set(paths), split)
        assert sorted(found if len({name for _, name in found}) > 1 else []) == sorted(wanted or [])


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(["a", "a-b", "a b", "B", "c"]), min_size=1, max_size=3), min_size=2, max_size=9)
)
def test_classes_and_order_are_those_of_torchvision(folders: list[list[str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = tree(Path(folder), "y/0.png", *(f"{'/'.join(path)}/{i}.png" for i, path in enumerate(folders)))
        source, theirs = find(root, "train", layout="classes"), ImageFolder(str(root))
        assert list(zip(source.rows, source.labels, strict=True)) == theirs.samples
        assert source.classes == theirs.classes


def test_what_is_skipped_is_counted_and_what_systems_leave_is_not(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        *("cat/0.png", "dog/0.png", "cat/1.heic", "dog/2.heic", "dog/3.pdf", "dog/4", "top.png", "owl/5.txt"),
        *("cat/._0.png", "cat/.ipynb_checkpoints/0.png", "dog/Thumbs.db", "__MACOSX/cat/0.png", ".git/0.png"),
        *("cat/desktop.ini", "cat/.DS_Store", "cat/notes.txt", "README.md", "LICENSE", "dog/boxes.xml", "@eaDir/0.png"),
    )
    words = (
        r"^pets, split 'train': skipped 5 of 7 files: 2 .heic, 1 .pdf, 1 without an ending, 1 outside the class folders"
        "; no image in owl, no class therefore$"
    )
    with pytest.warns(UserWarning, match=words) as said:
        data = load_data(root)
    assert data.classes == ("cat", "dog") and len(data) == 2
    assert len(said) == 1 and said[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(load_data(tree(tmp_path / "b", "cat/0.png", "dog/0.png", "cat/._0.png", "cat/notes.txt"))) == 2


@pytest.mark.parametrize(
    "ending", sorted({".gif", ".avif", ".jfif", ".jp2", ".webp", ".tga", ".pbm"} & image_endings())
)
def test_what_pillow_reads_is_read(tmp_path: Path, ending: str) -> None:
    root = tree(tmp_path, "cat/0.png", "dog/0.png")
    kind = Image.registered_extensions()[ending]
    Image.new("1" if kind == "PPM" else "RGB", (8, 8), 1).save(root / "cat" / f"1{ending.upper()}", kind)
    assert len(load_data(root)) == 3


def test_documents_and_films_are_no_images() -> None:
    assert not {".pdf", ".mpo", ".mpg", ".eps", ".h5", ".fits", ".ico", ".psd"} & image_endings()
    assert {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"} <= image_endings()


def test_of_several_frames_the_first_counts(tmp_path: Path) -> None:
    root = tree(tmp_path, "cat/0.png", "dog/0.png")
    frames = [Image.new("RGB", (8, 8), (shade, 0, 0)) for shade in (255, 100)]
    frames[0].save(root / "cat" / "1.gif", save_all=True, append_images=frames[1:])
    assert load_data(root).batch([1])[0][0, 0].unique().tolist() == [255]


def test_links_are_followed_and_loops_refused(tmp_path: Path) -> None:
    root, far = tree(tmp_path, "cat/0.png", "dog/0.png"), tree(tmp_path / "far", "owl/0.png", "1.png")
    (root / "owl").symlink_to(far / "owl")
    (root / "cat" / "1.png").symlink_to(far / "1.png")
    assert [label for _, label in read(root)] == ["cat", "cat", "dog", "owl"]
    (root / "dog" / "up").symlink_to(root, target_is_directory=True)
    with pytest.raises(
        ValueError, match=r"without a loop, got the link .*dog/up, which leads back to .*pets: remove it"
    ):
        find(root, "train")
    (root / "dog" / "up").unlink()
    (root / "dog" / "self").symlink_to(root / "dog" / "self")
    with pytest.raises(ValueError, match="got the link .*dog/self, which leads nowhere: remove it, or bring what"):
        find(root, "train")


def test_a_folder_or_file_that_may_not_be_read_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree(tmp_path, "cat/0.png", "dog/0.png")

    def forbid(real: Any, last: str) -> Any:
        def ask(path: Any, *rest: Any, **more: Any) -> Any:
            if str(path).endswith(last):
                raise PermissionError(13, "Permission denied", str(path))
            return real(path, *rest, **more)

        return ask

    words = r"a folder that can be read, got .*pets/dog \(Permission denied\): give yourself the right"
    for owner, name in ((os, "scandir"), (Path, "stat")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, forbid(getattr(owner, name), "dog"))
            with pytest.raises(ValueError, match=words):
                find(root, "train")
    monkeypatch.setattr(Image, "open", forbid(Image.open, "dog/0.png"))
    with pytest.raises(
        ValueError, match=r"image that may be read, got .*dog/0\.png \(Permission denied\): give yourself"
    ):
        load_data(root)


def test_every_error_of_an_image_names_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree(tmp_path, "cat/0.png", "dog/0.png")
    notes = PngImagePlugin.PngInfo()
    notes.add_text("notes", "x" * 2_000_000, zip=True)
    Image.new("RGB", (8, 8)).save(root / "dog" / "0.png", pnginfo=notes)
    with pytest.raises(
        ValueError, match=r"more text in it than Pillow takes at .*dog/0\.png .*: save it again without"
    ):
        load_data(root)
    Image.new("RGB", (40, 40)).save(root / "dog" / "0.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(
        ValueError, match=r"moderate size, got one above Pillow's limit at .*dog/0\.png .*: make it smal"
    ):
        load_data(root, size=8)
    monkeypatch.undo()
    gone = load_data(root, size=8, in_memory=False)
    (root / "dog" / "0.png").unlink()
    with pytest.raises(
        ValueError, match=r"image that is there, got .*dog/0\.png, which is not any more: bring it back"
    ):
        gone.batch([1])


def listed(file: Path, *rows: dict[str, Any]) -> None:
    if file.suffix == ".csv":
        with open(file, "w", newline="") as text:
            writer = csv.DictWriter(text, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif file.suffix == ".jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        parquet.write_table(arrow.Table.from_pylist(list(rows)), file)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_metadata_say_the_labels(tmp_path: Path, ending: str) -> None:
    flat = tree(tmp_path, "0.png", "b/1.png", "2.png")
    listed(
        flat / f"metadata.{ending}", {"file_name": "b/1.png", "label": "dog"}, {"file_name": "0.png", "label": "cat"}
    )
    with pytest.warns(UserWarning, match="pets, split 'train': skipped 1 of 3 images, which the metadata do not list"):
        assert read(flat) == [("b/1.png", "dog"), ("0.png", "cat")]
    splits = tree(tmp_path / "b", "Train/0.png", "Train/1.png", "Test/0.png")
    rows = [{"file_name": f"{i}.png", "label": label} for i, label in enumerate((3, 1))]
    listed(splits / "Train" / f"metadata.{ending}", *rows)
    listed(splits / "Test" / f"metadata.{ending}", rows[1] | {"file_name": "0.png"})
    assert [find(splits, split).labels for split in ("train", "test")] == [[3, 1], [1]]
    assert find(splits, "test").classes == ["0", "1", "2", "3"]
    (splits / "Test").rename(splits / "extra")
    assert find(splits, "extra").labels == [1]


def test_one_table_may_hold_several_splits(tmp_path: Path) -> None:
    root = tree(tmp_path, "train/0.png", "train/1.png", "test/0.png")
    rows = [
        {"file_name": f"{name}.png", "label": label}
        for name, label in (("train/0", "b"), ("train/1", "a"), ("test/0", "b"))
    ]
    listed(root / "metadata.csv", *rows)
    assert read(root, "test") == [("test/0.png", "b")] and len(read(root)) == 2
    listed(
        root / "metadata.csv",
        *({**row, "split": split} for row, split in zip(rows, ("val", "Train", "Train"), strict=True)),
    )
    assert read(root, "validation") == [("train/0.png", "b")] and len(read(root)) == 2


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (
            [{"file_name": "0.png", "text": "a cat"}],
            "column of labels called label, got file_name, text in .*csv: say whi",
        ),
        (
            [{"file_name": "../0.png", "label": 1}],
            r"below the folder of the metadata, got \.\./0\.png in line 2 of .*csv",
        ),
        (
            [{"file_name": "/etc/0.png", "label": 1}],
            "file names below the folder of the metadata, got /etc/0.png in line 2",
        ),
        (
            [{"file_name": "7.png", "label": 1}],
            "images that are there, got 7.png, which is not there, in line 2 of .*csv",
        ),
        ([{"file_name": "0.png", "label": ""}], "a label in column label, got none in line 2 of .*csv: add it"),
        (
            [{"file_name": "0.png", "label": k} for k in (1, 2)],
            "one label for 0.png, got 1 and 2 in line 2 of .* and line 3",
        ),
    ],
)
def test_metadata_that_cannot_be_followed(tmp_path: Path, rows: list[dict[str, Any]], words: str) -> None:
    root = tree(tmp_path, "0.png", "1.png")
    listed(root / "metadata.csv", *rows)
    with pytest.raises(ValueError, match=words):
        find(root, "train")


def test_lines_of_json_may_hold_anything(tmp_path: Path) -> None:
    root = tree(tmp_path, "0.png", "1.png")
    words = {
        "[1]": "expected lines that fill every column, got other ones in .*metadata.jsonl",
        "": "expected lines of images in the metadata of .*pets, got none",
        '{"file_name": "0.png", "label": null}': "a label in column label, got none in line 1 of .*jsonl: add it",
        '{"file_name": "0.png", "label": [2]}': r"one class an image in column label, got \[2\] in line 1 of .*jsonl",
        '{"file_name": 7, "label": 1}': "the name of a file in column file_name, got 7 in line 1 of .*jsonl",
        '{"file_name"': "expected a table of images and labels, got .*metadata.jsonl: ",
    }
    for text, said in words.items():
        (root / "metadata.jsonl").write_text(text)
        with pytest.raises(ValueError, match=said):
            find(root, "train")
    rows = [{"file_name": f"{i}.png", "label": i, "note": None} for i in range(2)]
    listed(root / "metadata.jsonl", *rows)
    assert read(root) == [("0.png", "0"), ("1.png", "1")]
    listed(root / "metadata.csv", *rows)
    with pytest.raises(
        ValueError, match="one table of metadata, got metadata.csv, metadata.jsonl in .*pets: remove all"
    ):
        find(root, "train")


def test_metadata_elsewhere_or_of_another_kind(tmp_path: Path) -> None:
    root = tree(tmp_path, "a/0.png", "b/0.png")
    for name in "ab":
        listed(root / name / "metadata.csv", {"file_name": "0.png", "label": 1})
    with pytest.raises(ValueError, match=r"metadata at the top or in folders of splits, got metadata.csv in a/, b/ of"):
        find(root, "train")
    assert find(root, "b").labels == [1]
    assert read(root, layout="classes") == [("a/0.png", "a"), ("b/0.png", "b")]
    other = tree(tmp_path / "b", "cat/0.png", "dog/0.png")
    listed(other / "metadata.csv", {"camera": "x", "label": "y"})
    assert len(read(other)) == 2
    with pytest.raises(ValueError, match="expected a column file_name and one of labels, got camera, label in .*csv"):
        find(other, "train", layout="metadata")
    (other / "metadata.csv").write_text('file_name,label\n0.png,"a')
    with pytest.raises(ValueError, match="expected a table of images and labels, got .*metadata.csv: "):
        find(other, "train")
    listed(other / "metadata.csv", {"file_name": "cat/0.png", "text": "x"}, {"file_name": "dog/0.png", "text": "z"})
    assert read(other, label_column="text") == [("cat/0.png", "x"), ("dog/0.png", "z")]


@pytest.fixture
def library(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Any:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    return datasets


def table(library: Any, *labels: int) -> Any:
    features = library.Features({"image": library.Image(), "label": library.ClassLabel(names=["x", "y", "z"])})
    rows = {"image": [{"bytes": encoded(shade=k), "path": None} for k in labels], "label": labels}
    return library.Dataset.from_dict(rows, features=features)


def test_saved_datasets(tmp_path: Path, library: Any) -> None:
    root = tmp_path / "pets"
    table(library, 0, 1).save_to_disk(root)
    assert (find(root, "train").labels, find(root, "train").name) == ([0, 1], "pets")
    assert load_data(root).classes == ("x", "y", "z")
    with pytest.raises(ValueError, match="expected one of the splits train, pets of .*pets, got 'test'"):
        find(root, "test")
    shutil.rmtree(root)
    library.DatasetDict(train=table(library, 0, 1), validation=table(library, 2)).save_to_disk(root)
    assert (find(root, "train").labels, find(root, "val").labels) == ([0, 1], [2])
    (root / "dataset_dict.json").unlink()
    (root / "train").rename(root / "Training")
    assert (find(root, "train").labels, find(root, "val").labels) == ([0, 1], [2])
    next((root / "Training").glob("*.arrow")).write_bytes(b"damaged")
    with pytest.raises(ValueError, match="expected a saved Dataset that can be read, got .*pets/Training: "):
        find(root, "train")


@pytest.mark.parametrize(
    ("files", "splits"),
    [
        (["data.parquet"], {"train": 1, "data": 1}),
        (["0000.parquet", "0001.parquet"], {"train": 2}),
        (["part-00000-of-00002.parquet", "part-00001-of-00002.parquet"], {"train": 2, "part": 2}),
        (
            ["plain_text/train-00000-of-00001.parquet", "plain_text/test-00000-of-00001.parquet"],
            {"train": 1, "test": 1},
        ),
        (["default/train/0000.parquet", "default/test/0000.parquet"], {"train": 1, "test": 1}),
        (["data/Train-0-of-1.parquet", "data/validation-0-of-1.parquet"], {"train": 1, "val": 1}),
        (["cifar-10-train.parquet", "cifar-10-test.parquet"], {"train": 1, "test": 1}),
        (["train.parquet", "corrupted.parquet"], {"train": 1, "corrupted": 1}),
    ],
)
def test_names_of_tables(tmp_path: Path, library: Any, files: list[str], splits: dict[str, int]) -> None:
    root = tmp_path / "pets"
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        table(library, 1, 2).to_parquet(root / file)
    assert {split: len(find(root, split).labels) // 2 for split in splits} == splits
    with pytest.raises(ValueError, match="expected one of the splits .* of .*pets, got 'other'"):
        find(root, "other")


def test_a_single_table_is_a_source(tmp_path: Path, library: Any) -> None:
    (tmp_path / "pets").mkdir()
    for name in ("data", "owls", "train"):
        table(library, 1, 2).to_parquet(tmp_path / "pets" / f"{name}.parquet")
    for name, own in (("data", "pets"), ("owls", "owls"), ("train", "pets")):
        found = find(tmp_path / "pets" / f"{name}.parquet", "train")
        assert (found.labels, found.name) == ([1, 2], own)
    with pytest.raises(ValueError, match="splits train, data of .*, got 'test'"):
        find(tmp_path / "pets" / "data.parquet", "test")


def test_tables_beside_images_and_one_another(tmp_path: Path, library: Any) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    root = tree(tmp_path, *both("train", "test"))
    parquet.write_table(arrow.table({"path": ["a"], "size": [1]}), root / "index.parquet")
    assert len(read(root)) == 4
    table(library, 1, 2).to_parquet(root / "train.parquet")
    with pytest.raises(ValueError, match='got train.parquet beside 8 image files in .*pets: say layout="table" for'):
        find(root, "train")
    assert (len(find(root, "train", layout="splits").labels), find(root, "train", layout="table").labels) == (4, [1, 2])
    for name in "ab":
        (tmp_path / "two" / name).mkdir(parents=True)
        table(library, 1, 2).to_parquet(tmp_path / "two" / name / "train.parquet")
    with pytest.raises(ValueError, match="one set of tables, got files of 'train' in .*two/a and .*two/b: give one of"):
        find(tmp_path / "two", "train")


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path, library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    table(library, 1, 2).to_parquet(tmp_path / "data.parquet")
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", tmp_path / "file" / "cache")
    with pytest.raises(
        ValueError, match="a cache folder of datasets that can be written, got .*file/cache .*HF_DATASETS_C"
    ):
        find(tmp_path / "data.parquet", "train")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "/cache/x.arrow")

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", full)
    monkeypatch.setattr(library, "load_dataset", full)
    with pytest.raises(
        ValueError, match=r"that can be written, got /cache/x.arrow \(No space left on device\): name an"
    ):
        find("someone/pictures", "train")


def shard(path: Path, *endings: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as file:
        for i in range(2):
            for ending in endings:
                content = PNG if ending == "png" else str(i).encode()
                entry = tarfile.TarInfo(f"{i:04}.{ending}")
                entry.size = len(content)
                file.addfile(entry, io.BytesIO(content))
    return path.parent


def test_tar_shards(tmp_path: Path, library: Any) -> None:
    root = shard(tmp_path / "pets" / "train-0000.tar", "png", "cls")
    shard(root / "train-0001.tar", "png", "cls")
    shard(root / "test-0000.tar", "png", "cls")
    assert (find(root, "train").labels, find(root, "test").labels) == ([0, 1, 0, 1], [0, 1])
    assert load_data(root, "test").num_classes == 2
    with pytest.raises(
        ValueError, match="class of each image in its .cls, got png in .*a.tar: say .*, or unpack the sha"
    ):
        find(shard(tmp_path / "bare" / "a.tar", "png"), "train")
    (tmp_path / "bare" / "a.tar").write_bytes(b"damaged")
    with pytest.raises(
        ValueError, match=r"expected tar shards of images with their .cls, got .*a\.tar: .*: or unpack th"
    ):
        find(tmp_path / "bare", "train")


@pytest.mark.parametrize("name", ["cifar10/", "data/pets/train", "./x", "~/none", "/no/where"])
def test_a_path_is_never_asked_of_the_hub(name: str) -> None:
    with pytest.raises(
        ValueError, match=f"expected a folder of images or parquet files, got {name}, which is no folder"
    ):
        find(name, "train")


def test_what_is_no_layout_is_said(tmp_path: Path) -> None:
    root = tree(tmp_path, "a.zip", "b.zip", "c.npy")
    words = r"one subfolder a class, got a folder without images: .*pets \(it has 2 .zip, 1 .npy\)"
    with pytest.raises(ValueError, match=words):
        find(root, "train")
    for layout in LAYOUTS:
        with pytest.raises(ValueError, match="expected .*got "):
            find(root, "train", layout=layout)
    with pytest.raises(ValueError, match=f"expected one of the layouts {', '.join(LAYOUTS)}, got 'klasses'"):
        find(root, "train", layout="klasses")
    with pytest.raises(ValueError, match="expected a folder for layout='classes', got digits, which is none"):
        find("digits", "train", layout="classes")
    with pytest.raises(ValueError, match="got layout='classes' of a list"):
        find([], "train", layout="classes")
    with pytest.raises(ValueError, match=r"got .*a.zip, which is a file: give the folder that it is in"):
        find(root / "a.zip", "train")


def test_a_folder_is_looked_into_once(tmp_path: Path) -> None:
    found = look_into(tree(tmp_path, "b/0.png", "a/1.png", "a/x/2.png", "c/3.txt"))
    assert [folder.name for folder in found.folders] == ["a", "b", "c"]
    assert (found.count, [folder.name for folder in found.filled]) == (3, ["a", "b"])


@pytest.mark.parametrize("twin", ["hot_dog", "Hot Dog", "hot dog ", "hot-dog", "\uff48ot dog"])
def test_a_class_has_one_spelling_in_all_splits(tmp_path: Path, twin: str) -> None:
    root = tree(tmp_path, "train/hot dog/0.png", "train/owl/0.png", f"test/{twin}/0.png", "test/owl/0.png")
    for split in ("train", "test"):
        with pytest.raises(ValueError, match="one spelling of a class, got .* in .*pets: rename one of them"):
            find(root, split)
    rows = [("0.png", "hot dog", "train"), ("1.png", "owl", "train"), ("2.png", twin, "test"), ("3.png", "owl", "test")]
    flat = tree(tmp_path / "flat", *(name for name, *_ in rows))
    listed(flat / "metadata.csv", *(dict(zip(("file_name", "label", "split"), row, strict=True)) for row in rows))
    with pytest.raises(ValueError, match="one spelling of a class, got .* in column label in .*pets: correct one"):
        find(flat, "test")


def test_folders_of_numbers_with_and_without_zeros_are_one_class(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one spelling of a class, got '01' and '1'"):
        find(tree(tmp_path, "train/01/0.png", "train/02/0.png", "test/1/0.png", "test/02/0.png"), "test")
    both_here = tree(tmp_path / "b", "a/train/Cat/0.png", "a/train/cat/0.png", "a/test/cat/0.png", "a/test/Cat/0.png")
    assert find(both_here, "test").classes == ["Cat", "cat"]
    with pytest.raises(ValueError, match="one spelling of a class, got 'cat' and 'cat '"):
        find(tree(tmp_path / "c", "cat/0.png", "cat /0.png", "owl/0.png"), "train")


def test_splits_of_unknown_words_need_not_have_the_same_classes(tmp_path: Path) -> None:
    less = tree(tmp_path, *(f"treino/{name}/0.png" for name in ("cat", "dog", "owl")), *both("teste"))
    with pytest.raises(
        ValueError, match="got teste/, treino/ in .*pets, which all hold cat/, dog/, owl/, or some of these:"
    ):
        find(less, "train")
    more = tree(tmp_path / "b", *both("treino"), *both("teste"), "teste/owl/0.png", "treino/emu/0.png")
    with pytest.raises(ValueError, match="one folder a class or one folder a split"):
        find(more, "train")
    kinds = tree(
        tmp_path / "c", "cat/tabby/0.png", "cat/manx/0.png", "dog/pug/0.png", "dog/other/0.png", "owl/other/0.png"
    )
    assert find(kinds, "train").classes == ["cat", "dog", "owl"]


@pytest.mark.parametrize("third", ["extra", "ood", "7", "hold-out"])
def test_a_column_of_splits_may_name_others_besides(tmp_path: Path, third: str) -> None:
    root = tree(tmp_path, *(f"{k}.png" for k in range(6)))
    splits = ["train", "train", "test", "test", third, third]
    rows = [{"file_name": f"{k}.png", "label": "ab"[k % 2], "split": split} for k, split in enumerate(splits)]
    listed(root / "metadata.csv", *rows)
    for split, first in (("train", 0), ("test", 2), (third, 4)):
        assert [Path(row).name for row in find(root, split).rows] == [f"{first}.png", f"{first + 1}.png"]
    listed(root / "metadata.csv", *rows[:5], rows[5] | {"split": ""})
    with pytest.raises(ValueError, match="expected a split of each image, got none in line 7 of .*csv: add it"):
        find(root, "train")


def test_folders_of_splits_in_metadata_may_stand_beside_others(tmp_path: Path) -> None:
    names = [f"{part}/{k}.png" for part in ("train", "test", "extra") for k in range(2)]
    root = tree(tmp_path, *names)
    listed(root / "metadata.csv", *({"file_name": name, "label": "ab"[k % 2]} for k, name in enumerate(names)))
    assert len(find(root, "train").rows) == len(find(root, "extra").rows) == 2
    vehicles = [f"{part}/{k}.png" for part in ("train", "car") for k in range(2)]
    root = tree(tmp_path / "b", *vehicles)
    listed(root / "metadata.csv", *({"file_name": name, "label": name.split("/")[0]} for name in vehicles))
    assert find(root, "train").labels == [1, 1, 0, 0]


def test_metadata_number_the_splits_together_that_share_a_label(tmp_path: Path) -> None:
    root = tree(tmp_path, *(f"{part}/{k}.png" for part in ("train", "test") for k in range(2)))
    listed(root / "train" / "metadata.csv", *({"file_name": f"{k}.png", "label": k} for k in range(2)))
    listed(root / "test" / "metadata.csv", *({"file_name": f"{k}.png", "label": ["cat", "dog"][k]} for k in range(2)))
    assert find(root, "train").classes == ["0", "1"] and find(root, "test").classes == ["cat", "dog"]


def test_labels_of_metadata_that_are_written_as_floats_are_numbers(tmp_path: Path) -> None:
    root = tree(tmp_path, "0.png", "1.png", "2.png")
    rows = [{"file_name": f"{k}.png", "label": label} for k, label in enumerate((2.0, 10.0, 0.0))]
    for ending in ("csv", "jsonl"):
        listed(root / f"metadata.{ending}", *rows)
        assert find(root, "train").labels == [2, 10, 0] and len(find(root, "train").classes or ()) == 11
        (root / f"metadata.{ending}").unlink()
    listed(root / "metadata.csv", *rows[:2], rows[2] | {"label": 10**12})
    with pytest.raises(ValueError, match="labels, below 1,000,000, got 1000000000000 in pets: number the classes 0, 1"):
        find(root, "train")
    (root / "metadata.csv").write_text("file_name,label,label\n0.png,1,0\n")
    with pytest.raises(ValueError, match="got .*metadata.csv: two of its columns have one name: rename one"):
        find(root, "train")
