"""The family: what timm promises for every model holds for ours, and weights are never another model's."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.models.resnet import ResNet
from torch import nn

import robust_hub
from robust_hub.errors import CheckpointError
from robust_hub.layout import CONFIG, WEIGHTS
from robust_hub.models import shelves
from robust_hub.models.checkpoint import save_checkpoint
from robust_hub.models.family import NAMES
from robust_hub.models.identity import weights_hash
from robust_hub.models.network import DEPTHS, STEMS, RobustResNet
from robust_hub.models.norms import NORMS
from robust_hub.models.resnets import load_model
from robust_hub.models.shelves import checkpoint_folder, list_checkpoints
from robust_hub.models.stored import sha256

NAME = "resnet18s_ln_mixednoise"
SHALLOW = {"layers": (1, 1, 1, 1), "num_classes": 10}
IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def make(name: str, **kwargs: Any) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(name, **kwargs).eval()


def scramble(model: nn.Module) -> nn.Module:
    """Give every parameter a value of its own, so that no layer is silent at the start of training."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data.copy_(parameter.data + 0.1 * noise if parameter.ndim == 1 else noise * parameter.data.std())
    return model


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Tiny work: on a busy machine, threads that wait for one another cost more than they give."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stands for a pretrained checkpoint: 7 classes and a mean of its own."""
    model = scramble(make(NAME, num_classes=7, pretrained_cfg_overlay={"mean": (0.1, 0.2, 0.3)}))
    return save_checkpoint(model, tmp_path_factory.mktemp("trained"))


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "copy"))


def from_folder(folder: Path, name: str = NAME, **kwargs: Any) -> nn.Module:
    return make(name, pretrained=True, pretrained_cfg_overlay={"file": str(folder)}, **kwargs)


# --- Names


def test_every_member_is_registered() -> None:
    assert set(NAMES.values()) == {(depth, norm) for depth in DEPTHS for norm in NORMS}
    assert len(NAMES) == len(DEPTHS) * len(NORMS) * 2 == 32
    assert set(NAMES) <= set(timm.list_models())
    assert [timm.model_entrypoint(name).__name__ for name in NAMES] == list(NAMES)


def test_every_member_can_be_built() -> None:
    with torch.device("meta"):
        for name in NAMES:
            model = timm.create_model(name, num_classes=10)
            if name != "resnet50_gn":
                depth, norm = NAMES[name]
                assert name.startswith(f"{depth}_{norm}")
                assert (model.norm_kind, model.stem) == (norm, DEPTHS[depth]["stem"])
                assert type(model.bn1) is type(NORMS[norm](64))


@pytest.mark.parametrize("depth", DEPTHS)
def test_all_norms_learn_the_same_parameters(depth: str) -> None:
    with torch.device("meta"):
        members = [timm.create_model(f"{depth}_{norm}", stem="cifar") for norm in NORMS]
    shapes = [{name: p.shape for name, p in model.named_parameters()} for model in members]
    assert all(shape == shapes[0] for shape in shapes)
    count = sum(shape.numel() for shape in shapes[0].values())
    assert count > {"resnet18s": 2e6, "resnet26": 1e7, "resnet50": 2e7, "resnet152": 5e7}[depth]


