"""Fine-tuning: a fresh classifier, clean images, fixed features on request."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from robust_hub.certification.evaluate import certify
from robust_hub.certification.smoothing import SmoothedClassifier
from robust_hub.images.data import ImageData, load_data
from robust_hub.images.noise import NoiseMixture
from robust_hub.models.checkpoint import read_weights
from robust_hub.models.classes import class_names
from robust_hub.models.config import read_config
from robust_hub.models.resnets import load_model
from robust_hub.provenance import commit, provenance_of, versions
from robust_hub.publishing.cards import card
from robust_hub.publishing.evidence import read_evidence
from robust_hub.training import rates
from robust_hub.training.finetune import finetune_clean, reset_head
from robust_hub.training.options import Options
from robust_hub.training.pretrain import pretrain_mixed_noise
from robust_hub.training.train import train

PIXELS: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
OPTIONS: dict[str, Any] = {"batch_size": 12, "progress": False, **PIXELS}


class Held(nn.Module):
    """A wrapper of one's own that computes what the network in it does."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Give the network's logits."""
        logits: torch.Tensor = self.module(x)
        return logits


def toy_data() -> ImageData:
    """Images of 16x16 whose brightness tells the class."""
    labels = torch.arange(48) % 3
    noise = torch.randint(0, 40, (48, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    images = (labels.view(-1, 1, 1, 1) * 100 + noise).clamp(0, 255).to(torch.uint8)
    return ImageData(images, labels, ("dark", "grey", "light"), name="toy", split="train")


def small(norm: str = "ln", classes: int = 7) -> Any:
    """A small model of the family with fixed weights."""
    torch.manual_seed(0)
    return timm.create_model(f"resnet18s_{norm}", num_classes=classes)


class Watch(nn.Module):
    """A linear classifier that keeps the inputs it was trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 7)
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Give logits of the mean colour."""
        if self.training:
            self.seen.append(x.detach().clone())
        logits: torch.Tensor = self.fc(x.mean((2, 3)))
        return logits


def test_full_fine_tuning_moves_everything_and_learns() -> None:
    model, before = small(), small().state_dict()
    result = finetune_clean(model, toy_data(), epochs=3, learning_rate=0.05, **OPTIONS)
    assert result.model is model
    assert model.num_classes == 3
    assert not model.training
    assert result.history[-1]["loss"] < 0.8 * result.history[0]["loss"]
    assert not torch.equal(model.state_dict()["conv1.weight"], before["conv1.weight"])


def test_training_images_are_clean() -> None:
    model = Watch()
    finetune_clean(model, toy_data(), augment=False, epochs=1, **OPTIONS)
    seen = torch.cat(model.seen) * 0.25 + 0.5
    images = toy_data().batch(range(48))[0].float() / 255
    gaps = (seen[:, None] - images[None]).abs().amax((2, 3, 4))
    assert (gaps.min(1).values < 1e-6).all()
    assert sorted(gaps.argmin(1).tolist()) == list(range(48))


def test_head_only_leaves_the_features_bit_for_bit() -> None:
    model, before = small("bn"), small("bn").state_dict()
    with pytest.warns(UserWarning, match="fine-tuning: this network has batch norm"):
        finetune_clean(model, toy_data(), head_only=True, epochs=2, **OPTIONS)
    after = model.state_dict()
    changed = {k for k in before if before[k].shape != after[k].shape or not torch.equal(before[k], after[k])}
    assert changed == {"fc.weight", "fc.bias"}
    assert all(p.requires_grad for p in model.parameters())


def test_the_head_is_fresh_and_depends_on_the_seed_alone() -> None:
    kept = small(classes=3)
    old = kept.fc.weight.detach().clone()
    heads = []
    for seed, ambient in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(ambient)
        heads.append(reset_head(kept, 3, seed).weight.detach().clone())
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    assert not torch.equal(heads[0], old)


@pytest.mark.parametrize("name", ["fc", "head", "classifier"])
def test_heads_of_plain_models_are_found(name: str) -> None:
    model = nn.Module()
    setattr(model, name, nn.Linear(5, 9))
    assert reset_head(model, 3, 0) is getattr(model, name)
    assert getattr(model, name).weight.shape == (3, 5)
    setattr(model, name, nn.Sequential(nn.Dropout(), nn.Linear(4, 9)))
    assert reset_head(model, 2, 0).weight.shape == (2, 4)  # type: ignore[union-attr]
    assert getattr(model, name)[1].weight.shape == (2, 4)


def test_a_model_without_classifier_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected a model with a classifier"):
        finetune_clean(nn.Sequential(nn.Linear(3, 3), nn.ReLU()), toy_data(), **OPTIONS)


def test_checkpoint_resume_and_another_backbone(tmp_path: Path) -> None:
    model = small()
    first = finetune_clean(model, toy_data(), epochs=1, out=tmp_path, **OPTIONS)
    x = torch.rand(2, 3, 16, 16)
    kept = read_weights(tmp_path)
    assert all(torch.equal(kept[k], v) for k, v in model.state_dict().items())
    again = finetune_clean(small(), toy_data(), epochs=1, out=tmp_path, **OPTIONS)
    assert again.history == first.history
    assert torch.equal(again.model(x), model(x))
    other = small()
    torch.nn.init.normal_(other.conv1.weight)
    with pytest.raises(ValueError, match="pretrained"):
        finetune_clean(other, toy_data(), epochs=1, out=tmp_path, **OPTIONS)


def hand_made(job: str) -> nn.Module:
    """A network with an activation that no config.json says, of the classes that the job wants."""
    model: nn.Module = timm.create_model("resnet18s_ln", layers=(1, 1, 1, 1), num_classes=7 if job == "finetune" else 3)
    model.act1 = nn.GELU()  # type: ignore[assignment]
    return model


@pytest.mark.parametrize("job", ["finetune", "pretrain"])
def test_what_could_not_be_loaded_is_refused_before_the_training(
    job: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates, "train_at", lambda *_: pytest.fail("trained in vain"))
    run = finetune_clean if job == "finetune" else pretrain_mixed_noise
    with pytest.raises(ValueError, match=r"differs from resnet18s_ln (with .* )?in act1, GELU.*act_layer="):
        run(hand_made(job), toy_data(), out=tmp_path / "out", epochs=1, **OPTIONS)
    assert not (tmp_path / "out").exists()
    with pytest.raises(pytest.fail.Exception, match="trained in vain"):  # without a checkpoint it is nobody's business
        run(hand_made(job), toy_data(), epochs=1, **OPTIONS)
    with torch.device("meta"):
        bare = timm.create_model("resnet18s_ln", num_classes=3)
    for out in (None, tmp_path / "out"):
        with pytest.raises(ValueError, match="expected a network with weights, got a RobustResNet on the meta device"):
            run(bare, toy_data(), out=out, epochs=1, **OPTIONS)


@pytest.mark.filterwarnings("ignore:Using .torch.compile.module.. when there are global hooks")  # those of the speed
@pytest.mark.parametrize("how", ["pooling", "compiled", "parallel"])
def test_what_is_trained_can_be_loaded(how: str, tmp_path: Path) -> None:
    plain = timm.create_model("resnet18s_ln", layers=(1, 1, 1, 1), num_classes=7)
    plain.reset_classifier(7, "max" if how == "pooling" else "avg")
    model: Any = torch.compile(plain, backend="eager") if how == "compiled" else plain
    model = nn.DataParallel(model) if how == "parallel" else model
    result = finetune_clean(model, toy_data(), out=tmp_path / "out", epochs=1, **OPTIONS)
    back, x = load_model(tmp_path / "out"), torch.rand(2, 3, 16, 16)
    assert back.num_classes == 3
    with torch.no_grad():
        assert torch.equal(back(x), plain(x)) and torch.equal(back(x), result.model(x))


def test_a_checkpoint_knows_what_it_came_from(tmp_path: Path) -> None:
    """Through a folder or in memory: the provenance of the weights that a job starts from becomes its base."""
    data = load_data("digits", split="train").subset(range(40))
    model = timm.create_model("resnet18s_ln", channels=(32, 32, 32, 32), layers=(1, 1, 1, 1))
    options: dict[str, Any] = {"epochs": 1, "batch_size": 20, "learning_rate": 0.01, "progress": False}
    pretrain_mixed_noise(model, data, mixture=NoiseMixture((0.0, 0.5)), out=tmp_path / "one", **options)
    in_memory = provenance_of(model)
    finetune_clean(load_model(tmp_path / "one"), data, out=tmp_path / "two", **options)
    finetune_clean(load_model(tmp_path / "two"), data, head_only=True, out=tmp_path / "three", **options)
    third = read_config(tmp_path / "three").provenance
    assert third is not None and third.base is not None and third.base.base is not None
    assert third.head_only and third.commit == commit() and third.versions == versions()
    assert not third.base.head_only and third.base.architecture == "resnet18s_ln"
    first = third.base.base
    assert first.sigmas == (0.0, 0.5) and first.data == "digits" and first.base is None
    assert replace(first, architecture=None) == in_memory
    assert third.base.history == () and len(third.history) == 1
    text = card(read_evidence("resnet18s_ln.mine", tmp_path / "three"))
    assert "It started from weights fine-tuned on digits, 1 epoch." in text


@pytest.mark.parametrize("network", ["timm", "torch"])
def test_a_network_carries_the_names_of_the_classes_it_was_trained_on(network: str, tmp_path: Path) -> None:
    """And is certified by them, on a part of the classes in another order."""
    model = timm.create_model("resnet18s_ln", channels=(32,) * 4, layers=(1,) * 4) if network == "timm" else Watch()
    model.pretrained_cfg = {**getattr(model, "pretrained_cfg", {}), "label_names": ("stale",) * 3}  # type: ignore[assignment]
    finetune_clean(model, toy_data(), epochs=3, learning_rate=0.1, **OPTIONS)
    assert class_names(model) == ("dark", "grey", "light")
    kept = [k for k, label in enumerate(toy_data().labels.tolist()) if label]
    names, labels = ("light", "grey"), 2 - toy_data().labels[kept]
    part = ImageData(toy_data().batch(kept)[0], labels, names, name="toy", split="test")
    run = certify(model, part, 0.25, out=tmp_path, every=4, n=50, **{**PIXELS, "progress": False})
    assert [record.label for record in run.records] == [2 - part[i][1] for i in range(0, len(part), 4)]
    assert [run.name(record.label) for record in run.records] == [names[part[i][1]] for i in range(0, len(part), 4)]
    other = part.renumbered(labels, ("lights", "grey"))
    with pytest.raises(ValueError, match=r"got 'lights' in toy \(did you mean light"):
        certify(model, other, 0.25, out=tmp_path / "other", **PIXELS)


@pytest.mark.filterwarnings("ignore:.*this network has batch norm")
@pytest.mark.parametrize("name", ["resnet18s_ln", "test_resnet"])
@pytest.mark.parametrize("wrap", [lambda network: network, nn.DataParallel, Held], ids=["", "parallel", "held"])
def test_what_a_training_learns_of_a_network_is_saved_through_wrappers(
    name: str, wrap: Callable[[nn.Module], nn.Module], tmp_path: Path
) -> None:
    """Names of classes, mean and std, provenance: of this training, not those that the network had before."""
    small = {"channels": (32,) * 4, "layers": (1,) * 4} if name == "resnet18s_ln" else {}
    network = timm.create_model(name, num_classes=3, **small)
    network.pretrained_cfg["label_names"] = ("stale",) * 3
    model = wrap(network)
    result = finetune_clean(model, toy_data(), out=tmp_path / "out", epochs=1, **OPTIONS)
    back = load_model(tmp_path / "out")
    for one in (back, model) if wrap is Held else (back, model, network):
        smoothed = SmoothedClassifier(one)
        assert (smoothed.mean, smoothed.std) == (PIXELS["mean"], PIXELS["std"])
        assert smoothed.classes == ("dark", "grey", "light")
    assert back.pretrained_cfg["mean"] == PIXELS["mean"]
    said = read_config(tmp_path / "out").provenance
    assert said is not None and replace(said, history=()) == result.provenance
    if wrap is not Held:
        assert provenance_of(network) == result.provenance
        again = finetune_clean(wrap(network), toy_data(), epochs=1, **OPTIONS)
        assert again.provenance.base == result.provenance


def test_a_mean_of_all_channels_is_noted_for_each() -> None:
    model = timm.create_model("resnet18s_ln", channels=(32,) * 4, layers=(1,) * 4)
    finetune_clean(model, toy_data(), epochs=1, **{**OPTIONS, "mean": 0.5, "std": 0.25})
    assert model.pretrained_cfg["mean"] == (0.5,) * 3 and model.pretrained_cfg["std"] == (0.25,) * 3


def test_a_training_on_fewer_classes_than_outputs_forgets_stale_names() -> None:
    model = Watch()
    model.pretrained_cfg = {"label_names": tuple("abcdefg")}  # type: ignore[assignment]
    assert class_names(model, 7) == tuple("abcdefg")
    train(model, toy_data(), Options.of(model, epochs=1, **OPTIONS))
    assert class_names(model, 7) is None


def test_frozen_batch_norm_keeps_its_statistics_and_its_checkpoint_loads(tmp_path: Path) -> None:
    model = timm.layers.freeze_batch_norm_2d(small("bn"))
    with torch.no_grad():
        model.get_submodule("layer2.0.bn1").running_mean.fill_(0.25)
    before = {k: v.clone() for k, v in model.state_dict().items() if "running" in k}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # frozen, it does not average over the batch
        finetune_clean(model, toy_data(), learning_rate=0.05, out=tmp_path, **OPTIONS)
    assert before and all(torch.equal(model.state_dict()[k], v) for k, v in before.items())
    back = load_model(tmp_path).eval()
    assert isinstance(back.bn1, nn.BatchNorm2d)
    x = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(back(x), model.eval()(x))
