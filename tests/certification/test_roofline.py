"""The rooflines: the work that is counted, and what a rate is beside them; no figure is asserted."""

from __future__ import annotations

import torch
from torch import nn

from robust_hub.certification.roofline import add_shares, profile, roofline
from robust_hub.certification.smoothing import SmoothedClassifier


def test_work_is_that_of_convolutions_and_linear_layers() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, 1, 1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    smoothed = SmoothedClassifier(model, mean=(0.5,) * 3, std=(0.25,) * 3)
    roof = roofline(smoothed, torch.full((3, 8, 8), 0.5), 16)
    assert roof["flop_per_sample"] == 2 * (8 * 8 * 4 * 3 * 9 + 4 * 3)
    assert roof["layers_samples_per_s"] > 0 and roof["matrix_flop_per_s"] > 1e8
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_rate_at_the_roof_has_a_share_of_one() -> None:
    roof = add_shares({"layers_samples_per_s": 200.0, "flop_per_sample": 50.0, "matrix_flop_per_s": 1e4}, 200.0)
    assert (roof["share_of_layers"], roof["share_of_matrix_products"]) == (1.0, 1.0)
    assert add_shares(roof, 50.0)["share_of_layers"] == 0.25


def test_a_profile_names_the_largest_share_first() -> None:
    a = torch.rand(400, 400)
    shares = profile(lambda: [a @ a for _ in range(20)])
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
    assert "mm" in shares and sum(shares.values()) <= 1.01
