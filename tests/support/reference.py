"""The paper's pseudo-code, word for word: one image, one loop, one noise vector at a time.

Cohen et al. 2019, SampleUnderNoise, Certify and Predict; Qiu et al. 2023, Eq. 2. Slow and plain on purpose; shares
only the noise with the package. Preprocessing is written out here too, so that its place is tested.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from scipy.stats import beta, binomtest, norm
from torch import Tensor, nn

from robust_hub.images.laws import NoiseChoice, make_noise
from robust_hub.images.noise import BLOCK, NoiseStream


def stream_noise(
    choice: NoiseChoice, sigma: float, seed: int, index: int, purpose: str, shape: tuple[int, ...]
) -> Iterator[Tensor]:
    """The noise that the package draws for this image and purpose, [0, 1]-pixel units, one vector after the other."""
    stream = NoiseStream(seed, index, purpose, make_noise(choice, sigma), shape)
    block = 0
    while True:
        drawn = stream.block(block)
        for k in range(BLOCK):
            yield drawn[k].double() / 255 if choice == "lattice" else sigma * drawn[k]
        block += 1


def fresh_noise(
    choice: NoiseChoice, sigma: float, shape: tuple[int, ...], generator: torch.Generator
) -> Iterator[Tensor]:
    """Noise that has nothing to do with the package."""
    while True:
        noise = sigma * torch.randn(shape, generator=generator, dtype=torch.float64)
        yield (255 * noise).round() / 255 if choice == "lattice" else noise.float()


def sample_under_noise(
    model: nn.Module, x: Tensor, num: int, noise: Iterable[Tensor], mean: tuple, std: tuple, classes: int
) -> list[int]:
    counts = [0] * classes
    source = iter(noise)
    model.eval()
    with torch.no_grad():
        for _ in range(num):
            drawn = next(source)
            # Lattice noise comes in double precision: whole levels, which meet those of the image exactly.
            noisy = ((x.double() + drawn) * 255).round().float() / 255 if drawn.dtype == torch.float64 else x + drawn
            network_input = torch.stack([(noisy[c] - mean[c]) / std[c] for c in range(len(mean))])
            counts[int(model(network_input[None])[0].argmax())] += 1
    return counts


def certify(selection: list[int], counts: list[int], sigma: float, alpha: float) -> tuple[int, float, float]:
    """Certify of the pseudo-code, from its two calls of SampleUnderNoise: class or -1, radius, lower bound."""
    guess = selection.index(max(selection))
    n = sum(counts)
    lower = float(beta.ppf(alpha, counts[guess], n - counts[guess] + 1)) if counts[guess] else 0.0
    if lower > 0.5:
        return guess, sigma * float(norm.ppf(lower)), lower
    return -1, 0.0, lower


def predict(counts: list[int], alpha: float) -> int:
    ranked = sorted(range(len(counts)), key=lambda c: -counts[c])
    first, second = counts[ranked[0]], counts[ranked[1]]
    return ranked[0] if binomtest(first, first + second, 0.5).pvalue <= alpha else -1
