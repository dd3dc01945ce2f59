"""A network in another mode for a while, each of its modules then in the mode that it had."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel


class _Hold:
    """How many keep a module in eval mode at the moment, and whether it was in training mode before the first."""

    def __init__(self) -> None:
        self.training: bool | None = None
        self.holders = 0


# The collector may end an abandoned stream, and its holds, in a thread that has the lock: it must not wait for itself.
_lock = threading.RLock()
_holds: dict[int, _Hold] = {}  # by the identity of a module, which is alive as long as it is held


def uncompiled(model: nn.Module) -> nn.Module:
    """Give the network that `torch.compile` was given, with its names and layers; any other is given back."""
    plain: nn.Module = getattr(model, "_orig_mod", model)
    return plain


def unwrapped(model: nn.Module) -> nn.Module:
    """Take a network out of what computes the same by its very kind: torch.compile, DataParallel, AveragedModel."""
    inner = uncompiled(model)
    while isinstance(inner, DataParallel | DistributedDataParallel | AveragedModel):
        inner = uncompiled(inner.module)
    return inner


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put every module in eval mode, and restore each one's mode when the last who wanted it so is done.

    Several may want it at a time, of one thread or of many, for one network or for several that share modules: a
    module's mode comes back once, as it was before the first.

    Args:
        model: Any network, compiled or not; a part of it may be in eval mode already, such as frozen batch norm.

    Raises:
        RuntimeError: If something else put a module in training mode since the first who wants it in eval mode.
    """
    modules = [module for module in model.modules() if uncompiled(module) is module]  # a compiled one has no mode
    held: list[tuple[nn.Module, _Hold]] = []
    try:
        with _lock:
            held += [(module, _join(module)) for module in modules]
            training = [module for module, hold in held if _is_new_in_training(module, hold)]
            if training:
                _eval(model, training)
        yield
    finally:
        with _lock:
            for module, hold in held:
                hold.holders -= 1
                if not hold.holders:
                    del _holds[id(module)]
                    if hold.training:
                        module.training = True


def _is_new_in_training(module: nn.Module, hold: _Hold) -> bool:
    """Tell whether its first holder has to put a module in eval mode; refuse one that somebody put in training."""
    training = bool(getattr(module, "training", False))  # a frozen one of TorchScript has none
    if hold.training is None:
        hold.training = training
        return training
    if training:
        raise RuntimeError(
            "expected the network in eval mode, got it in training mode while it was being certified: train a copy of "
            "it, or wait"
        )
    return False


def _eval(model: nn.Module, training: list[nn.Module]) -> None:
    """Call a network's own eval; what `torch.export` gives has none, as its mode is part of its operations."""
    try:
        model.eval()
    except NotImplementedError:
        for module in training:
            module.training = False


def _join(module: nn.Module) -> _Hold:
    """Become a holder of a module; again where the last holder was collected meanwhile."""
    while True:
        hold = _holds.setdefault(id(module), _Hold())
        hold.holders += 1
        if _holds.get(id(module)) is hold:
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
