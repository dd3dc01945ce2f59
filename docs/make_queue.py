"""Write the finished trainings into docs/training-queue.md from what checkpoints say; with --check only compare.

Run it from anywhere: python docs/make_queue.py [--check]
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median

from pages import write_or_check

from robust_hub.checkpoint import read_config
from robust_hub.models import checkpoint_folder, list_checkpoints
from robust_hub.shelf import TRAINING
from robust_hub.speed import SPEED
from robust_hub.tables import set_rows

HERE = Path(__file__).parent
PAGE = HERE / "training-queue.md"


def trainings() -> str:
    """Set the last training of every checkpoint, a line each."""
    header = ["checkpoint", "epochs", "images/s", "utilisation", "minutes", "training accuracy"]
    rows = []
    for name in list_checkpoints():
        folder = checkpoint_folder(name)
        assert folder is not None
        epochs = read_config(folder)["robust_hub"]["recipe"]["history"]
        speed = folder / TRAINING / SPEED
        share = f"{100 * json.loads(speed.read_text())['utilisation']:.0f} %" if speed.exists() else "-"
        row = [
            f"`{name}`",
            str(epochs[-1]["epoch"]),
            f"{median(epoch['images_per_s'] for epoch in epochs):.0f}",
            share,
            f"{sum(epoch['seconds'] for epoch in epochs) / 60:.0f}",
            f"{100 * epochs[-1]['accuracy']:.1f} %",
        ]
        rows.append(row)
    return set_rows(header, rows)


if __name__ == "__main__":
    write_or_check(PAGE, {"trainings": trainings()}, "docs/make_queue.py")
