"""A network in another mode for a while, each of its modules then in the mode that it had."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

from torch import nn


class _Hold:
    """Who keeps a network in eval mode at the moment, and the modules that were in training mode before."""

    def __init__(self, training: list[nn.Module]) -> None:
        self.training, self.holders = training, 1


_lock = threading.Lock()
_holds: WeakKeyDictionary[nn.Module, _Hold] = WeakKeyDictionary()


def uncompiled(model: nn.Module) -> nn.Module:
    """Give the network that `torch.compile` was given, with its names and layers; any other is given back."""
    plain: nn.Module = getattr(model, "_orig_mod", model)
    return plain


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put every module in eval mode, and restore each one's mode when the last who wanted it so is done.

    Several may want it at a time, of one thread or of many: the modes come back once, as they were before the first.

    Args:
        model: Any network, compiled or not; a part of it may be in eval mode already, such as frozen batch norm.

    Raises:
        RuntimeError: If something else put the network in training mode since the first who wants it in eval mode.
    """
    key = uncompiled(model)
    with _lock:
        training = [module for module in model.modules() if module.training]
        hold = _holds.get(key)
        if hold is None:
            hold = _holds[key] = _Hold(training)
            model.eval()
        elif any(module is not model for module in training):  # a compiled network's wrapper computes nothing
            raise RuntimeError(
                "expected the network in eval mode, got it in training mode while it was being certified: train a copy "
                "of it, or wait"
            )
        else:
            hold.holders += 1
    try:
        yield
    finally:
        with _lock:
            hold.holders -= 1
            if not hold.holders:
                del _holds[key]
                for module in hold.training:
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
