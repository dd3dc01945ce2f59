"""Images of one channel or four the whole way: data, training, certification, checkpoint, command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from click.testing import CliRunner
from torch import nn

import robust_hub
from robust_hub.cli.main import main
from robust_hub.images.data import load_data
from robust_hub.images.pixels import channels_of, mean_std

QUICK: dict[str, Any] = {"every": 1, "limit": 3, "n": 64, "n0": 8, "seed": 1, "progress": False}


def network(channels: int) -> nn.Module:
    first = nn.Conv2d(channels, 4, 3, 4)
    return nn.Sequential(first, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))


@pytest.mark.parametrize(
    ("model", "channels"),
    [
        (lambda: timm.create_model("resnet18s_ln", in_chans=1), 1),
        (lambda: timm.create_model("resnet18", in_chans=4), 4),
        (lambda: timm.create_model("test_vit", in_chans=1), 1),
        (lambda: timm.create_model("resnet18s_gn"), 3),
        (lambda: nn.DataParallel(network(1)), 1),
        (lambda: network(2), 2),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), 3),
    ],
)
def test_a_network_says_how_many_channels_it_takes(model: Any, channels: int) -> None:
    assert channels_of(model()) == channels


def test_means_say_it_where_the_network_does_not() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(8 * 8, 2))
    assert channels_of(flat, (0.5,)) == 1 and channels_of(flat) == 3
    assert channels_of(network(3), (0.5,)) == 3


def test_mean_and_std_of_colours_become_those_of_grey() -> None:
    mean, std = mean_std(timm.create_model("resnet18s_ln", in_chans=1))
    assert mean == pytest.approx((0.449,)) and std == pytest.approx((0.226,))
    equal = timm.create_model("test_vit", in_chans=4)
    equal.pretrained_cfg = {**equal.pretrained_cfg, "mean": (0.5,) * 3, "std": (0.25,) * 3}
    assert mean_std(equal) == ((0.5,) * 4, (0.25,) * 4)
    with pytest.raises(ValueError, match="expected mean and std of the 4 channels that this model takes"):
        mean_std(timm.create_model("resnet18s_ln", in_chans=4))


def test_grey_images_the_whole_way(tmp_path: Path) -> None:
    model = timm.create_model("resnet18s_ln", in_chans=1, num_classes=10)
    few = load_data("digits", channels=1).subset(range(32))
    trained = robust_hub.finetune_clean(model, few, epochs=1, out=tmp_path / "grey", progress=False).model
    assert json.loads((tmp_path / "grey" / "config.json").read_text())["pretrained_cfg"]["input_size"] == [1, 32, 32]
    again = robust_hub.load_model(tmp_path / "grey")
    assert mean_std(again) == mean_std(trained)
    run = robust_hub.certify(again, "digits", 0.25, out=tmp_path / "run", **QUICK)  # by name: as the model takes them
    assert run.finished and len(run.records) == 3
    identity = json.loads((tmp_path / "run" / "run.json").read_text())["identity"]
    assert identity["image"]["shape"] == [1, 32, 32] and len(identity["mean"]) == 1
    words = ["--data", "digits", "--sigma", "0.25", "--n", "64", "--n0", "8", "--limit", "2", "--quiet"]
    done = CliRunner().invoke(main, ["certify", "--model", f"{tmp_path}/grey", *words, "--out", f"{tmp_path}/cli"])
    assert done.exit_code == 0, done.output
    identity = json.loads((tmp_path / "cli" / "sigma_0.25" / "run.json").read_text())["identity"]
    assert identity["image"]["shape"] == [1, 32, 32]


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_any_number_of_channels_trains_and_certifies(tmp_path: Path, channels: int) -> None:
    pixels = torch.randint(0, 256, (20, channels, 12, 12), generator=torch.Generator().manual_seed(0))
    items = [(image, i % 10) for i, image in enumerate(pixels.to(torch.uint8))]
    plain = {"mean": (0.5,) * channels, "std": (0.25,) * channels}
    trained = robust_hub.pretrain_mixed_noise(
        network(channels), items, epochs=1, batch_size=10, progress=False, **plain
    )
    with pytest.raises(ValueError, match="expected images that the network was not trained on"):
        robust_hub.certify(trained.model, items, 0.25, out=tmp_path, **plain, **QUICK)
    data = load_data(items, "train", channels=channels)  # asked for all the same
    run = robust_hub.certify(trained.model, data, 0.25, out=tmp_path, **plain, **QUICK)
    assert len(run.records) == 3


def test_images_of_other_channels_are_refused_with_what_to_do(tmp_path: Path) -> None:
    model, plain = network(1), {"mean": (0.5,), "std": (0.25,)}
    colours = load_data("digits").subset(range(20))
    with pytest.raises(
        ValueError, match=r"a model for images \(3, 32, 32\).*of 1 channels, load_data\(..., channels=1\)"
    ):
        robust_hub.certify(model, colours, 0.25, out=tmp_path, **plain, **QUICK)
    with pytest.raises(ValueError, match=r"a model for images \(3, 32, 32\).*of 1 channels, load_data"):
        robust_hub.finetune_clean(model, colours, progress=False, **plain)
