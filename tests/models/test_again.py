"""What is saved can be loaded: a network that timm would make otherwise is refused, with what to do about it."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.optim.swa_utils import AveragedModel

from robust_hub.models.again import bare
from robust_hub.models.checkpoint import check_savable, read_weights, save_checkpoint
from robust_hub.models.config import read_config
from robust_hub.models.resnets import load_model

TINY: dict[str, Any] = {"channels": (32, 32, 32, 32), "layers": (1, 1, 1, 1), "num_classes": 5}
X = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def make(name: str = "resnet18s_ln", **kwargs: Any) -> nn.Module:
    """A tiny network no layer of which is silent."""
    generator = torch.Generator().manual_seed(1)
    model = timm.create_model(name, **{**(TINY if name.startswith("resnet18s") else {}), **kwargs}).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def changed(change: Callable[[nn.Module], object], **kwargs: Any) -> nn.Module:
    model = make(**kwargs)
    change(model)
    return model.eval()


def compiled(model: nn.Module) -> Any:
    return torch.compile(model, backend="eager")


def averaged(model: nn.Module) -> nn.Module:
    """A wrapper with a buffer of its own."""
    wrapper = AveragedModel(model)
    wrapper.update_parameters(model)
    return wrapper


def frozen(name: str) -> nn.Module:
    model: nn.Module = timm.layers.freeze_batch_norm_2d(make(name))  # type: ignore[no-untyped-call]
    return model.eval()


def shared(model: nn.Module) -> None:
    model.layer4[0].conv2.weight = model.layer3[0].conv2.weight


SAVED: dict[str, Callable[[], nn.Module]] = {
    "pooling": lambda: changed(lambda m: m.reset_classifier(4, "max")),
    "wider pooling": lambda: changed(lambda m: m.reset_classifier(4, "catavgmax")),
    "pooling of timm's own": lambda: changed(lambda m: m.reset_classifier(4, "max"), name="test_resnet"),
    "pooling of a transformer": lambda: changed(lambda m: m.reset_classifier(4, "avg"), name="test_vit", img_size=32),
    "size of a transformer": lambda: changed(lambda m: m.set_input_size(img_size=32), name="test_vit"),
    "activation by name": lambda: make(act_layer="gelu"),
    "activation by class": lambda: make(act_layer=nn.SiLU),
    "numbers of numpy": lambda: make(drop_rate=np.float32(0.25), drop_path_rate=np.float64(0.1)),
    "head by hand": lambda: changed(lambda m: setattr(m, "fc", nn.Linear(32, 9))),
    "dropout by hand": lambda: changed(lambda m: setattr(m.layer2[0], "drop_path", timm.layers.DropPath(0.1))),
    "not in place": lambda: changed(lambda m: setattr(m, "act1", nn.ReLU())),
    "compiled": lambda: compiled(make()),
    "a part compiled": lambda: changed(lambda m: setattr(m, "layer1", compiled(m.layer1))),
    "parallel": lambda: nn.DataParallel(make()),
    "parallel and compiled": lambda: compiled(nn.DataParallel(compiled(make()))),
    "averaged": lambda: averaged(make()),
    "averaged by timm": lambda: timm.utils.ModelEmaV2(make()),
    "averaged by timm, anew": lambda: timm.utils.ModelEmaV3(make()),
    "in a wrapper of one's own": lambda: Plain(make()),
    "half precision": lambda: make().half(),
    "parts that need no gradient": lambda: changed(lambda m: m.layer1.requires_grad_(False)),
    "frozen batch norm": lambda: frozen("resnet18s_bn"),
    "frozen batch norm with activation": lambda: frozen("test_efficientnet"),
    "weights of two layers in one": lambda: changed(shared),
    "a buffer that is not kept": lambda: changed(lambda m: m.register_buffer("step", torch.ones(1), persistent=False)),
}


@pytest.mark.parametrize("what", SAVED)
def test_what_is_saved_can_be_loaded(what: str, tmp_path: Path) -> None:
    model = SAVED[what]()
    back = load_model(save_checkpoint(model, tmp_path))
    size = read_config(tmp_path).input_size[1:]
    x = nn.functional.interpolate(X, size=size)
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        mine, again = copy.deepcopy(bare(model)).float()(x), back(x)
    torch.testing.assert_close(again, mine, rtol=1e-4, atol=1e-4 if "frozen" in what else 0)
    assert "frozen" in what or torch.equal(again, mine)
    assert not [key for key in read_weights(tmp_path) if "_orig_mod" in key or key.startswith("module")]


def test_config_says_what_was_changed(tmp_path: Path) -> None:
    model = changed(lambda m: m.reset_classifier(4, "catavgmax"), name="resnet18s_gn", stem="imagenet")
    config = read_config(save_checkpoint(model, tmp_path))
    assert config.model_args["global_pool"] == "catavgmax" and config.num_classes == 4
    assert config.plain_timm is not None and config.plain_timm[1]["global_pool"] == "catavgmax"
    plain = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert type(plain) is timm.models.resnet.ResNet and torch.equal(plain(X), model(X))
    assert "global_pool" not in read_config(save_checkpoint(make(), tmp_path / "usual")).model_args


def without_patch(model: nn.Module) -> None:
    model.forward_features = lambda x: 2 * type(model).forward_features(model, x).abs()  # type: ignore[assignment]


def patch_forward(model: nn.Module) -> None:
    forward = model.forward
    model.forward = lambda x: forward(x.clamp(0, 1))  # type: ignore[method-assign]


class Scaled(nn.Module):
    """A wrapper that is another function than the network in it."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Classify images whose pixels are scaled first."""
        y: torch.Tensor = self.module((x - 0.5) * torch.tensor([4.0, 1.0, 0.2]).view(3, 1, 1))
        return y


