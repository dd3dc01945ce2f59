"""What a certification could cost at best: two rooflines of the network on this machine, and where the time goes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from robust_hub.certification.smoothing import SmoothedClassifier
from robust_hub.models.modes import uncompiled
from robust_hub.training.speed import matrix_rate, middle_time


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
    seconds, work = 0.0, 0.0
    with torch.inference_mode():
        for layer, shape in _layers(smoothed, image[None].expand(batch_size, *image.shape)):
            x = torch.randn(shape, device=smoothed.device).to(smoothed.dtype)
            x = x.to(memory_format=torch.channels_last) if x.ndim == 4 else x
            seconds += middle_time(smoothed.device, partial(layer, x))
            y = layer(x)
            weight = layer.weight
            assert isinstance(weight, Tensor)
            work += 2 * weight.numel() * y.numel() / weight.shape[0]
    return {
        "layers_samples_per_s": batch_size / seconds,
        "flop_per_sample": work / batch_size,
        "matrix_flop_per_s": matrix_rate(smoothed.device, smoothed.dtype),
    }


def _layers(smoothed: SmoothedClassifier, images: Tensor) -> list[tuple[nn.Module, tuple[int, ...]]]:
    """List the network's convolutions and linear layers, as they are called, with the shapes of their inputs."""
    layers: list[tuple[nn.Module, tuple[int, ...]]] = []
    original = uncompiled(smoothed.model)
    classifier = SmoothedClassifier(original, mean=smoothed.mean, std=smoothed.std)
    classifier.sampler.calling(images.shape[1:])  # which is tried with calls of its own
    hooks = [
        module.register_forward_pre_hook(lambda module, inputs: layers.append((module, tuple(inputs[0].shape))))
        for module in original.modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    try:
        classifier.classify(images, batch_size=len(images))
    finally:
        for hook in hooks:
            hook.remove()
    return layers


def add_shares(roof: Mapping[str, float], rate: float) -> dict[str, float]:
    """Set a rate, samples a second, beside both rooflines."""
    of_products = rate * roof["flop_per_sample"] / roof["matrix_flop_per_s"]
    return {
        **roof,
        "share_of_layers": rate / roof["layers_samples_per_s"],
        "share_of_matrix_products": of_products,
    }


def profile(job: Callable[[], object]) -> dict[str, float]:
    """Tell what share of a job's time its operators take, the largest first.

    Args:
        job: What to run, once.

    Returns:
        Share of the wall-clock time on the host for each operator above 1 %, and for "outside torch": noise that the
        CPU draws, waiting for it, and Python.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or the profiler looks for devices and prints that there are none
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        begun = time.perf_counter()
        job()
        wall = time.perf_counter() - begun
    spent = {event.key.removeprefix("aten::"): event.self_cpu_time_total / 1e6 for event in profiler.key_averages()}
    spent["outside torch"] = max(0.0, wall - sum(spent.values()))
    shares = {name: seconds / wall for name, seconds in spent.items() if seconds / wall > 0.01}
    return dict(sorted(shares.items(), key=lambda pair: -pair[1]))
