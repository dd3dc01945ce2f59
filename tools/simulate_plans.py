"""Measure what plans cost and what they leave of a table, on probabilities recovered from published certification logs.

Run it with a folder of logs in the format of Cohen et al. 2019: python tools/simulate_plans.py LOGS
It writes docs/evidence/plans.json and the table of docs/statistics.md; with --check it only compares the two.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from pages import DOCS, EVIDENCE, write_or_check
from scipy.stats import norm

from robust_hub.evidence.records import Run, read_run
from robust_hub.guarantee.bounds import lower_confidence_bound
from robust_hub.guarantee.plans import Plan, closed_form_plan, fixed_plan, radius_plan, sequential_plan

PAGE = DOCS / "statistics.md"
RECORD = EVIDENCE / "plans.json"
N, ALPHA, IMAGES = 100_000, 0.001, 5000
GRIDS = {
    ("cifar10", 0.12): (0.25,),
    ("cifar10", 0.25): (0.25, 0.5, 0.75, 1.0),
    ("cifar10", 0.5): (0.25, 0.5, 0.75, 1.0),
    ("cifar10", 1.0): (0.25, 0.5, 0.75, 1.0),
    ("imagenet", 0.25): (0.5, 1.0),
    ("imagenet", 0.5): (0.5, 1.0, 1.5),
    ("imagenet", 1.0): (0.5, 1.0, 2.0, 3.0),
}


def probabilities(run: Run, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Recover p_A of each image from its radius, and whether its class is right.

    Unanimous images say no more than a bound: theirs is drawn between 1 - 5e-6 and 1 - 1e-8, evenly on a log scale.
    Those that abstained are drawn evenly from 0.2 to 0.5.
    """
    sigma, radii = run.sigma, np.array([record.radius for record in run.records])
    assert sigma is not None
    bounds = norm.cdf(radii / sigma)
    p = np.minimum(bounds + norm.isf(ALPHA) * np.sqrt(bounds * (1 - bounds) / N), 1.0)
    full = lower_confidence_bound(N, N, 0.01)  # most of these logs were made at alpha = 0.01
    unanimous = bounds >= full - 1e-5
    p[unanimous] = 1 - np.exp(generator.uniform(np.log(1e-8), np.log(5e-6), unanimous.sum()))
    abstained = np.array([record.predict == -1 for record in run.records])
    p[abstained] = generator.uniform(0.2, 0.5, abstained.sum())
    return p, np.array([bool(record.correct) for record in run.records])


def certify(plan: Plan, sigma: float, p: float, generator: np.random.Generator) -> tuple[float, int]:
    """Lead one image through a plan; give its radius for the right class, and its samples."""
    course = plan.course(sigma)
    seen: dict[str, tuple[int, np.ndarray]] = {}
    looks = next(course)
    try:
        while True:
            for look in looks:
                before, votes = seen.get(look.purpose, (0, np.zeros(3, dtype=np.int64)))
                rest = (1 - p) / 2
                seen[look.purpose] = look.upto, votes + generator.multinomial(look.upto - before, [p, rest, rest])
            looks = course.send([seen[look.purpose][1] for look in looks])
    except StopIteration as end:
        return end.value.radius if end.value.prediction == 0 else 0.0, end.value.samples


def plans(grid: tuple[float, ...], sigma: float) -> dict[str, Plan]:
    """Give the plans that are compared, the fixed one first."""
    return {
        "fixed": fixed_plan(100, N, ALPHA),
        "sequential": sequential_plan(grid, N, ALPHA),
        "sequential with radius 0": sequential_plan((0.0, *grid), N, ALPHA),
        "sequential, n = 10,000": sequential_plan(grid, 10_000, ALPHA),
        "closed form": closed_form_plan(grid, N, ALPHA),
        "radius, tol 0.05 sigma": radius_plan(0.05 * sigma, None, N, ALPHA),
        "radius, tol 0.05 sigma, max 2 sigma": radius_plan(0.05 * sigma, 2 * sigma, N, ALPHA),
    }


