"""Whether a network's weights are still those that its provenance speaks of, or were trained by somebody else since.

A network carries how its training went. A loop of the user's own that goes on with it tells nobody: what was held out
before may have been trained on since. Checksums of the tensors, taken when the provenance is noted, show that.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from robust_hub.provenance import Provenance, note_provenance, provenance_of

_ATTRIBUTE = "robust_hub_checksums"
_BITS = {torch.float32: torch.int32, torch.float16: torch.int16, torch.bfloat16: torch.int16}


def note_training(model: nn.Module, provenance: Provenance | None) -> None:
    """Have a network carry how its weights came about, and which they are."""
    note_provenance(model, provenance)
    checksums = _checksums(model, list(_BITS))
    setattr(model, _ATTRIBUTE, checksums)


def training_of(model: nn.Module) -> Provenance | None:
    """Read how a network's weights came about; of weights that changed since, only what they started from.

    Other types and devices are no change. A network whose provenance was noted without checksums is believed.

    Args:
        model: A network, unwrapped.

    Returns:
        Its provenance; where a tensor is another one, an empty provenance with that as its base; None without any.

    Example:
        >>> network = nn.Linear(4, 2)
        >>> note_training(network, Provenance(job="finetune"))
        >>> training_of(network.half()).job
        'finetune'
        >>> _ = nn.init.zeros_(network.weight)
        >>> training_of(network).job, training_of(network).base.job
        (None, 'finetune')
    """
    noted, before = provenance_of(model), getattr(model, _ATTRIBUTE, None)
    if noted is None or before is None or _checksums(model, None) <= before:
        return noted
    return Provenance(base=noted)


@torch.no_grad()
def _checksums(model: nn.Module, kinds: list[torch.dtype] | None) -> frozenset[int]:
    """Add up the bits of each tensor of a network, in several types or in the one that it has."""
    sums = []
    for value in model.state_dict().values():
        if isinstance(value, Tensor) and value.is_floating_point() and not value.is_meta:
            own = value.dtype if value.dtype in _BITS else torch.float32
            sums += [_sum(value, kind) for kind in kinds or [own]]
    return frozenset(torch.stack([one.cpu() for one in sums]).tolist() if sums else ())


def _sum(value: Tensor, kind: torch.dtype) -> Any:
    return value.detach().to(kind).contiguous().view(_BITS[kind]).sum(dtype=torch.int64)
