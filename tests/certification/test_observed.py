"""What certification gives for fixed seeds, written down: a change of the code's form leaves every vote as it is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robust_hub import Certificate, SmoothedClassifier
from robust_hub.guarantee.plans import closed_form_plan, radius_plan


class Brightest(nn.Module):
    """Votes for the colour whose pixels, in steps of 1/256, are brightest: sums that no machine rounds."""

    def forward(self, x: Tensor) -> Tensor:
        return (x * 256).round().sum((2, 3))


OBSERVED: dict[str, tuple[dict[str, Any], list[tuple[Any, ...]]]] = {
    "fixed": (
        {"n0": 20, "n": 200},
        [(1, 0.365262401602, 20, 200, 196, (2, 196, 2), "fixed"), (-1, 0.0, 20, 200, 63, (73, 63, 64), "fixed")],
    ),
    "runner-up": (
        {"n0": 20, "n": 200, "bound": "runner_up"},
        [(1, 0.374468998612, 20, 200, 196, (2, 196, 2), "fixed"), (-1, 0.0, 20, 200, 63, (73, 63, 64), "fixed")],
    ),
    "radii": (
        {"radii": (0.0, 0.1, 0.25), "n": 500},
        [(1, 0.25, 0, 96, 95, (1, 95, 0), "sequential"), (-1, 0.0, 0, 64, 23, (23, 18, 23), "sequential")],
    ),
    "closed form": (
        {"plan": closed_form_plan((0.0, 0.1), n=500)},
        [(1, 0.1, 0, 32, 31, (1, 31, 0), "closed_form"), (-1, 0.0, 0, 64, 23, (23, 18, 23), "closed_form")],
    ),
    "radius": (
        {"plan": radius_plan(0.05, n=400)},
        [(1, 0.349474161015, 64, 177, 173, (2, 173, 2), "radius"), (-1, 0.0, 64, 0, 0, (0, 0, 0), "radius")],
    ),
}


def short(certificate: Certificate) -> tuple[Any, ...]:
    one = certificate
    return one.prediction, round(one.radius, 12), one.n0, one.n, one.count, one.counts, one.plan


@pytest.mark.parametrize("name", OBSERVED)
@pytest.mark.parametrize("batch_size", [7, 100])
def test_votes_and_certificates_are_those_that_were_written_down(name: str, batch_size: int) -> None:
    options, expected = OBSERVED[name]
    images = torch.tensor([[0.40, 0.60, 0.40], [0.50, 0.505, 0.5]]).view(2, 3, 1, 1).expand(2, 3, 4, 4)
    smoothed = SmoothedClassifier(Brightest(), mean=(0, 0, 0), std=(1, 1, 1))
    certificates = [
        smoothed.certify(image, 0.25, seed=1, index=index, batch_size=batch_size, **options)
        for index, image in enumerate(images)
    ]
    assert [short(certificate) for certificate in certificates] == expected
