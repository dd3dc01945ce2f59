"""The noise mixture of pretraining, and the streams of noise that certification draws from.

Noise is in [0, 1]-pixel units, added to the raw image and never clipped.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from robust_hub.images.laws import Noise
from robust_hub.numbers import real_numbers

BLOCK = 32  # samples of one image that are drawn together; part of the stream's definition
LARGE = 1 << 25  # values of a block from which its samples are drawn one by one


@dataclass(frozen=True)
class NoiseMixture:
    """The sigmas of pretraining: each image of a batch draws its own.

    Attributes:
        sigmas: Standard deviations in [0, 1]-pixel units; 0 is the clean image.
        weights: Their probabilities, or None for equal ones; scaled to sum to 1.

    Raises:
        ValueError: If a sigma is negative or not finite, or the weights do not fit.

    Example:
        >>> import torch
        >>> mixture = NoiseMixture((0, 0.25), weights=(1, 3))
        >>> mixture.weights
        (0.25, 0.75)
        >>> noisy = mixture.add(torch.full((4, 3, 8, 8), 0.5), torch.Generator().manual_seed(0))
        >>> noisy.shape
        torch.Size([4, 3, 8, 8])
        >>> mixture(torch.zeros(1, 8, 8)).shape  # one image, as in a Compose
        torch.Size([1, 8, 8])

    Source: Qiu et al. 2023, section 3.2.
    """

    sigmas: tuple[float, ...] = (0.0, 0.25, 0.5, 1.0)
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        """Check and normalise the fields."""
        what = "finite sigmas >= 0 in [0, 1]-pixel units"
        sigmas = real_numbers(what, self.sigmas, least=0)
        if not sigmas:
            raise ValueError(f"expected {what}, got none")
        object.__setattr__(self, "sigmas", sigmas)
        if self.weights is not None:
            weights = real_numbers(f"{len(sigmas)} weights >= 0, one a sigma", self.weights, least=0)
            if len(weights) != len(sigmas):
                raise ValueError(f"expected {len(sigmas)} weights >= 0, one a sigma, got {self.weights!r}")
            if sum(weights) <= 0:
                raise ValueError("expected at least one positive weight")
            object.__setattr__(self, "weights", tuple(w / sum(weights) for w in weights))

    def __call__(self, images: Tensor) -> Tensor:
        """Add noise as `add` does, from torch's own generator: a transform for torchvision's Compose.

        `torch.manual_seed` seeds it. The workers of a DataLoader have seeds of their own, and so noise of their own.

        Args:
            images: Pixels in [0, 1], float32; one image (C, H, W) or a batch (B, C, H, W).
        """
        return self.add(images)

    def add(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Add noise to one image or to a batch, each image with a sigma of its own.

        Args:
            images: Pixels in [0, 1], float32; one image (C, H, W) or a batch (B, C, H, W), of any count of channels.
            generator: Source of randomness on the images' device; None is torch's own.

        Returns:
            x + sigma * N(0, I), not clipped; shape, type, device and memory format of the images.

        Raises:
            TypeError: If they are no float32 tensor.
            ValueError: If they have other than three or four dimensions.
        """
        if not isinstance(images, Tensor):
            raise TypeError(
                f"expected a float32 tensor with pixels in [0, 1], got {type(images).__name__}: put torchvision's "
                "ToTensor, or ToImage and ToDtype(torch.float32, scale=True), before the noise"
            )
        if images.dtype != torch.float32:
            raise TypeError(f"expected float32 images: noise is never drawn in lower precision, got {images.dtype}")
        if images.ndim not in (3, 4):
            raise ValueError(
                f"expected one image (C, H, W) or a batch (B, C, H, W), got shape {tuple(images.shape)}: a grey image "
                "has a channel too, x[None]"
            )
        if images.ndim == 3:
            return self.add(images[None], generator)[0]
        if max(self.sigmas) == 0 or not len(images):
            return images
        device = images.device
        weights = _on(device, self.weights or (1.0,) * len(self.sigmas))
        choice = torch.multinomial(weights, len(images), replacement=True, generator=generator)
        sigma = _on(device, self.sigmas)[choice].view(-1, 1, 1, 1)
        return images + sigma * torch.randn(images.shape, device=device, generator=generator)


