"""What a run certifies and in which form, its identity and its folder: all that is settled before the first vote."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
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
from robust_hub.certification.matching import ClassMap
from robust_hub.certification.origin import Origins
from robust_hub.certification.parts import count_seen
from robust_hub.certification.smoothing import SmoothedClassifier
from robust_hub.certification.stamp import choose_seed
from robust_hub.evidence.writer import RecordWriter, open_run
from robust_hub.guarantee.plans import Plan
from robust_hub.images.data import ImageData
from robust_hub.images.laws import Noise
from robust_hub.layout import RUN
from robust_hub.models.identity import weights_hash
from robust_hub.models.modes import unwrapped
from robust_hub.models.untouched import training_of
from robust_hub.notes import say

USUAL = 500  # images that are certified where the caller does not say
_TOGETHER = 256  # images that are hashed at a time


@dataclass(frozen=True)
class Task:
    """What is certified, and how."""

    smoothed: SmoothedClassifier
    data: ImageData
    noise: Noise
    plan: Plan
    batch_size: int | None
    classes: ClassMap

    @property
    def sigma(self) -> float:
        """Standard deviation of the noise, [0, 1]-pixel units."""
        return self.noise.sigma


def choose_every(count: int, out: str | Path, limit: int | None = None) -> int:
    """Choose which of so many images are certified: all up to `USUAL`, else every so-many-th, as a run here has it.

    Args:
        count: Images of the data.
        out: Folder of the run; one that was begun goes on as it began.
        limit: Most images that are certified.
    """
    recorded = _recorded(out).get("identity", {}).get("every")
    if isinstance(recorded, int) and recorded >= 1:
        return recorded
    every = max(1, -(-count // USUAL))
    images = len(range(0, count, every)[:limit])
    if every == 1 and images == count:
        say(f"certifying all {count:,} images")
    elif every == 1:
        say(f"certifying the first {images:,} of {count:,} images")
    else:
        say(f"certifying {images:,} of {count:,} images, every {_nth(every)}; --every 1 takes all")
    return every


def _nth(number: int) -> str:
    teens = number % 100 in (11, 12, 13)
    return f"{number}{'th' if teens else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"


def choose_form(task: Task, choice: CompileChoice, out: str | Path, images: int, state: PartialState) -> Task:
    """Compile the task's network, or leave it, and choose the size of its batches; the main process does so for all.

    A run that is resumed goes on as it began.
    """
    smoothed, size = task.smoothed, task.batch_size
    shared: list[Any] = [False, size]
    if state.is_main_process:
        recorded = _recorded(out).get("identity", {})
        samples = expected_samples(task.plan) * images // state.num_processes
        is_worth = partial(is_worth_compiling, smoothed.sampler, task.data.image_shape, samples, size)
        compiled = choose(choice, smoothed.model, recorded.get("compiled"), is_worth)
        size = recorded.get("batch_size") if size is None else size
        shared = [compiled, size or smoothed.suited_batch_size(task.data.image_shape)]
    if state.num_processes > 1:
        broadcast_object_list(shared)
    if shared[0]:
        smoothed = SmoothedClassifier(compile_network(smoothed.model), mean=smoothed.mean, std=smoothed.std)
    return replace(task, smoothed=smoothed, batch_size=shared[1])


def identity_of(task: Task, every: int, indices: Sequence[int], out: str | Path) -> dict[str, Any]:
    """Say what must be equal for two runs to be one, the seed aside: one function, of the same images, as noisy.

    Of the images, those that are certified are hashed and no others are decoded; a run in `out` that was begun when
    others were hashed as well is compared in these, too.
    """
    older = "data_fingerprint" in _recorded(out).get("identity", {})
    smoothed, data = task.smoothed, task.data
    assert task.batch_size is not None
    seen = count_seen(smoothed.model, data, indices)
    origin = Origins(smoothed.sampler).of(data.image_shape, task.batch_size)
    return {
        "model": origin.model,
        "weights": origin.weights,
        "logits": origin.logits,
        "compiled": origin.compiled,
        "dtype": origin.dtype,
        **smoothed.sampler.calling(data.image_shape).describe(smoothed.dtype),
        "autocast": False,
        "tf32": smoothed.device.type == "cuda" and torch.backends.cudnn.allow_tf32,
        "float32_products": torch.get_float32_matmul_precision(),
        "torch": torch.__version__,
        "device": smoothed.device.type,
        "device_name": origin.device,
        "batch_size": origin.batch_size,
        "mean": list(origin.mean),
        "std": list(origin.std),
        "data": data.name,
        "split": data.split,
        **({"data_fingerprint": data.data_hash} if older else {"labels_hash": data.labels_hash}),
        "image": {"shape": list(data.image_shape), "resized": data.resized},
        "images_hash": _images_hash(data, indices),
        **task.classes.describe(),
        "every": every,
        "images": len(indices),
        **({"trained_on": seen} if seen else {}),
        "sigma": float(task.sigma),
        "noise": task.noise.name,
        **task.plan.describe(),
    }


@contextlib.contextmanager
def open_task(
    out: str | Path, identity: Callable[[], dict[str, Any]], seed: int | None, model: nn.Module, state: PartialState
) -> Iterator[tuple[RecordWriter | None, int, set[int]]]:
    """Open the run: its writer in the main process alone; its seed, and the images that it has, in each.

    At the end the weights must be those that it began with. A seed that is not given is drawn when network and images
    are fixed.
    """
    with contextlib.ExitStack() as stack:
        writer = None
        shared: list[Any] = [None, None]
        begun = weights_hash(model)
        if state.is_main_process:
            fixed = identity()
            drawn = _seed(out, seed)
            writer = open_run(
                out, {**fixed, "seed": drawn}, provenance=training_of(unwrapped(model)), reproduction=seed is not None
            )
            stack.enter_context(writer)
            shared = [drawn, sorted(writer.done)]
        if state.num_processes > 1:
            broadcast_object_list(shared)
        yield writer, shared[0], set(shared[1])
        if weights_hash(model) != begun:
            raise ValueError(
                f"expected one network from the first image to the last, got other weights at the end of {out}: the "
                "records certify nothing; remove the folder and certify again"
            )
        if writer is not None:
            writer.close({"records": len(writer.done)})


def _images_hash(data: ImageData, indices: Sequence[int]) -> str:
    """Hash every image that is certified, its index and its label, as lower-case hex."""
    digest = hashlib.sha256()
    for start in range(0, len(indices), _TOGETHER):
        part = list(indices[start : start + _TOGETHER])
        pixels, labels = data.batch(part)
        digest.update(np.array([part, labels.tolist()], dtype="<i8").tobytes())
        digest.update(pixels.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _recorded(out: str | Path) -> dict[str, Any]:
    """Give the run.json of a folder, empty where there is none; `open_run` judges the folder."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        run = json.loads((Path(out) / RUN).read_text())
        return {**run, "identity": dict(run["identity"])}
    return {}


def _seed(out: str | Path, seed: int | None) -> int:
    """Give the seed asked for, else the one that the folder's run has drawn, else a fresh one."""
    if seed is None:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            seed = int(_recorded(out)["identity"]["seed"])
    return choose_seed(seed)
