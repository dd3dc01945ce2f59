"""Write docs/results.md from the records in docs/results; with --check only compare.

Run it from anywhere: python docs/make_results.py [--check]

The records come from `robust-hub reproduce`: copy `<out>/<scale>/certified` to docs/results/<scale>/certified.
"""

from __future__ import annotations

import sys
from pathlib import Path

from robust_hub.paper import TABLES
from robust_hub.recipes import SCALES
from robust_hub.reproduce import finished, results

HERE = Path(__file__).parent
PAGE, RECORDS = HERE / "results.md", HERE / "results"
START, END = "<!-- records -->", "<!-- end of records -->"


def tables() -> str:
    """Set every table that has a finished row."""
    found = "\n".join(
        results(table, scale, RECORDS)
        for scale in SCALES.values()
        for table in TABLES.values()
        if any(finished(recipe, scale, RECORDS / scale.name) for recipe in table.recipes)
    )
    return found or "No row is finished yet."


def page(text: str) -> str:
    """Put the tables between the page's two marks."""
    before, rest = text.split(START)
    return before + START + "\n" + tables().strip() + "\n" + END + rest.split(END)[1]


if __name__ == "__main__":
    old = PAGE.read_text()
    new = page(old)
    if "--check" in sys.argv[1:]:
        raise SystemExit(0 if new == old else "docs/results.md is not what its records say: run docs/make_results.py")
    PAGE.write_text(new)
