"""The choice of the learning rate: each of several is tried on a part of the data and judged on the rest."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from robust_hub.images.data import ImageData
from robust_hub.images.noise import NoiseMixture
from robust_hub.images.set_aside import holdout_split
from robust_hub.training.judged import count_right
from robust_hub.training.loop import Job, train_at
from robust_hub.training.options import Options
from robust_hub.training.state import rate_folder, read_result, write_result


@dataclass(frozen=True)
class Trained:
    """History, learning rate and, of several, held-out accuracy of what was trained."""

    history: list[dict[str, Any]]
    learning_rate: float
    accuracy: float | None = None


def train_rates(job: Job, data: ImageData, options: Options, folder: Path | None) -> Trained:
    """Train with the learning rate, or once with each of several, leaving the weights of the best in the model.

    Args:
        job: What is trained.
        data: The training data, of which a part judges several learning rates.
        options: How to train.
        folder: Where log and state are kept; None keeps nothing.

    Raises:
        FloatingPointError: If the loss is no longer finite, of several learning rates for all of them.
    """
    rates = options.learning_rate
    if len(rates) == 1:
        return Trained(train_at(job, data, options, rates[0], folder), rates[0])
    part, held = holdout_split(data, options.holdout, options.seed)
    initial = copy.deepcopy(job.model.state_dict())
    best: tuple[Trained, dict[str, Tensor]] | None = None
    for rate in rates:
        job.model.load_state_dict(initial)
        tried = _try_rate(job, part, held, options, rate, None if folder is None else rate_folder(folder, rate))
        if tried is not None and (best is None or _accuracy_of(tried) > _accuracy_of(best[0])):
            best = tried, {k: v.detach().cpu().clone() for k, v in job.model.state_dict().items()}
    if best is None:
        raise FloatingPointError(
            f"training diverged at every learning rate ({', '.join(f'{rate:g}' for rate in rates)}): try smaller ones"
        )
    job.model.load_state_dict(best[1])
    return best[0]


def _try_rate(
    job: Job, part: ImageData, held: ImageData, options: Options, rate: float, folder: Path | None
) -> Trained | None:
    """Train with one of several learning rates and judge it; None if it diverged."""
    earlier = read_result(folder)
    try:
        if "diverged" in earlier:
            raise FloatingPointError(earlier["diverged"])
        history = train_at(job, part, options, rate, folder)
    except FloatingPointError as error:
        warnings.warn(f"learning rate {rate:g} is left out: {error}", stacklevel=5)
        write_result(folder, {"learning_rate": rate, "diverged": str(error)})
        return None
    accuracy = earlier["accuracy"] if "accuracy" in earlier else _accuracy(job, held, options)
    write_result(folder, {"learning_rate": rate, "accuracy": accuracy, "held_out_images": len(held)})
    return Trained(history, rate, accuracy)


def _accuracy_of(trained: Trained) -> float:
    return -1.0 if trained.accuracy is None else trained.accuracy


def _accuracy(job: Job, data: ImageData, options: Options) -> float:
    """Give the accuracy on data under the corruption of training, or under the noise that the options name."""
    corrupt = job.corrupt if options.judge_sigma is None else NoiseMixture((options.judge_sigma,)).add
    return count_right(job, data, options, corrupt) / len(data)