@lru_cache(maxsize=64)
def _on(device: torch.device, values: tuple[float, ...]) -> Tensor:
    """Bring a few values to a device once: doing so for each batch would make the host wait for it."""
    with torch.inference_mode(mode=False):
        return torch.tensor(values, device=device)


class NoiseStream:
    """Noise of one image, addressed by sample index.

    The stream is a function of (seed, index, purpose, sigma) alone: sample k is the same whatever was drawn before it,
    on how many devices, in batches of what size. On the CPU its words are those of numpy's Philox with a 128-bit key,
    on an accelerator those of torch's own counter-based generator; the two differ from each other.

    Args:
        seed: Seed of the run; draw it from the operating system after model and images are fixed.
        index: The image's index, so that images have noise of their own.
        purpose: Name of the use, so that selection and estimation never share a sample.
        noise: The law, with its sigma.
        shape: Shape of one image, (C, H, W).
        device: Where the noise is wanted.
    """

    def __init__(
        self,
        seed: int,
        index: int,
        purpose: str,
        noise: Noise,
        shape: Sequence[int],
        device: torch.device | str = "cpu",
    ) -> None:
        self.key = f"robust_hub noise 2|{int(seed)}|{int(index)}|{purpose}|{float(noise.sigma)!r}"
        self.noise = noise
        self.shape = tuple(shape)
        self.device = torch.device(device)

    def block(self, k: int) -> Tensor:
        """Draw samples k * BLOCK to (k + 1) * BLOCK - 1.

        Returns:
            Noise as the law draws it, (BLOCK, C, H, W), on the stream's device.
        """
        shape = (BLOCK, *self.shape)
        if self.device.type == "cpu":
            return self.noise.from_words(self.words(k), shape)
        generator = torch.Generator(self.device).manual_seed(int.from_bytes(self._digest(k)[:8], "little") >> 1)
        return self.noise.from_generator(generator, shape)

    def samples(self, k: int) -> Tensor | Samples:
        """Give block k, to be sliced: drawn at once, or of a large image on the CPU as its samples are asked for."""
        large = self.device.type == "cpu" and BLOCK * math.prod(self.shape) > LARGE
        return Samples(self, k) if large else self.block(k)

    def words(self, k: int) -> np.random.Philox:
        """Give the raw random words of block k on the CPU: every call starts at the first, uint64 by `random_raw`."""
        return np.random.Philox(key=int.from_bytes(self._digest(k)[:16], "little"))

    def _digest(self, k: int) -> bytes:
        return hashlib.sha256(f"{self.key}|{int(k)}".encode()).digest()


class Samples:
    """The samples of a block, equal to its tensor's, of which no more than are asked for are in memory.

    They are drawn in their order, from the first one again where an earlier one is asked for.
    """

    def __init__(self, stream: NoiseStream, k: int) -> None:
        self._stream, self._k = stream, k
        self._each: Iterator[Tensor] = iter(())
        self._drawn = BLOCK  # as if all had been drawn: the first one is to come

    def __getitem__(self, rows: slice) -> Tensor:
        """Draw consecutive samples, (B, C, H, W)."""
        first, end, _ = rows.indices(BLOCK)
        if first < self._drawn:
            shape = (BLOCK, *self._stream.shape)
            self._drawn, self._each = 0, self._stream.noise.each_from_words(self._stream.words(self._k), shape)
        asked = []
        for sample in itertools.islice(self._each, end - self._drawn):
            asked += [sample] if self._drawn >= first else []
            self._drawn += 1
        return asked[0][None] if len(asked) == 1 else torch.stack(asked)


def noisy_copies(x: Tensor, noise: Noise, seed: int, index: int, count: int, purpose: str) -> Tensor:
    """Make the first noisy copies of an image that certification sees on the CPU, to be looked at.

    Args:
        x: Pixels in [0, 1], float (C, H, W).
        noise: The law of the noise.
        seed: Its seed.
        index: The image's index.
        count: How many copies, at most BLOCK.
        purpose: Name of the stream.

    Returns:
        Noisy pixels, float32 (count, C, H, W), not clipped.
    """
    drawn = NoiseStream(seed, index, purpose, noise, x.shape).samples(0)[:count]
    out = torch.empty(drawn.shape, dtype=torch.float32)
    noise.add(noise.place(x), drawn, out)
    return out
