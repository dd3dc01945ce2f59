"""The checkpoints that the page offers, and those it holds."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from toy_page import CLASSES, TOY, toy_shelf

from robust_hub.app import networks
from robust_hub.app.networks import USUAL, Networks, choices


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_shelf(tmp_path_factory.mktemp("shelf"))


def test_the_usual_one_comes_first_then_those_with_names(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBUST_HUB_SHELF", str(shelf))
    offered = choices()
    assert offered[0].name == USUAL and offered[0].sigmas == (0.25, 0.5, 1.0) and offered[0].named
    assert "cifar10, 5 epochs, after it was pretrained on tiny-imagenet-32" in offered[0].trained
    named = [one.named for one in offered]
    assert named == sorted(named, reverse=True) and len({one.name for one in offered}) == len(offered)
    by_name = {one.name: one for one in offered}
    assert by_name[TOY].classes == 3 and by_name[TOY].sigmas is None
    assert by_name["resnet18s_ln.clean_cifar10_scratch"].sigmas == ()
    assert by_name["resnet18s_ln_mixednoise.cifar10"].sigmas is None  # what it started from was not recorded


def test_a_name_or_a_folder_begins(shelf: Path) -> None:
    assert choices("resnet18s_ln_mixednoise")[0].name == "resnet18s_ln_mixednoise"
    folder = str(shelf / TOY)
    assert choices(folder)[0].name == folder and choices(folder)[0].folder == shelf / TOY
    assert choices(folder)[1].name != folder
    with pytest.raises(ValueError, match="expected --model to name a checkpoint .* got 'nothing'"):
        choices("nothing")


def test_damaged_ones_and_those_without_a_classifier_are_not_offered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, change in {
        "toy.damaged": {"architecture": 3},
        "toy.features": {"num_classes": 0},
        "toy.wide": {"pretrained_cfg": {"input_size": [3, 32, 64], "mean": [0.5] * 3, "std": [0.5] * 3}},
    }.items():
        toy_shelf(tmp_path, name)
        path = tmp_path / name / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
    monkeypatch.setenv("ROBUST_HUB_SHELF", str(tmp_path))
    assert not any(one.name.startswith("toy.") for one in choices())


def test_a_network_is_loaded_once_for_all_and_few_are_held(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[Path] = []
    load = networks.load_model
    monkeypatch.setattr(networks, "load_model", lambda folder: loaded.append(folder) or load(folder))
    monkeypatch.setattr(networks, "_HELD", 1)
    held = Networks(choices(str(shelf / TOY)))
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(held.get(str(shelf / TOY)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(one) for one in found}) == 1 and loaded == [shelf / TOY]
    assert held.get(str(shelf / TOY)).classes == CLASSES
    held.get("resnet18s_ln_mixednoise")
    held.get(str(shelf / TOY))
    assert len(loaded) == 3
    with pytest.raises(ValueError, match="expected one of the checkpoints of the page, got '/etc'"):
        held.get("/etc")
