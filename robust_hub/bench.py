"""What certification costs on this machine: a plain loop, ours with a fixed budget, ours with a sequential plan.

All three are timed in one process, in turn, on the same network and images, and set against two rooflines: the time of
the network's convolutions and matrix products alone, and the machine's rate of matrix products.
"""

from __future__ import annotations

import copy
import importlib.metadata
import platform
import re
import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from robust_hub.pixels import check_pixels, normalize
from robust_hub.plans import RADII, check_samples, fixed_plan, sequential_plan
from robust_hub.sampler import uncompiled
from robust_hub.smoothing import SmoothedClassifier
from robust_hub.speed import matrix_rate, middle_time, timed


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
    plain_batch_size: int = 1000,
    seed: int = 0,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> dict[str, Any]:
    """Time three ways to certify, in turn, `repeats` times each.

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
        plain_batch_size: Images a network batch of the plain loop; 1000 is the default of the code of Cohen et al.
        seed: Seed of the noise.
        mean: Per-channel means; by default the model's.
        std: Per-channel standard deviations, likewise.

    Returns:
        JSON values: a row for "plain", "fixed" and "sequential" each (samples_per_s, samples_per_image,
        images_per_minute, times_plain, and samples_per_s of every round), "roofline", "profile" (of the fixed
        budget), "settings" and "machine".

    Raises:
        TypeError: If images hold no floating-point pixels.
        ValueError: If an argument is outside its range.
    """
    for name, value in (("samples", samples), ("repeats", repeats), ("plain_batch_size", plain_batch_size)):
        check_samples(name, value)
    check_pixels(images)
    smoothed = SmoothedClassifier(model, mean=mean, std=std)
    batch_size = smoothed.suited_batch_size(images.shape[1:]) if batch_size is None else batch_size
    check_samples("batch_size", batch_size)
    grid = sequential_plan(radii, n, alpha)
    grid.check(sigma)
    fixed = fixed_plan(min(100, samples), max(samples - 100, 10), alpha)
    original = uncompiled(model)
    plain = SmoothedClassifier(
        copy.deepcopy(original).float().to(memory_format=torch.contiguous_format), mean=smoothed.mean, std=smoothed.std
    )
    options: dict[str, Any] = {"batch_size": batch_size, "seed": seed}
    rates: dict[str, list[float]] = {"plain": [], "fixed": [], "sequential": []}
    needed = 0.0
    for turn in range(-1, repeats):  # the first round warms up
        image = images[turn % len(images)]
        spent = {
            "plain": timed(smoothed.device, partial(plain_votes, plain, image, sigma, samples, plain_batch_size)),
            "fixed": timed(smoothed.device, partial(smoothed.certify, image, sigma, plan=fixed, **options)),
        }
        begun = time.perf_counter()
        used = sum(c.samples for c in smoothed.certify_batch(images, sigma, plan=grid, **options))
        spent["sequential"] = time.perf_counter() - begun
        needed = used / len(images)
        if turn >= 0:
            counts = {"plain": samples, "fixed": fixed.most, "sequential": used}
            for name, seconds in spent.items():
                rates[name].append(counts[name] / seconds)
    per_image = {"plain": 100 + n, "fixed": 100 + n, "sequential": needed}
    rows = {
        name: {
            "samples_per_s": median(found),
            "samples_per_image": per_image[name],
            "images_per_minute": 60 * median(found) / per_image[name],
            "rounds": found,
        }
        for name, found in rates.items()
    }
    for row in rows.values():
        row["times_plain"] = row["images_per_minute"] / rows["plain"]["images_per_minute"]  # type: ignore[operator]
    roof = roofline(smoothed, images[0], batch_size)
    roof["share_of_layers"] = rows["fixed"]["samples_per_s"] / roof["layers_samples_per_s"]  # type: ignore[operator]
    roof["share_of_matrix_products"] = (
        rows["fixed"]["samples_per_s"] * roof["flop_per_sample"] / roof["matrix_flop_per_s"]  # type: ignore[operator]
    )
    settings = {"sigma": sigma, "radii": list(radii), "n": n, "alpha": alpha, "images": len(images)}
    settings |= {"samples": samples, "repeats": repeats, "seed": seed, "compiled": original is not model}
    settings |= {"batch_size": batch_size, "plain_batch_size": plain_batch_size}
    spent_on = profile(partial(smoothed.certify, images[0], sigma, plan=fixed, **options))
    return {**rows, "roofline": roof, "profile": spent_on, "settings": settings, "machine": _machine(smoothed)}


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


