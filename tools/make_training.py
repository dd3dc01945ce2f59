"""Write what is missing and what finished trainings took into docs/training.md; with --check only compare.

Run it from anywhere: python tools/make_training.py [--check]
"""

from __future__ import annotations

import json
import re
from statistics import median

from pages import DOCS, write_or_check

from robust_hub.evidence.tables import set_rows
from robust_hub.layout import SPEED, TRAINING
from robust_hub.models.config import read_config
from robust_hub.models.shelves import checkpoint_folder, list_checkpoints
from robust_hub.paper.experiment import Experiment
from robust_hub.paper.recorded import read_recorded
from robust_hub.paper.rows import SCALES
from robust_hub.paper.tables import TABLES
from robust_hub.provenance import Provenance

PAGE = DOCS / "training.md"
DATA = ("cifar10", "cifar100")  # rows on other data sets are all missing: they need the data
# The tables of a scale that are wanted; small42 is there to see what longer pretraining does to the norms.
WANTED = {"small": tuple(TABLES), "small42": ("table6",), "h200": tuple(TABLES)}


def missing() -> str:
    """Set the rows that have no record, a line a scale and table."""
    rows = []
    for name, tables in WANTED.items():
        for table in (TABLES[table] for table in tables if table.startswith("table")):
            rest = [row for row in table.rows if row.dataset in DATA]
            waiting = [row.label for row in rest if not read_recorded(Experiment(row, SCALES[name])).runs]
            if waiting:
                rows.append([f"`{name}`", table.name, "; ".join(waiting)])
    return set_rows(["scale", "table", "rows"], rows)


def trainings() -> str:
    """Set the last training of every checkpoint, a line each."""
    header = ["checkpoint", "on", "epochs", "images/s", "utilisation", "minutes", "training accuracy"]
    rows = []
    for name in list_checkpoints():
        folder = checkpoint_folder(name)
        assert folder is not None
        training = read_config(folder).provenance or Provenance()
        epochs = training.history
        speed = folder / TRAINING / SPEED
        share = f"{100 * json.loads(speed.read_text())['utilisation']:.0f} %" if speed.exists() else "-"
        row = [
            f"`{name}`",
            _machine(training),
            str(epochs[-1]["epoch"]),
            f"{median(epoch['images_per_s'] for epoch in epochs):,.0f}",
            share,
            f"{sum(epoch['seconds'] for epoch in epochs) / 60:.0f}",
            f"{100 * epochs[-1]['accuracy']:.1f} %",
        ]
        rows.append(row)
    return set_rows(header, rows)


def _machine(training: Provenance) -> str:
    """Name the accelerator of a training, the last word of its note `computed_with`."""
    match = re.search(r"NVIDIA (\w+)$", str(training.notes.get("computed_with", "")))
    return match.group(1) if match else "CPU"


def parts() -> dict[str, str]:
    """Make every part of the page."""
    return {"missing": missing(), "trainings": trainings()}


if __name__ == "__main__":
    write_or_check(PAGE, parts(), "tools/make_training.py")
