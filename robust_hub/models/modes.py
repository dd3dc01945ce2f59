"""A network in eval mode for a while, each of its modules then in the mode that it had."""

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
