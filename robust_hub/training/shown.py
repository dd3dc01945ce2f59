"""A training on one line, and what a notebook shows of it: its epochs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from robust_hub.markup import block, note, rows

if TYPE_CHECKING:  # results show themselves by what stands here
    from robust_hub.training.train import TrainResult

_NAMES = ("epoch", "lr", "loss", "accuracy", "images_per_s", "seconds")
_EPOCHS = 10


def result_line(result: TrainResult) -> str:
    """Say a training on one line; loss and accuracy are of the last epoch."""
    last = result.history[-1] if result.history else {}
    figures = "".join(f", {name}={last[name]:.3f}" for name in ("loss", "accuracy") if name in last)
    judged = result.judged
    held = "" if judged is None else f", held_out={judged.clean.value:.3f}, under_noise={judged.noisy.value:.3f}"
    place = "" if result.folder is None else f", {str(result.folder)!r}"
    epochs = f"{len(result.history)} epoch{'' if len(result.history) == 1 else 's'}"
    return f"TrainResult({type(result.model).__name__}, {epochs}{figures}{held}{place})"


def result_html(result: TrainResult) -> str:
    """Show the last epochs of a training."""
    history = result.history[-_EPOCHS:]
    names = [name for name in _NAMES if history and name in history[-1]]
    lines = [[_figure(row.get(name)) for name in names] for row in history]
    below = f"The last {_EPOCHS} of {len(result.history)} epochs. " if len(result.history) > _EPOCHS else ""
    below += "Loss and accuracy are of the training images."
    judged = "" if result.judged is None else note(result.judged.words)
    return block(result_line(result), rows(names, lines), note(below), judged)


def _figure(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
