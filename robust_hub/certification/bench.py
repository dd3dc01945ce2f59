"""What certification costs on this machine: a plain loop, ours with a fixed budget, ours with a sequential plan.

The fixed budget is timed with both laws of noise. All are timed in one process, in turn, on the same network and
images, and set against two rooflines: the time of the network's convolutions and matrix products alone, and the
machine's rate of matrix products.
"""

from __future__ import annotations

import copy
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from robust_hub.certification.roofline import add_shares, profile, roofline
from robust_hub.certification.smoothing import SmoothedClassifier
from robust_hub.guarantee.certificate import Certificate
from robust_hub.guarantee.plans import RADII, FixedPlan, GridPlan, check_samples, fixed_plan, sequential_plan
from robust_hub.images.laws import NoiseChoice
from robust_hub.images.pixels import check_pixels, normalize
from robust_hub.models.modes import uncompiled
from robust_hub.training.speed import describe_machine, timed


def bench_certify(
    model: nn.Module,
    images: Tensor,
    sigma: float,
    *,
    radii: Sequence[float] = RADII,
    samples: int = 4096,
    n: int = 100_000,
    alpha: float = 0.001,
    repeats: int = 5,
    batch_size: int | None = None,
    plain_batch_sizes: Sequence[int] = (256, 1000),
    seed: int = 0,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> dict[str, Any]:
    """Time ways to certify, in turn, `repeats` times each.

    Args:
        model: Classifier of normalised images, compiled or not, on the device and in the type that it is to be timed
            in. The plain loop runs it in float32 and never compiled, as the pseudo-code does.
        images: Pixels in [0, 1], float (B, C, H, W); the fixed budget takes them one after the other.
        sigma: Standard deviation of the noise, [0, 1]-pixel units.
        radii: The grid of the sequential plan.
        samples: Samples of an image that are timed for the plain loop and the fixed budget.
        n: Most samples of the sequential plan; also the fixed budget that minutes an image are computed for.
        alpha: Failure probability.
        repeats: Rounds; medians over them are reported.
        batch_size: Images a network batch of both plans; None takes what suits network and device.
        plain_batch_sizes: Images a network batch of the plain loop, several to be tried; the fastest is the plain loop
            that all is set against. 1000 is the default of the code of Cohen et al.
        seed: Seed of the noise.
        mean: Per-channel means; by default the model's.
        std: Per-channel standard deviations, likewise.

    Returns:
        JSON values: a row for "plain", "fixed", "fixed_float" (on float noise) and "sequential" each (samples_per_s,
        samples_per_image,
        images_per_minute, times_plain, and samples_per_s of every round), "plain_batches" (samples_per_s of the plain
        loop by its batch size), "roofline", "profile" (of the fixed budget), "settings" and "machine".

    Raises:
        TypeError: If images hold no floating-point pixels.
        ValueError: If an argument is outside its range.
    """
    for name, value in (("samples", samples), ("repeats", repeats), ("plain_batch_sizes", len(plain_batch_sizes))):
        check_samples(name, value)
    for value in plain_batch_sizes:
        check_samples("plain_batch_sizes", value)
    check_pixels(images)
    smoothed = SmoothedClassifier(model, mean=mean, std=std)
    batch_size = smoothed.suited_batch_size(images.shape[1:]) if batch_size is None else batch_size
    check_samples("batch_size", batch_size)
    grid = sequential_plan(radii, n, alpha)
    grid.check(sigma)
    fixed = fixed_plan(min(100, samples), max(samples - 100, 10), alpha)
    ways = _Ways(smoothed, _plain(smoothed), images, sigma, fixed, grid, samples, batch_size, plain_batch_sizes, seed)
    ways.time(-1)  # warms up
    rounds = [ways.time(turn) for turn in range(repeats)]
    plain_batches = {size: median(_rates(rounds, f"plain {size}")) for size in plain_batch_sizes}
    best = max(plain_batches, key=lambda size: plain_batches[size])
    rounds = [{**timings, "plain": timings[f"plain {best}"]} for timings in rounds]
    samples_per_image = {
        "plain": 100 + n,
        "fixed": 100 + n,
        "fixed_float": 100 + n,
        "sequential": rounds[-1]["sequential"].samples / len(images),
    }
    rows = _rows(rounds, samples_per_image)
    settings = {"sigma": sigma, "radii": list(radii), "n": n, "alpha": alpha, "images": len(images)}
    settings |= {"samples": samples, "repeats": repeats, "seed": seed, "compiled": uncompiled(model) is not model}
    settings |= {"batch_size": batch_size, "plain_batch_size": best}
    return {
        **rows,
        "plain_batches": {str(size): rate for size, rate in plain_batches.items()},
        "roofline": add_shares(roofline(smoothed, images[0], batch_size), rows["fixed"]["samples_per_s"]),
        "profile": profile(partial(ways.certify_fixed, images[0])),
        "settings": settings,
        "machine": {"dtype": str(smoothed.dtype).removeprefix("torch."), **describe_machine(smoothed.device)},
    }


@dataclass(frozen=True)
class _Timing:
    """Samples, and the seconds that they took."""

    samples: int
    seconds: float


@dataclass(frozen=True)
class _Ways:
    """Ways to certify the same images: a plain loop, a fixed budget on either noise, a sequential plan."""

    smoothed: SmoothedClassifier
    plain: SmoothedClassifier
    images: Tensor
    sigma: float
    fixed: FixedPlan
    grid: GridPlan
    samples: int
    batch_size: int
    plain_batch_sizes: Sequence[int]
    seed: int

    def time(self, turn: int) -> dict[str, _Timing]:
        """Time each way once: the sequential plan on all images, the others on the turn's."""
        device, image = self.smoothed.device, self.images[turn % len(self.images)]
        plain = partial(plain_votes, self.plain, image, self.sigma, self.samples)
        return {
            **{
                f"plain {size}": _Timing(self.samples, timed(device, partial(plain, size)))
                for size in self.plain_batch_sizes
            },
            "fixed": _Timing(self.fixed.most, timed(device, partial(self.certify_fixed, image))),
            "fixed_float": _Timing(self.fixed.most, timed(device, partial(self.certify_fixed, image, "float"))),
            "sequential": self._time_sequential(),
        }

    def certify_fixed(self, image: Tensor, noise: NoiseChoice = "lattice") -> Certificate:
        """Certify one image, (C, H, W), by the fixed budget."""
        return self.smoothed.certify(
            image, self.sigma, plan=self.fixed, batch_size=self.batch_size, noise=noise, seed=self.seed
        )

    def _time_sequential(self) -> _Timing:
        begun = time.perf_counter()
        certificates = self.smoothed.certify_batch(
            self.images, self.sigma, plan=self.grid, batch_size=self.batch_size, seed=self.seed
        )
        samples = sum(certificate.samples for certificate in certificates)
        return _Timing(samples, time.perf_counter() - begun)


def _plain(smoothed: SmoothedClassifier) -> SmoothedClassifier:
    """Give the network as the pseudo-code runs it: a copy in float32, NCHW, not compiled."""
    model = copy.deepcopy(uncompiled(smoothed.model)).float().to(memory_format=torch.contiguous_format)
    return SmoothedClassifier(model, mean=smoothed.mean, std=smoothed.std)


def _rows(rounds: Sequence[Mapping[str, _Timing]], samples_per_image: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """Give each way's median rate and what it makes of an image, beside the plain loop."""
    rows: dict[str, dict[str, Any]] = {}
    for name, samples in samples_per_image.items():
        rates = _rates(rounds, name)
        rate = median(rates)
        rows[name] = {
            "samples_per_s": rate,
            "samples_per_image": samples,
            "images_per_minute": 60 * rate / samples,
            "rounds": rates,
        }
    for row in rows.values():
        row["times_plain"] = row["images_per_minute"] / rows["plain"]["images_per_minute"]
    return rows


def _rates(rounds: Sequence[Mapping[str, _Timing]], name: str) -> list[float]:
    """Give a way's samples a second in each round."""
    return [timings[name].samples / timings[name].seconds for timings in rounds]


def plain_votes(smoothed: SmoothedClassifier, image: Tensor, sigma: float, samples: int, batch_size: int) -> Tensor:
    """Count votes as the paper's pseudo-code does: one image, NCHW, float32, a batch after the other.

    Args:
        smoothed: Brings a float32 network, mean and std.
        image: Pixels in [0, 1], float (C, H, W).
        sigma: Standard deviation of the noise, [0, 1]-pixel units.
        samples: Noisy copies.
        batch_size: Copies a batch.

    Returns:
        Votes, int64 (K,).
    """
    x = image.to(smoothed.device, torch.float32)
    model = smoothed.model.eval()
    votes: list[Tensor] = []
    with torch.no_grad():
        for start in range(0, samples, batch_size):
            batch = x.repeat(min(batch_size, samples - start), 1, 1, 1)
            batch = batch + torch.randn_like(batch) * sigma
            logits = model(normalize(batch, smoothed.mean, smoothed.std))
            votes.append(torch.bincount(logits.argmax(1), minlength=logits.shape[1]))
    return torch.stack(votes).sum(0)


def markdown(result: dict[str, Any]) -> str:
    """Set what `bench_certify` measured as a Markdown table."""
    names = {"plain": "plain loop, float32", "fixed": "fixed plan", "fixed_float": "fixed plan, float noise"}
    names["sequential"] = "sequential plan"
    names = {name: label for name, label in names.items() if name in result}  # older records had one noise, float
    lines = ["| | samples/s | samples an image | images a minute | times the plain loop |", "|---|---|---|---|---|"]
    for name, label in names.items():
        row = result[name]
        lines.append(
            f"| {label} | {row['samples_per_s']:,.0f} | {row['samples_per_image']:,.0f} | "
            f"{row['images_per_minute']:.3g} | {row['times_plain']:.2f} |"
        )
    roof, settings, machine = result["roofline"], result["settings"], result["machine"]
    radii = ", ".join(f"{radius:g}" for radius in settings["radii"])
    how = f"{machine['dtype']}{', compiled,' if settings['compiled'] else ''} on {machine['device']}"
    grid = f"sigma {settings['sigma']:g}, radii {radii}, n = {settings['n']:,}"
    where = ", ".join(f"{name} {100 * share:.1f} %" for name, share in result["profile"].items())
    where = re.sub(r"## Call CompiledFxGraph \S+ ##", "compiled kernels", where)
    note = (
        f"{how} with {machine['threads']} threads; medians of {settings['repeats']} rounds; batches of "
        f"{settings['batch_size']}, of {settings['plain_batch_size']} in the plain loop; {grid}. The fixed plan runs "
        f"at {100 * roof['share_of_layers']:.0f} % of the rate of the network's convolutions and linear layers alone "
        f"({roof['layers_samples_per_s']:,.0f} samples/s), and at {100 * roof['share_of_matrix_products']:.0f} % of "
        f"the machine's {roof['matrix_flop_per_s'] / 1e9:,.0f} GFLOP/s in matrix products. Where its time goes: "
        f"{where}."
    )
    if tried := result.get("plain_batches"):  # older records tried one batch size
        rates = " and ".join(f"{rate:,.0f} samples/s with batches of {size}" for size, rate in tried.items())
        note += (
            f" The plain loop ran at {rates}; its best is the row. A round of it and of the fixed plan takes "
            f"{settings['samples']:,} samples; the minutes an image are reckoned for n."
        )
    return "\n".join([*lines, "", note]) + "\n"
