"""Write the finished trainings into docs/training-queue.md from the logs of model_cards; with --check only compare.

Run it from anywhere: python docs/make_queue.py [--check]
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median

from pages import write_or_check

from robust_hub.speed import SPEED
from robust_hub.tables import set_rows

HERE = Path(__file__).parent
PAGE, CARDS = HERE / "training-queue.md", HERE.parent / "model_cards"


def trainings() -> str:
    """Set every training that left its log, a line each."""
    header = ["checkpoint", "epochs", "images/s", "utilisation", "minutes", "training accuracy"]
    rows = []
    for log in sorted(CARDS.glob("*/training/log.jsonl")):
        epochs = [json.loads(line) for line in log.read_text().splitlines()]
        speed = log.with_name(SPEED)
        share = f"{100 * json.loads(speed.read_text())['utilisation']:.0f} %" if speed.exists() else "-"
        row = [
            f"`{log.parent.parent.name}`",
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