class Plain(Scaled):
    """A wrapper that computes what the network in it does."""

    def forward(self, x: torch.Tensor) -> Any:
        """Give the logits as an object of transformers has them."""
        return {"logits": self.module(x)}


CHANGE = r"pass the change to timm.create_model \(act_layer=, global_pool=, in_chans=, ...\); or save its state_dict"
APART = r"take weight norm, pruning and the like out first \(torch.nn.utils.parametrize.remove_parametrizations\)"
REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "activation": (
        lambda: changed(lambda m: setattr(m, "act1", nn.GELU())),
        rf"resnet18s_ln with \{{.*\}} in act1, GELU\(.*\) in place of ReLU\(.*\): {CHANGE}",
    ),
    "an activation deep inside": (
        lambda: changed(lambda m: setattr(m.layer2[0], "act2", nn.Tanh())),
        r"in layer2.0.act2, Tanh\(\) in place of ReLU",
    ),
    "first layer": (
        lambda: changed(lambda m: setattr(m, "conv1", nn.Conv2d(1, 64, 3, 2, 1, bias=False))),
        rf"in conv1, Conv2d\(1, 64, .*\) in place of Conv2d\(3, 64, .*\): {CHANGE}",
    ),
    "a head of two layers": (
        lambda: changed(lambda m: setattr(m, "fc", nn.Sequential(nn.Linear(32, 8), nn.ReLU(), nn.Linear(8, 5)))),
        rf"in fc, Sequential\(\) in place of Linear\(.*\): {CHANGE}",
    ),
    "one norm's eps": (lambda: changed(lambda m: setattr(m, "bn1", type(m.bn1)(64, eps=0.1))), r"in bn1, GroupNorm1"),
    "a layer more": (
        lambda: changed(lambda m: m.layer1.append(nn.ReLU())),
        r"in layer1.1, ReLU\(\) in place of nothing",
    ),
    "weight norm": (
        lambda: changed(lambda m: parametrizations.weight_norm(m.conv1)),
        rf"in conv1, which is para.*{APART}",
    ),
    "weight norm of old": (
        lambda: changed(lambda m: nn.utils.weight_norm(m.conv1)),
        rf"conv1.weight, which it lacks: {APART}",
    ),
    "spectral norm": (
        lambda: changed(lambda m: parametrizations.spectral_norm(m.fc)),
        rf"in fc, which is para.*{APART}",
    ),
    "pruning": (lambda: changed(lambda m: prune.l1_unstructured(m.conv1, "weight", 0.5)), rf"which it lacks: {APART}"),
    "a buffer": (
        lambda: changed(lambda m: m.register_buffer("step", torch.zeros(1))),
        r"in step, which it has beyond it: delete it, or register a buffer with persistent=False",
    ),
    "a parameter": (
        lambda: changed(lambda m: setattr(m, "more", nn.Parameter(torch.ones(1)))),
        r"in more, which it has",
    ),
    "a patched method": (lambda: changed(without_patch), r"in the features that it computes: .* or take out hooks"),
    "a hook": (
        lambda: changed(lambda m: m.layer4.register_forward_hook(lambda *a: a[2].tanh() + 1) and None),
        r"in the features that it computes: .* or take out hooks",
    ),
    "a hook of the whole": (
        lambda: changed(lambda m: m.register_forward_hook(lambda *a: -a[2]) and None),
        r"got a network that gives other logits than they: take out its hooks",
    ),
    "a hook of the images": (
        lambda: changed(lambda m: m.register_forward_pre_hook(lambda m, x: (x[0].abs(),)) and None),
        r"got a network that gives other logits than they: take out its hooks",
    ),
    "a patched forward": (lambda: changed(patch_forward), r"got a network that gives other logits than they"),
    "a wrapper that scales": (lambda: Scaled(make()), r"got a Scaled around a network that gives other logits"),
    "a wrapper in parallel": (lambda: nn.DataParallel(Scaled(make())), r"got a Scaled around a network"),
    "feature maps": (lambda: make(features_only=True), r"got the model argument features_only, which makes no layers"),
    "no weights": (
        lambda: timm.create_model("resnet18s_ln").to("meta"),
        r"expected a network with weights, got a RobustResNet on the meta device.*outside torch.device\('meta'\)",
    ),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*")
