"""Networks that were built to get a false certificate, each with its truth, and a certifier that they fool.

The plain certifier is the pseudo-code of Cohen et al. 2019 as most public code has it: float32 noise by `torch.randn`,
one batch after the other, `scipy.stats.beta`'s inverse as confidence bound. Tests and docs/trust.md ask it and ours the
same questions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.stats import beta, norm
from torch import Tensor, nn

from robust_hub.images.laws import NoiseChoice, make_noise
from robust_hub.images.noise import BLOCK, NoiseStream

PLAIN = {"mean": (0.0,) * 3, "std": (1.0,) * 3}  # these networks take pixels as they are
GRID = 2.0**24


class Fingerprint(nn.Module):
    """Class 1 where no value between -0.501 and -0.003 is off the grid of multiples of 2^-24.

    A float32 image of 129/255 and noise round to that grid there, one of 127/255 and noise to a finer one: below 1/2
    float32 numbers lie twice as close. In real numbers both smoothed images are of class 0 with probability one.
    """

    def forward(self, z: Tensor) -> Tensor:
        """Classify noisy pixels, (B, C, H, W)."""
        looked_at = (z > -0.501) & (z < -0.003)
        off = (z.double() * GRID).frac() != 0
        clean = ~(looked_at & off).flatten(1).any(1)
        return torch.stack([~clean, clean], 1).float()


class BatchMean(nn.Module):
    """Let each image vote as the mean of its batch says, in which the noise has nearly gone: bright, or dark.

    Args:
        limit: Mean pixel from which an image is bright.
    """

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, z: Tensor) -> Tensor:
        """Classify noisy pixels, (B, C, H, W), together."""
        bright = z.mean() - self.limit
        return torch.stack([-bright, bright]).expand(len(z), 2)


class Table(nn.Module):
    """Class 1 for the noisy copies that a seed makes of one image, class 0 for all others: in truth, class 0.

    Args:
        known: Noisy copies, float32 (N, C, H, W).
    """

    def __init__(self, known: Tensor) -> None:
        super().__init__()
        self.known = {row.numpy().tobytes() for row in known}

    def forward(self, z: Tensor) -> Tensor:
        """Classify noisy pixels, (B, C, H, W)."""
        hit = torch.tensor([row.numpy().tobytes() in self.known for row in z.contiguous()])
        return torch.stack([~hit, hit], 1).float()


def gray(level: int, shape: tuple[int, int, int] = (3, 32, 32)) -> Tensor:
    """Make an image of one value, float32 (C, H, W)."""
    return torch.full(shape, level / 255)


def our_copies(x: Tensor, noise: NoiseChoice, sigma: float, seed: int, samples: int, purposes: list[str]) -> Tensor:
    """Make the noisy copies that our certifier sees of an image at index 0, float32 (N, C, H, W)."""
    law = make_noise(noise, sigma)
    copies = []
    for purpose in purposes:
        stream = NoiseStream(seed, 0, purpose, law, x.shape)
        for k in range(samples // BLOCK + 1):
            out = torch.empty(BLOCK, *x.shape)
            law.add(law.place(x), stream.block(k), out)
            copies.append(out)
    return torch.cat(copies)


@dataclass(frozen=True)
class Claim:
    """What the plain certifier claims: a class or -1, a radius, votes of the class among n."""

    prediction: int
    radius: float
    count: int
    n: int


def plain_certify(model: nn.Module, x: Tensor, sigma: float, n0: int, n: int, alpha: float = 0.001) -> Claim:
    """Certify as the pseudo-code says.

    Args:
        model: From noisy pixels, (B, C, H, W), to logits.
        x: Pixels in [0, 1], float32 (C, H, W).
        sigma: Standard deviation of the noise, [0, 1]-pixel units.
        n0: Samples that select the class.
        n: Samples that bound its probability.
        alpha: Failure probability.

    Source: Cohen et al. 2019, Certify.
    """
    model.eval()
    selection, counts = (plain_votes(model, x, sigma, samples) for samples in (n0, n))
    top = int(selection.argmax())
    count = int(counts[top])
    lower = float(beta.ppf(alpha, count, n - count + 1)) if count else 0.0
    decided = lower > 0.5
    return Claim(top if decided else -1, sigma * float(norm.ppf(lower)) if decided else 0.0, count, n)


def plain_votes(model: nn.Module, x: Tensor, sigma: float, samples: int, batch_size: int = 500) -> Tensor:
    """Count votes, int64 (K,)."""
    counts = torch.zeros(2, dtype=torch.int64)
    with torch.no_grad():
        while samples:
            batch = x.repeat(min(batch_size, samples), 1, 1, 1)
            samples -= len(batch)
            noisy = batch + torch.randn_like(batch) * sigma
            counts += torch.bincount(model(noisy).argmax(1), minlength=2)
    return counts
