"""What timm's registry says of a name is what its weights are, so that timm's own ways of loading work."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import get_pretrained_cfg, load_pretrained
from torch import nn

from robust_hub.errors import CheckpointError
from robust_hub.layout import CONFIG, WEIGHTS
from robust_hub.models import entrypoints, shelves
from robust_hub.models.checkpoint import save_checkpoint
from robust_hub.models.config import read_config
from robust_hub.models.entrypoints import _told
from robust_hub.models.family import NAMES
from robust_hub.models.resnets import load_model
from robust_hub.models.shelves import checkpoint_folder, list_checkpoints

PACKAGED = "resnet18s_ln_mixednoise"
DIFFERENCE = f"{PACKAGED}.cifar10"
TINY: dict[str, Any] = {"channels": (32, 32, 32, 32), "layers": (1, 1, 1, 1)}
IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))

on_the_shelf = pytest.mark.skipif(checkpoint_folder(DIFFERENCE) is None, reason="the repository's shelf is not here")


def fresh(name: str, **kwargs: Any) -> nn.Module:
    made: nn.Module = timm.create_model(name, **kwargs).eval()
    return made


def test_every_pretrained_name_says_what_its_weights_are() -> None:
    told = {}
    for name in list_checkpoints():
        folder = checkpoint_folder(name)
        assert folder is not None and name.split(".")[0] in NAMES
        cfg, config = get_pretrained_cfg(name), read_config(folder)
        said = {key: getattr(cfg, key) for key in config.pretrained_cfg}
        assert said == {k: tuple(v) if isinstance(v, list) else v for k, v in config.pretrained_cfg.items()}, name
        assert (cfg.num_classes, cfg.label_names) == (config.num_classes, config.label_names), name
        told[name] = cfg.num_classes
    assert told[PACKAGED] == 200 and set(told) <= set(timm.list_pretrained())


def test_an_architecture_says_what_it_said() -> None:
    for name in NAMES:
        if checkpoint_folder(name) is None and name != "resnet50_gn":
            cfg = timm.get_pretrained_cfg(name)
            assert (cfg.num_classes, cfg.input_size, cfg.label_names, cfg.file) == (1000, (3, 32, 32), None, None)


@on_the_shelf
@pytest.mark.parametrize("name", [PACKAGED, DIFFERENCE])
def test_timms_own_loading_without_a_number_of_classes(name: str, tmp_path: Path) -> None:
    want = fresh(name, pretrained=True)
    model: Any = fresh(name)
    assert not torch.equal(model(IMAGES), want(IMAGES)) and "label_names" not in model.pretrained_cfg
    load_pretrained(model)
    assert torch.equal(model(IMAGES), want(IMAGES))
    assert model.pretrained_cfg["label_names"] == want.pretrained_cfg["label_names"]
    save_file(want.state_dict(), str(tmp_path / WEIGHTS))
    torch.save({"state_dict": want.state_dict()}, tmp_path / "x.pth.tar")
    for file in (WEIGHTS, "x.pth.tar"):
        assert torch.equal(fresh(name, checkpoint_path=str(tmp_path / file))(IMAGES), want(IMAGES))


def test_timms_own_loading_adapts_classifier_and_channels() -> None:
    want = fresh(PACKAGED, pretrained=True)
    other: Any = fresh(PACKAGED, num_classes=3)
    head = other.fc.weight.clone()
    load_pretrained(other, num_classes=3)
    assert torch.equal(other.forward_features(IMAGES), want.forward_features(IMAGES))
    assert torch.equal(other.fc.weight, head) and "label_names" not in other.pretrained_cfg
    grey = fresh(PACKAGED, in_chans=1)
    load_pretrained(grey, in_chans=1)
    assert torch.equal(grey(IMAGES[:, :1]), fresh(PACKAGED, in_chans=1, pretrained=True)(IMAGES[:, :1]))


def test_timms_own_loading_is_checked(tmp_path: Path) -> None:
    saved = save_checkpoint(fresh("resnet18s_gn", num_classes=3, **TINY), tmp_path / "gn")
    model: Any = fresh("resnet18s_ln", num_classes=3, **TINY)
    with pytest.raises(CheckpointError, match="holds weights of resnet18s_gn, the model is resnet18s_ln"):
        model.load_pretrained(saved / WEIGHTS)
    model = fresh("resnet18s_gn", num_classes=3, **TINY)
    model.load_pretrained(saved)
    damaged = Path(shutil.copytree(saved, tmp_path / "damaged"))
    (damaged / WEIGHTS).write_bytes((damaged / WEIGHTS).read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError, match="the file is damaged or another one"):
        model.load_pretrained(damaged / WEIGHTS)
    shutil.copy(damaged / WEIGHTS, tmp_path / "mine.safetensors")  # a file beside no config.json is the user's own
    before = model(IMAGES)
    model.load_pretrained(tmp_path / "mine.safetensors")
    assert not torch.equal(model(IMAGES), before)


def test_timms_own_loading_into_another_network_is_refused(tmp_path: Path) -> None:
    """It would leave layers random, or compute something else with the weights, in silence."""
    saved = save_checkpoint(fresh("resnet18s_gn", num_classes=3, global_pool="max", **TINY), tmp_path)
    with pytest.raises(CheckpointError, match="give other features here than config.json promises"):
        fresh("resnet18s_gn", num_classes=3, **TINY).load_pretrained(saved)
    alike = [fresh("resnet18s_gn", num_classes=n, global_pool="max", **TINY) for n in (3, 5)]
    by_hand: Any = fresh("resnet18s_gn", num_classes=3, **TINY)
    by_hand.reset_classifier(5, "max")
    for model in (*alike, by_hand):
        model.load_pretrained(saved)
    other = fresh("resnet18s_gn", num_classes=5, global_pool="max", block_args={"attn_layer": "se"}, **TINY)
    with pytest.raises(CheckpointError, match="layer1.0.se.fc1.bias is in one alone"):
        other.load_pretrained(saved)


@pytest.mark.parametrize("name", ["resnet18s_gn.late", "test_resnet.late"])
def test_a_checkpoint_that_came_onto_a_shelf_meanwhile(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = TINY if name.startswith("resnet18s") else {}
    saved = fresh(name.split(".")[0], num_classes=3, **small)
    save_checkpoint(saved, tmp_path / name)
    monkeypatch.setattr(shelves, "shelves", lambda: [tmp_path])
    x = torch.rand(2, *saved.pretrained_cfg["input_size"])
    assert torch.equal(load_model(name)(x), saved(x))
    assert load_model(name, num_classes=5).num_classes == 5


def test_timms_own_loading_brings_mean_and_std(tmp_path: Path) -> None:
    first: Any = fresh("resnet18s_gn", num_classes=3, **TINY)
    first.pretrained_cfg.update(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    saved = save_checkpoint(first, tmp_path)
    second: Any = fresh("resnet18s_gn", num_classes=3, **TINY)
    second.load_pretrained(saved)
    assert second.pretrained_cfg["mean"] == (0.1, 0.2, 0.3) and second.pretrained_cfg["std"] == (0.4, 0.5, 0.6)
    told: Any = fresh("resnet18s_gn", num_classes=3, pretrained_cfg_overlay={"mean": (0.5, 0.5, 0.5)}, **TINY)
    told.load_pretrained(saved)
    assert told.pretrained_cfg["mean"] == (0.5, 0.5, 0.5)  # the caller's word


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"num_classes": "ten"}', '{"num_classes": 3, "pretrained_cfg": 1}', ""]
)
def test_a_damaged_config_leaves_the_import_alone(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "resnet18s_gn.mine"
    folder.mkdir()
    (folder / CONFIG).write_text(content)
    monkeypatch.setenv("ROBUST_HUB_SHELF", str(tmp_path))
    assert _told(folder.name) == {"file": str(folder / WEIGHTS), "custom_load": True}


def test_a_users_own_checkpoint_is_described_where_it_is_registered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = fresh("resnet18s_gn", num_classes=4, pretrained_cfg_overlay={"mean": (0.1, 0.2, 0.3)}, **TINY)
    save_checkpoint(model, tmp_path / "resnet18s_gn.mine")
    monkeypatch.setenv("ROBUST_HUB_SHELF", str(tmp_path))
    told = _told("resnet18s_gn.mine")
    assert (told["num_classes"], told["mean"], told["label_names"]) == (4, (0.1, 0.2, 0.3), None)
    assert entrypoints._tagged()["resnet18s_gn.mine"].items() >= told.items()


@pytest.mark.parametrize(
    "arguments",
    [
        {"stem_type": "deep"},
        {"stem_type": "deep_tiered", "stem": "cifar"},
        {"replace_stem_pool": True},
    ],
)
def test_what_shapes_a_stem_that_is_replaced_is_refused_at_creation(arguments: dict[str, Any]) -> None:
    name = "stem_type" if "stem_type" in arguments else "replace_stem_pool"
    with pytest.raises(ValueError, match=f"expected no {name} with stem 'cifar.*', got .*: leave it out, or stem="):
        timm.create_model("resnet18s_ln", **arguments)


def test_timms_own_stem_takes_what_shapes_it() -> None:
    for arguments in ({"stem_type": "deep"}, {"stem_type": "deep_tiered"}, {"replace_stem_pool": True}):
        model = fresh("resnet18s_ln", stem="imagenet", num_classes=3, **arguments)
        assert model(torch.rand(1, 3, 64, 64)).shape == (1, 3)
    assert fresh("resnet18s_ln", stem_type="", replace_stem_pool=False, num_classes=3)(IMAGES).shape == (2, 3)


@pytest.mark.parametrize("stem", ["cifar", "cifar_s2", "imagenet"])
@pytest.mark.parametrize("stride", [8, 16, 32])
def test_reductions_are_true_where_stages_are_dilated(stem: str, stride: int) -> None:
    model: Any = timm.create_model(
        "resnet18s_bn", stem=stem, features_only=True, output_stride=stride, channels=(32,) * 4, layers=(1,) * 4
    ).eval()
    maps = model(torch.rand(1, 3, 64, 64))
    assert [64 // one.shape[-1] for one in maps] == model.feature_info.reduction()
