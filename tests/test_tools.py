"""What the measuring tools measure, on networks whose answers are known."""

from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from robust_hub import load_data

TOOLS = Path(__file__).parents[1] / "tools"
pytestmark = pytest.mark.skipif(not TOOLS.exists(), reason="the tools are not part of this copy")

if TOOLS.exists():
    import batch_norm
    import compare_rates


class Brightness(nn.Module):
    """Of ten classes, class 1 where the mean of an image is above a threshold, else class 0."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.pretrained_cfg = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
        self.threshold = nn.Parameter(torch.tensor(threshold))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        margin = x.float().mean((1, 2, 3)) - self.threshold
        return torch.stack([-margin, margin, *(torch.full_like(margin, -1e3) for _ in range(8))], 1)


def test_measured_accuracies_are_those_of_the_votes():
    held = load_data("digits", "test", size=32).subset(range(40))
    ones = 100 * (held.labels == 1).float().mean().item()
    sure = compare_rates.measure(Brightness(-1.0), held)
    assert sure == {"clean": ones, "noisy": ones, "radius 0.25": ones, "radius 0.5": ones}
    pixels, _ = held.batch(range(len(held)))
    middle = (pixels[held.labels == 1].float() / 255).mean().item()
    unsure = compare_rates.measure(Brightness(middle), held)  # noise of 3072 pixels has a mean of 0.0045 or so
    assert 0 < unsure["noisy"] < 100 and unsure["radius 0.5"] <= unsure["radius 0.25"] <= 100


def test_shift_tells_how_far_noise_moves_statistics():
    images = load_data("digits", "train", size=32).subset(range(32))
    torch.manual_seed(0)
    model = timm.create_model("resnet18s_bn", num_classes=10)
    with torch.no_grad():
        model.get_submodule(batch_norm.SECOND).running_mean += 10.0
    far = batch_norm.shift(model, images)
    batch_norm.estimate_again(model, images)
    assert 0 <= batch_norm.shift(model, images) < far
