"""Networks built to get a false certificate: what float noise and a known seed let through, and what does not.

Each is a classifier whose smoothed class is known in truth; the certificate that it gets otherwise is false. Those
whose rows interact, that change, or are another function than their records say: tests/certification/test_function.py.
"""

from __future__ import annotations

import pytest
import torch
from attackers import PLAIN, BatchMean, Fingerprint, Table, gray, our_copies, plain_certify
from torch import Tensor, nn

from robust_hub.certification.smoothing import SmoothedClassifier
from robust_hub.guarantee.look import ESTIMATION, SELECTION
from robust_hub.images.laws import NoiseChoice


@pytest.mark.parametrize("sigma", [0.25, 0.5, 1.0])
def test_float_noise_is_fooled_by_a_network_that_reads_its_rounding(sigma: float) -> None:
    # Why lattice noise is the default: this certificate is false, and no statistics of votes could tell.
    smoothed = SmoothedClassifier(Fingerprint(), **PLAIN)
    near, far = gray(129), gray(127)
    distance = float((near - far).norm())
    certificate = smoothed.certify(near, sigma, n0=10, n=1000, noise="float")
    assert (certificate.prediction, certificate.count) == (1, 1000)
    assert certificate.radius > distance
    assert smoothed.predict(far, sigma, n=100, noise="float") == 0


@pytest.mark.parametrize("sigma", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("level", [127, 129])
def test_lattice_noise_has_no_rounding_to_read(sigma: float, level: int) -> None:
    certificate = SmoothedClassifier(Fingerprint(), **PLAIN).certify(gray(level), sigma, n0=10, n=500)
    assert certificate.counts == (500, 0)


def test_every_image_meets_the_same_numbers_on_the_lattice() -> None:
    # What a network is given is k / 255 for a whole k, whichever the image: nothing of the image is in the last bits.
    seen: list[Tensor] = []

    def look(z: Tensor) -> Tensor:
        seen.append(z.clone())
        return torch.stack([z.flatten(1)[:, 0], torch.full((len(z),), -100.0)], 1)

    class Look(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return look(z)

    for level in (3, 127, 129):
        SmoothedClassifier(Look(), **PLAIN).certify(gray(level), 0.25, n0=10, n=90, batch_size=100)
    values = torch.cat([z.flatten() for z in seen])
    assert torch.equal((values * 255).round() / 255, values)


@pytest.mark.parametrize("noise", ["lattice", "float"])
def test_a_network_that_knows_the_seed_gets_a_certificate_that_says_the_seed_was_given(noise: NoiseChoice) -> None:
    x = torch.randint(0, 256, (3, 4, 4), generator=torch.Generator().manual_seed(0)) / 255
    copies = our_copies(x, noise, 0.25, 0, 500, [SELECTION, ESTIMATION])
    smoothed = SmoothedClassifier(Table(copies), **PLAIN)
    fooled = smoothed.certify(x, 0.25, n0=50, n=500, noise=noise, seed=0)
    assert (fooled.prediction, fooled.count) == (1, 500)
    assert fooled.reproduction
    sound = smoothed.certify(x, 0.25, n0=50, n=500, noise=noise)
    assert (sound.prediction, sound.count) == (0, 500)
    assert not sound.reproduction
    assert smoothed.certify(x, 0.5, n0=50, n=500, noise=noise, seed=0).prediction == 0  # another sigma, other noise


def test_a_network_of_batches_fools_the_plain_certifier_and_is_refused_here() -> None:
    x, sigma = gray(140, (3, 8, 8)), 0.5
    network = BatchMean(limit=0.54)
    claim = plain_certify(network, x, sigma, 100, 10_000)
    assert (claim.prediction, claim.count) == (1, 10_000)
    truth = (140 / 255 - 0.54) * (3 * 8 * 8) ** 0.5  # of the same network, an image at a time
    assert claim.radius > 5 * truth
    with pytest.raises(ValueError, match="rows interact"):
        SmoothedClassifier(network, **PLAIN).certify(x, sigma, n=10_000)
