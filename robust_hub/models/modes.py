"""A network in another mode for a while, each of its modules then in the mode that it had."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

from torch import nn


class _Hold:
    """Who keeps a network in eval mode at the moment, and the modules that were in training mode before."""

    def __init__(self) -> None:
        self.training: list[nn.Module] | None = None
        self.holders = 0


# The collector may end an abandoned stream, and its hold, in a thread that has the lock: it must not wait for itself.
_lock = threading.RLock()
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
    hold = _join(key)
    try:
        with _lock:
            training = [
                module for module in model.modules() if getattr(module, "training", False)
            ]  # not of a frozen one
            if hold.training is None:
                hold.training = training
                _eval(model, training)
            elif any(model is key or module is not model for module in training):  # a compiled one's wrapper has no say
                raise RuntimeError(
                    "expected the network in eval mode, got it in training mode while it was being certified: train a "
                    "copy of it, or wait"
                )
        yield
    finally:
        with _lock:
            hold.holders -= 1
            if not hold.holders:
                del _holds[key]
                for module in hold.training or ():
                    module.training = True


def _eval(model: nn.Module, training: list[nn.Module]) -> None:
    """Call a network's own eval; what `torch.export` gives has none, as its mode is part of its operations."""
    try:
        model.eval()
    except NotImplementedError:
        for module in training:
            module.training = False


def _join(key: nn.Module) -> _Hold:
    """Become a holder of a network; again where the last holder was collected meanwhile."""
    with _lock:
        while True:
            hold = _holds.setdefault(key, _Hold())
            hold.holders += 1
            if _holds.get(key) is hold:
                return hold


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
