"""How a network is called: the memory and type of its images, and what autograd keeps meanwhile.

Most networks are fastest on channels_last images and without a trace for gradients. Not every module takes them so:
`x.view(len(x), -1)` needs contiguous memory, gradients that are taken in forward need autograd. It is tried once, on
two images, how a network works, and it is called so from then on: another way may round otherwise, and be another
function.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from robust_hub.images.pixels import channels_of
from robust_hub.memory import ran_out
from robust_hub.models.logits import distance, logits_of, rounding

Autograd: TypeAlias = Literal["inference", "no_grad", "grad"]
_WAYS: tuple[Autograd, ...] = ("inference", "no_grad", "grad")
_UNFIT = (
    RuntimeError,
    ValueError,
    TypeError,
    AssertionError,
    IndexError,
)  # what layers raise of images that do not fit
ROWS = 2  # images of a trial: a single one lies in memory that suits too many


@dataclass(frozen=True)
class Calling:
    """A way to call a network.

    Attributes:
        memory: Memory format of its images.
        dtype: Their type.
        autograd: "inference" for torch's inference mode, "no_grad" for tensors that a module may take gradients of,
            "grad" where it takes them without saying so.
    """

    memory: torch.memory_format = torch.channels_last
    dtype: torch.dtype = torch.float32
    autograd: Autograd = "inference"

    def place(self, images: Tensor) -> Tensor:
        """Bring normalised images, float (B, C, H, W), to the network's memory and type."""
        return images.to(self.dtype).contiguous(memory_format=self.memory)

    @contextmanager
    def mode(self) -> Iterator[None]:
        """Let autograd keep what the network needs."""
        if self.autograd == "inference":
            with torch.inference_mode():
                yield
        else:
            with torch.inference_mode(mode=False), torch.set_grad_enabled(self.autograd == "grad"):
                yield

    def describe(self, dtype: torch.dtype) -> dict[str, str]:
        """Say what is not as usual, as JSON values: contiguous memory, autograd, a type other than the network's."""
        said = {
            "memory_format": "contiguous" if self.memory == torch.contiguous_format else "",
            "input_dtype": "" if self.dtype == dtype else str(self.dtype).removeprefix("torch."),
            "autograd": "" if self.autograd == "inference" else self.autograd,
        }
        return {name: value for name, value in said.items() if value}


def find_calling(model: nn.Module, images: Tensor) -> Calling:
    """Try how a network works, in eval mode and without autocast, from the usual way to the unusual.

    Channels_last images are for networks that give the logits of contiguous ones, up to rounding: a module that reads
    memory in its own order is another function of them.

    Args:
        model: The network; of a compiled one the plain network, which is not built for these images.
        images: A few normalised images, float32 (B, C, H, W), on its device.

    Returns:
        The first way that works.

    Raises:
        ValueError: If none does, with the network's own words, or it takes one number of images alone.
    """
    first: Tensor | Exception | None = None
    for autograd, dtype in itertools.product(_WAYS, floating_types(model)):
        contiguous = Calling(torch.contiguous_format, dtype, autograd)
        last = Calling(torch.channels_last, dtype, autograd)
        plain, other = (_outcome(model, calling, images) for calling in (contiguous, last))
        if _no_memory(plain) or _no_memory(other):
            return find_calling(model, images[:1]) if len(images) > 1 else last
        works = not isinstance(plain, Exception) or not isinstance(other, Exception)
        if works:
            fast = isinstance(plain, Exception) or (
                not isinstance(other, Exception) and _same(plain, other, coarsest(model, dtype))
            )
            _check_alone(model, last if fast else contiguous, images)
            return last if fast else contiguous
        first = first or plain
    assert isinstance(first, Exception)
    _check_alone(model, Calling(torch.contiguous_format, floating_types(model)[0]), images, failed=first)
    own = channels_of(model)
    fit = (
        "the size and channels that it takes"
        if own == images.shape[1]
        else f"{own} channels, load_data(..., channels={own})"
    )
    raise ValueError(
        f"expected a model for images {tuple(images.shape[1:])}, got one that fails on them ({_words(first)}): give "
        f"it images of {fit}, or mend the network"
    ) from first


def floating_types(model: nn.Module) -> list[torch.dtype]:
    """List the types that a network's images may be in: of its tensors, in their order, then float32.

    Eight-bit floats are for weights alone; a network that has none but those and integers takes float32.
    """
    return list(dict.fromkeys([*_floating(model), torch.get_default_dtype(), torch.float32]))


def first_type(model: nn.Module) -> torch.dtype:
    """Give the first of a network's `floating_types`, without a look at the tensors that follow it."""
    return next(_floating(model), torch.get_default_dtype())


def coarsest(model: nn.Module, dtype: torch.dtype) -> torch.dtype:
    """Give the type of a network's tensors, or of its images, that rounds most."""
    return max({*_floating(model), dtype}, key=rounding)


def _floating(model: nn.Module) -> Iterator[torch.dtype]:
    tensors = itertools.chain(model.parameters(), model.buffers())
    return (t.dtype for t in tensors if t.dtype.is_floating_point and t.dtype.itemsize > 1)


def check_weights(model: nn.Module) -> None:
    """Refuse a network whose weights are only shapes.

    Raises:
        ValueError: If a tensor is on the device "meta".
    """
    named = itertools.chain(model.named_parameters(), model.named_buffers())
    if name := next((name for name, tensor in named if tensor.is_meta), ""):
        raise ValueError(
            f"expected a network with weights, got {name} on the device 'meta', which holds shapes alone: create it on "
            "another device, or call model.to_empty(device='cpu') and load its weights"
        )


def _outcome(model: nn.Module, calling: Calling, images: Tensor) -> Tensor | Exception | None:
    """Run the network; its logits, the error, or None for another output, which is judged where it is used."""
    try:
        with calling.mode():
            output = model(calling.place(images))
    except Exception as error:
        return error.with_traceback(None)
    try:
        return logits_of(output).detach()
    except ValueError:
        return None


def _check_alone(model: nn.Module, calling: Calling, images: Tensor, failed: Exception | None = None) -> None:
    """Refuse a network that takes batches of one size alone, as a trace or export of one example does.

    Args:
        model: The network.
        calling: How it is called.
        images: What it was tried on.
        failed: What it raised for them, if it did; other errors than those of images that do not fit are raised again.
    """
    one = _outcome(model, calling, images[:1])
    if isinstance(one, Exception) == isinstance(failed, Exception):
        if failed is not None and not isinstance(failed, _UNFIT):
            raise failed
        return
    error = failed or one
    assert isinstance(error, Exception)
    if ran_out(error):
        return
    raise ValueError(
        f"expected a network for any number of images, got one that takes {len(images) if failed is None else 1} at a "
        f"time and fails on {1 if failed is None else len(images)} ({_words(error)}): export or trace it with a batch "
        'of any size, as torch.export does with dynamic_shapes=({0: torch.export.Dim("batch")},)'
    ) from error


def _words(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:300].rstrip(".:")


def _no_memory(outcome: Tensor | Exception | None) -> bool:
    return isinstance(outcome, Exception) and ran_out(outcome)


def _same(one: Tensor | None, other: Tensor | None, dtype: torch.dtype) -> bool:
    return one is None or other is None or distance(other, one) <= math.sqrt(rounding(dtype))
