"""How fast a training runs, and what share of the machine's arithmetic that is."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from robust_hub.files import replace_text
from robust_hub.layout import SPEED
from robust_hub.models.modes import eval_mode

_SIDES = (128, 256, 512, 1024, 2048)  # of the matrices whose product gives the machine's rate
_WARM, _TIMES = 2, 5  # runs before, and those whose median counts
_PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}


def timed(device: torch.device, job: Callable[[], object]) -> float:
    """Time a job in seconds, the device's work included."""
    _wait(device)
    begun = time.perf_counter()
    job()
    _wait(device)
    return time.perf_counter() - begun


def middle_time(device: torch.device, job: Callable[[], object]) -> float:
    """Time a job several times, after warming up; seconds, the median."""
    return median([timed(device, job) for _ in range(_WARM + _TIMES)][_WARM:])


def matrix_rate(device: torch.device, dtype: torch.dtype, seconds: float = 2.0) -> float:
    """Measure the device's multiplications and additions a second in a product of two large matrices of a type.

    Args:
        device: Where they are multiplied.
        dtype: Their type.
        seconds: About how long it may take; where products of 2,048 rows would take longer, smaller ones are timed.
    """
    generator = torch.Generator(device=device).manual_seed(0)
    with torch.inference_mode():
        for side in _SIDES:
            a = torch.randn(side, side, device=device, generator=generator).to(dtype)
            product = partial(torch.mm, a, a)
            once = min(timed(device, product) for _ in range(2))
            if 8 * once * (_WARM + _TIMES) > seconds:  # what twice the side would take
                break
        return 2 * side**3 / middle_time(device, product)


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Name the device, the CPU's threads and instructions, and the versions that times depend on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "device": name,
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "versions": {package: importlib.metadata.version(package) for package in ("torch", "timm", "numpy")},
    }


def forward_flop(model: nn.Module, x: Tensor) -> float:
    """Count the multiplications and additions of a forward pass; parameters, buffers and modes stay as they are.

    What is compiled runs uncompiled meanwhile: the counter sees torch's own operations only.

    Args:
        model: The network.
        x: Its input, float (B, C, H, W), on its device.

    Returns:
        The count for one image.
    """
    eager = torch.compiler.set_stance("force_eager")
    with eager, eval_mode(model), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(x)
    return float(counter.get_total_flops()) / len(x)


class Speedometer:
    """Writes speed.json once, after the first minute of a training or where it ends before that.

    It holds images_per_s, flop_per_image (of a training step: three times the forward pass, or the forward pass alone
    where only the head is trained), machine_flop_per_s (matrix products, in the precision of training), utilisation
    (the ratio: model FLOP utilisation), seconds (measured over) and processes.

    Args:
        folder: Where to write; None writes nothing.
        model: The network, on its device.
        precision: "no", "bf16" or "fp16".
        passes: Forward passes that a step costs, 3 or 1.
        processes: Processes that share the work.
        after: Seconds to measure over.
    """

    def __init__(
        self,
        folder: Path | None,
        model: nn.Module,
        *,
        precision: str = "no",
        passes: int = 3,
        processes: int = 1,
        after: float = 60.0,
    ) -> None:
        self.folder, self.model, self.precision = folder, model, precision
        self.passes, self.processes, self.after = passes, processes, after
        self.images = 0
        self.begun: float | None = None
        self.done = folder is None or (folder / SPEED).exists()

    def add(self, inputs: Tensor, *, last: bool) -> None:
        """Count a finished step's images (B, C, H, W) of this process; `last`: the epoch ends with it."""
        if self.done:
            return
        if self.begun is None:  # the first step pays for loading and compiling
            _wait(inputs.device)
            self.begun = time.perf_counter()
            return
        self.images += len(inputs)
        if last or time.perf_counter() - self.begun >= self.after:
            self._write(inputs)

    def _write(self, inputs: Tensor) -> None:
        assert self.folder is not None and self.begun is not None
        _wait(inputs.device)
        seconds = time.perf_counter() - self.begun
        rate = self.images * self.processes / seconds
        work = self.passes * forward_flop(self.model, inputs[:2].detach())
        peak = self.processes * matrix_rate(inputs.device, _PRECISIONS.get(self.precision, torch.float32))
        row: dict[str, Any] = {"images_per_s": round(rate, 1), "flop_per_image": work, "machine_flop_per_s": peak}
        row |= {"utilisation": rate * work / peak, "seconds": round(seconds, 3), "processes": self.processes}
        replace_text(self.folder / SPEED, json.dumps(row, indent=1) + "\n")
        self.done = True


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