def test_importing_reads_no_weights_and_opens_no_connection() -> None:
    program = (
        "import socket, sys\n"
        "def no(*a, **k): raise AssertionError('network')\n"
        "socket.socket.connect = no\n"
        "opened = []\n"
        "sys.addaudithook(lambda e, a: opened.append(str(a[0])) if e == 'open' else None)\n"
        "import robust_hub, timm, robust_hub.models.resnets\n"
        "assert 'resnet18s_ln' in timm.list_models()\n"
        "assert not [f for f in opened if f.endswith(('.safetensors', '.zlib'))], opened\n"
        "print('quiet')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "quiet", done.stderr


def test_resnet50_gn_stays_timms_own() -> None:
    with torch.device("meta"):
        model = timm.create_model("resnet50_gn")
        ours = timm.create_model("resnet50_gn", stem="cifar", num_classes=10)
    assert type(model) is ResNet
    assert model.conv1.kernel_size == (7, 7)
    assert model.pretrained_cfg["hf_hub_id"] == "timm/resnet50_gn.a1h_in1k"
    assert type(ours) is RobustResNet
    assert (ours.norm_kind, ours.conv1.kernel_size, ours.num_classes) == ("gn", (3, 3), 10)


def test_unknown_names_offer_near_ones() -> None:
    with pytest.raises(ValueError, match=r"no model is called 'resnet18s_lnn': did you mean resnet18s_ln or "):
        load_model("resnet18s_lnn")
    with pytest.raises(ValueError, match=r"`robust-hub models` lists ours"):
        load_model("?")
    with pytest.raises(ValueError, match=r"unknown stem 'cifer': did you mean cifar or cifar_s2\?"):
        make("resnet18s_ln", stem="cifer")
    with pytest.raises(ValueError, match=r"unknown norm 'gnn': did you mean gn\?"):
        make("resnet18s_ln", norm="gnn")
    with pytest.raises(ValueError, match=r"unknown norm 'xyz': did you mean bn or gn or in or ln\?"):
        RobustResNet(**{**DEPTHS["resnet18s"], "norm": "xyz"})
    with pytest.raises(ValueError, match=r"has norm 'ln' in its name, got norm='gn': create resnet18s_gn"):
        make("resnet18s_ln", norm="gn")


# --- timm's own features


@pytest.mark.parametrize(("stem", "side", "reduction"), [("cifar", 4, 1), ("cifar_s2", 2, 2), ("imagenet", 1, 2)])
def test_stems(stem: str, side: int, reduction: int) -> None:
    model = make("resnet18s_ln", stem=stem, num_classes=10)
    assert model.stem == stem
    assert stem in STEMS
    assert model.forward_features(IMAGES).shape == (4, 256, side, side)
    assert model(IMAGES).shape == (4, 10)
    assert model.feature_info[0]["reduction"] == reduction


@pytest.mark.parametrize("stem", STEMS)
def test_features_only_tells_its_true_reductions(stem: str) -> None:
    model = make("resnet18s_gn", stem=stem, features_only=True)
    maps = model(torch.rand(1, 3, 64, 64))
    assert [m.shape[1] for m in maps] == model.feature_info.channels()
    assert [64 // m.shape[-1] for m in maps] == model.feature_info.reduction()
    assert len(maps) == 5


def test_out_indices() -> None:
    maps = make("resnet18s_ln", features_only=True, out_indices=(1, 3))(IMAGES)
    assert [tuple(m.shape[1:]) for m in maps] == [(32, 16, 16), (128, 4, 4)]


def test_heads() -> None:
    model = make("resnet18s_in", num_classes=5)
    assert model(IMAGES).shape == (4, 5)
    model.reset_classifier(9)
    assert model(IMAGES).shape == (4, 9)
    assert model.num_classes == 9
    assert model.get_classifier() is model.fc
    model.reset_classifier(0)
    assert model(IMAGES).shape == (4, 256)
    assert make("resnet18s_ln", num_classes=0)(IMAGES).shape == (4, 256)


@pytest.mark.parametrize("stem", STEMS)
def test_one_channel(stem: str) -> None:
    assert make("resnet18s_ln", stem=stem, in_chans=1, num_classes=10)(IMAGES[:, :1]).shape == (4, 10)


def test_gradient_checkpointing_changes_nothing() -> None:
    model = scramble(make("resnet18s_ln", **SHALLOW)).train()
    model(IMAGES).square().sum().backward()
    plain = {k: p.grad.clone() for k, p in model.named_parameters()}
    model.zero_grad()
    model.set_grad_checkpointing()
    assert model.grad_checkpointing
    model(IMAGES).square().sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, plain[name])


def test_export() -> None:
    model = scramble(make("resnet18s_gn", **SHALLOW))
    program = torch.export.export(model, (IMAGES,))
    torch.testing.assert_close(program.module()(IMAGES), model(IMAGES))


# --- An image alone and in a batch


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("norm", ["gn", "in", "ln"])
def test_company_changes_nothing(norm: str, training: bool) -> None:
    model = scramble(make(f"resnet18s_{norm}", **SHALLOW)).train(training)
    with torch.no_grad():
        together = model(IMAGES)
        alone = torch.cat([model(image[None]) for image in IMAGES])
    assert together.std(0).max() > 1e-3  # the images do differ
    torch.testing.assert_close(alone, together, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("norm", ["gn", "in", "ln"])
def test_train_and_eval_mode_agree_without_batch_norm(norm: str) -> None:
    model = scramble(make(f"resnet18s_{norm}", **SHALLOW))
    with torch.no_grad():
        assert torch.equal(model.eval()(IMAGES), model.train()(IMAGES))


def test_company_changes_everything_for_batch_norm_in_train_mode() -> None:
    model = scramble(make("resnet18s_bn", **SHALLOW))
    with torch.no_grad():
        torch.testing.assert_close(model(IMAGES[:2]), model(IMAGES)[:2], atol=1e-4, rtol=1e-4)
        model.train()
        difference = (model(IMAGES[:2]) - model(IMAGES)[:2]).abs().max()
    assert difference > 1e-2


# --- Weights from a folder


def test_weights_of_a_folder_that_is_named(trained: Path) -> None:
    model = from_folder(trained)
    assert model.num_classes == 7
    assert torch.equal(model(IMAGES), load_model(trained).eval()(IMAGES))
    assert model.pretrained_cfg["mean"] == (0.1, 0.2, 0.3)
    assert "state_dict" not in model.pretrained_cfg
    json.dumps(model.pretrained_cfg)  # no tensors left in it


def test_the_weights_file_itself_may_be_named(trained: Path) -> None:
    assert torch.equal(from_folder(trained / WEIGHTS)(IMAGES), from_folder(trained)(IMAGES))


@pytest.mark.parametrize("way", ["timm", "load_model"])
def test_other_classes_get_a_fresh_head_on_the_same_features(trained: Path, way: str) -> None:
    whole = from_folder(trained)
    torch.manual_seed(1)
    model = from_folder(trained, num_classes=3) if way == "timm" else load_model(trained, num_classes=3).eval()
    assert model(IMAGES).shape == (4, 3)
    assert torch.equal(model.forward_features(IMAGES), whole.forward_features(IMAGES))
    assert from_folder(trained, num_classes=0)(IMAGES).shape == (4, 256)


@pytest.mark.parametrize("way", ["timm", "load_model"])
def test_one_channel_from_three(trained: Path, way: str) -> None:
    grey = IMAGES[:, :1]
    model = from_folder(trained, in_chans=1) if way == "timm" else load_model(trained, in_chans=1).eval()
    torch.testing.assert_close(model(grey), from_folder(trained)(grey.expand(-1, 3, -1, -1)), atol=1e-4, rtol=1e-4)


def test_one_channel_from_one(tmp_path: Path) -> None:
    model = make("resnet18s_ln", in_chans=1, num_classes=7)
    save_checkpoint(model, tmp_path)
    assert torch.equal(from_folder(tmp_path, in_chans=1)(IMAGES[:, :1]), model(IMAGES[:, :1]))


def test_pretrained_features(trained: Path) -> None:
    maps = from_folder(trained, features_only=True)(IMAGES)
    torch.testing.assert_close(maps[-1], from_folder(trained).forward_features(IMAGES))


def test_local_dir_of_timm(trained: Path, folder: Path) -> None:
    expected = from_folder(trained)(IMAGES)
    assert torch.equal(make(f"local-dir:{folder}", pretrained=True)(IMAGES), expected)
    assert torch.equal(load_model(f"local-dir:{folder}").eval()(IMAGES), expected)
    assert make(f"local-dir:{folder}").num_classes == 7
    (folder / WEIGHTS).write_bytes(b"x" + (folder / WEIGHTS).read_bytes()[1:])
    with pytest.raises(CheckpointError, match="sha256"):
        make(f"local-dir:{folder}", pretrained=True)


def test_the_twin_without_the_suffix_takes_the_same_weights(trained: Path) -> None:
    assert torch.equal(from_folder(trained, "resnet18s_ln")(IMAGES), from_folder(trained)(IMAGES))


@pytest.mark.parametrize("norm", ["bn", "gn", "in"])
def test_weights_of_another_norm(trained: Path, norm: str) -> None:
    with pytest.raises(CheckpointError, match=rf"holds weights of resnet18s_ln, the model is resnet18s_{norm}$"):
        from_folder(trained, f"resnet18s_{norm}_mixednoise")


@pytest.mark.parametrize("way", ["timm", "load_model"])
def test_weights_of_another_stem(trained: Path, way: str) -> None:
    with pytest.raises(CheckpointError, match=r"holds weights of stem 'cifar_s2', the model has stem 'cifar'"):
        from_folder(trained, stem="cifar") if way == "timm" else load_model(trained, stem="cifar")


def test_a_config_that_lies_about_its_norm(folder: Path) -> None:
    text = (folder / CONFIG).read_text().replace("resnet18s_ln", "resnet18s_gn").replace('"ln"', '"gn"')
    (folder / CONFIG).write_text(text)
    with pytest.raises(CheckpointError, match=r"was made with norm 'ln', config.json says 'gn'"):
        from_folder(folder, "resnet18s_gn_mixednoise")


def test_damage(folder: Path) -> None:
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / WEIGHTS).write_bytes(data)
    with pytest.raises(CheckpointError, match=r"damaged or another one"):
        from_folder(folder)
    (folder / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match=r"found none"):
        from_folder(folder)
    (folder / CONFIG).write_text("{")
    with pytest.raises(CheckpointError, match=r"config.json is damaged"):
        from_folder(folder)


def test_missing_layer_with_an_honest_hash(folder: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    with safe_open(folder / WEIGHTS, "pt") as file:
        metadata = file.metadata()
    state = load_file(folder / WEIGHTS)
    del state["layer4.1.conv2.weight"]
    save_file(state, folder / WEIGHTS, metadata=metadata)
    config = json.loads((folder / CONFIG).read_text())
    config["robust_hub"]["sha256"] = sha256(folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(config))
    for kwargs in ({}, {"num_classes": 3}, {"features_only": True}):
        with pytest.raises(CheckpointError, match=r"missing layer4\.1\.conv2\.weight$"):
            from_folder(folder, **kwargs)


# --- Weights by name


def test_no_weights_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shelves, "shelves", lambda: [tmp_path / "a", tmp_path])
    assert list_checkpoints() == []
    said = (
        rf"^resnet50_ln_mixednoise has no trained weights in {tmp_path}/a \(no such folder\), {tmp_path}, .*Weights "
        r"come with a clone of robust_hub .*, or from `robust-hub pretrain`; pretrained=False makes random ones$"
    )
    with pytest.raises(CheckpointError, match=said):
        load_model("resnet50_ln_mixednoise")


def test_weights_by_name_come_from_the_shelf_then_the_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, trained: Path
) -> None:
    monkeypatch.setattr(shelves, "shelves", lambda: [tmp_path / "shelf", tmp_path / "packaged"])
    shutil.copytree(trained, tmp_path / "packaged" / NAME)
    assert list_checkpoints() == [NAME]
    assert torch.equal(make(NAME, pretrained=True)(IMAGES), from_folder(trained)(IMAGES))
    other = make(NAME, num_classes=5)
    save_checkpoint(other, tmp_path / "shelf" / NAME)
    assert torch.equal(load_model(NAME).eval()(IMAGES), other(IMAGES))
    assert load_model(NAME, pretrained=False).num_classes == 200  # as was registered
    assert load_model("resnet18s_ln").num_classes == 1000  # an architecture has no weights


