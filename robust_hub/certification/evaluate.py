"""Certify a data set: images and labels in, one record an image out."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from torch import Tensor, nn

from robust_hub.bars import hiding_bars, tqdm
from robust_hub.certification.compiling import CompileChoice, check_choice
from robust_hub.certification.matching import Classes, match
from robust_hub.certification.parts import find_part
from robust_hub.certification.smoothing import SmoothedClassifier
from robust_hub.certification.stamp import choose_seed
from robust_hub.certification.task import Task, choose_every, choose_form, identity_of, open_task
from robust_hub.evidence.records import Record, Run, read_run
from robust_hub.guarantee.certificate import Certificate, check_sigma
from robust_hub.guarantee.plans import Plan, check_samples, make_plan
from robust_hub.images.data import ImageData, load_data
from robust_hub.images.laws import CHOICES, NoiseChoice, make_noise
from robust_hub.images.pixels import channels_of
from robust_hub.models.modes import uncompiled
from robust_hub.models.norms import warn_batch_norm
from robust_hub.models.sizes import check_size, own_size, say_resized
from robust_hub.models.stems import warn_small_stem
from robust_hub.training.bf16 import warn_slow_bf16

ROUND = 64  # images of one process between two meetings of several
READ_AHEAD = 64 * 2**20  # bytes of images, in float32, that wait to be certified


def certify(
    model: nn.Module,
    dataset: Any,
    sigma: float,
    *,
    out: str | Path,
    every: int | None = None,
    limit: int | None = None,
    n0: int | None = None,
    n: int | None = None,
    alpha: float | None = None,
    bound: str | None = None,
    radii: Sequence[float] | None = None,
    plan: Plan | None = None,
    batch_size: int | None = None,
    compile: CompileChoice = "auto",
    noise: NoiseChoice = "lattice",
    seed: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    classes: Classes = None,
    progress: bool = True,
) -> Run:
    """Certify every so-many-th image of a data set, one record an image.

    Each record's certificate fails with probability at most alpha. Killed at any time, the same call with the same
    `out` goes on where it stopped and ends with the records of an uninterrupted run, their times aside. Under
    `accelerate launch` the images are shared among the processes.

    Args:
        model: Classifier of normalised images, (B, C, H, W) to logits (B, K); timm's bring their mean and std. A
            compiled one (`torch.compile`) is certified as such.
        dataset: The test images: an ImageData, or anything that `load_data` takes: its split "test" is read, else its
            validation split, else what was held out when the network was trained on it, at the network's own size.
            Those that are not in memory yet are decoded once, and only those that are certified.
        sigma: Standard deviation of the noise, [0, 1]-pixel units.
        out: Folder of the run: records.tsv and run.json. New, empty, or the same run's.
        every: Certify the images whose index it divides; 20 makes 500 of 10,000. None: 1 up to 500 images, else what
            makes at most 500; a run that is resumed keeps its own.
        limit: Certify at most so many images; None for all.
        n0: Samples that select the class; 100.
        n: Fresh samples that bound its probability; 100,000. With radii, the most that are drawn.
        alpha: Failure probability of each certificate; 0.001.
        bound: "complement" or "runner_up", see `SmoothedClassifier.certify`.
        radii: Certify the largest of these radii and stop an image as soon as all are decided: the table of these
            radii at a small part of the cost. With 0 among them, accuracy at radius 0 is known too.
        plan: Any other plan of `robust_hub.guarantee.plans`; it says n0, n, alpha, bound and radii itself.
        batch_size: Images a network batch; None takes what suits network and device.
        compile: "always" compiles the network, "never" does not; "auto" does on a CUDA device where the work is worth
            it, see `robust_hub.certification.compiling`. run.json says what was done, and a resumed run goes on so.
        noise: "lattice", sound in floating point, or "float", see `SmoothedClassifier.certify`.
        seed: Seed of the noise. None draws one from the operating system after network and images are fixed, and
            run.json keeps it; a seed that is given makes the run a reproduction, and run.json says so.
        mean: Per-channel means, [0, 1]-pixel units; by default the model's.
        std: Per-channel standard deviations, likewise.
        classes: How the data's classes are matched with the network's outputs. None does so by name (`label_names` of
            its `pretrained_cfg`; data with a part of the classes, or in another order, are understood), and by
            position where names say nothing and there are as many; "by position" has label k be output k; or the names
            of the network's outputs. Labels of the records are outputs of the network, and run.json names them.
        progress: Whether to show a progress bar with the time that is left.

    Returns:
        The finished run, its records in the order of the images.

    Raises:
        ValueError: If an argument is outside its range, the data's classes are not the model's, or `out` holds another
            run or can't be written.

    Example:
        >>> import tempfile
        >>> import robust_hub
        >>> from torch import Tensor, nn
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))
        >>> plain = {"mean": (0, 0, 0), "std": (1, 1, 1)}  # this network takes pixels in [0, 1] as they are
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = robust_hub.certify(network, "digits", 0.25, out=folder, limit=2, n=50, progress=False, **plain)
        >>> [record.idx for record in run.records], run.finished
        ([0, 1], True)

    Source: Cohen et al. 2019, section 4; Qiu et al. 2023, section 4.1.
    """
    plan = make_plan(plan, n0=n0, n=n, alpha=alpha, bound=bound, radii=radii)
    law = make_noise(noise, check_sigma(sigma))
    plan.check(law.sigma, law.tau)
    every = None if every is None else check_samples("every", every)
    limit = None if limit is None else check_samples("limit", limit)
    batch_size = None if batch_size is None else check_samples("batch_size", batch_size)
    seed = None if seed is None else choose_seed(seed)
    check_choice(compile, model)
    data = (
        dataset
        if isinstance(dataset, ImageData)
        else _load(model, dataset, channels_of(model, mean), progress=progress)
    )
    check_size(model, data.image_shape)
    warn_batch_norm(model, "certification")
    warn_small_stem(model, data.image_shape, "certification")
    state = PartialState(cpu=not torch.accelerator.is_available())
    model = model.to(state.device) if state.num_processes > 1 else model
    every = choose_every(len(data), out, limit) if every is None else every
    indices = list(range(0, len(data), every))[:limit]
    data = data.keeping(indices, progress=progress) if state.is_main_process else data
    smoothed = SmoothedClassifier(model, mean=mean, std=std)
    if smoothed.dtype == torch.bfloat16:
        warn_slow_bf16(smoothed.device, "certify the network in float32, if it is to be deployed so")
    _check_channels(data, len(smoothed.mean))
    law.check_shape(data.image_shape)
    matched = match(smoothed, data, classes)
    task = choose_form(Task(smoothed, data, law, plan, batch_size, matched), compile, out, len(indices), state)
    identity = partial(identity_of, task, every, indices, out)
    with open_task(out, identity, seed, uncompiled(model), state) as (writer, drawn, done):
        todo = [i for i in indices if i not in done]
        hidden = not progress or writer is None or sys.stderr is None  # a program without a console has none
        there = len(indices) - len(todo)
        with tqdm(desc=f"sigma {law.sigma:g}", total=len(indices), initial=there, unit="image", disable=hidden) as bar:
            for record in _shared(task, todo, drawn, state):
                if writer is not None:
                    writer.append(record)
                bar.update()
    state.wait_for_everyone()
    return read_run(out)


def _load(model: nn.Module, dataset: Any, channels: int, *, progress: bool) -> ImageData:
    """Load the images that are certified of a data set, at the network's own size."""
    own = own_size(model)
    read = partial(load_data, dataset, usual_size=own, channels=channels, in_memory=False, progress=progress)
    with hiding_bars(not progress):
        data = find_part(model, dataset, read)
    say_resized(data)
    return data


