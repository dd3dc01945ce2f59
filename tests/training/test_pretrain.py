"""Pretraining hands each image a sigma of its own and writes a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from filelock import FileLock, Timeout
from torch import nn

import robust_hub.models.resnets  # noqa: F401
from robust_hub.images.data import ImageData
from robust_hub.images.noise import NoiseMixture
from robust_hub.models.checkpoint import read_weights, save_checkpoint
from robust_hub.models.classes import class_names, note_class_names
from robust_hub.training.pretrain import pretrain_mixed_noise

OPTIONS: dict[str, Any] = {"epochs": 1, "batch_size": 8, "progress": False}


def toy_data(classes: int = 3) -> ImageData:
    """Grey images of 16x16."""
    labels = torch.arange(24) % classes
    images = torch.full((24, 3, 16, 16), 128, dtype=torch.uint8)
    return ImageData(images, labels, tuple(f"class {k}" for k in range(classes)), name="grey", split="train")


class Watch(nn.Module):
    """A linear classifier that keeps the inputs it was trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 3)
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Give logits of the mean colour."""
        if self.training:
            self.seen.append(x.detach().clone())
        logits: torch.Tensor = self.fc(x.mean((2, 3)))
        return logits


@pytest.mark.parametrize("sigmas", [(0.0, 0.25, 0.5, 1.0), (0.5,), (0.0,)])
def test_each_image_has_a_sigma_of_the_mixture(sigmas: tuple[float, ...]) -> None:
    model = Watch()
    pixels: dict[str, Any] = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    pretrain_mixed_noise(model, toy_data(), mixture=NoiseMixture(sigmas), **{**OPTIONS, **pixels, "epochs": 4})
    seen = torch.cat(model.seen) * 0.5  # noise in pixel units, around the one grey
    spread = seen.flatten(1).std(1)
    nearest = (spread[:, None] - torch.tensor(sigmas)).abs().min(1)
    assert len(spread) == 96
    assert (nearest.values <= 0.15 * spread.clamp_min(1e-6)).all()
    assert set(nearest.indices.tolist()) == set(range(len(sigmas)))


def test_checkpoint_and_resume(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = timm.create_model("resnet18s_ln", num_classes=10)
    result = pretrain_mixed_noise(model, toy_data(), out=tmp_path / "out", **OPTIONS)
    assert model.num_classes == 3
    assert not model.training
    assert result.folder == tmp_path / "out" / "training"
    loaded = read_weights(tmp_path / "out")
    x = torch.rand(2, 3, 16, 16)
    assert all(torch.equal(loaded[k], v) for k, v in model.state_dict().items())
    again = pretrain_mixed_noise(
        timm.create_model("resnet18s_ln", num_classes=10), toy_data(), out=tmp_path / "out", **OPTIONS
    )
    assert torch.equal(again.model(x), model(x))
    with pytest.raises(ValueError, match="sigmas"):
        pretrain_mixed_noise(model, toy_data(), mixture=NoiseMixture((0,)), out=tmp_path / "out", **OPTIONS)


def test_a_classifier_of_other_names_is_made_anew() -> None:
    """Its rows are of those names: they would start the training on the wrong classes."""
    rows = []
    for names in (toy_data().classes, tuple(reversed(toy_data().classes)), None):
        torch.manual_seed(0)
        model = timm.create_model("resnet18s_ln", num_classes=3, channels=(32,) * 4, layers=(1,) * 4)
        before = model.get_classifier().weight.detach().clone()
        note_class_names(model, names)
        pretrain_mixed_noise(model, toy_data(), learning_rate=1e-9, **OPTIONS)
        rows.append(torch.allclose(model.get_classifier().weight, before, atol=1e-4))
        assert class_names(model) == toy_data().classes
    assert rows == [True, False, True]


def test_the_folder_is_held_until_the_checkpoint_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = []

    def save(*args: Any, **options: Any) -> None:
        with pytest.raises(Timeout):
            FileLock(tmp_path / "training" / ".lock", timeout=0).acquire()
        held.append(save_checkpoint(*args, **options))

    monkeypatch.setattr("robust_hub.training.train.save_checkpoint", save)
    pretrain_mixed_noise(timm.create_model("resnet18s_ln", num_classes=3), toy_data(), out=tmp_path, **OPTIONS)
    assert len(held) == 1
    FileLock(tmp_path / "training" / ".lock", timeout=0).acquire()


def test_batch_norm_is_warned_about() -> None:
    with pytest.warns(UserWarning, match="pretraining: this network has batch norm"):
        pretrain_mixed_noise(timm.create_model("resnet18s_bn", num_classes=3), toy_data(), **OPTIONS)


def test_bad_folders_and_options_are_errors(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"expected a model of timm\.create_model, got Watch"):
        pretrain_mixed_noise(Watch(), toy_data(), out=tmp_path / "new", **OPTIONS)
    model = timm.create_model("resnet18s_ln", num_classes=3)
    with pytest.raises(ValueError, match="expected a new or empty folder"):
        pretrain_mixed_noise(model, toy_data(), out=tmp_path, **OPTIONS)
    with pytest.raises(ValueError, match="expected a folder, got the file"):
        pretrain_mixed_noise(model, toy_data(), out=tmp_path / "notes.txt", **OPTIONS)
    with pytest.raises(TypeError, match="corrupt"):
        pretrain_mixed_noise(model, toy_data(), corrupt=None, **OPTIONS)
