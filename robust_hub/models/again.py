"""Whether timm makes a network again from what a config.json can say of it: the same layers, the same function.

What is changed after `timm.create_model`, a pooling, an activation, a parametrised weight, stands in no config.json. It
is found out here, before such a network is trained for hours or written where nobody could read it.
"""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import timm
import torch
from timm.layers.create_act import get_act_layer
from timm.layers.create_norm import get_norm_layer
from timm.layers.drop import DropBlock2d, DropPath
from timm.layers.norm_act import FrozenBatchNormAct2d, unfreeze_batch_norm_2d
from torch import Tensor, nn
from torchvision.ops.misc import FrozenBatchNorm2d

from robust_hub.models.identity import differing, probe
from robust_hub.models.modes import uncompiled
from robust_hub.parsing import shown

_COMPILED = "_orig_mod."  # what torch.compile puts before the names of a module's weights
_NOTHING = (nn.Identity, nn.Dropout, nn.Dropout2d, DropPath, DropBlock2d)  # the identity in eval mode
_CHANGED = "the change to timm.create_model (act_layer=, global_pool=, in_chans=, ...)"
_PARAMETRISED = "take weight norm, pruning and the like out first (torch.nn.utils.parametrize.remove_parametrizations)"
_BEYOND = "delete it, or register a buffer with persistent=False"


def bare(model: nn.Module) -> nn.Module:
    """Take a network of timm out of torch.compile, DataParallel and whatever else holds it as its `module`.

    Args:
        model: Any module.

    Returns:
        The network of timm in it; the module itself where there is none.

    Raises:
        ValueError: If it has no weights, being on the meta device.
    """
    inner: Any = uncompiled(model)
    while not _architecture(inner) and isinstance(getattr(inner, "module", None), nn.Module):
        inner = uncompiled(inner.module)
    found: nn.Module = inner if _architecture(inner) else model
    if any(value.is_meta for value in (*found.parameters(), *found.buffers())):
        raise ValueError(
            f"expected a network with weights, got a {type(found).__name__} on the meta device, where there are none: "
            "make it outside torch.device('meta')"
        )
    return found


def thawed(model: nn.Module) -> nn.Module:
    """Give batch norm that was frozen its usual form, whose keys are those that its architecture is made with."""
    if not any(isinstance(module, FrozenBatchNorm2d | FrozenBatchNormAct2d) for module in model.modules()):
        return model
    usual: nn.Module = unfreeze_batch_norm_2d(copy.deepcopy(model))  # type: ignore[no-untyped-call]
    return usual.eval()


