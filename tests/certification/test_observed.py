"""What certification gives for fixed seeds, written down: a change of the code's form leaves every vote as it is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robust_hub import Certificate, SmoothedClassifier
from robust_hub.guarantee.plans import closed_form_plan, radius_plan
from robust_hub.images.laws import NoiseChoice


class Brightest(nn.Module):
    """Votes for the colour whose pixels, in steps of 1/256, are brightest: sums that no machine rounds."""

    def forward(self, x: Tensor) -> Tensor:
        return (x * 256).round().sum((2, 3))


PLANS: dict[str, dict[str, Any]] = {
    "fixed": {"n0": 20, "n": 200},
    "runner-up": {"n0": 20, "n": 200, "bound": "runner_up"},
    "radii": {"radii": (0.0, 0.1, 0.25), "n": 500},
    "closed form": {"plan": closed_form_plan((0.0, 0.1), n=500)},
    "radius": {"plan": radius_plan(0.05, n=400)},
}
OBSERVED: dict[tuple[NoiseChoice, str], list[tuple[Any, ...]]] = {
    ("lattice", "fixed"): [
        (1, 0.3513545574, 20, 200, 195, (4, 195, 1), "fixed"),
        (-1, 0.0, 20, 200, 55, (55, 80, 65), "fixed"),
    ],
    ("lattice", "runner-up"): [
        (1, 0.350830632216, 20, 200, 195, (4, 195, 1), "fixed"),
        (-1, 0.0, 20, 200, 55, (55, 80, 65), "fixed"),
    ],
    ("lattice", "radii"): [
        (1, 0.25, 0, 96, 95, (1, 95, 0), "sequential"),
        (-1, 0.0, 0, 64, 24, (19, 24, 21), "sequential"),
    ],
    ("lattice", "closed form"): [
        (1, 0.1, 0, 32, 32, (0, 32, 0), "closed_form"),
        (-1, 0.0, 0, 64, 24, (19, 24, 21), "closed_form"),
    ],
    ("lattice", "radius"): [
        (1, 0.336395397269, 64, 247, 238, (4, 238, 5), "radius"),
        (-1, 0.0, 64, 0, 0, (0, 0, 0), "radius"),
    ],
    ("float", "fixed"): [
        (1, 0.351354557568, 20, 200, 195, (3, 195, 2), "fixed"),
        (-1, 0.0, 20, 200, 69, (55, 69, 76), "fixed"),
    ],
    ("float", "radii"): [
        (1, 0.25, 0, 96, 93, (3, 93, 0), "sequential"),
        (-1, 0.0, 0, 64, 27, (18, 19, 27), "sequential"),
    ],
}


def short(certificate: Certificate) -> tuple[Any, ...]:
    one = certificate
    return one.prediction, round(one.radius, 12), one.n0, one.n, one.count, one.counts, one.plan


@pytest.mark.parametrize(("noise", "name"), OBSERVED)
@pytest.mark.parametrize("batch_size", [7, 100])
def test_votes_and_certificates_are_those_that_were_written_down(
    noise: NoiseChoice, name: str, batch_size: int
) -> None:
    images = torch.tensor([[102, 153, 102], [127, 129, 127]]).view(2, 3, 1, 1).expand(2, 3, 4, 4) / 255
    smoothed = SmoothedClassifier(Brightest(), mean=(0, 0, 0), std=(1, 1, 1))
    certificates = [
        smoothed.certify(image, 0.25, noise=noise, seed=1, index=index, batch_size=batch_size, **PLANS[name])
        for index, image in enumerate(images)
    ]
    assert [short(certificate) for certificate in certificates] == OBSERVED[noise, name]
