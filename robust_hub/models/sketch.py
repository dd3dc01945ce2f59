"""A network without memory: the names and shapes of its tensors, before one of its size is made.

What a checkpoint's config.json asks for is built on torch's meta device, and no further than its weights reach: a
billion blocks end with the first that has no weights.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from robust_hub.errors import CheckpointError
from robust_hub.layout import CONFIG
from robust_hub.models.config import CheckpointConfig
from robust_hub.names import did_you_mean
from robust_hub.parsing import shown

_MOST = 20_000  # tensors: the largest networks of timm have a few thousand
_SPARE = 64  # parameters that are made and replaced, such as the first layer's


class _TooManyError(Exception):
    """More parameters than the weights have tensors."""


def sketch(config: CheckpointConfig, tensors: int, folder: str | Path) -> nn.Module:
    """Build the network that a config.json describes on the meta device.

    Args:
        config: What the file says.
        tensors: How many the weights are; a network of many more is not built to its end.
        folder: The checkpoint's folder, for the error.

    Returns:
        The network, whose tensors have shapes and no memory.

    Raises:
        CheckpointError: If timm knows no such network, cannot make it with these arguments, or it is larger than the
            weights.
    """
    where, name = Path(folder) / CONFIG, config.architecture
    if not timm.is_model(name):
        hint = did_you_mean(name, timm.list_models()) or "install the package that it is from"
        raise CheckpointError(f"{where} names the architecture {name}, which timm does not know: {hint}")
    try:
        with torch.device("meta"), _at_most(2 * min(tensors, _MOST) + _SPARE), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the real network gives them
            network: nn.Module = timm.create_model(name, **{**config.model_args, "num_classes": config.num_classes})
    except _TooManyError:
        raise CheckpointError(
            f"{where} describes a network of more tensors than the {tensors} of its weights"
        ) from None
    except Exception as error:  # timm says in any way what it cannot make
        words = shown(str(error) or type(error).__name__)
        raise CheckpointError(f"{where} describes a {name} that timm cannot make ({words})") from None
    return network


@contextmanager
def _at_most(count: int) -> Iterator[None]:
    """End the building of a network, in this thread, with the first parameter beyond a count."""
    here, left = threading.get_ident(), count

    def watch(module: nn.Module, name: str, parameter: Any) -> None:
        nonlocal left
        if threading.get_ident() == here:
            left -= 1
            if left < 0:
                raise _TooManyError

    handle = register_module_parameter_registration_hook(watch)
    try:
        yield
    finally:
        handle.remove()
