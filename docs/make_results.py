"""Write docs/results.md from the records in docs/results; with --check only compare.

Run it from anywhere: python docs/make_results.py [--check]

The records come from `robust-hub reproduce`: copy `<out>/<scale>/certified` to docs/results/<scale>/certified.
"""

from __future__ import annotations

from pathlib import Path

from pages import write_or_check

from robust_hub.paper import TABLES
from robust_hub.recipes import SCALES
from robust_hub.reproduce import finished, results

HERE = Path(__file__).parent
PAGE, RECORDS = HERE / "results.md", HERE / "results"


def tables() -> str:
    """Set every table that has a finished row."""
    found = "\n".join(
        results(table, scale, RECORDS)
        for scale in SCALES.values()
        for table in TABLES.values()
        if any(finished(recipe, scale, RECORDS / scale.name) for recipe in table.recipes)
    )
    return found or "No row is finished yet."


if __name__ == "__main__":
    write_or_check(PAGE, {"records": tables()}, "docs/make_results.py")