def test_a_tag_names_weights_of_its_own(tmp_path: Path, trained: Path) -> None:
    # timm asks for tags when the package is imported: a copy of it with two checkpoints on its shelf.
    shutil.copytree(
        Path(robust_hub.__file__).parent, tmp_path / "robust_hub", ignore=shutil.ignore_patterns("__pycache__")
    )
    torch.manual_seed(5)
    for name, classes in ((f"{NAME}.cifar10", 10), (f"{NAME}.broken", 4), ("resnet18s_ln.baseline", 3)):
        save_checkpoint(make(name.split(".")[0], num_classes=classes), tmp_path / "model_cards" / name)
    (tmp_path / "model_cards" / f"{NAME}.broken" / CONFIG).write_text("{")
    code = f"""
import timm, torch, robust_hub
from robust_hub.models.shelves import checkpoint_folder
assert robust_hub.__file__.startswith({str(tmp_path)!r}), robust_hub.__file__
assert "{NAME}.cifar10" in timm.list_pretrained("resnet18s*") and "{NAME}" in timm.list_pretrained("resnet18s*")
tagged, plain = (timm.create_model(n, pretrained=True).eval() for n in ("{NAME}.cifar10", "{NAME}"))
assert (tagged.num_classes, plain.num_classes) == (10, 200)
assert torch.equal(tagged.fc.weight, robust_hub.load_model("{NAME}.cifar10").fc.weight)
assert torch.equal(tagged.fc.weight, robust_hub.load_model(checkpoint_folder("{NAME}.cifar10")).fc.weight)
# A baseline is loaded by its full name alone, and is no default of the architecture's.
assert "resnet18s_ln.baseline" in timm.list_pretrained() and "resnet18s_ln" not in timm.list_pretrained()
assert timm.create_model("resnet18s_ln.baseline", pretrained=True).num_classes == 3
by_name = robust_hub.load_model("resnet18s_ln.baseline").state_dict()
by_folder = robust_hub.load_model(checkpoint_folder("resnet18s_ln.baseline")).state_dict()
assert all(torch.equal(value, by_folder[key]) for key, value in by_name.items())
assert not timm.create_model("resnet18s_ln").pretrained_cfg.get("file")
for name, words in (
    ("{NAME}.nosuch", "{NAME}.nosuch has no trained weights in"),
    ("{NAME}.broken", "config.json is damaged"),
    ("resnet18s_ln", "resnet18s_ln has no trained weights in"),
):
    try:
        timm.create_model(name, pretrained=True)
    except robust_hub.CheckpointError as error:
        assert words in str(error), error
    else:
        raise AssertionError(name)
"""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


