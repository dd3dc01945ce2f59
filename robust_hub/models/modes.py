"""A network in another mode for a while, each of its modules then in the mode that it had."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put every module in eval mode, and restore each one's mode afterwards, whatever happens.

    Args:
        model: Any network; a part of it may be in eval mode already, such as frozen batch norm.
    """
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def fast_norms(model: nn.Module, wanted: bool) -> Iterator[None]:
    """Let timm's norms compute in the type of autocast, not in float32, and restore each one's way afterwards.

    timm's own switch, `timm.layers.set_fast_norm`, is read when a norm is made; a network that is there already has it
    in its modules.

    Args:
        model: Any network; norms that are not timm's stay as they are.
        wanted: Whether to do so; otherwise nothing is done.
    """
    norms = [module for module in model.modules() if hasattr(module, "_fast_norm")] if wanted else []
    before = [norm._fast_norm for norm in norms]
    for norm in norms:
        norm._fast_norm = True  # type: ignore[assignment]
    try:
        yield
    finally:
        for norm, fast in zip(norms, before, strict=True):
            norm._fast_norm = fast
