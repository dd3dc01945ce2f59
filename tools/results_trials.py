"""What docs/results.md says beside the certified rows: trials of learning rates, batch norm's part, pretrainings.

The trials lie in docs/evidence, a line each; accuracies under noise and the log of a training with each checkpoint.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean
from typing import Any

from pages import EVIDENCE
from results_tables import trained_on

from robust_hub.evidence.accuracy import proportion
from robust_hub.evidence.tables import set_rows
from robust_hub.models.config import read_config
from robust_hub.models.shelves import checkpoint_folder, list_checkpoints
from robust_hub.provenance import CLEAN, Provenance
from robust_hub.publishing.evidence import UnderNoise
from robust_hub.publishing.evidence import under_noise as measured_under_noise

RATES = EVIDENCE / "fine_tuning_rates.jsonl"
LARGER_RATES = EVIDENCE / "fine_tuning_rates_h200.jsonl"
FLOWERS_RATES = EVIDENCE / "fine_tuning_rates_flowers102.jsonl"
BATCH_NORM = EVIDENCE / "batch_norm.jsonl"
MIXED = "mixed noise"
_ORDER = ("sigma", "norm", "pretrained", "pretraining_epochs", "head_only", "epochs", "learning_rate")


def rates(trials: Path = RATES, measured_on: str = "training images of CIFAR-10") -> str:
    """Set the trials of learning rates."""
    rows = sorted(_lines(trials), key=lambda row: [row[name] for name in _ORDER])
    header = ["norm", "pretrained on", "epochs", "fine-tuned on", "epochs", "features", "classifier", "clean"]
    lines = []
    for row in rows:
        cells = [
            row["norm"],
            trained_on(row["pretrained"]),
            str(row["pretraining_epochs"]),
            trained_on([row["sigma"]]),
            str(row["epochs"]),
            "fixed" if row["head_only"] else f"{row['learning_rate']:g}",
            f"{row['learning_rate'] * row['head_scale']:g}",
            *(f"{row[name]:.1f}" for name in ("clean", "noisy", "radius 0.25")),
        ]
        lines.append(cells)
    table = set_rows([*header, "under noise", "r = 0.25"], lines)
    return f"{table}\n\n{_images(rows)} held-out {measured_on}, one run each."


def trial(
    features: float | str,
    *,
    trials: Path = RATES,
    norm: str = "ln",
    pretrained: str = MIXED,
    pretraining_epochs: int = 14,
    tuned: str = "clean images",
    epochs: int = 1,
) -> dict[str, Any]:
    """Find one trial of a learning rate.

    Args:
        features: Rate of the features, "fixed" where only the classifier was trained.
        trials: A file of trials.
        norm: Norm of the network.
        pretrained: What it was pretrained on, in the words of the table.
        pretraining_epochs: Epochs of that.
        tuned: What it was fine-tuned on, in the words of the table.
        epochs: Epochs of that.

    Raises:
        ValueError: If not exactly one line is of such a trial.
    """
    asked = (features, norm, pretrained, pretraining_epochs, tuned, epochs)
    found = [row for row in _lines(trials) if _asked(row) == asked]
    if len(found) != 1:
        raise ValueError(f"expected one trial of {asked} in {trials.name}, got {len(found)}: name one of its lines")
    return found[0]


def votes(features: float | str, **asked: Any) -> float:
    """Give the percentage of held-out images with the votes of radius 0.25 in a trial, see `trial`."""
    return float(trial(features, **asked)["radius 0.25"])


def half_width(trials: Path = RATES) -> float:
    """Give how far the widest interval of the shares in a file of trials reaches to a side, in points."""
    pairs = [(row[name], row["images"]) for row in _lines(trials) for name in ("clean", "noisy", "radius 0.25")]
    intervals = [proportion(round(share * images / 100), images) for share, images in pairs]
    return max(50 * (one.high - one.low) for one in intervals)


def batch_norm() -> str:
    """Set what of clean fine-tuning costs a batch-norm network its robustness."""
    rows = _lines(BATCH_NORM)
    header = ["statistics of batch norm", "features", "clean", "under noise", "r = 0.25", "shift"]
    lines = []
    for row in rows:
        numbers = [f"{row[name]:.1f}" for name in ("clean", "noisy", "radius 0.25", "shift")]
        lines.append([row["statistics"], row["features"], *numbers])
    return f"{set_rows(header, lines)}\n\n{_images(rows)} held-out training images of CIFAR-10, one run each."


def statistics(words: str) -> dict[str, Any]:
    """Find the line of a way to take batch norm's statistics, in the words of the table."""
    (row,) = (row for row in _lines(BATCH_NORM) if row["statistics"] == words)
    return row


def under_noise() -> str:
    """Set what pretraining gives: accuracy on held-out images of the pretraining set under each noise."""
    rows = []
    for name in list_checkpoints():
        measured = _measured(name)
        if measured is None:
            continue
        training = training_of(name)
        values = list(measured.accuracies.values())
        cells = [f"`{name}`", trained_on(training.sigmas or CLEAN), str(training.epochs), measured.dtype]
        cells += [*(value.percent for value in values), f"{right_under_noise(name):.1f}"]
        rows.append((list(measured.accuracies), f"{values[0].n:,}", measured.data, cells))
    sigmas, images, data, _ = rows[0]
    assert all(row[:3] == (sigmas, images, data) for row in rows)
    columns = [f"sigma {sigma:g}" if sigma else "clean" for sigma in sigmas]
    header = ["checkpoint", "pretrained on", "epochs", "network in", *columns, "mean"]
    note = f"{images} validation images of {data}, percent with Wilson 95 % intervals, one draw of noise an image."
    return set_rows(header, [row[3] for row in rows]) + f"\n\n{note}"


def right_under_noise(name: str, sigma: float | None = None) -> float:
    """Give the percentage of validation images that a checkpoint gets right at a sigma, or the mean of all sigmas.

    Raises:
        ValueError: If nothing was measured of it.
    """
    measured = _measured(name)
    if measured is None:
        raise ValueError(f"expected accuracies under noise of {name}, got none: run tools/under_noise.py")
    chosen = [value for key, value in measured.accuracies.items() if sigma in (None, key)]
    return 100 * mean(value.value for value in chosen)


def training_of(name: str) -> Provenance:
    """Read how a checkpoint of the shelf came about."""
    folder = checkpoint_folder(name)
    assert folder is not None, f"{name} is not on the shelf"
    return read_config(folder).provenance or Provenance()


def training_accuracy(name: str) -> float:
    """Give the percentage that the last epoch of a checkpoint's training got right."""
    return 100 * float(training_of(name).history[-1]["accuracy"])


def minutes(name: str) -> float:
    """Give how long a checkpoint's training took, in minutes."""
    return sum(float(epoch["seconds"]) for epoch in training_of(name).history) / 60


def _measured(name: str) -> UnderNoise | None:
    folder = checkpoint_folder(name)
    return None if folder is None else measured_under_noise(folder)


def _asked(row: dict[str, Any]) -> tuple[float | str, str, str, int, str, int]:
    features = "fixed" if row["head_only"] else row["learning_rate"]
    pretrained, tuned = trained_on(row["pretrained"]), trained_on([row["sigma"]])
    return features, row["norm"], pretrained, row["pretraining_epochs"], tuned, row["epochs"]


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _images(rows: list[dict[str, Any]]) -> str:
    return ", ".join(str(images) for images in {row["images"] for row in rows})