@pytest.mark.parametrize("what", REFUSED)
def test_what_could_not_be_loaded_is_refused(what: str, tmp_path: Path) -> None:
    make_it, said = REFUSED[what]
    model = make_it()
    for ask in (check_savable, lambda model: save_checkpoint(model, tmp_path / "new")):
        with pytest.raises(ValueError, match=said):
            ask(model)
    assert not (tmp_path / "new").exists()


def test_a_name_that_timm_has_lost_is_refused(tmp_path: Path) -> None:
    model = make()
    model.pretrained_cfg = {**model.pretrained_cfg, "architecture": "resnet18s_of_yesterday"}  # type: ignore[dict-item]
    with pytest.raises(
        ValueError, match=r"one of resnet18s_of_yesterday with .*, which it cannot make \(Unknown model"
    ):
        check_savable(model)


def test_looking_changes_neither_the_network_nor_what_is_drawn_next() -> None:
    model = changed(lambda m: m.reset_classifier(4, "max")).train()
    before, drawn = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    check_savable(model)
    assert torch.equal(torch.get_rng_state(), drawn) and all(module.training for module in model.modules())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_autocast_around_saving_or_loading_changes_nothing(tmp_path: Path) -> None:
    model = make()
    save_checkpoint(model, tmp_path / "plain")
    with torch.autocast("cpu", torch.bfloat16):
        save_checkpoint(model, tmp_path / "autocast")
        back = load_model(tmp_path / "plain")
        timm.create_model(f"local-dir:{tmp_path / 'plain'}", pretrained=True)
    assert torch.equal(back(X), model(X))
    assert read_config(tmp_path / "autocast").probe == read_config(tmp_path / "plain").probe


def test_every_word_of_the_advice_is_an_argument_of_timms() -> None:
    named = re.findall(r"(\w+)=", CHANGE)
    assert named == ["act_layer", "global_pool", "in_chans"]
    check_savable(make(act_layer="gelu", global_pool="max", in_chans=1))
