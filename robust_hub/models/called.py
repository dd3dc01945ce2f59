"""Whether what a caller trains and calls computes what the network in it does, which alone is stored.

A hook of the network, a patched `forward`, a wrapper that scales its input: none of them stands in a config.json, and
none is seen by whoever runs the network's parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from robust_hub.models.again import bare, stored_copy
from robust_hub.models.identity import differing, probe_images
from robust_hub.models.logits import logits_of
from robust_hub.models.modes import eval_mode, unwrapped


def check_called(model: nn.Module, made: nn.Module, state: Mapping[str, Tensor], size: Sequence[int]) -> None:
    """Refuse a network that is called as another function than is stored.

    Args:
        model: What was given to be saved.
        made: The network that timm makes again, with these weights.
        state: The weights, as they are stored.
        size: Shape of an image, (C, H, W); without one nothing is compared.

    Raises:
        ValueError: If the two give other outputs of the probe's images.
    """
    whole = unwrapped(model)
    theirs = _output(made, size) if size else None
    if theirs is None or (bare(whole) is not whole and type(whole).forward is nn.Module.forward):
        return  # what keeps averages of weights may have no forward
    with torch.compiler.set_stance("force_eager"):  # two images are not worth compiling for
        mine = _output(stored_copy(whole, state), size)
    if mine is not None and not differing({"logits": mine}, {"logits": theirs}, ("logits",)):
        return
    if bare(whole) is whole:
        what, advice = "network", "take out its hooks and its patched forward, which no config.json can hold"
    else:
        what, advice = f"{type(whole).__name__} around a network", "pass that network, if its own logits are meant"
    raise ValueError(
        f"expected a network that computes what its layers do, got a {what} that gives other logits than they: "
        f"{advice}; or save its state_dict yourself, without `out`"
    )


def _output(model: nn.Module, size: Sequence[int]) -> list[list[float]] | None:
    """Call a network on the CPU; None where it fails, or gives nothing that can be compared."""
    try:
        with eval_mode(model), torch.inference_mode(), torch.autocast("cpu", enabled=False):
            output: Any = model(probe_images(size))
    except Exception:  # a wrapper of any kind
        return None
    if not isinstance(output, Tensor):
        try:
            output = logits_of(output)
        except ValueError:
            return None
    rows: list[list[float]] = output.flatten(1).tolist() if output.ndim > 1 else [output.tolist()]
    return rows
