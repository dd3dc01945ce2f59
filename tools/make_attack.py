"""Write the table and the figure of docs/attack.md from its record; with --check only compare the table.

Run it from anywhere: python tools/make_attack.py [--check]. The record is what examples/attack.py wrote.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pages import DOCS, EVIDENCE, write_or_check

from robust_hub.evidence.tables import set_rows

sys.path.append(str(DOCS.parent / "examples"))
from attack import bounds, violations

PAGE, FIGURE = DOCS / "attack.md", DOCS / "attack.png"
RECORD = EVIDENCE / "attack" / "resnet18s_ln_mixednoise.cifar10_e5.jsonl"


def read(record: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Read the settings and the rows, one an image and budget."""
    settings, *rows = (json.loads(line) for line in record.read_text().splitlines())
    return settings, rows


def curve(rows: Sequence[dict[str, Any]]) -> str:
    """Set both bounds of robust accuracy at each radius, and how many judgements were abstentions."""
    cells = []
    for budget, certified, standing in bounds(rows):
        here = [row for row in rows if row["budget"] == budget]
        unsure = sum(row["prediction"] == -1 for row in here)
        gap = f"{100 * (standing.value - certified.value):.0f} points"
        cells.append([f"{budget:g}", str(certified.n), certified.percent, standing.percent, gap, str(unsure)])
    return set_rows(["radius", "images", "certified", "under attack", "between", "abstentions"], cells)


def check(rows: Sequence[dict[str, Any]]) -> str:
    """Say how many attacks were made within the certified radius, and how many succeeded there."""
    inside = [row for row in rows if row["certified"] == row["label"] and 0 < row["budget"] <= row["radius"]]
    wrong = len(violations(rows))
    return f"{len(inside)} attacks had a budget within the certified radius; {wrong} succeeded at a distance below it."


def made(settings: dict[str, Any], images: int) -> str:
    """Word how the record was made."""
    packages = ", ".join(f"{name} {version}" for name, version in settings["versions"].items())
    return (
        f"Accuracies in percent of all images with Wilson 95 % intervals. `{settings['model']}` (weights "
        f"`{settings['weights'][:12]}`) in float32, sigma {settings['sigma']:g}; {images} images, every "
        f"{settings['every']}th test image of {settings['data']} from the first on. "
        f"Certificates: these radii, n = {settings['n']:,} at most, {settings.get('noise', 'float32')} noise. "
        f"Attacks: {settings['steps']} steps from {settings['restarts']} starts, m = {settings['m']}, judged by "
        f"{settings['judge']:,} samples. alpha = {settings['alpha']:g} each; seed {settings['seed']}; {packages}."
    )


def parts() -> dict[str, str]:
    """Make the parts of the page."""
    settings, rows = read(RECORD)
    images = len({row["index"] for row in rows})
    return {"curve": f"{curve(rows)}\n\n{made(settings, images)}", "check": check(rows)}


def draw(rows: Sequence[dict[str, Any]], out: Path) -> None:
    """Draw both bounds over the radius, with Wilson 95 % intervals and the range between them."""
    from matplotlib.figure import Figure

    radii, certified, standing = zip(*bounds(rows), strict=True)
    figure = Figure(figsize=(6, 4), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    middles = []
    for label, shares in (("under attack", standing), ("certified", certified)):
        middles.append([100 * share.value for share in shares])
        ends = [[100 * (s.value - s.low) for s in shares], [100 * (s.high - s.value) for s in shares]]
        axes.errorbar(
            radii, middles[-1], ends, fmt="o-", capsize=3, markersize=4, label=f"{label}, {shares[0].n} images"
        )
    axes.fill_between(radii, middles[0], middles[1], alpha=0.1, color="black", linewidth=0)
    axes.set(xlabel="l2 radius, pixels in [0, 1]", ylabel="accuracy (%)", xlim=(-0.03, None), ylim=(0, 100))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(out)


if __name__ == "__main__":
    write_or_check(PAGE, parts(), "tools/make_attack.py")
    if "--check" not in sys.argv[1:]:
        draw(read(RECORD)[1], FIGURE)
