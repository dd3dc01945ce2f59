"""The logits among what a network gives, and how far those of two runs are apart."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def logits_of(output: Any) -> Tensor:
    """Give the logits that a network's output is, or holds without doubt.

    They are a tensor, the only one of a tuple, or what a mapping or an object calls "logits", as the classifiers of
    transformers do.

    Args:
        output: What a network gave for images (B, C, H, W).

    Returns:
        Logits, (B, K).

    Raises:
        ValueError: If there are none of at least two classes, or they are no real numbers in a dense tensor.
    """
    found = output
    if isinstance(output, Mapping):
        found = output.get("logits")
    elif isinstance(getattr(output, "logits", None), Tensor):
        found = output.logits
    elif isinstance(output, tuple) and len(output) == 1:
        found = output[0]
    if not isinstance(found, Tensor) or found.ndim != 2 or found.shape[1] < 2:
        raise ValueError(
            f"expected logits (B, K) of at least 2 classes from the model, got {_shown(output, found)}: is it a "
            'classifier? Its output is a tensor, a tuple of it alone, or holds it as "logits"'
        )
    if found.layout != torch.strided or found.is_quantized or found.is_complex() or found.dtype == torch.bool:
        raise ValueError(
            f"expected logits that are real numbers in a dense tensor, got {found.dtype}, {found.layout}: let the "
            "model give such, or wrap it in a module that turns its output into them"
        )
    return found


def distance(got: Tensor, want: Tensor) -> float:
    """Give the largest difference of finite logits as a share of what they are of; infinite where others are not equal.

    That is the logit itself or, where it is larger, the largest among the two highest logits of every image: those
    decide a vote. A logit of -1e9, by which classes are left out, would let any difference of the others pass.
    """
    if got.shape != want.shape:
        return math.inf
    got, want = got.to(torch.float64), want.to(torch.float64)
    finite = want.isfinite()
    if not torch.equal(got.isfinite(), finite) or not torch.equal(
        got[~finite].nan_to_num(), want[~finite].nan_to_num()
    ):
        return math.inf
    if not bool(finite.any()):
        return 0.0
    highest = want.where(finite, -math.inf).topk(2, 1).values
    scale = want.abs().clamp_min(float(highest.where(highest.isfinite(), 0.0).abs().max()))[finite]
    return float(((got - want)[finite].abs() / scale.where(scale > 0, 1.0)).max())


def rounding(dtype: torch.dtype) -> float:
    """Give the epsilon of a network's type; of one that holds integers alone, that of float32."""
    return torch.finfo(dtype if dtype.is_floating_point else torch.float32).eps


def _shown(output: Any, found: Any) -> str:
    if isinstance(found, Tensor):
        return str(tuple(found.shape))
    if isinstance(output, Mapping):
        return f"{type(output).__name__} with {', '.join(map(repr, list(output)[:5])) or 'nothing'}"
    return f"{type(output).__name__}" + (f" of {len(output)}" if isinstance(output, tuple) else "")
