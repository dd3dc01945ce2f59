"""Draw the picture of docs/index.md from records and write its caption; with --check only compare the caption.

Run it from anywhere: python tools/make_home.py [--check]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from make_choose import radius_of, runs_of
from make_read import CERTIFIED, RUN, class_names, network_of, record_of, votes_of
from pages import DOCS, down, write_or_check

from robust_hub.evidence.accuracy import certified_accuracy
from robust_hub.evidence.record import Record
from robust_hub.evidence.records import read_run

PAGE, FIGURE = DOCS / "index.md", DOCS / "certificate.png"
RADII = (0.0, 0.25, 0.5, 0.75, 1.0)


def caption() -> str:
    """Say what the picture shows."""
    run, names = read_run(RUN), class_names()
    record = record_of(run, CERTIFIED)
    first = runs_of()[0]
    share = certified_accuracy(first.records, 0.25)
    count, n, _ = votes_of(record)
    return (
        f"*Left: {count:,} of {n:,} noisy copies of one photograph (noise of sigma {record.sigma:g}) are called "
        f"{names[record.predict]} by {network_of(run)}. "
        f"Middle: that share of the votes makes a radius of {down(record.radius, 2)}. "
        f"Right: the share of {share.n} CIFAR-10 test images that are classified correctly and certified at least so "
        f"far by {network_of(first)}: {share.percent} % at radius 0.25 and sigma {first.sigma:g}. [Read a certificate]"
        "(read-a-certificate.md) has the same image in words.*"
    )


def draw(out: Path) -> None:
    """Draw votes, what they certify, and what is certified of a test set."""
    from matplotlib.figure import Figure

    record = record_of(read_run(RUN), CERTIFIED)
    figure = Figure(figsize=(10.5, 3.4), dpi=150, layout="constrained")
    votes, radius, accuracy = figure.subplots(1, 3)
    _draw_votes(votes, record)
    _draw_radius(radius, record)
    for run in runs_of():
        shares = [100 * certified_accuracy(run.records, r).value for r in RADII]
        accuracy.plot(RADII, shares, "o:", markersize=4, label=f"sigma {run.sigma:g}")
    accuracy.set(xlabel="radius", ylabel="test images (%)", ylim=(0, 100))
    accuracy.set_title("right and certified so far", fontsize=10)
    accuracy.legend(fontsize=8)
    accuracy.grid(alpha=0.3)
    figure.savefig(out)


def _draw_votes(axes: Any, record: Record) -> None:
    names, (_, n, _) = class_names(), votes_of(record)
    ordered = sorted(record.counts or (), key=lambda pair: -pair[1])[:4]
    bars = axes.barh([names[label] for label, _ in ordered], [count for _, count in ordered])
    axes.bar_label(bars, [f"{count:,}" for _, count in ordered], padding=3, fontsize=8)
    axes.set(xlim=(0, 1.25 * n), xlabel="votes")
    axes.invert_yaxis()
    axes.set_title(f"{n:,} noisy copies vote", fontsize=10)


def _draw_radius(axes: Any, record: Record) -> None:
    count, n, _ = votes_of(record)
    assert record.sigma is not None
    shares = np.linspace(0.5, 1, 301)
    axes.plot(100 * shares, [radius_of(share, n, record.sigma) for share in shares])
    point = (100 * count / n, record.radius)
    axes.plot(*point, "o")
    axes.annotate(
        f"radius {down(record.radius, 2)}",
        point,
        xytext=(-8, 0),
        textcoords="offset points",
        ha="right",
        fontsize=9,
    )
    axes.set(xlabel="share of the votes (%)", ylabel="certified radius", ylim=(0, None))
    axes.set_title("what they certify", fontsize=10)
    axes.grid(alpha=0.3)


def parts() -> dict[str, str]:
    """Make the page's part."""
    return {"caption": caption()}


if __name__ == "__main__":
    if "--check" not in sys.argv[1:]:
        draw(FIGURE)
    write_or_check(PAGE, parts(), "tools/make_home.py")
