"""Write into docs/own-data.md how long README's commands took, and a network of photographs; --check only compares.

Run it from anywhere: python tools/make_own_data.py [--check]. The times are a record of tools/time_newcomer.py; the
network and its records are the shelf's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pages import DOCS, write_or_check
from time_newcomer import RECORD

from robust_hub.evidence.tables import markdown_table, set_rows
from robust_hub.publishing.evidence import read_evidence

PAGE = DOCS / "own-data.md"
RADIUS = 0.25  # of the certified accuracy that is told
PHOTOGRAPHS = "resnet18s_ln_mixednoise.tin_e42_clothing"


def times(record: Mapping[str, Any]) -> str:
    """Set the commands with their times, and say of what they were and what came of them."""
    rows = [[f"`{one['command']}`", _spent(one["seconds"])] for one in record["commands"]]
    total = sum(one["seconds"] for one in record["commands"])
    rows.append(["together", _spent(total)])
    results = "; ".join(_result(run) for run in record["report"]["runs"])
    return (
        f"README's commands, one after another in a fresh clone and environment, with {record['images']:,} small "
        f"photographs of {record['classes']} classes, on {record['cpus']} CPUs with {record['instructions']} and "
        f"without an accelerator (torch {record['torch'].split('+')[0]}):\n\n"
        + set_rows(["command", "time"], rows)
        + f"\n\nWhat came of them, in percent of the held-out images with 95 % intervals: {results}. "
        f"`robust-hub --help` takes {record['help_s']:.2f} s."
    )


def _spent(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _result(run: Mapping[str, Any]) -> str:
    (certified,) = (one["accuracy"] for one in run["certified"] if one["radius"] == RADIUS)
    return (
        f"at sigma {run['sigma']:g} {_percent(certified)} right and certified at radius {RADIUS:g}, "
        f"{_percent(run['clean'])} right on clean images ({run['images']:,} images, n = {run['n']:,})"
    )


def _percent(accuracy: Mapping[str, float]) -> str:
    value, low, high = (100 * accuracy[name] for name in ("value", "low", "high"))
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"


def network(name: str) -> str:
    """Say what a network of the shelf is, and set its accuracies."""
    evidence = read_evidence(name)
    training, run = evidence.provenance, evidence.runs[0]
    return (
        f"`{name}` ([card](../model_cards/{name}/README.md)) was made so of {training.images:,} photographs in "
        f"{training.epochs} epochs, and certified on the {len(run.records)} test images with n = "
        f"{run.identity['n']:,} in {run.identity['dtype']}:\n\n{markdown_table(evidence.runs)}"
    )


def parts() -> dict[str, str]:
    """Make every part of the page."""
    return {"times": times(json.loads(RECORD.read_text())), "photographs": network(PHOTOGRAPHS)}


if __name__ == "__main__":
    write_or_check(PAGE, parts(), "tools/make_own_data.py")
