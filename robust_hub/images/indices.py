"""Indices: which images of a data set are meant, by numbers, by a mask, or as so many of all."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any

import numpy as np
import torch
from torch import Tensor


def as_indices(indices: Any, count: int) -> Tensor:
    """Give indices, or those that a mask of `count` truth values marks, as int64 (B,).

    Raises:
        TypeError: If they are no whole numbers, and no such mask: 0.9 is not 0, and True is not 1.

    Example:
        >>> as_indices([2, 0], 3), as_indices([False, True, True], 3)
        (tensor([2, 0]), tensor([1, 2]))
    """
    if isinstance(indices, Tensor) and indices.dtype == torch.int64:
        return indices.reshape(-1)
    if isinstance(indices, Set) or (isinstance(indices, Sequence) and not isinstance(indices, str | range)):
        indices = [one.item() if hasattr(one, "item") else one for one in indices]
    try:
        given = torch.as_tensor(indices if isinstance(indices, Tensor) else np.asarray(indices)).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        given = None
    if given is not None and given.dtype == torch.bool and given.shape == (count,):
        return torch.where(given)[0]
    if given is None or given.is_complex() or given.dtype == torch.bool or not bool((given == given.long()).all()):
        got = type(indices).__name__ if given is None else f"{given.dtype} {tuple(given.shape)}".removeprefix("torch.")
        raise TypeError(f"expected whole numbers for indices, or a mask of {count} truth values, got {got}")
    return given.long().reshape(-1)


def evenly(count: int, most: int) -> list[int]:
    """Give the indices of at most so many of `count` images, evenly spaced.

    Example:
        >>> evenly(3, 5), evenly(9, 3)
        ([0, 1, 2], [0, 4, 8])
    """
    return [int(i) for i in np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))]
