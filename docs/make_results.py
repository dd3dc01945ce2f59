"""Write docs/results.md from the records in docs/results; with --check only compare.

Run it from anywhere: python docs/make_results.py [--check]

The records come from `robust-hub reproduce`: copy `<out>/<scale>/certified` to docs/results/<scale>/certified. The
lines of docs/evidence/fine_tuning_rates.jsonl come from docs/compare_rates.py, those of batch_norm.jsonl from
docs/batch_norm.py.
"""

from __future__ import annotations

import json
from pathlib import Path

from pages import write_or_check

from robust_hub.paper import TABLES
from robust_hub.recipes import SCALES
from robust_hub.reproduce import finished, results

HERE = Path(__file__).parent
PAGE, RECORDS = HERE / "results.md", HERE / "results"
RATES = HERE / "evidence" / "fine_tuning_rates.jsonl"
BATCH_NORM = HERE / "evidence" / "batch_norm.jsonl"


def tables() -> str:
    """Set every table that has a finished row."""
    found = "\n".join(
        results(table, scale, RECORDS)
        for scale in SCALES.values()
        for table in TABLES.values()
        if any(finished(recipe, scale, RECORDS / scale.name) for recipe in table.recipes)
    )
    return found or "No row is finished yet."


def rates() -> str:
    """Set the trials of learning rates."""
    rows = [json.loads(line) for line in RATES.read_text().splitlines()]
    rows.sort(key=lambda row: (row["sigma"], row["norm"], row["head_only"], row["epochs"], row["learning_rate"]))
    lines = [
        "| norm | pretrained on | fine-tuned on | epochs | features | classifier | clean | under noise | r = 0.25 |"
    ]
    lines.append("|" + "---|" * lines[0].count(" | ") + "---|")
    for row in rows:
        head = row["learning_rate"] * row["head_scale"]
        cells = [
            row["norm"],
            "clean images" if row["pretrained"] == [0.0] else "mixed noise",
            f"sigma {row['sigma']:g}" if row["sigma"] else "clean images",
            row["epochs"],
            "fixed" if row["head_only"] else f"{row['learning_rate']:g}",
            f"{head:g}",
            *(f"{row[name]:.1f}" for name in ("clean", "noisy", "radius 0.25")),
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    images = {row["images"] for row in rows}
    return "\n".join(lines) + f"\n\n{', '.join(map(str, images))} held-out training images of CIFAR-10, one run each."


def batch_norm() -> str:
    """Set what of clean fine-tuning costs a batch-norm network its robustness."""
    rows = [json.loads(line) for line in BATCH_NORM.read_text().splitlines()]
    header = ["statistics of batch norm", "features", "clean", "under noise", "r = 0.25", "shift"]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for row in rows:
        numbers = [f"{row[name]:.1f}" for name in ("clean", "noisy", "radius 0.25", "shift")]
        lines.append("| " + " | ".join([row["statistics"], row["features"], *numbers]) + " |")
    images = {row["images"] for row in rows}
    return "\n".join(lines) + f"\n\n{', '.join(map(str, images))} held-out training images of CIFAR-10, one run each."


if __name__ == "__main__":
    write_or_check(PAGE, {"records": tables(), "rates": rates(), "batch norm": batch_norm()}, "docs/make_results.py")
