"""Normal noise rounded to the grid of 8-bit images: integers, so that a certificate is sound in floating point.

Floating-point noise lands on numbers that depend on the image it is added to, and a network can be built that reads
them. Here an image is 255 x, whole numbers, and its noise k = round(N(0, (255 sigma)^2)), whole numbers too: what the
network sees, (255 x + k) / 255, is a function of the exact sum. The levels k are cut from uniform 64-bit words by
thresholds that are exact to their last bit, so that the law of a noisy image is within `TAU` of the one that the
theorem is about, in total variation; bounds pay for it.

Source: docs/statistics.md, with the proof; Voracek & Hein 2023 show what float noise costs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import mpmath
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robust_hub.guarantee.bounds import TAU

LEVELS = 255  # an image's largest value; pixels are multiples of 1 / LEVELS
_OFF_GRID = 1e-4  # levels: ten times what float32 leaves of k / 255
_LEAST, _MOST = 1 / 1024, 12.0  # sigmas: below, nearly all noise is 0; above, sums leave 16 bits
PIECE = 1 << 20  # values that are computed at a time, so that what is needed beside them does not grow with an image
_DIGITS = 45  # of the thresholds' arithmetic; they need 20
_DOUBT = np.int16(-(2**15))  # marks words whose first 16 bits do not settle the level


class _Leading:
    """The words of a stream, 16 bits at a time, whatever the sizes that are taken."""

    def __init__(self, words: np.random.Philox) -> None:
        self._words, self._left = words, np.empty(0, dtype=np.uint16)

    def take(self, count: int) -> NDArray[np.uint16]:
        """Give the next so many, uint16 (count,)."""
        more = self._words.random_raw((count - len(self._left) + 3) // 4).astype("<u8", copy=False).view("<u2")
        bits = np.concatenate([self._left, more]) if len(self._left) else more
        self._left = bits[count:]
        return bits[:count]


def _pieces(size: int) -> list[int]:
    """Divide so many values into pieces."""
    return [min(PIECE, size - start) for start in range(0, size, PIECE)] or [0]


def _after(words: np.random.Philox, count: int) -> np.random.Philox:
    """Give a stream that begins so many words later than one that nothing was taken from yet."""
    later = np.random.Philox()
    later.state = words.state
    later.advance(count // 4)  # four words a step
    later.random_raw(count % 4)
    return later


@dataclass(frozen=True, eq=False)
class Thresholds:
    """Where uniform 64-bit words are cut into levels.

    Attributes:
        lowest: The level of the word 0.
        cuts: A word's level is `lowest` and the number of cuts at most as large, increasing uint64 (T,).
        coarse: The level of each pair of leading bytes, int16 (65536,), or a mark where a cut lies within.
    """

    lowest: int
    cuts: NDArray[np.uint64]
    coarse: NDArray[np.int16]


@lru_cache(maxsize=16)
def thresholds(sigma: float) -> Thresholds:
    """Compute the cuts of the normal law rounded to levels, each to its nearest 2^-64.

    Args:
        sigma: Standard deviation of the noise, [0, 1]-pixel units; exactly this double.
    """
    tails: list[int] = []  # 2^64 P(k > j), for j = 0, 1, ...
    with mpmath.workdps(_DIGITS):
        scale = LEVELS * mpmath.mpf(sigma) * mpmath.sqrt(2)
        half = mpmath.mpf(1) / 2
        while not tails or tails[-1]:
            tails.append(int(mpmath.floor(mpmath.ldexp(mpmath.erfc((len(tails) + half) / scale), 63) + half)))
    tails.pop()
    cuts = np.array([*tails[::-1], *(2**64 - tail for tail in tails)], dtype=np.uint64)
    lowest = -len(tails)
    first = np.arange(2**16, dtype=np.uint64) << np.uint64(48)
    below = np.searchsorted(cuts, first, side="right")
    settled = below == np.searchsorted(cuts, first | np.uint64(2**48 - 1), side="right")
    return Thresholds(lowest, cuts, np.where(settled, lowest + below, _DOUBT).astype(np.int16))


@lru_cache(maxsize=16)
def _cuts_on(device: torch.device, sigma: float) -> Tensor:
    """Bring the cuts to a device once, moved by 2^63 into signed integers of the same order."""
    with torch.inference_mode(mode=False):
        return torch.from_numpy((thresholds(sigma).cuts ^ np.uint64(2**63)).view(np.int64)).to(device)


def variation(shape: Sequence[int], sigma: float) -> float:
    """Bound the total variation between the sampled law of an image's noise and the rounded normal's.

    Args:
        shape: Shape of an image, (C, H, W).
        sigma: Standard deviation of the noise, [0, 1]-pixel units.

    Source: docs/statistics.md.
    """
    return math.prod(shape) * (len(thresholds(sigma).cuts) + 2) * 2.0**-65


@dataclass(frozen=True)
class LatticeNoise:
    """Rounded normal noise on 8-bit images; what a `Noise` has to do is said there.

    Attributes:
        sigma: Standard deviation before rounding, [0, 1]-pixel units.

    Raises:
        ValueError: If sigma is so small that nearly all noise is rounded to 0, or too large for 16-bit sums.

    Example:
        >>> import numpy as np
        >>> noise = LatticeNoise(0.25)
        >>> levels = noise.from_words(np.random.Philox(key=0), (1000,))
        >>> levels.dtype, round(float(levels.float().std()) / 255, 2)
        (torch.int16, 0.25)
    """

    sigma: float
    name = "lattice255"
    tau = TAU

    def __post_init__(self) -> None:
        """Check sigma."""
        if not _LEAST <= self.sigma <= _MOST:
            raise ValueError(
                f"expected a sigma from {_LEAST:.2g} to {_MOST:g} for noise on the grid of 8-bit images, got "
                f"{self.sigma!r}: smaller noise drowns in rounding to 1/255, larger leaves 16-bit integers"
            )

    def check_shape(self, shape: Sequence[int]) -> None:
        """Refuse images so large that the sampled law is not within tau of the exact one.

        Raises:
            ValueError: If an image of the shape, (C, H, W), has too many pixels.
        """
        if 2 * variation(shape, self.sigma) > TAU:
            raise ValueError(
                f"expected images small enough for exact noise at sigma {self.sigma:g}, got {tuple(shape)}: "
                'certify smaller ones, or take noise="float"'
            )

    def place(self, x: Tensor) -> Tensor:
        """Give an image's levels, int16, from its pixels, float of the same shape.

        Raises:
            ValueError: If a pixel is no multiple of 1/255.
        """
        levels = torch.empty(x.shape, dtype=torch.int16, device=x.device)
        off = 0.0
        for part, out in zip(torch.split(x.reshape(-1), PIECE), torch.split(levels.view(-1), PIECE), strict=True):
            exact = part.to(torch.float64) * LEVELS
            nearest = exact.round()
            off = max(off, float((exact - nearest).abs().max()))
            out.copy_(nearest)
        if off > _OFF_GRID:
            raise ValueError(
                f"expected pixels that are multiples of 1/255, as 8-bit images have, got one {off:.2g}/255 off: round "
                '8-bit images to (255 * x).round() / 255 in float32, or pass noise="float", whose certificates are for '
                "networks that do not exploit float rounding"
            )
        return levels

    def from_words(self, words: np.random.Philox, shape: Sequence[int]) -> Tensor:
        """Draw levels on the CPU: 16 bits each, and 48 more where those do not settle the level. int16."""
        leading = _Leading(words)
        pieces = [self._settle(leading, count) for count in _pieces(math.prod(shape))]
        levels = [self._settle_rest(words, *piece) for piece in pieces]
        return torch.from_numpy((levels[0] if len(levels) == 1 else np.concatenate(levels)).reshape(shape))

    def each_from_words(self, words: np.random.Philox, shape: Sequence[int]) -> Iterator[Tensor]:
        """Draw the same levels sample by sample, int16, each of shape[1:]; all 16 bits come before all 48."""
        size, leading = math.prod(shape[1:]), _Leading(words)
        rest = _after(words, (shape[0] * size + 3) // 4)
        for _ in range(shape[0]):
            levels = [self._settle_rest(rest, *self._settle(leading, count)) for count in _pieces(size)]
            yield torch.from_numpy(np.concatenate(levels).reshape(tuple(shape[1:])))

    def _settle(self, leading: _Leading, count: int) -> tuple[NDArray[np.int16], NDArray[np.intp], NDArray[np.uint16]]:
        """Draw levels by their 16 bits; where those do not settle one, and the bits."""
        bits = leading.take(count)
        levels = np.take(thresholds(self.sigma).coarse, bits)
        doubtful = np.flatnonzero(levels == _DOUBT)
        return levels, doubtful, bits[doubtful]

    def _settle_rest(
        self,
        words: np.random.Philox,
        levels: NDArray[np.int16],
        doubtful: NDArray[np.intp],
        bits: NDArray[np.uint16],
    ) -> NDArray[np.int16]:
        """Write the levels that 16 bits left open."""
        table = thresholds(self.sigma)
        rest = words.random_raw(len(doubtful)) >> np.uint64(16)
        whole = (bits.astype(np.uint64) << np.uint64(48)) | rest
        levels[doubtful] = table.lowest + np.searchsorted(table.cuts, whole, side="right")
        return levels

    def from_generator(self, generator: torch.Generator, shape: Sequence[int]) -> Tensor:
        """Draw levels on the generator's device, 64 bits each and no word read by the host. int16."""
        words = torch.empty(tuple(shape), dtype=torch.int64, device=generator.device)
        words.random_(-(2**63), None, generator=generator)  # at once: what it gives depends on the size
        cuts, lowest = _cuts_on(generator.device, self.sigma), thresholds(self.sigma).lowest
        levels = [
            torch.bucketize(part, cuts, out_int32=True, right=True).add_(lowest).to(torch.int16)
            for part in torch.split(words.view(-1), PIECE)
        ]
        return (levels[0] if len(levels) == 1 else torch.cat(levels)).view(tuple(shape))

    def add(self, image: Tensor, noise: Tensor, out: Tensor) -> None:
        """Write (image + noise) / 255 to `out`, float32 (B, C, H, W), from levels, int16; sums are exact."""
        torch.add(image, noise, out=out)
        out.div_(LEVELS)
