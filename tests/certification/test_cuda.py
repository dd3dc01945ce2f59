"""Certification on a CUDA device: compiled where it is worth it, halved where memory runs out, the same votes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import median

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

from robust_hub.certification import compiling
from robust_hub.certification.compiling import compile_network, is_worth_compiling
from robust_hub.certification.evaluate import certify
from robust_hub.certification.smoothing import SmoothedClassifier
from robust_hub.cli.main import main
from robust_hub.evidence.records import read_run
from robust_hub.guarantee.certificate import Certificate
from robust_hub.images.data import ImageData, load_data
from robust_hub.models.resnets import load_model
from robust_hub.training.speed import timed

pytestmark = pytest.mark.gpu
CHECKPOINT = "resnet18s_ln_mixednoise.cifar10_e5"
SHAPE = (3, 32, 32)


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def model(request: pytest.FixtureRequest) -> nn.Module:
    network: nn.Module = load_model(CHECKPOINT)
    return network.to("cuda", request.param, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load_data("digits", split="test")


@pytest.fixture
def all_of_the_memory() -> Iterator[None]:
    """Take a limit that a test has set away again."""
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


def pixels(digits: ImageData, count: int) -> Tensor:
    return torch.stack([digits[index][0] for index in range(count)])


def within_binomial_error(one: Certificate, two: Certificate) -> bool:
    """Whether votes differ by no more than those of two draws of the noise would."""
    n = sum(one.counts)
    pairs = zip(one.counts, two.counts, strict=True)
    return sum(two.counts) == n and all(abs(a - b) <= 4 * (2 * a * (n - a) / n) ** 0.5 + 4 for a, b in pairs)


def test_large_work_is_compiled_and_small_is_not(
    model: nn.Module, digits: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler = SmoothedClassifier(model).sampler
    assert is_worth_compiling(sampler, SHAPE, 10**10, None)
    assert not is_worth_compiling(sampler, SHAPE, 10**6, None)  # seconds
    options = {"every": 1, "seed": 1, "progress": False}
    small = certify(model, digits, 0.25, out=tmp_path / "small", limit=2, n=1000, **options)
    assert small.identity["compiled"] is False
    monkeypatch.setattr(compiling, "WORTH", 0.0)
    large = certify(model, digits, 0.25, out=tmp_path / "large", limit=4, **options)
    assert large.identity["compiled"] is True
    assert not hasattr(model, "_orig_mod")


def test_compiled_votes_are_those_of_the_network_within_the_noise(model: nn.Module, digits: ImageData) -> None:
    x, options = pixels(digits, 4), {"n": 20_000, "seed": 1}
    eager = SmoothedClassifier(model).certify_batch(x, 0.5, **options)
    compiled = SmoothedClassifier(compile_network(model)).certify_batch(x, 0.5, **options)
    assert all(map(within_binomial_error, eager, compiled))


@pytest.mark.usefixtures("all_of_the_memory")
@pytest.mark.parametrize("compiled", [False, True])
def test_a_batch_that_memory_does_not_hold_is_halved(model: nn.Module, digits: ImageData, compiled: bool) -> None:
    network = compile_network(model) if compiled else model
    x, options = pixels(digits, 3), {"n": 20_000, "seed": 1, "batch_size": 4096}
    want = SmoothedClassifier(network).certify_batch(x, 0.5, **options)
    torch.cuda.empty_cache()
    weights, reserved = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
    torch.cuda.reset_peak_memory_stats()
    SmoothedClassifier(network).certify_batch(x, 0.5, **options)
    room = torch.cuda.max_memory_allocated() - weights
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((reserved + 0.6 * room) / total)
    with pytest.warns(UserWarning, match="memory did not hold a batch of 4096 images") as warned:
        got = SmoothedClassifier(network).certify_batch(x, 0.5, **options)
    assert len([warning for warning in warned if "memory did not hold" in str(warning.message)]) == 1
    assert all(map(within_binomial_error, got, want))


def test_the_suited_batch_size_fits(model: nn.Module, digits: ImageData) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        certificate = SmoothedClassifier(model).certify(pixels(digits, 1)[0], 0.5, n=5_000, seed=1)
    assert sum(certificate.counts) == 5_000


def test_compiled_is_no_slower(model: nn.Module, digits: ImageData) -> None:
    x, device = pixels(digits, 1)[0], torch.device("cuda", 0)
    ways = [SmoothedClassifier(network) for network in (model, compile_network(model))]
    seconds: list[list[float]] = [[], []]
    for _ in range(6):
        for way, times in zip(ways, seconds, strict=True):
            times.append(timed(device, partial(way.certify, x, 0.5, n=200_000, seed=1)))
    eager, compiled = (median(times[1:]) for times in seconds)  # the first builds
    assert compiled <= 1.05 * eager


def test_the_command_line_certifies_on_the_device(tmp_path: Path) -> None:
    words = ["certify", "--model", CHECKPOINT, "--data", "digits", "--n", "1000", "--limit", "2", "--quiet"]
    result = CliRunner().invoke(main, [*words, "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    identity = read_run(tmp_path / "sigma_0.25").identity
    assert (identity["device"], identity["compiled"]) == ("cuda", False)