def _check_channels(data: ImageData, channels: int) -> None:
    """Refuse images of another number of channels than mean and std have, where that is not one number for all."""
    if channels not in (1, data.image_shape[0]):
        raise ValueError(
            f"expected images of as many channels as mean and std have, {channels}, got {data.image_shape}: "
            f"load them with load_data(..., channels={channels})"
        )


def _shared(task: Task, indices: Sequence[int], seed: int, state: PartialState) -> Iterator[Record]:
    """Certify images that all processes share; each is given every record, in the order of indices.

    Several processes meet after each round of images; one alone never waits.
    """
    world = state.num_processes
    if world == 1:
        yield from _certify(task, indices, seed)
        return
    for start in range(0, len(indices), ROUND * world):
        turn = indices[start : start + ROUND * world]
        share = turn[state.process_index :: world]
        own = list(_certify(replace(task, data=task.data.keeping(share)), share, seed))
        yield from sorted(gather_object(own), key=lambda record: record.idx)


def _certify(task: Task, indices: Sequence[int], seed: int) -> Iterator[Record]:
    """Certify some images and put their labels beside the results, for the first time here; in the order of indices."""
    data, smoothed = task.data, task.smoothed
    here: dict[int, tuple[Tensor, int]] = {}  # images on their way, so that none is decoded twice
    how: Any = {"batch_size": task.batch_size, "noise": CHOICES[task.noise.name], "seed": seed}
    results = smoothed.certify_each(_read(data, indices, here), task.sigma, task.plan, **how)
    early: dict[int, Record] = {}
    waiting = iter(indices)
    next_one = next(waiting, None)
    for index, certificate, seconds in results:
        image, label = here.pop(index)
        base = int(smoothed.sampler.classify(image[None], 1)[0])  # the pixels were checked on the way to the votes
        early[index] = _record(index, task.classes.output(label), certificate, base, seed, seconds)
        while next_one in early:
            yield early.pop(next_one)
            next_one = next(waiting, None)


def _read(data: ImageData, indices: Sequence[int], here: dict[int, tuple[Tensor, int]]) -> Iterator[tuple[int, Tensor]]:
    """Give images with their indices, read some at a time so that all CPUs decode, and keep them and their labels."""
    together = max(1, min(ROUND, READ_AHEAD // (4 * math.prod(data.image_shape))))
    for start in range(0, len(indices), together):
        part = list(indices[start : start + together])
        here.update(zip(part, data.__getitems__(part), strict=True))
        yield from ((index, here[index][0]) for index in part)


def _record(idx: int, label: int, certificate: Certificate, base: int, seed: int, seconds: float) -> Record:
    return Record(
        idx=idx,
        label=label,
        predict=certificate.prediction,
        radius=certificate.radius,
        correct=certificate.prediction == label,
        time=round(seconds, 4),
        base=base,
        p_lower=certificate.p_lower,
        count=certificate.count,
        n=certificate.n,
        n0=certificate.n0,
        alpha=certificate.alpha,
        sigma=certificate.sigma,
        seed=seed,
        counts=tuple((c, v) for c, v in enumerate(certificate.counts) if v) or None,
        plan=certificate.plan,
        radii=certificate.radii,
        undecided=certificate.undecided or None,
        out_of_reach=certificate.out_of_reach or None,
        tau=certificate.tau or None,
    )
