"""The laws that noise is drawn from in certification: on the grid of 8-bit images, or in floating point."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor

from robust_hub.images.lattice import LatticeNoise

NoiseChoice: TypeAlias = Literal["lattice", "float"]
CHOICES: Mapping[str, NoiseChoice] = {"lattice255": "lattice", "float32": "float"}  # by the name in records
_LEAST, _MOST = 2.0**-14, 1e6  # sigmas of float noise: from 1,024 times the distance of float32 numbers below 1


class Noise(Protocol):
    """What a law of noise does, and what its bounds pay.

    Attributes:
        sigma: Standard deviation, [0, 1]-pixel units.
        name: The law's name in certificates and records.
        tau: Total variation between what is drawn for an image and the law that the theorem is about.
    """

    @property
    def sigma(self) -> float: ...  # noqa: D102
    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def tau(self) -> float: ...  # noqa: D102

    def check_shape(self, shape: Sequence[int]) -> None:
        """Refuse images, (C, H, W), for which tau is too small."""

    def place(self, x: Tensor) -> Tensor:
        """Give what noise is added to, from pixels in [0, 1], float of the same shape; refuse what it is not for."""
        ...

    def from_words(self, words: np.random.Philox, shape: Sequence[int]) -> Tensor:
        """Draw noise of a shape on the CPU."""
        ...

    def each_from_words(self, words: np.random.Philox, shape: Sequence[int]) -> Iterator[Tensor]:
        """Draw the same noise on the CPU sample by sample, each of shape[1:], so that one at a time is in memory."""
        ...

    def from_generator(self, generator: torch.Generator, shape: Sequence[int]) -> Tensor:
        """Draw noise of a shape on the generator's device."""
        ...

    def add(self, image: Tensor, noise: Tensor, out: Tensor) -> None:
        """Write a placed image, (C, H, W), with noise, (B, C, H, W), to `out`, noisy pixels, float32 (B, C, H, W)."""


@dataclass(frozen=True)
class FloatNoise:
    """Normal noise drawn and added in float32, the paper's: for networks that do not exploit float rounding.

    Attributes:
        sigma: Standard deviation, [0, 1]-pixel units.

    Raises:
        ValueError: If sigma is so small that the noise drowns in the rounding of float32.
    """

    sigma: float
    name = "float32"
    tau = 0.0

    def __post_init__(self) -> None:
        """Check sigma."""
        if not _LEAST <= self.sigma <= _MOST:
            raise ValueError(
                f"expected a sigma from {_LEAST:.2g} to {_MOST:g} for float noise, got {self.sigma!r}: smaller noise "
                "drowns in the rounding of float32 pixels, and they drown in larger"
            )

    @property
    def scale(self) -> float:
        """The smallest float32 number from sigma up: noise of more than sigma is certified for sigma, not less."""
        nearest = np.float32(self.sigma)
        return float(nearest if float(nearest) >= self.sigma else np.nextafter(nearest, np.float32(np.inf)))

    def check_shape(self, shape: Sequence[int]) -> None:
        """Take every shape."""

    def place(self, x: Tensor) -> Tensor:
        """Give the pixels in float32, a copy: whoever gave the image may write the next one into its memory."""
        return x.to(torch.float32, copy=True)

    def from_words(self, words: np.random.Philox, shape: Sequence[int]) -> Tensor:
        """Draw standard normal noise on the CPU, float32."""
        return torch.from_numpy(np.random.Generator(words).standard_normal(tuple(shape), dtype=np.float32))

    def each_from_words(self, words: np.random.Philox, shape: Sequence[int]) -> Iterator[Tensor]:
        """Draw the same noise on the CPU sample by sample, float32, each of shape[1:]."""
        generator = np.random.Generator(words)
        for _ in range(shape[0]):
            yield torch.from_numpy(generator.standard_normal(tuple(shape[1:]), dtype=np.float32))

    def from_generator(self, generator: torch.Generator, shape: Sequence[int]) -> Tensor:
        """Draw standard normal noise on the generator's device, float32."""
        return torch.randn(tuple(shape), device=generator.device, generator=generator)

    def add(self, image: Tensor, noise: Tensor, out: Tensor) -> None:
        """Write image + sigma * noise to `out`, float32 (B, C, H, W), never clipped."""
        torch.add(image, noise, alpha=self.scale, out=out)


def make_noise(choice: NoiseChoice, sigma: float) -> Noise:
    """Make the law of noise that is asked for.

    Args:
        choice: "lattice" for 8-bit images, sound in floating point; "float" for any pixels, as the paper has it.
        sigma: Standard deviation, [0, 1]-pixel units.

    Raises:
        ValueError: If choice is none of them, or sigma outside its range.

    Example:
        >>> make_noise("lattice", 0.25).name, make_noise("float", 0.25).name
        ('lattice255', 'float32')
    """
    if choice not in get_args(NoiseChoice):
        raise ValueError(f"expected noise to be one of {', '.join(get_args(NoiseChoice))}, got {choice!r}")
    return LatticeNoise(float(sigma)) if choice == "lattice" else FloatNoise(float(sigma))
