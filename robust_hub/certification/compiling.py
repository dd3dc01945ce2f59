"""Whether the network of a run is compiled: as its caller says, as the run began, or where the work is worth it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, TypeAlias, cast, get_args

import torch
from torch import nn

from robust_hub.certification.sampler import Sampler
from robust_hub.guarantee.plans import FixedPlan, Plan
from robust_hub.models.modes import uncompiled
from robust_hub.training.speed import middle_time

CompileChoice: TypeAlias = Literal["auto", "never", "always"]
BUILDING = 30.0  # seconds to compile resnet152 at 32x32 on an H200; smaller networks and most others take less
WORTH = 2 * BUILDING  # seconds of uncompiled work; compiled, resnet152 takes a quarter of them
EARLY = 1_000  # samples of an image under a plan that may stop early, below every mean in docs/statistics.md
_DEVICES = ("cuda",)  # on a CPU compiling gains a percent or two, see docs/throughput.md
_FEW = 100  # batches that are done before it is known what one takes


def check_choice(choice: str, model: nn.Module) -> None:
    """Refuse what is no choice, and a compiled network that is never to be.

    Raises:
        ValueError: In either case.
    """
    choices = get_args(CompileChoice)
    if choice not in choices:
        raise ValueError(f"expected compile to be one of {', '.join(choices)}, got {choice!r}")
    if choice == "never" and uncompiled(model) is not model:
        raise ValueError('expected a network that is not compiled with compile="never", got one: leave compile out')


def choose(choice: CompileChoice, model: nn.Module, recorded: bool | None, is_worth: Callable[[], bool]) -> bool:
    """Choose whether a run's votes are those of the compiled network, before its first vote.

    Args:
        choice: What the caller asks for.
        model: The network; a compiled one stays so.
        recorded: What the run did so far, None for a new one; "auto" goes on as it began.
        is_worth: Tells whether the work of a new run is worth it, for "auto" alone.
    """
    if choice == "always" or uncompiled(model) is not model:
        return True
    if choice == "never":
        return False
    return is_worth() if recorded is None else recorded


def compile_network(model: nn.Module) -> nn.Module:
    """Compile a network for batches of one shape; a compiled one is given back, and the caller's is left as it is.

    Several wrappers of one network share what was built for it.
    """
    return model if uncompiled(model) is not model else cast("nn.Module", torch.compile(model, dynamic=False))


def expected_samples(plan: Plan) -> int:
    """Count the samples that an image takes at least on average: all of a fixed plan, `EARLY` of any other."""
    return plan.most if isinstance(plan, FixedPlan) else min(plan.most, EARLY)


def is_worth_compiling(sampler: Sampler, shape: Sequence[int], samples: int, batch_size: int | None) -> bool:
    """Tell whether compiling a network takes clearly less time than it saves.

    That is so where the work would take `WORTH` seconds without. What a batch takes is measured, on an accelerator
    alone and only if there is work for many.

    Args:
        sampler: Brings the network, not compiled.
        shape: Shape of an image, (C, H, W).
        samples: Noisy copies that this process will classify.
        batch_size: Images a network batch; None takes what suits network and device.
    """
    if sampler.device.type not in _DEVICES:
        return False
    size = sampler.suited_batch_size(shape) if batch_size is None else batch_size
    if samples < _FEW * size:
        return False
    images = torch.rand((size, *shape), generator=torch.Generator().manual_seed(0)).to(sampler.device)
    return samples / size * middle_time(sampler.device, partial(sampler.classify, images, size)) >= WORTH