def simulate(logs: Path) -> list[dict[str, Any]]:
    """Give one row a log and plan: mean samples, and the largest change of a cell of its table in points."""
    rows = []
    for log in sorted(logs.glob("cohen2019__*__test__*.tsv")):
        run = read_run(log)
        name = log.name.split("__")[1]
        noise = float(log.name.split("noise_")[1].split("__")[0])
        if noise == run.sigma and (name, noise) in GRIDS:
            rows += simulate_log(log.stem, run, GRIDS[name, noise])
    return rows


def simulate_log(log: str, run: Run, grid: tuple[float, ...]) -> list[dict[str, Any]]:
    """Give the rows of one log, a plan each."""
    sigma = float(run.sigma or 0)
    generator = np.random.default_rng(0)
    p, right = probabilities(run, generator)
    chosen = generator.integers(0, len(p), IMAGES)
    rows: list[dict[str, Any]] = []
    whole = np.zeros(0)
    for label, plan in plans(grid, sigma).items():
        results = [certify(plan, sigma, float(p[i]), generator) for i in chosen]
        samples = [count for _, count in results]
        radii = np.array([radius if right[i] else -1.0 for (radius, _), i in zip(results, chosen, strict=True)])
        whole = np.maximum(radii, 0) if label == "fixed" else whole
        most = getattr(plan, "max_radius", None) or np.inf  # no radius above it is asked for
        lost = float(np.mean(np.minimum(whole, most) - np.minimum(np.maximum(radii, 0), most))) / sigma
        accuracy = [100 * float((radii >= radius).mean()) for radius in grid]
        fixed = rows[0]["accuracy"] if rows else accuracy
        change = [a - b for a, b in zip(accuracy, fixed, strict=True)]
        row: dict[str, Any] = {"log": log, "plan": label, "images": IMAGES}
        row |= {"samples": float(np.mean(samples)), "median": float(np.median(samples)), "radii": list(grid)}
        rows.append(row | {"accuracy": accuracy, "change": change, "lost": lost})
        print(log, label, round(row["samples"]), [round(c, 2) for c in change], flush=True)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Set the means over all logs, one line a plan."""
    lines = [
        "| plan | samples an image, mean | saving | change of a cell, mean | worst | radius lost, mean |",
        "|---|---|---|---|---|---|",
    ]
    fixed = np.mean([row["samples"] for row in rows if row["plan"] == "fixed"])
    for label in dict.fromkeys(row["plan"] for row in rows):
        mine = [row for row in rows if row["plan"] == label]
        samples = np.mean([row["samples"] for row in mine])
        changes = [change for row in mine for change in row["change"]]
        worst = min(changes, key=lambda change: -abs(change))
        cells = f"{np.mean(changes):+.2f} points | {worst:+.2f}" if "radius, tol" not in label else "- | -"
        lost = f"{np.mean([row['lost'] for row in mine]):.3f} sigma" if "radius, tol" in label else "-"
        lines.append(f"| {label} | {samples:,.0f} | {fixed / samples:.1f} | {cells} | {lost} |")
    logs = {row["log"]: row["images"] for row in rows}
    count = sum(len(row["radii"]) for row in rows if row["plan"] == "fixed")
    note = f"{len(logs)} logs, {next(iter(logs.values())):,} images drawn from each, {count} cells; alpha = {ALPHA}."
    return "\n".join([*lines, "", note])


def parts() -> dict[str, str]:
    """Make every part of the page."""
    return {"plans": table(json.loads(RECORD.read_text()))}


if __name__ == "__main__":
    for folder in set(sys.argv[1:]) - {"--check"}:
        RECORD.write_text(json.dumps(simulate(Path(folder)), indent=1) + "\n")
    write_or_check(PAGE, parts(), "tools/simulate_plans.py")
