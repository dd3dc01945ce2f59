"""Names of a network's outputs: written, read, carried by a loaded model, forgotten with its classifier."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn
from toys import full_disk

from robust_hub.cli.main import main
from robust_hub.errors import CheckpointError
from robust_hub.layout import CONFIG
from robust_hub.models.checkpoint import save_checkpoint
from robust_hub.models.classes import class_names, note_class_names
from robust_hub.models.config import read_config, read_outline
from robust_hub.models.labels import check_label_names, name_classes
from robust_hub.models.resnets import load_model
from robust_hub.models.shelves import checkpoint_folder

TINY: dict[str, Any] = {"channels": (32, 32, 32, 32), "layers": (1, 1, 1, 1)}
PETS = ("cat", "dog", "owl")


@pytest.fixture
def model() -> nn.Module:
    made: nn.Module = timm.create_model("resnet18s_gn", num_classes=3, **TINY).eval()
    note_class_names(made, PETS)
    return made


@pytest.fixture
def folder(model: nn.Module, tmp_path: Path) -> Path:
    return save_checkpoint(model, tmp_path / "pets")


def edit(folder: Path, **values: Any) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, **values}))


def carried(model: Any) -> Any:
    return model.pretrained_cfg.get("label_names")


def test_names_come_back_by_every_door(folder: Path) -> None:
    assert json.loads((folder / CONFIG).read_text())["label_names"] == list(PETS)
    assert read_config(folder).label_names == read_outline(folder)["label_names"] == PETS
    assert carried(load_model(folder)) == PETS
    assert carried(timm.create_model(f"local-dir:{folder}", pretrained=True)) == PETS
    named = timm.create_model("resnet18s_gn", pretrained=True, pretrained_cfg_overlay={"file": str(folder)}, **TINY)
    assert carried(named) == PETS


def test_another_classifier_has_no_names(folder: Path, model: nn.Module, tmp_path: Path) -> None:
    for other in (load_model(folder, num_classes=5), load_model(folder, num_classes=0)):
        assert carried(other) is None
    features = timm.create_model(f"local-dir:{folder}", pretrained=True, features_only=True)
    assert carried(features) is None
    assert carried(timm.create_model(f"local-dir:{folder}", pretrained=False)) is None, "random weights know no class"
    loaded: Any = load_model(folder)
    loaded.reset_classifier(3)
    assert carried(loaded) is None
    assert read_config(save_checkpoint(loaded, tmp_path / "other")).label_names is None
    assert "label_names" not in json.loads((tmp_path / "other" / CONFIG).read_text())
    replaced: Any = load_model(folder)
    replaced.fc = nn.Linear(replaced.fc.in_features, 3)
    assert carried(replaced) is None, "of as many classes, and others"


def test_a_new_classifier_keeps_the_pooling(folder: Path) -> None:
    model: Any = load_model(folder, global_pool="max")
    model.reset_classifier(4)
    assert model.global_pool.pool_type == "max"


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        (None, None),
        ([], None),
        (list(PETS), PETS),
        ({"2": "owl", "0": "cat", "1": "dog"}, PETS),
        ({"0": "cat", "2": "owl"}, None),  # timm lets a number have no name
        (["LABEL_0", "LABEL_1", "LABEL_2"], None),  # transformers, where it knows none
        (["LABEL_1", "LABEL_0", "LABEL_2"], ("LABEL_1", "LABEL_0", "LABEL_2")),
        (["", "ä", "a\nb"], ("", "ä", "a\nb")),
    ],
)
def test_what_a_config_may_say(names: Any, taken: Any, folder: Path) -> None:
    assert check_label_names(names, 3) == taken
    edit(folder, label_names=names)
    assert read_config(folder).label_names == taken
    assert carried(load_model(folder)) == taken


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["cat", "dog"], "2 label_names for 3 classes, expected one a class"),
        (["cat", "dog", 3], "label_names .*expected a text for each class"),
        ("cat", "label_names 'cat', expected a text for each class"),
        (["cat", "dog", "o" * 1001], "expected a text for each class"),
        ({"0": "cat", "1": ["dog"], "2": "owl"}, "expected a text for each class"),
    ],
)
def test_what_it_may_not_say(names: Any, words: str, folder: Path) -> None:
    edit(folder, label_names=names)
    with pytest.raises(CheckpointError, match=words):
        load_model(folder)


def test_names_of_a_head_that_is_gone_are_not_read(model: nn.Module) -> None:
    assert class_names(model) == PETS
    note_class_names(model, (*PETS, "yak"))
    assert class_names(model) is None
    assert class_names(nn.Linear(2, 2)) is None


def test_more_names_than_a_config_can_hold_are_left_out(tmp_path: Path) -> None:
    model = timm.create_model("resnet18s_gn", num_classes=3000, **TINY)
    note_class_names(model, [f"{k:04d}" * 249 for k in range(3000)])
    assert load_model(save_checkpoint(model, tmp_path)).num_classes == 3000


def test_naming_changes_nothing_else(folder: Path) -> None:
    before = (folder / CONFIG).read_text().splitlines()
    assert name_classes(folder, ["x", "y", "z"]) == folder / CONFIG
    after = (folder / CONFIG).read_text().splitlines()
    assert [line for line in before if line.strip(' ,"') not in PETS] == [
        line for line in after if line.strip(' ,"') not in ("x", "y", "z")
    ]
    keys = list(json.loads((folder / CONFIG).read_text()))
    assert keys[keys.index("num_features") + 1] == "label_names"


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a", "b"], "expected 3 names for the classes of .*, got 2: give one a class"),
        (["a", "b", "a"], "expected names that tell classes apart, got 'a' twice: correct them"),
    ],
)
def test_names_that_do_not_fit(names: list[str], words: str, folder: Path) -> None:
    before = (folder / CONFIG).read_bytes()
    with pytest.raises(ValueError, match=words):
        name_classes(folder, names)
    assert (folder / CONFIG).read_bytes() == before


def test_the_command(folder: Path, tmp_path: Path) -> None:
    for word in ("ant", "bee", "fly"):
        (tmp_path / "data" / word).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "data" / word / "0.png")
    done = CliRunner().invoke(main, ["name-classes", str(folder), "--data", str(tmp_path / "data")])
    assert done.exit_code == 0 and "3 classes from 'ant' to 'fly'" in done.output, done.output
    assert carried(load_model(folder)) == ("ant", "bee", "fly")
    (tmp_path / "names.txt").write_text("red\n\nlight green\nblue\n")
    done = CliRunner().invoke(main, ["name-classes", str(folder), "--names", str(tmp_path / "names.txt")])
    assert done.exit_code == 0 and carried(load_model(folder)) == ("red", "light green", "blue"), done.output
    done = CliRunner().invoke(main, ["name-classes", str(folder)])
    assert done.exit_code == 2 and "expected either --data or --names" in done.output


def test_a_full_disk_is_one_sentence_that_says_what_to_do(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "names.txt").write_text("red\ngreen\nblue\n")
    monkeypatch.setattr(os, "fsync", full_disk)
    done = CliRunner().invoke(main, ["name-classes", str(folder), "--names", str(tmp_path / "names.txt")])
    said = f"can be written, got {folder / CONFIG} (No space left on device): make room or name another"
    assert done.exit_code == 2 and said in done.output


CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def test_the_shelf_names_its_classes() -> None:
    names = {name: checkpoint_folder(name) for name in timm.list_pretrained("resnet*_*")}
    told = {name: read_config(folder) for name, folder in names.items() if folder is not None}
    data = {name: config.provenance.data for name, config in told.items() if config.provenance is not None}
    assert {told[name].label_names for name, one in data.items() if one == "cifar10"} == {CIFAR10}
    tiny = {told[name].label_names for name, one in data.items() if one == "tiny-imagenet-32"}
    assert len(tiny) == 1 and len(set(*tiny)) == 200 and all(name.startswith("n") for name in next(iter(tiny)) or ())


def test_a_checkpoint_without_names_is_as_before(tmp_path: Path) -> None:
    model = timm.create_model("resnet18s_gn", num_classes=3, **TINY).eval()
    folder = save_checkpoint(model, tmp_path)
    assert "label_names" not in json.loads((folder / CONFIG).read_text())
    loaded = load_model(folder)
    x = torch.rand(2, 3, 32, 32)
    assert carried(loaded) is None and torch.equal(loaded(x), model(x))


def test_a_head_by_hand_of_other_classes_has_no_names_and_loads(model: nn.Module, tmp_path: Path) -> None:
    note_class_names(model, [f"class {k}" for k in range(model.num_classes)])  # type: ignore[arg-type]
    model.fc = nn.Linear(model.fc.in_features, 9)  # type: ignore[union-attr, arg-type]
    assert class_names(model) is None
    back = load_model(save_checkpoint(model, tmp_path))
    assert back.num_classes == 9 and class_names(back) is None