# Of each kind one of the small network: packaged, difference, whole, bfloat16, baseline; the rest in the full tier.
SAMPLE = {"", ".cifar10_e5", ".tin_e42", ".cifar10_bf16", ".noise0.25_cifar10"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if re.sub(r"^resnet18s_ln(_mixednoise)?", "", name) in SAMPLE else pytest.mark.full)
        for name in list_checkpoints()
    ],
)
def test_every_checkpoint_here_loads_by_its_name_and_is_the_one_certified(name: str) -> None:
    folder = checkpoint_folder(name)
    assert folder is not None
    model = timm.create_model(name, pretrained=True)
    assert torch.equal(next(model.parameters()), next(load_model(folder).parameters()))
    identities = [json.loads(p.read_text())["identity"] for p in (folder / "certification").glob("*/run.json")]
    for dtype in {identity["dtype"] for identity in identities}:
        certified = weights_hash(timm.create_model(name, pretrained=True).to(getattr(torch, dtype)))
        assert {identity["weights"] for identity in identities if identity["dtype"] == dtype} == {certified}


def test_networks_with_weights_are_ready_to_be_used() -> None:
    # Batch norm and dropout in training mode make certificates of another function than the one that was trained.
    made = (
        timm.create_model("resnet18s_ln_mixednoise", pretrained=True),
        load_model("resnet18s_ln_mixednoise"),
        load_model("resnet18s_bn"),
        load_model("test_resnet"),
    )
    assert not any(module.training for model in made for module in model.modules())
    assert timm.create_model("resnet18s_ln").training  # as timm gives any network that is to be trained