def state_of(model: nn.Module, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """Give a network's tensors on the CPU under the names that they have uncompiled, none sharing memory.

    Args:
        model: A network.
        dtype: Floating-point type of them; None leaves it.
    """
    state: dict[str, Tensor] = {}
    taken: set[int] = set()
    for key, value in model.state_dict().items():
        plain = value.detach().to("cpu", dtype if value.is_floating_point() else None).contiguous()
        memory = plain.untyped_storage().data_ptr()
        state[key.replace(_COMPILED, "")] = plain.clone() if memory in taken else plain
        taken.add(memory)
    return state


def pooling(model: nn.Module) -> str | None:
    """Name a network's pooling as timm's `global_pool` does; None where it has none."""
    head: Any = getattr(model, "head", None)
    places = (getattr(head, "global_pool", None), getattr(head, "pool_type", None), getattr(model, "global_pool", None))
    names = (getattr(place, "pool_type", place) for place in places)
    return next((name for name in names if isinstance(name, str)), None)


def stored_copy(model: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """Copy a network, or what holds it, to the CPU in float32, with its weights as they are stored."""
    whole = copy.deepcopy(model).cpu().float()
    plain = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    network = bare(whole)
    network.load_state_dict({key: plain[key.replace(_COMPILED, "")] for key in network.state_dict()})
    return whole


def plain_args(args: Mapping[str, Any]) -> dict[str, Any]:
    """Give those arguments of `timm.create_model` that JSON can hold; layers that timm has a name for by their name."""
    named = {name: _named(name, value) for name, value in args.items()}
    return {name: value for name, value in named.items() if _survives_json(value)}


def make_again(architecture: str, args: Mapping[str, Any], state: Mapping[str, Tensor]) -> nn.Module:
    """Make a network by its name and arguments, in float32 on the CPU, with weights where they fit.

    Args:
        architecture: timm's name of it.
        args: Arguments of `timm.create_model`.
        state: Weights by name.

    Raises:
        ValueError: If timm cannot make it.
    """
    try:
        with torch.random.fork_rng(devices=[]), torch.device("cpu"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they were given when the network was made first
            made: nn.Module = timm.create_model(architecture, **args).float()
    except Exception as error:  # timm says in any way what it cannot make
        words = shown(str(error) or type(error).__name__)
        raise ValueError(
            f"expected a network that timm makes again from its name, got one of {architecture} with {dict(args)}, "
            f"which it cannot make ({words}): save its state_dict yourself"
        ) from None
    own = made.state_dict()
    made.load_state_dict({k: v for k, v in state.items() if k in own and v.shape == own[k].shape}, strict=False)
    return made.eval()


def check_again(model: nn.Module, made: nn.Module, state: Mapping[str, Tensor], size: Sequence[int], name: str) -> None:
    """Refuse a network that is not the one that timm makes of its name and arguments.

    Layers are compared by name, kind and sizes, weights by name and shape, features and logits by those of the probe.

    Args:
        model: The network.
        made: What `make_again` made, with these weights.
        state: The network's weights, as they are stored.
        size: Shape of an image, (C, H, W); without one, features are not compared.
        name: Name and arguments, for the error.

    Raises:
        ValueError: Naming what differs first, and what to do.
    """
    what, advice = _first_difference(model, made, state)
    if not what and size:
        with torch.compiler.set_stance("force_eager"):  # two images are not worth compiling for
            mine, theirs = probe(stored_copy(model, state), size), probe(made, size)
        if other := _function_differs(mine, theirs):
            what, advice = f"in the {other} that it computes", f"pass {_CHANGED}, or take out hooks and patches"
    if what:
        raise ValueError(
            f"expected a network that timm makes again from its name and arguments, got one that differs from {name} "
            f"{what}: {advice}; or save its state_dict yourself, without `out`"
        )


def _first_difference(model: nn.Module, made: nn.Module, state: Mapping[str, Tensor]) -> tuple[str, str]:
    """Say in which layer or weight a network differs from the one that was made again, and what to do."""
    mine, theirs = dict(_layers(model)), dict(_layers(made))
    for name in (*mine, *theirs):
        one, two = mine.get(name), theirs.get(name)
        if _kind(one) == _kind(two):
            continue
        if one is not None and (hasattr(one, "parametrizations") or ".parametrizations" in f".{name}"):
            return f"in {name}, which is parametrised", _PARAMETRISED
        return f"in {name}, {_in_words(one)} in place of {_in_words(two)}", f"pass {_CHANGED}"
    own = made.state_dict()
    for key in sorted(own.keys() | state.keys()):
        if key not in state:
            return f"in {key}, which it lacks", _PARAMETRISED
        if key not in own:
            return f"in {key}, which it has beyond it", _BEYOND
        if state[key].shape != own[key].shape:
            shapes = f"{tuple(state[key].shape)} in place of {tuple(own[key].shape)}"
            return f"in the shape of {key}, {shapes}", f"pass {_CHANGED}"
    return "", ""


def _layers(model: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Give a network's layers by name, but for those that do nothing in eval mode."""
    for name, child in model.named_children():
        plain = uncompiled(child)
        if not isinstance(plain, _NOTHING):
            yield prefix + name, plain
            yield from _layers(plain, f"{prefix}{name}.")


def _kind(layer: nn.Module | None) -> tuple[Any, ...]:
    """Give what must be equal of two layers; whether they work in place is no matter."""
    return () if layer is None else (type(layer), layer.extra_repr().replace("inplace=True", "").strip(", "))


def _in_words(layer: nn.Module | None) -> str:
    return "nothing" if layer is None else shown(f"{type(layer).__name__}({layer.extra_repr()})", 80)


def _function_differs(mine: Mapping[str, Any] | None, theirs: Mapping[str, Any] | None) -> str:
    if mine is None or theirs is None:
        return "" if mine is theirs else "features"
    return differing(mine, theirs, ("features", "logits"))


def _named(name: str, value: Any) -> Any:
    """Give the name that timm has for a class of layers, or a number of numpy as a plain one; else the value."""
    if isinstance(value, type) and name.endswith(("act_layer", "norm_layer")):
        find: Any = get_act_layer if name.endswith("act_layer") else get_norm_layer
        for known in (value.__name__.lower(), value.__name__.lower().removesuffix("2d")):
            try:
                if find(known) is value:
                    return known
            except (KeyError, ValueError, AssertionError, AttributeError):
                continue
    return value.item() if type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0 else value


def _survives_json(value: Any) -> bool:
    """Tell whether a value survives JSON."""
    try:
        return bool(json.loads(json.dumps(value)) == (list(value) if isinstance(value, tuple) else value))
    except (TypeError, ValueError):
        return False


def _architecture(model: nn.Module) -> Any:
    return (getattr(model, "pretrained_cfg", None) or {}).get("architecture")
