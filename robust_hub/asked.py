"""Whether a network was trained, and certified, as a row at a scale asks."""

from __future__ import annotations

from typing import Any

from robust_hub import finetune, pretrain
from robust_hub.options import Training, difference
from robust_hub.plans import make_plan
from robust_hub.provenance import CLEAN, Provenance
from robust_hub.records import Run
from robust_hub.rows import Row, Scale

_PLAN = ("n0", "n", "alpha", "bound", "radii")
PRETRAIN = {
    "epochs": pretrain.EPOCHS,
    "learning_rate": pretrain.LEARNING_RATE,
    "weight_decay": pretrain.WEIGHT_DECAY,
}
FINETUNE = {
    "epochs": finetune.EPOCHS,
    "learning_rate": finetune.LEARNING_RATE,
    "weight_decay": finetune.WEIGHT_DECAY,
}


def tuning(row: Row, scale: Scale) -> dict[str, Any]:
    """Give the options of a row's training on its own data."""
    if row.pretrained is None:
        return dict(scale.scratch)
    options = {**(scale.head if row.head_only else scale.tune), **(scale.long if row.long else {})}
    return {**options, **(scale.noisy if row.tuned != CLEAN and not row.head_only else {})}


def other_training(provenance: Provenance | None, row: Row, scale: Scale) -> str:
    """Say in what a network's training differs from what a row at a scale asks for, its pretraining included.

    Args:
        provenance: How the network's weights came about.
        row: The row.
        scale: The scale.

    Returns:
        The first difference in words; empty if there is none.
    """
    if row.pretrained is None:
        return _differs(provenance, Training.asked("pretrain", row.tuned, **{**PRETRAIN, **scale.scratch}))
    options = {**FINETUNE, **tuning(row, scale)}
    asked = Training.asked("finetune", row.tuned, head_only=row.head_only, **options)
    base = None if provenance is None else provenance.base
    return _differs(provenance, asked) or other_pretraining(base, row, scale)


def other_pretraining(provenance: Provenance | None, row: Row, scale: Scale) -> str:
    """Say in what a pretraining differs from what a row at a scale asks for; see `other_training`."""
    asked = Training.asked("pretrain", row.pretrained or (), **{**PRETRAIN, **scale.pretrain})
    other = _differs(provenance, asked)
    return f"a pretraining with {other}" if other else ""


def other_certification(run: Run, row: Row, scale: Scale) -> str:
    """Say in what a run differs from what a row at a scale asks for, in words; empty if in nothing.

    The training is compared where the run tells it, as all do that were begun by this version or a later one.
    """
    certify = dict(scale.certify)
    plan = make_plan(None, **{name: certify.pop(name, None) for name in _PLAN})
    certify.pop("batch_size", None)
    for name, value in {**plan.describe(), "every": 20, **certify, "dtype": scale.dtype}.items():
        if run.identity.get(name) != value:
            return f"{name} {run.identity.get(name)}, not {value}"
    return other_training(run.provenance, row, scale) if run.provenance is not None else ""


def _differs(provenance: Provenance | None, asked: Training) -> str:
    """Say in what a recorded training differs from the one that is asked for."""
    if provenance is None:
        return f"job None, not {asked.job}"
    defaults = PRETRAIN if asked.job == "pretrain" else FINETUNE
    try:
        return difference(Training.recorded(provenance, defaults), asked)
    except (TypeError, ValueError) as error:
        return f"options that no training has ({error})"
