"""Which network's mean and std are a model's: its own, or those of the network that it passes its input on to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


class _Stop(Exception):  # noqa: N818 - no error: it ends a forward pass that has shown enough
    """The first module that matters was called."""


def config_of(model: nn.Module) -> Mapping[str, Any]:
    """Give the `pretrained_cfg` of a model, or of the one network that it wraps; empty where none is certain.

    A wrapper such as DataParallel, a Sequential or a LightningModule has the mean and std of the network within if that
    is given the wrapper's own input, unchanged, before anything else is computed: a wrapper that normalises has not.
    That is seen in a forward pass which ends where the network is called. Networks of several means and stds settle
    nothing.

    Args:
        model: Any module.

    Raises:
        TypeError: If it is none, such as the name of one.
    """
    if not isinstance(model, nn.Module):
        got = repr(model) if isinstance(model, str) else type(model).__name__
        raise TypeError(f"expected a torch module, got {got}: robust_hub.load_model makes one of a name or a folder")
    own = _config(model)
    if own:
        return own
    found = _outermost(model)
    configs = [_config(module) for module in found]
    if not configs or len({(tuple(c["mean"]), tuple(c["std"])) for c in configs}) > 1:
        return {}
    return configs[0] if _is_given_the_input(model, found, configs[0]) else {}


def _config(module: nn.Module) -> Mapping[str, Any]:
    """Give a module's own pretrained_cfg, or that of its config, if it says mean and std.

    transformers' wrapper of timm keeps a checkpoint's in its config; the network within has those of the architecture.
    """
    for holder in (module, getattr(module, "config", None)):
        config = getattr(holder, "pretrained_cfg", None)
        said = config if isinstance(config, Mapping) else getattr(config, "__dict__", {})
        if said.get("mean") is not None and said.get("std") is not None:
            return said
    return {}


def _outermost(model: nn.Module) -> list[nn.Module]:
    """List the modules within that have a pretrained_cfg, but none within those."""
    found: list[nn.Module] = []
    for part in model.children():
        found += [part] if _config(part) else _outermost(part)
    return found


def _is_given_the_input(model: nn.Module, networks: list[nn.Module], config: Mapping[str, Any]) -> bool:
    """Tell whether the first module that computes is one of the networks, and sees the model's input as it is."""
    within = {id(part) for network in networks for part in network.modules()}
    size = config.get("input_size") or (len(config["mean"]), 32, 32)
    tensor = next((t for t in model.parameters() if t.is_floating_point()), torch.empty(0))
    x = torch.randn((2, *size), generator=torch.Generator().manual_seed(0)).to(tensor.device, tensor.dtype)
    seen: list[bool] = []
    look = partial(_look, x, seen, threading.get_ident())
    computing = [p for p in model.modules() if p in networks or (id(p) not in within and not _holds(p, networks))]
    try:
        hooks = [p.register_forward_pre_hook(_hook(look, p in networks), with_kwargs=True) for p in computing]
    except RuntimeError:  # scripted modules take no hooks
        return False
    try:
        with torch.no_grad():
            model(x)
    except Exception:  # an error of the wrapper's own says as little as one without a network called
        pass
    finally:
        for hook in hooks:
            hook.remove()
    return seen == [True]


def _hook(look: Callable[[bool, Any, Any], None], is_network: bool) -> Callable[..., None]:
    return lambda module, args, kwargs: look(is_network, args, kwargs)


def _look(x: Tensor, seen: list[bool], thread: int, is_network: bool, args: Any, kwargs: Any) -> None:
    """Note what the first module is given, and end the forward pass; another thread's is left alone."""
    if threading.get_ident() == thread:
        given = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        same = len(given) == 1 and given[0].shape == x.shape and torch.equal(given[0].to(x.dtype), x)
        seen.append(is_network and same)
        raise _Stop


def _holds(part: nn.Module, networks: list[nn.Module]) -> bool:
    return any(module is network for module in part.modules() for network in networks)
