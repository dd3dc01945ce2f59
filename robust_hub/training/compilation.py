"""A network whose residual blocks are compiled, one by one, for the time of a training.

Blocks of one kind share what is built, so that a deep network takes no longer to build than a shallow one. They are
compiled in place: weights keep their names, a saved state is the plain network's, and afterwards the network is plain
again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_KINDS = 64  # blocks of one class that differ in shape, type or mode; torch's own 8 are one ResNet's


def repeated_blocks(model: nn.Module) -> list[nn.Module]:
    """Give the blocks that a network repeats: the residual blocks of a ResNet, the layers of a transformer.

    They are the children of a Sequential, ModuleList or ModuleDict that have children themselves and whose class occurs
    there more than once; of blocks within blocks, the innermost.

    Args:
        model: Any network.

    Returns:
        The blocks in the network's order; the network itself where it repeats none.
    """
    children = [child for part in model.modules() if isinstance(part, _CONTAINERS) for child in part.children()]
    parts = [child for child in children if any(child.children()) and not isinstance(child, _CONTAINERS)]
    count = Counter(map(type, parts))
    blocks = dict.fromkeys(part for part in parts if count[type(part)] > 1)
    innermost = [block for block in blocks if not any(part in blocks for part in list(block.modules())[1:])]
    return innermost or [model]


@contextmanager
def compiled(model: nn.Module, wanted: bool) -> Iterator[None]:
    """Compile a network's repeated blocks in place, for inputs of one size, and undo it whatever happens.

    Args:
        model: Any network.
        wanted: Whether to do so; otherwise nothing is done.
    """
    if not wanted:
        yield
        return
    blocks = repeated_blocks(model)
    before = [vars(block).get("_compiled_call_impl") for block in blocks]  # torch has no way back of its own
    try:
        for block in blocks:
            block.compile(dynamic=False, options={"fallback_random": True})  # dropout draws as it does uncompiled
        with torch._dynamo.config.patch(recompile_limit=_KINDS):  # beyond it blocks would run uncompiled
            yield
    finally:
        for block, call in zip(blocks, before, strict=True):
            vars(block).pop("_compiled_call_impl", None)
            if call is not None:
                vars(block)["_compiled_call_impl"] = call
