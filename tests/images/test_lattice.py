"""Lattice noise: thresholds exact to their last bit, levels cut from words as they say, sums exact, law as promised."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import torch
from scipy.special import ndtr
from scipy.stats import chisquare
from seeds import SHIFT

from robust_hub.guarantee.bounds import TAU
from robust_hub.images.lattice import LatticeNoise, thresholds, variation
from robust_hub.images.laws import FloatNoise, make_noise
from robust_hub.images.noise import BLOCK, NoiseStream, noisy_copies

LEVEL = 1e-6
SIGMAS = (0.12, 0.25, 0.5, 1.0)


class Words:
    """Stands for Philox: gives the words it was made of, in their order."""

    def __init__(self, words: list[int]) -> None:
        self.words = words

    def random_raw(self, size: int) -> np.ndarray:
        taken, self.words = self.words[:size], self.words[size:]
        return np.array(taken, dtype=np.uint64)


def level_of(word: int, sigma: float) -> int:
    """Count the thresholds up to a word, each computed here anew."""
    table = thresholds(sigma)
    return table.lowest + sum(int(cut) <= word for cut in table.cuts)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_each_threshold_is_the_nearest_number_of_2_to_the_64_parts(sigma: float) -> None:
    table = thresholds(sigma)
    with mpmath.workdps(60):
        spread = 255 * mpmath.mpf(sigma)
        for at in (*range(0, len(table.cuts), 37), len(table.cuts) - 1):
            exact = mpmath.ncdf((table.lowest + at + mpmath.mpf(1) / 2) / spread) * 2**64
            assert abs(int(table.cuts[at]) - exact) <= 0.5
        beyond = mpmath.ncdf((table.lowest - mpmath.mpf(1) / 2) / spread) * 2**64
        assert beyond < 0.5  # no level is left out below, nor, the law being even, above
    assert (np.diff(table.cuts.astype(object)) >= 0).all()
    assert len(table.cuts) == -2 * table.lowest
    assert all(int(a) + int(b) == 2**64 for a, b in zip(table.cuts, table.cuts[::-1], strict=True))


def test_thresholds_are_as_many_as_documented() -> None:
    assert [len(thresholds(sigma).cuts) for sigma in (0.25, 0.5, 1.0)] == [1168, 2334, 4670]


@pytest.mark.parametrize("sigma", SIGMAS)
def test_levels_are_cut_from_words_as_the_thresholds_say(sigma: float) -> None:
    cuts = [int(cut) for cut in thresholds(sigma).cuts]
    chosen = [cuts[0], cuts[1], cuts[len(cuts) // 2], cuts[len(cuts) // 3], cuts[-1]]
    whole = [0, 2**64 - 1, 2**63, *(min(cut + step, 2**64 - 1) for cut in chosen for step in (-1, 0, 1))]
    whole += [int(word) for word in np.random.default_rng(0).integers(0, 2**64, 301, dtype=np.uint64)]
    whole += [0] * (-len(whole) % 4)
    leading = [word >> 48 for word in whole]
    packed = [sum(part << (16 * at) for at, part in enumerate(leading[i : i + 4])) for i in range(0, len(whole), 4)]
    doubtful = [
        i for i, part in enumerate(leading) if level_of(part << 48, sigma) != level_of(part << 48 | 2**48 - 1, sigma)
    ]
    rest = [(whole[i] & (2**48 - 1)) << 16 for i in doubtful]
    got = LatticeNoise(sigma).from_words(Words(packed + rest), (len(whole),))  # type: ignore[arg-type]
    assert got.tolist() == [level_of(word, sigma) for word in whole]
    assert len(doubtful) > 10  # both ways were gone


def test_levels_of_a_device_are_cut_from_words_as_the_thresholds_say() -> None:
    noise, generator = LatticeNoise(0.25), torch.Generator().manual_seed(3)
    got = noise.from_generator(generator, (40, 5))
    words = torch.empty(40, 5, dtype=torch.int64).random_(-(2**63), None, generator=torch.Generator().manual_seed(3))
    assert got.dtype == torch.int16
    assert got.flatten().tolist() == [level_of(word + 2**63, 0.25) for word in words.flatten().tolist()]
    assert int(words.min()) < -(2**61) and int(words.max()) > 2**61


def draws(way: str, sigma: float, count: int) -> torch.Tensor:
    noise = LatticeNoise(sigma)
    if way == "words":
        return noise.from_words(np.random.Philox(key=7 + SHIFT), (count,))
    return noise.from_generator(torch.Generator().manual_seed(7 + SHIFT), (count,))


def fit(levels: torch.Tensor, sigma: float) -> float:
    """Compare levels with the rounded normal law, cell by cell, by a chi-squared test; its p-value."""
    spread, count = 255 * sigma, len(levels)
    edge = int(spread * 3.5)
    cells = np.arange(-edge, edge + 1)
    inner = ndtr((cells + 0.5) / spread) - ndtr((cells - 0.5) / spread)
    tail = ndtr((-edge - 0.5) / spread)
    seen = np.bincount(levels.numpy().clip(-edge - 1, edge + 1) + edge + 1, minlength=2 * edge + 3)
    expected = np.concatenate([[tail], inner, [tail]]) * count
    return float(chisquare(seen, expected * (count / expected.sum())).pvalue)


@pytest.mark.parametrize("way", ["words", "generator"])
@pytest.mark.parametrize("sigma", [0.02, 0.25, 1.0])
def test_levels_follow_the_rounded_normal_law(way: str, sigma: float) -> None:
    levels = draws(way, sigma, 2_000_000)
    assert fit(levels, sigma) > LEVEL
    assert fit(levels, 1.01 * sigma) < LEVEL  # what the test can see
    assert fit(levels + 5, sigma) < LEVEL


@pytest.mark.full
def test_levels_follow_the_law_in_a_large_sample() -> None:
    levels = draws("words", 0.25, 60_000_000)
    assert fit(levels, 0.25) > LEVEL
    assert fit(levels, 0.2505) < LEVEL


def test_samples_of_a_stream_are_independent() -> None:
    stream = NoiseStream(SHIFT, 0, "a", LatticeNoise(0.25), (3, 8, 8))
    flat = torch.cat([stream.block(k) for k in range(60)]).flatten(1).double() / (255 * 0.25)
    for lag in (1, 2, BLOCK):
        product = (flat[lag:] * flat[:-lag]).mean()
        assert abs(float(product)) < 5.5 / math.sqrt(flat[lag:].numel())
    neighbours = (flat[:, 1:] * flat[:, :-1]).mean()
    assert abs(float(neighbours)) < 5.5 / math.sqrt(flat[:, 1:].numel())


def test_total_variation_is_what_the_bounds_pay_for() -> None:
    assert variation((3, 32, 32), 0.25) == 3072 * 1170 * 2.0**-65
    for shape in ((3, 32, 32), (3, 224, 224)):
        for sigma in (0.12, 0.25, 0.5, 1.0):
            LatticeNoise(sigma).check_shape(shape)
            assert 2 * variation(shape, sigma) < TAU == LatticeNoise(sigma).tau
    with pytest.raises(
        ValueError, match=r"expected images small enough for exact noise at sigma 12, got \(3, 224, 224\)"
    ):
        LatticeNoise(12.0).check_shape((3, 224, 224))


def test_an_image_is_its_levels() -> None:
    pixels = torch.arange(256, dtype=torch.uint8)
    for kind in (torch.float32, torch.float64):
        placed = LatticeNoise(0.25).place(pixels.to(kind) / 255)
        assert placed.dtype == torch.int16
        assert placed.tolist() == list(range(256))
    assert LatticeNoise(0.25).place(pixels.float() * (1 / 255)).tolist() == list(range(256))


@pytest.mark.parametrize("off", [0.5 / 255, 1e-3 / 255, 2e-6])
def test_pixels_off_the_grid_are_refused_with_the_way_out(off: float) -> None:
    x = torch.full((3, 4, 4), 100 / 255)
    x[1, 2, 3] += off
    with pytest.raises(ValueError, match=r'expected pixels that are multiples of 1/255.*noise="float"'):
        LatticeNoise(0.25).place(x)


def test_a_lower_precision_leaves_the_grid() -> None:
    with pytest.raises(ValueError, match="in float32"):
        LatticeNoise(0.25).place((torch.arange(256) / 255).to(torch.bfloat16))


def test_sums_are_exact() -> None:
    noise = LatticeNoise(12.0)
    image = torch.tensor([0, 1, 255], dtype=torch.int16)
    most = thresholds(12.0).lowest
    drawn = torch.tensor([[most, 0, -most], [-most, most, most]], dtype=torch.int16)
    out = torch.empty(2, 3)
    noise.add(image, drawn, out)
    whole = [[most, 1, 255 - most], [-most, 1 + most, 255 + most]]
    assert torch.equal(out, torch.tensor(whole, dtype=torch.float32) / 255)


def test_clean_pixels_are_those_of_load_data() -> None:
    pixels = torch.arange(256, dtype=torch.uint8)
    out = torch.empty(1, 256)
    LatticeNoise(0.25).add(pixels.to(torch.int16), torch.zeros(1, 256, dtype=torch.int16), out)
    assert torch.equal(out[0], pixels.float() / 255)


@pytest.mark.parametrize("sigma", [1e-9, 5e-4, 13.0, 1e39, math.nan])
def test_sigmas_that_the_lattice_cannot_take(sigma: float) -> None:
    with pytest.raises(ValueError, match="smaller noise drowns in rounding to 1/255"):
        LatticeNoise(sigma)


@pytest.mark.parametrize("sigma", [1e-9, 1e-5, 1e39, math.nan])
def test_sigmas_that_float_noise_cannot_take(sigma: float) -> None:
    with pytest.raises(ValueError, match=r"smaller noise drowns in the rounding of float32"):
        FloatNoise(sigma)


@pytest.mark.parametrize("sigma", [0.12, 0.1, 0.3, 0.25, 1.0, 0.7])
def test_float_noise_is_never_of_a_smaller_sigma_than_is_certified(sigma: float) -> None:
    scale = FloatNoise(sigma).scale
    assert scale >= sigma
    assert scale == float(np.float32(scale))
    assert scale - sigma < 1.2e-7 * sigma
    out = torch.empty(1, 1)
    FloatNoise(sigma).add(torch.zeros(1), torch.ones(1, 1), out)
    assert out.item() == scale


def test_a_law_is_chosen_by_name() -> None:
    assert isinstance(make_noise("lattice", 1), LatticeNoise)
    assert isinstance(make_noise("float", 0.5), FloatNoise)
    with pytest.raises(ValueError, match="expected noise to be one of lattice, float, got 'gaussian'"):
        make_noise("gaussian", 0.5)  # type: ignore[arg-type]


def test_copies_to_look_at_are_those_of_the_votes() -> None:
    x, law = torch.full((3, 4, 4), 0.2), LatticeNoise(0.25)
    copies = noisy_copies(x, law, 5, 2, 3, "estimation")
    drawn = NoiseStream(5, 2, "estimation", law, x.shape).block(0)[:3]
    assert torch.equal((copies * 255).round().to(torch.int16), drawn + 51)


@pytest.mark.gpu
def test_the_lattice_on_a_device() -> None:
    stream = NoiseStream(0, 0, "a", LatticeNoise(0.25), (3, 32, 32), "cuda")
    levels = torch.cat([stream.block(k) for k in range(20)])
    assert levels.device.type == "cuda"
    assert levels.dtype == torch.int16
    assert fit(levels.flatten().cpu(), 0.25) > LEVEL
    image, out = (
        torch.full((3, 32, 32), 51, dtype=torch.int16, device="cuda"),
        torch.empty(BLOCK, 3, 32, 32, device="cuda"),
    )
    LatticeNoise(0.25).add(image, levels[:BLOCK], out)
    assert torch.equal(out.cpu(), (levels[:BLOCK].cpu() + 51).float() / 255)
