"""How many images the network takes at a time: what suits it, and fewer where memory runs out."""

from __future__ import annotations

import contextlib
import math
import threading
import warnings
from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.utils._python_dispatch import TorchDispatchMode

from robust_hub.memory import free, ran_out

CACHED = 4 * 2**20  # bytes of the largest activation for each CPU thread, so that it is read back from the cache
_ALIVE = 8  # largest activations that an accelerator has to hold at a time, with room to spare
_LEAST, _MOST = 8, 1024


def suggest_batch_size(model: nn.Module, x: Tensor) -> int:
    """Choose a batch size from the largest activation of the network.

    On the CPU the batch's largest activation is meant to stay in the cache and below the size that the C library
    takes from the system anew each time; there as on an accelerator it takes half the memory that is free, at most.

    Args:
        model: The network, in eval mode.
        x: One image as the network takes it, (1, C, H, W), on its device.

    Returns:
        A power of two up to 1024, from 8 where memory holds that.

    Raises:
        MemoryError: If memory does not hold one image.
    """
    sizes = [x.nbytes, *_activations(model, x)]
    if x.device.type == "cuda":
        kept = torch.cuda.memory_reserved(x.device) - torch.cuda.memory_allocated(x.device)  # by torch, for what comes
        room = (torch.cuda.mem_get_info(x.device)[0] + kept) // (2 * _ALIVE)
        return _power(room // max(sizes), _LEAST)
    held = _power(free() // (2 * _ALIVE * max(sizes)))
    return min(held, _power(CACHED * torch.get_num_threads() // max(sizes), _LEAST))


def _power(most: int, least: int = 1) -> int:
    """Give the largest power of two up to `most`, within bounds."""
    return max(least, min(_MOST, 1 << max(1, most).bit_length() - 1))


def _activations(model: nn.Module, x: Tensor) -> list[int]:
    """List the bytes of what the network's modules give; of what operators give, where modules say nothing."""
    sizes: list[int] = []
    hooks = []
    here = threading.get_ident()

    def note(module: nn.Module, inputs: Any, y: Any) -> None:
        if threading.get_ident() == here:  # another thread's batches are of other sizes
            sizes.append(getattr(y, "nbytes", 0))

    whole = not any(isinstance(module, torch.jit.ScriptModule | GraphModule) for module in model.modules())
    try:
        if whole:
            for module in model.modules():
                hooks.append(module.register_forward_hook(note))
        with contextlib.nullcontext() if whole else _Outputs(sizes):
            _attempt(model, x)
    finally:
        for hook in hooks:
            hook.remove()
    return sizes


class _Outputs(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Note the bytes of every operator's output: scripted modules take no hooks, and exported ones have no parts."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.sizes = sizes

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator."""
        output = func(*args, **(kwargs or {}))
        self.sizes.append(getattr(output, "nbytes", 0))
        return output


class Parts:
    """Run a network on batches, in parts where memory does not hold a whole one.

    A part that runs out of memory is halved and run again, and so are all that come after it; a warning says so once.
    All parts of a batch have one shape, so that a compiled network is built once more for a halving and no more: the
    last part may begin among images whose logits are there already, and gives those of the rest alone.
    """

    def __init__(self) -> None:
        self._most: dict[Hashable, int] = {}
        self._warned = False

    def most(self, kind: Hashable, size: int) -> int:
        """Give the size of a batch of a kind, or of its parts once they are smaller."""
        return min(size, self._most.get(kind, size))

    def run(self, network: Callable[[Tensor], Tensor], images: Tensor, wanted: int, kind: Hashable) -> Tensor:
        """Compute the network's output for the first images of a batch.

        Args:
            network: From images (B, C, H, W) to logits (B, K), row by row.
            images: The batch, (B, C, H, W).
            wanted: Images at the front whose logits are needed, at least 1; parts beyond them are left out.
            kind: What decides how many images memory holds: their shape, the network's type and device.

        Returns:
            Logits (at least `wanted`, K), each image's computed once, in order.

        Raises:
            MemoryError: If memory does not hold one image.
        """
        size = self.most(kind, len(images))
        done: list[Tensor] = []
        rows = 0
        while rows < wanted:
            start = min(rows, len(images) - size)
            part = _attempt(network, images[start : start + size])
            if part is None:
                size = self._most[kind] = math.ceil(size / 2)
                continue
            done.append(part[rows - start :])
            rows = start + size
        if size < len(images) and not self._warned:
            self._warned = True
            warnings.warn(
                f"memory did not hold a batch of {len(images)} images: it goes on with {size} at a time, and the "
                f"results are the same; batch_size={size} avoids the failed batches",
                stacklevel=2,
            )
        return done[0] if len(done) == 1 else torch.cat(done)


def _attempt(network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor | None:
    """Run the network; None, and what it held given back, if memory runs out."""
    try:
        return network(images)
    except (MemoryError, RuntimeError) as error:
        if not ran_out(error):
            raise
        if len(images) == 1:
            raise MemoryError(
                f"expected memory for one image {tuple(images.shape[1:])}, got none on {images.device}: end what else "
                "takes it, or use a smaller network or another device"
            ) from error
    from accelerate.utils.memory import clear_device_cache

    clear_device_cache(garbage_collection=True)  # the error is gone, and with it the activations that its frames held
    return None
