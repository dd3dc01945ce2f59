"""Write the tables of docs/small-checkpoint.md from the records beside it; with --check only compare.

Run it from anywhere: python docs/make_tables.py [--check]
"""

from __future__ import annotations

import sys
from pathlib import Path

from robust_hub.accuracy import certified_accuracy, clean_accuracy, markdown_table
from robust_hub.records import read_run

HERE = Path(__file__).parent
PAGE = HERE / "small-checkpoint.md"
ROWS = {
    "mixed noise, full network": "mixed_full",
    "clean, full network": "clean_full",
    "mixed noise, head only": "mixed_head",
    "clean, head only": "clean_head",
}
START, END = "<!-- records -->", "<!-- end of records -->"


def tables() -> str:
    """Make the table of all runs and the differences between the two pretrainings."""
    runs = {label: read_run(HERE / "evidence" / folder / "sigma_0.25") for label, folder in ROWS.items()}
    unfinished = [label for label, run in runs.items() if not run.finished]
    if unfinished:
        raise SystemExit(f"unfinished runs: {', '.join(unfinished)}")
    table = markdown_table({label: run.records for label, run in runs.items()})
    lines = [
        "",
        "| fine-tuned | certified at 0.25, mixed minus clean | clean accuracy, mixed minus clean |",
        "|---|---|---|",
    ]
    for kind in ("full network", "head only"):
        pair = [runs[f"{pretrained}, {kind}"].records for pretrained in ("mixed noise", "clean")]
        robust = [100 * certified_accuracy(records, 0.25).value for records in pair]
        clean = [100 * share.value for records in pair if (share := clean_accuracy(records)) is not None]
        lines.append(f"| {kind} | {robust[0] - robust[1]:+.1f} points | {clean[0] - clean[1]:+.1f} points |")
    return "\n".join([table, *lines])


def page(text: str) -> str:
    """Put the tables between the page's two marks."""
    before, rest = text.split(START)
    return before + START + "\n" + tables().strip() + "\n" + END + rest.split(END)[1]


if __name__ == "__main__":
    old = PAGE.read_text()
    new = page(old)
    if "--check" in sys.argv[1:]:
        raise SystemExit(
            0 if new == old else "docs/small-checkpoint.md is not what its records say: run docs/make_tables.py"
        )
    PAGE.write_text(new)
