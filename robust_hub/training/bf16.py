"""Whether a device computes in bfloat16 at speed, and a warning where it is asked to and does not."""

from __future__ import annotations

import os
import warnings
from functools import cache

import torch

from robust_hub.training.speed import matrix_rate

_FLAGS = ("amx_bf16", "avx512_bf16", "bf16", "sve_bf16")  # of a CPU: x86, then ARM
_WITHOUT = ("AVX512_CORE", "AVX512_CORE_VNNI")  # bounds on oneDNN's instructions that leave out those of bfloat16
_AMPERE = 8  # major compute capability of the first NVIDIA devices with such units
_SECONDS = 0.25  # that the rate of a type may take to measure


@cache
def has_fast_bf16(device: torch.device) -> bool:
    """Say whether a device multiplies bfloat16 numbers with instructions of their own.

    Without them a product of matrices in bfloat16 takes ten to a hundred times as long as in float32. On a CPU,
    `ONEDNN_MAX_CPU_ISA=AVX2` in the environment of the process stands in for one without.

    Args:
        device: A CPU or CUDA device; of others nothing is known, and the answer is no.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported()) and torch.cuda.get_device_capability(device)[0] >= _AMPERE
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    bound = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()
    flags = torch.cpu.get_capabilities()
    supported: bool = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return supported and bound not in _WITHOUT and any(flags.get(flag, False) for flag in _FLAGS)


def warn_slow_bf16(device: torch.device, remedy: str) -> None:
    """Warn, with the factor measured in a product of matrices, if a device has no fast bfloat16.

    Args:
        device: Where it is asked for.
        remedy: What to ask for in its place, to end the sentence.
    """
    if not has_fast_bf16(device):
        warnings.warn(
            f"this {device.type} has no bfloat16 arithmetic: a matrix product in bfloat16 takes "
            f"{_slowdown(device):.3g} times as long as in float32; {remedy}",
            stacklevel=3,
        )


@cache
def _slowdown(device: torch.device) -> float:
    """Measure how many times as long a matrix product takes in bfloat16 as in float32."""
    rates = [matrix_rate(device, dtype, _SECONDS) for dtype in (torch.float32, torch.bfloat16)]
    return rates[0] / rates[1]
