"""The bench: it measures what it says, on votes that are right; no figure is asserted."""

from __future__ import annotations

import json
import time

import pytest
import torch
from torch import nn

from robust_hub.certification import bench
from robust_hub.certification.bench import bench_certify, markdown, plain_votes
from robust_hub.certification.roofline import profile
from robust_hub.certification.smoothing import SmoothedClassifier

PIXELS = {"mean": (0.5,) * 3, "std": (0.25,) * 3}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, 1, 1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )


def images(count: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 8, 8), generator=torch.Generator().manual_seed(1)) / 255


def test_rows_are_consistent_and_json() -> None:
    model = network().bfloat16()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    result = bench_certify(
        model, images(), 0.5, radii=(0.1, 0.2), samples=120, n=200, repeats=3, batch_size=32, alpha=0.01, **PIXELS
    )
    assert json.loads(json.dumps(result)) == result
    for name in ("plain", "fixed", "sequential"):
        row = result[name]
        assert len(row["rounds"]) == 3 and row["samples_per_s"] in row["rounds"]
        assert row["images_per_minute"] == pytest.approx(60 * row["samples_per_s"] / row["samples_per_image"])
    assert result["plain"]["times_plain"] == 1
    assert result["plain"]["samples_per_image"] == result["fixed"]["samples_per_image"] == 300
    certified = SmoothedClassifier(model, **PIXELS).certify_batch(
        images(), 0.5, radii=(0.1, 0.2), n=200, alpha=0.01, seed=0, batch_size=32
    )
    assert result["sequential"]["samples_per_image"] == sum(c.samples for c in certified) / 3
    assert result["machine"]["dtype"] == "bfloat16"
    assert all(torch.equal(v, before[k]) and v.dtype == before[k].dtype for k, v in model.state_dict().items())
    assert sum(result["profile"].values()) <= 1.01 and next(iter(result["profile"].values())) > 0.1
    text = markdown(result)
    assert "| plain loop, float32 |" in text and "bfloat16 on" in text and "medians of 3 rounds" in text


def test_ours_takes_the_batch_size_that_suits_it() -> None:
    result = bench_certify(network(), images(), 0.5, radii=(0.1,), samples=120, n=200, repeats=1, alpha=0.01, **PIXELS)
    assert result["settings"]["batch_size"] == SmoothedClassifier(network(), **PIXELS).suited_batch_size((3, 8, 8))


def test_the_best_plain_batch_size_is_the_plain_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {8: 0.02, 16: 0.0, 32: 0.04}

    def slow(smoothed: SmoothedClassifier, image: torch.Tensor, sigma: float, samples: int, size: int) -> None:
        time.sleep(seconds[size])

    monkeypatch.setattr(bench, "plain_votes", slow)
    sizes = tuple(seconds)
    result = bench_certify(
        network(), images(), 0.5, radii=(0.1,), samples=120, n=200, repeats=1, plain_batch_sizes=sizes, **PIXELS
    )
    assert result["settings"]["plain_batch_size"] == 16
    assert list(result["plain_batches"]) == ["8", "16", "32"]
    assert result["plain"]["samples_per_s"] == result["plain_batches"]["16"] == max(result["plain_batches"].values())
    assert "samples/s with batches of 8 and " in markdown(result) and "takes 120 samples" in markdown(result)


def test_the_profiler_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    profile(lambda: torch.rand(8) @ torch.rand(8))
    assert capfd.readouterr() == ("", "")


def test_the_plain_loop_votes_as_ours_does() -> None:
    smoothed = SmoothedClassifier(network(), **PIXELS)
    with torch.no_grad():
        smoothed.model[4].bias.copy_(smoothed.model[4].bias - smoothed.model(torch.zeros(1, 3, 8, 8))[0])
    torch.manual_seed(0)
    plain = plain_votes(smoothed, images()[0], 2.0, 4000, 256)
    ours = torch.tensor(smoothed.certify(images()[0], 2.0, n=4000, seed=0).counts)
    assert plain.sum() == 4000
    share = (plain + ours).float() / 8000
    spread = torch.sqrt(2 * 4000 * share * (1 - share)) + 1
    assert ((plain - ours).abs() < 5.2 * spread).all()


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="expected repeats to be a whole number"):
        bench_certify(network(), images(), 0.5, repeats=0, **PIXELS)
    with pytest.raises(ValueError, match="expected plain_batch_sizes to be a whole number, at least 1, got 0"):
        bench_certify(network(), images(), 0.5, plain_batch_sizes=(), **PIXELS)
    with pytest.raises(ValueError, match="expected increasing finite radii"):
        bench_certify(network(), images(), 0.5, radii=(0.5, 0.1), **PIXELS)
    with pytest.raises(ValueError, match=r"expected pixels in \[0, 1\]"):
        bench_certify(network(), 2 * images(), 0.5, **PIXELS)
