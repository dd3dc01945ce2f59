"""What a run certifies and in which form, its identity and its folder: all that is settled before the first vote."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from torch import nn

from robust_hub.certification.compiling import (
    CompileChoice,
    choose,
    compile_network,
    expected_samples,
    is_worth_compiling,
)
from robust_hub.certification.sampler import uncompiled
from robust_hub.certification.smoothing import SmoothedClassifier
from robust_hub.evidence.writer import RecordWriter, open_run
from robust_hub.guarantee.plans import Plan
from robust_hub.images.data import ImageData
from robust_hub.layout import RUN
from robust_hub.models.identity import weights_hash
from robust_hub.provenance import provenance_of


@dataclass(frozen=True)
class Task:
    """What is certified, and how."""

    smoothed: SmoothedClassifier
    data: ImageData
    sigma: float
    plan: Plan
    batch_size: int | None


def choose_form(task: Task, choice: CompileChoice, out: str | Path, images: int, state: PartialState) -> Task:
    """Compile the task's network, or leave it; the main process chooses for all."""
    smoothed = task.smoothed
    shared = [False]
    if state.is_main_process:
        samples = expected_samples(task.plan) * images // state.num_processes
        is_worth = partial(is_worth_compiling, smoothed.sampler, task.data.image_shape, samples, task.batch_size)
        shared = [choose(choice, smoothed.model, _recorded(out).get("compiled"), is_worth)]
    if state.num_processes > 1:
        broadcast_object_list(shared)
    if not shared[0]:
        return task
    network = compile_network(smoothed.model)
    return replace(task, smoothed=SmoothedClassifier(network, mean=smoothed.mean, std=smoothed.std))


def identity_of(task: Task, every: int, images: int) -> dict[str, Any]:
    """Say what must be equal for two runs to be one, the seed aside."""
    smoothed, plain = task.smoothed, uncompiled(task.smoothed.model)
    return {
        "model": _name(plain),
        "weights": weights_hash(plain),
        "compiled": plain is not smoothed.model,
        "dtype": str(smoothed.dtype).removeprefix("torch."),
        "mean": list(smoothed.mean),
        "std": list(smoothed.std),
        "data": task.data.name,
        "split": task.data.split,
        "data_fingerprint": task.data.data_hash,
        "every": every,
        "images": images,
        "sigma": float(task.sigma),
        **task.plan.describe(),
        "device": smoothed.device.type,
    }


@contextlib.contextmanager
def open_task(
    out: str | Path, identity: dict[str, Any], seed: int | None, model: nn.Module, state: PartialState
) -> Iterator[tuple[RecordWriter | None, int, set[int]]]:
    """Open the run: its writer in the main process alone; its seed, and the images that it has, in each."""
    with contextlib.ExitStack() as stack:
        writer = None
        shared: list[Any] = [None, None]
        if state.is_main_process:
            drawn = _seed(out, seed)
            writer = open_run(out, {**identity, "seed": drawn}, provenance=provenance_of(model))
            stack.enter_context(writer)
            shared = [drawn, sorted(writer.done)]
        if state.num_processes > 1:
            broadcast_object_list(shared)
        yield writer, shared[0], set(shared[1])


def _name(model: nn.Module) -> str:
    config = getattr(model, "pretrained_cfg", None)
    return str((config.get("architecture") if isinstance(config, dict) else None) or type(model).__name__)


def _recorded(out: str | Path) -> dict[str, Any]:
    """Give the identity of the folder's run, empty where there is none; `open_run` judges the folder."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return dict(json.loads((Path(out) / RUN).read_text())["identity"])
    return {}


def _seed(out: str | Path, seed: int | None) -> int:
    """Give the seed asked for, else the one that the folder's run has drawn, else a fresh one."""
    if seed is None:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            seed = int(_recorded(out)["seed"])
    return secrets.randbits(63) if seed is None else int(seed)
