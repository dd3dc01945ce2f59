"""A stem for 32x32 is said to be dear on larger images, in every job, and nowhere else."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from robust_hub.certification.evaluate import certify
from robust_hub.images.data import ImageData
from robust_hub.images.noise import NoiseMixture
from robust_hub.models.stems import warn_small_stem
from robust_hub.training.finetune import finetune_clean
from robust_hub.training.pretrain import pretrain_mixed_noise

SMALL = {"channels": (32, 32, 32, 32), "layers": (1, 1, 1, 1), "num_classes": 2}


@pytest.mark.parametrize(
    ("stem", "size", "factor"),
    [
        ("cifar", 224, 16),
        ("cifar", 64, 16),
        ("cifar_s2", 224, 4),
        ("cifar", 32, 0),
        ("cifar_s2", 64, 0),
        ("imagenet", 224, 0),
    ],
)
def test_the_factor_is_said(stem: str, size: int, factor: int) -> None:
    model = timm.create_model("resnet18s_ln", stem=stem, **SMALL)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_small_stem(model, (3, size, size), "certification")
    assert [f"about {factor} times the time and memory" in str(one.message) for one in caught] == [True] * bool(factor)


def test_the_factor_is_that_of_the_positions() -> None:
    """As many positions of the first stage, which all later ones share."""
    counts = {}
    for stem in ("cifar", "cifar_s2", "imagenet"):
        model = timm.create_model("resnet18s_ln", stem=stem, **SMALL)
        model.layer1.register_forward_hook(lambda _, inputs, y, stem=stem: counts.update({stem: y[0, 0].numel()}))
        model.eval()(torch.zeros(1, 3, 64, 64))
    assert counts["cifar"] == 16 * counts["imagenet"] and counts["cifar_s2"] == 4 * counts["imagenet"]


def test_every_job_warns_once(tmp_path: Path) -> None:
    pixels = torch.randint(0, 255, (4, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    data = ImageData(pixels, torch.tensor([0, 1, 0, 1]), ("a", "b"), name="large", split="train")
    how = {"epochs": 1, "batch_size": 2, "progress": False}
    for job in (
        lambda model: finetune_clean(model, data, **how),
        lambda model: pretrain_mixed_noise(model, data, mixture=NoiseMixture((0.0, 0.25)), size=64, **how),
        lambda model: certify(model, data, 0.25, out=tmp_path, every=4, n=20, n0=4, progress=False, batch_size=4),
    ):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            job(timm.create_model("resnet18s_ln", stem="cifar", **SMALL))
        assert sum("about 16 times the time and memory" in str(one.message) for one in caught) == 1
    warn_small_stem(nn.Flatten(), (3, 224, 224), "certification")
