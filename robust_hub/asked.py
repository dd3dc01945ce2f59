"""Whether a network was trained, and a run certified, as a row at a scale asks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from robust_hub.finetune import finetune
from robust_hub.plans import make_plan
from robust_hub.pretrain import pretrain_mixed_noise
from robust_hub.recipes import CLEAN, Recipe, Scale, Sigmas
from robust_hub.records import Run
from robust_hub.schedule import Options

_UNTOLD = ("mean", "std", "save_every", "num_workers", "progress")  # of the data, or without effect on the weights
_PLAN = ("n0", "n", "alpha", "bound", "radii")


def tuning(recipe: Recipe, scale: Scale) -> dict[str, Any]:
    """Give the options of a row's training on its own data."""
    if recipe.pretrained is None:
        return dict(scale.scratch)
    options = {**(scale.head if recipe.head_only else scale.tune), **(scale.long if recipe.long else {})}
    return {**options, **(scale.noisy if recipe.tuned != CLEAN and not recipe.head_only else {})}


def other_training(told: Mapping[str, Any], recipe: Recipe, scale: Scale) -> str:
    """Say in what a network's training differs from what a row at a scale asks for, its pretraining included.

    Args:
        told: The network's recipe, as config.json and run.json keep it.
        recipe: The row.
        scale: The scale.

    Returns:
        The first difference in words; empty if there is none.
    """
    if recipe.pretrained is None:
        return _difference(told, "pretrain", recipe.tuned, scale.scratch)
    found = _difference(told, "finetune", recipe.tuned, {**tuning(recipe, scale), "head_only": recipe.head_only})
    return found or other_pretraining(told.get("base") or {}, recipe, scale)


def other_pretraining(told: Mapping[str, Any], recipe: Recipe, scale: Scale) -> str:
    """Say in what a pretraining differs from what a row at a scale asks for; see `other_training`."""
    found = _difference(told, "pretrain", recipe.pretrained or (), scale.pretrain)
    return f"a pretraining with {found}" if found else ""


def other_certification(run: Run, recipe: Recipe, scale: Scale) -> str:
    """Say in what a run differs from what a row at a scale asks for, in words; empty if in nothing.

    The training is compared where the run tells it, as all do that were begun by this version or a later one.
    """
    certify = dict(scale.certify)
    plan = make_plan(None, **{name: certify.pop(name, None) for name in _PLAN})
    certify.pop("batch_size", None)
    for name, value in {**plan.describe(), "every": 20, **certify, "dtype": scale.dtype}.items():
        if run.identity.get(name) != value:
            return f"{name} {run.identity.get(name)}, not {value}"
    return other_training(run.recipe, recipe, scale) if run.recipe else ""


def _difference(told: Mapping[str, Any], job: str, sigmas: Sigmas, options: Mapping[str, Any]) -> str:
    """Say in what a training differs from a job's with these options, those that are not named being the defaults."""
    defaults = {"job": None, "sigmas": list(CLEAN), **_DEFAULTS[job]}
    wanted = {**defaults, "job": job, "sigmas": list(sigmas), **options}
    rates = wanted.pop("learning_rate")
    rates = list(rates) if isinstance(rates, tuple) else [rates]
    for name, value in wanted.items():
        if (have := told.get(name, defaults[name])) != value:
            return f"{name} {have}, not {value}"
    if told.get("learning_rate") not in rates or (told.get("held_out_accuracy") is not None) != (len(rates) > 1):
        best = "the best of " if len(rates) > 1 else ""
        return f"learning_rate {told.get('learning_rate')}, not {best}{', '.join(f'{rate:g}' for rate in rates)}"
    return ""


def _defaults(job: Callable[..., Any]) -> dict[str, Any]:
    """Give what a job takes for each option that decides its weights."""
    known = {"head_scale": 1.0, "head_only": False, **{f.name: f.default for f in fields(Options)}}
    told = {name: p.default for name, p in inspect.signature(job).parameters.items() if name in known}
    return {name: value for name, value in {**known, **told}.items() if name not in _UNTOLD}


_DEFAULTS = {"pretrain": _defaults(pretrain_mixed_noise), "finetune": _defaults(finetune)}
