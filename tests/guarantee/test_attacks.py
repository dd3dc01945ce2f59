"""Networks built to get a false certificate: what float noise and a known seed let through, and what does not.

Each is a classifier whose smoothed class is known in truth; the certificate that it gets otherwise is false. Those
whose rows interact, that change, or are another function than their records say: tests/certification/test_function.py.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from robust_hub.certification.smoothing import SmoothedClassifier
from robust_hub.guarantee.look import ESTIMATION, SELECTION
from robust_hub.images.laws import NoiseChoice, make_noise
from robust_hub.images.noise import BLOCK, NoiseStream

SHAPE = (3, 32, 32)
PLAIN = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
GRID = 2.0**24


class Fingerprint(nn.Module):
    """Class 1 where no value between -0.501 and -0.003 is off the grid of multiples of 2^-24.

    A float32 image of 129/255 and noise round to that grid there, one of 127/255 and noise to a finer one: below 1/2
    float32 numbers lie twice as close. In real numbers both smoothed images are of class 0 with probability one.
    """

    def forward(self, z: Tensor) -> Tensor:
        looked_at = (z > -0.501) & (z < -0.003)
        off = (z.double() * GRID).frac() != 0
        clean = ~(looked_at & off).flatten(1).any(1)
        return torch.stack([~clean, clean], 1).float()


def gray(level: int) -> Tensor:
    return torch.full(SHAPE, level / 255)


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


class Table(nn.Module):
    """Class 1 for the noisy copies that a seed makes of one image, class 0 for all others: in truth, class 0."""

    def __init__(self, x: Tensor, noise: NoiseChoice, sigma: float, seed: int, samples: int) -> None:
        super().__init__()
        law = make_noise(noise, sigma)
        known = []
        for purpose in (SELECTION, ESTIMATION):
            stream = NoiseStream(seed, 0, purpose, law, x.shape)
            for k in range(samples // BLOCK + 1):
                out = torch.empty(BLOCK, *x.shape)
                law.add(law.place(x), stream.block(k), out)
                known += [row.numpy().tobytes() for row in out]
        self.known = set(known)

    def forward(self, z: Tensor) -> Tensor:
        hit = torch.tensor([row.numpy().tobytes() in self.known for row in z.contiguous()])
        return torch.stack([~hit, hit], 1).float()


@pytest.mark.parametrize("noise", ["lattice", "float"])
def test_a_network_that_knows_the_seed_gets_a_certificate_that_says_the_seed_was_given(noise: NoiseChoice) -> None:
    x = torch.randint(0, 256, (3, 4, 4), generator=torch.Generator().manual_seed(0)) / 255
    smoothed = SmoothedClassifier(Table(x, noise, 0.25, seed=0, samples=500), **PLAIN)
    fooled = smoothed.certify(x, 0.25, n0=50, n=500, noise=noise, seed=0)
    assert (fooled.prediction, fooled.count) == (1, 500)
    assert fooled.reproduction
    sound = smoothed.certify(x, 0.25, n0=50, n=500, noise=noise)
    assert (sound.prediction, sound.count) == (0, 500)
    assert not sound.reproduction
    assert smoothed.certify(x, 0.5, n0=50, n=500, noise=noise, seed=0).prediction == 0  # another sigma, other noise
