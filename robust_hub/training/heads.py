"""A network's classifier, found and replaced by a new random one, and the features before it."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import nn

from robust_hub.models.classes import note_class_names

_NAMES = ("fc", "head", "heads", "classifier")  # where models that are not timm's keep their last layer
_PASSIVE = (nn.Identity, nn.Dropout, nn.Flatten, nn.Softmax, nn.LogSoftmax)  # keep the order of logits, and their count


def reset_head(model: nn.Module, num_classes: int, seed: int) -> nn.Module:
    """Give a model a new random classifier, in place.

    That is what timm's `reset_classifier` replaces, or the last layer with weights of what is called fc, head, heads or
    classifier, a Linear or, as in squeezenet, a convolution; else that of a Sequential's last part with weights, or of
    the only part with weights, as wrappers have it.

    Args:
        model: A classifier.
        num_classes: Outputs of the new classifier.
        seed: Seed of its weights.

    Returns:
        The new classifier, a module of the model, on the model's device.

    Raises:
        ValueError: If the model has no such layer.
    """
    where = next(model.parameters(), torch.empty(0)).device
    with torch.random.fork_rng(devices=[where] if where.type == "cuda" else []):
        torch.manual_seed(seed)
        head = _reset(model, num_classes, where)
    if head is None:
        raise ValueError(
            f"expected a model with a classifier (timm's reset_classifier, or a last Linear or convolution in what is "
            f"called {', '.join(_NAMES)}), got a {type(model).__name__} without one: add the layer first, such as "
            f"model = nn.Sequential(model, nn.Linear(features, {num_classes}))"
        )
    return head


def features_hash(model: nn.Module, head: nn.Module) -> str:
    """Hash all weights but the classifier's, so that a resume starts from the same pretrained ones."""
    own = {id(p) for p in head.parameters()}
    digest = hashlib.sha256()
    for name, value in model.state_dict(keep_vars=True).items():
        if id(value) not in own:
            raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(name.encode() + raw.numpy().tobytes())
    return digest.hexdigest()[:16]


def _reset(model: nn.Module, num_classes: int, where: torch.device) -> nn.Module | None:
    """Replace the classifier of a network, or of what it wraps; None if there is none."""
    if isinstance(model, torch.jit.ScriptModule):
        return None
    if hasattr(model, "reset_classifier") and hasattr(model, "get_classifier"):
        timm_model: Any = model
        timm_model.reset_classifier(num_classes)
        note_class_names(model, None)
        model.to(where)
        head = timm_model.get_classifier()
        return head if isinstance(head, nn.Module) and _has_weights(head) else None
    names = [name for name in _NAMES if _has_weights(getattr(model, name, None))]
    weighted = [name for name, part in model.named_children() if _has_weights(part)]
    if names:
        chosen = names[0]
    elif weighted and (isinstance(model, nn.Sequential) or len(weighted) == 1):
        chosen = weighted[-1]
    else:
        return None
    layer = getattr(model, chosen)
    if not _gives_logits(model, layer):
        return None
    if isinstance(layer, nn.Linear | nn.Conv2d):
        head = _fresh(layer, num_classes)
        setattr(model, chosen, head)
    else:
        found = _reset(layer, num_classes, where)
        if found is None:
            return None
        head = found
    _rename(model, num_classes)
    return head


def _fresh(old: nn.Linear | nn.Conv2d, num_classes: int) -> nn.Module:
    place: dict[str, Any] = {"device": old.weight.device, "dtype": old.weight.dtype}
    if isinstance(old, nn.Linear):
        return nn.Linear(old.in_features, num_classes, old.bias is not None, **place)
    shape: dict[str, Any] = {"stride": old.stride, "padding": old.padding, "dilation": old.dilation}
    return nn.Conv2d(old.in_channels, num_classes, old.kernel_size, bias=old.bias is not None, **shape, **place)  # type: ignore[arg-type]


def _gives_logits(model: nn.Module, layer: nn.Module) -> bool:
    """Tell whether what follows a part of a Sequential leaves its outputs the logits.

    A convolution's maps have to be averaged to one number a channel, with a ReLU in squeezenet.
    """
    parts = list(model) if isinstance(model, nn.Sequential) else [layer]
    after = parts[[part is layer for part in parts].index(True) + 1 :]
    if not isinstance(layer, nn.Conv2d):
        return all(isinstance(part, _PASSIVE) for part in after)
    pools = [part for part in after if isinstance(part, nn.AdaptiveAvgPool2d) and part.output_size in (1, (1, 1))]
    return len(pools) == 1 and all(isinstance(part, (*_PASSIVE, nn.ReLU)) for part in after if part is not pools[0])


def _rename(model: nn.Module, num_classes: int) -> None:
    """Let a model that says how many classes it has say the new number; transformers forgets the names of the old."""
    for holder, name in ((model, "num_classes"), (getattr(model, "config", None), "num_labels"), (model, "num_labels")):
        if isinstance(getattr(holder, name, None), int):
            setattr(holder, name, num_classes)


def _has_weights(part: Any) -> bool:
    return isinstance(part, nn.Module) and any(True for _ in part.parameters())
