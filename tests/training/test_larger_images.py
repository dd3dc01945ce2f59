"""Training on images larger than the network's input: new views, fixed ones, resumed exactly."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import toys
from torch import Tensor, nn
from toys import same_weights, toy_data, toy_run, without_times

from robust_hub.images.data import ImageData
from robust_hub.images.noise import NoiseMixture
from robust_hub.images.views import whole_view
from robust_hub.models.config import read_config
from robust_hub.provenance import Provenance, provenance_of
from robust_hub.training.options import Options
from robust_hub.training.pretrain import EPOCHS, LEARNING_RATE, WEIGHT_DECAY, pretrain_mixed_noise
from robust_hub.training.sameness import Training

CLEAN = NoiseMixture((0.0,))
QUICK: dict[str, Any] = {"mixture": CLEAN, "batch_size": 8, "epochs": 2, "progress": False}


class Watch(nn.Module):
    """A linear classifier for images of 8x8 that keeps the pixels it was trained on."""

    pretrained_cfg = {"input_size": (3, 8, 8), "mean": (0.0,) * 3, "std": (1.0,) * 3}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 3)
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        """Give logits of the mean colour."""
        if self.training:
            self.seen.append((x.detach() * 255).round().to(torch.uint8))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


def images(count: int = 24, size: int = 16) -> ImageData:
    """Noise, so that no two parts of an image are equal."""
    pixels = torch.randint(0, 256, (count, 3, size, size), generator=torch.Generator().manual_seed(0))
    labels = torch.arange(count) % 3
    return ImageData(pixels.to(torch.uint8), labels, ("a", "b", "c"), name="noise", split="train")


def seen(data: ImageData, model: Watch | None = None, **options: Any) -> list[Tensor]:
    """Pretrain and give what the network saw in each epoch."""
    model = Watch() if model is None else model
    result = pretrain_mixed_noise(model, data, **{**QUICK, **options})
    per_epoch = len(model.seen) // len(result.history)
    return [torch.cat(model.seen[i : i + per_epoch]) for i in range(0, len(model.seen), per_epoch)]


def different(pixels: Tensor) -> int:
    return len(pixels.flatten(1).unique(dim=0))


def same_set(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a.flatten(1).unique(dim=0), b.flatten(1).unique(dim=0))


def test_larger_images_show_a_new_part_in_every_epoch() -> None:
    first, second = seen(images())
    assert first.shape == second.shape == (24, 3, 8, 8)
    assert different(torch.cat([first, second])) == 48
    again = seen(images())
    assert torch.equal(first, again[0]) and torch.equal(second, again[1])
    assert not torch.equal(first, seen(images(), seed=1)[0])


def test_without_augmentation_they_are_shown_whole() -> None:
    data = images()
    for epoch in seen(data, augment=False):
        assert same_set(epoch, whole_view(data.batch(range(24))[0], 8))


def test_views_are_the_same_in_every_epoch_and_one_is_the_whole_image() -> None:
    data = images()
    first, second = seen(data, views=3, augment=False)
    assert len(first) == 72 == different(first)
    assert same_set(first, second) and not torch.equal(first, second)
    whole = whole_view(data.batch(range(24))[0], 8)
    assert different(torch.cat([first, whole])) == 72
    assert not same_set(first, seen(data, views=3, augment=False, seed=1)[0])
    moved = seen(data, views=3)
    assert not same_set(moved[0], moved[1])  # cropped and flipped as other images are


@pytest.mark.parametrize("size", [8, 6])
def test_images_of_the_networks_size_or_smaller_are_trained_on_as_before(size: int) -> None:
    data, model = images(size=size), Watch()
    epochs = seen(data, model, augment=False)
    assert all(same_set(epoch, data.batch(range(24))[0]) for epoch in epochs)
    provenance = provenance_of(model)
    assert provenance is not None and provenance.options.keys() == {"batch_size", "augment"}


def test_the_size_may_be_named() -> None:
    assert seen(images(), size=12)[0].shape == (24, 3, 12, 12)
    assert seen(images(size=6), size=12)[0].shape == (24, 3, 12, 12)
    named, own = seen(images(), size=16), images()
    assert named[0].shape == (24, 3, 16, 16)
    assert all(same_set(epoch, own.batch(range(24))[0]) for epoch in seen(own, size=16, augment=False))
    model = Watch()
    model.pretrained_cfg = {**Watch.pretrained_cfg, "input_size": None}
    assert seen(images(), model)[0].shape == (24, 3, 16, 16)
    with pytest.raises(ValueError, match="pretrained_cfg does not say it: pass size="):
        pretrain_mixed_noise(model, images(), views=2, **QUICK)
    with pytest.raises(ValueError, match="expected size to be at least 1, got 0"):
        pretrain_mixed_noise(Watch(), images(), size=0, **QUICK)
    with pytest.raises(ValueError, match="expected views to be at least 1, got 0"):
        pretrain_mixed_noise(Watch(), images(), views=0, **QUICK)


def test_of_several_learning_rates_each_is_judged_on_whole_images_that_it_was_not_trained_on() -> None:
    data, model = images(60), Watch()
    result = pretrain_mixed_noise(model, data, views=2, learning_rate=(0.1, 0.01), augment=False, **QUICK)
    assert result.accuracy is not None
    trained = torch.cat(model.seen)[: len(torch.cat(model.seen)) // 2]
    whole = whole_view(data.batch(range(60))[0], 8)
    absent = [image for image in whole if not bool((trained == image).flatten(1).all(1).any())]
    assert len(absent) >= 6  # one in ten of each class


@pytest.mark.parametrize("views", [None, 2])
def test_kill_and_resume_equals_an_uninterrupted_run(tmp_path: Path, views: int | None) -> None:
    options = {"view_size": 9, "view_count": views, "epochs": 4 if views is None else 2}
    command = [sys.executable, toys.__file__, "killed", str(tmp_path / "killed"), "14", "0", json.dumps(options)]
    killed = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [p.name for p in (tmp_path / "killed" / "state").glob("step-*")] == ["step-14"]

    resumed, whole = toy_run(tmp_path / "killed", **options), toy_run(None, **options)
    assert same_weights(resumed.model, whole.model)
    assert without_times(resumed.history) == without_times(whole.history)
    assert resumed.history[-1]["step"] == 24
    assert not same_weights(whole.model, toy_run(None, epochs=options["epochs"]).model)
    workers = toy_run(None, num_workers=1, **options)
    assert same_weights(workers.model, whole.model)


def test_a_folder_is_of_its_views(tmp_path: Path) -> None:
    toy_run(tmp_path, epochs=1)
    with pytest.raises(ValueError, match="view_count is absent there and 2 here; view_size is absent there and 8 here"):
        toy_run(tmp_path, epochs=1, view_size=8, view_count=2)
    assert len(toy_run(tmp_path, epochs=1).history) == 1


def test_a_checkpoint_says_how_its_images_were_shown(tmp_path: Path) -> None:
    model = timm.create_model("resnet18s_ln", num_classes=3)
    larger = ImageData(*toy_data_of(48), toy_data().classes, name="toy", split="train")
    pretrain_mixed_noise(model, larger, out=tmp_path, views=2, **{**QUICK, "epochs": 1})
    provenance = read_config(tmp_path).provenance
    assert provenance is not None and provenance == Provenance.from_json(provenance.to_json())
    assert (provenance.options, provenance.images) == ({"batch_size": 8, "view_size": 32, "view_count": 2}, 24)
    defaults = {"epochs": EPOCHS, "learning_rate": LEARNING_RATE, "weight_decay": WEIGHT_DECAY}
    recorded = Training.recorded(provenance, defaults).options
    assert (recorded.view_size, recorded.view_count) == (32, 2)
    fresh = timm.create_model("resnet18s_ln", num_classes=3)
    pretrain_mixed_noise(fresh, larger, **{**QUICK, "epochs": 1})
    recorded_fresh = provenance_of(fresh)
    assert recorded_fresh is not None and recorded_fresh.options == {"batch_size": 8, "view_size": 32}


def toy_data_of(size: int) -> tuple[Tensor, Tensor]:
    """Pixels and labels of the toy images, enlarged."""
    pixels, labels = toy_data(24).batch(range(24))
    return torch.nn.functional.interpolate(pixels, (size, size)), labels


def test_views_are_settings_only_where_there_are_some() -> None:
    plain = Options(epochs=1, mean=(0.0,), std=(1.0,))
    assert not {"view_size", "view_count"} & plain.settings().keys()
    with pytest.raises(ValueError, match="expected view_size of the views, got None"):
        Options(epochs=1, mean=(0.0,), std=(1.0,), view_count=2)
    assert Options(epochs=1, mean=(0.0,), std=(1.0,), view_size=8).settings()["view_size"] == 8