def roofline(smoothed: SmoothedClassifier, image: Tensor, batch_size: int) -> dict[str, float]:
    """Time the network's convolutions and linear layers alone, and a product of large matrices.

    Args:
        smoothed: Brings the network.
        image: Pixels in [0, 1], float (C, H, W).
        batch_size: Images a batch.

    Returns:
        layers_samples_per_s: Images a second if nothing but these layers took time.
        flop_per_sample: Their multiplications and additions.
        matrix_flop_per_s: Those of the machine in a product of two large matrices of the network's type.
    """
    layers: list[tuple[nn.Module, tuple[int, ...]]] = []
    kinds = (nn.Conv2d, nn.Linear)
    original = uncompiled(smoothed.model)
    hooks = [
        module.register_forward_pre_hook(lambda module, inputs: layers.append((module, tuple(inputs[0].shape))))
        for module in original.modules()
        if isinstance(module, kinds)
    ]
    try:
        SmoothedClassifier(original, mean=smoothed.mean, std=smoothed.std).classify(
            image[None].expand(batch_size, *image.shape), batch_size=batch_size
        )
    finally:
        for hook in hooks:
            hook.remove()
    seconds, work = 0.0, 0.0
    with torch.inference_mode():
        for module, shape in layers:
            x = torch.randn(shape, device=smoothed.device).to(smoothed.dtype)
            x = x.to(memory_format=torch.channels_last) if x.ndim == 4 else x
            seconds += middle_time(smoothed.device, partial(module, x))
            y = module(x)
            weight = module.weight
            assert isinstance(weight, Tensor)
            work += 2 * weight.numel() * y.numel() / weight.shape[0]
    return {
        "layers_samples_per_s": batch_size / seconds,
        "flop_per_sample": work / batch_size,
        "matrix_flop_per_s": matrix_rate(smoothed.device, smoothed.dtype),
    }


def profile(job: Callable[[], object]) -> dict[str, float]:
    """Tell what share of a job's time its operators take, the largest first.

    Args:
        job: What to run, once.

    Returns:
        Share of the wall-clock time on the host for each operator above 1 %, and for "outside torch": noise that the
        CPU draws, waiting for it, and Python.
    """
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        begun = time.perf_counter()
        job()
        wall = time.perf_counter() - begun
    spent = {event.key.removeprefix("aten::"): event.self_cpu_time_total / 1e6 for event in profiler.key_averages()}
    spent["outside torch"] = max(0.0, wall - sum(spent.values()))
    shares = {name: seconds / wall for name, seconds in spent.items() if seconds / wall > 0.01}
    return dict(sorted(shares.items(), key=lambda pair: -pair[1]))


def markdown(result: dict[str, Any]) -> str:
    """Set what `bench_certify` measured as a Markdown table."""
    names = {"plain": "plain loop, float32", "fixed": "fixed plan", "sequential": "sequential plan"}
    lines = ["| | samples/s | samples an image | images a minute | times the plain loop |", "|---|---|---|---|---|"]
    for name, label in names.items():
        row = result[name]
        lines.append(
            f"| {label} | {row['samples_per_s']:,.0f} | {row['samples_per_image']:,.0f} | "
            f"{row['images_per_minute']:.3g} | {row['times_plain']:.2f} |"
        )
    roof, told, machine = result["roofline"], result["settings"], result["machine"]
    radii = ", ".join(f"{radius:g}" for radius in told["radii"])
    how = f"{machine['dtype']}{', compiled,' if told['compiled'] else ''} on {machine['device']}"
    grid = f"sigma {told['sigma']:g}, radii {radii}, n = {told['n']:,}"
    where = ", ".join(f"{name} {100 * share:.1f} %" for name, share in result["profile"].items())
    where = re.sub(r"## Call CompiledFxGraph \S+ ##", "compiled kernels", where)
    note = (
        f"{how} with {machine['threads']} threads; medians of {told['repeats']} rounds; batches of "
        f"{told['batch_size']}, of {told['plain_batch_size']} in the plain loop; {grid}. The fixed plan runs at "
        f"{100 * roof['share_of_layers']:.0f} % of the rate of the network's convolutions and linear layers alone "
        f"({roof['layers_samples_per_s']:,.0f} samples/s), and at {100 * roof['share_of_matrix_products']:.0f} % of "
        f"the machine's {roof['matrix_flop_per_s'] / 1e9:,.0f} GFLOP/s in matrix products. Where its time goes: "
        f"{where}."
    )
    return "\n".join([*lines, "", note]) + "\n"


def _machine(smoothed: SmoothedClassifier) -> dict[str, Any]:
    device = smoothed.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "device": name,
        "dtype": str(smoothed.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "versions": {package: importlib.metadata.version(package) for package in ("torch", "timm", "numpy")},
    }
