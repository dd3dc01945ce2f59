"""Write the figures of docs/throughput.md from the records beside it; with --check only compare.

Run it from anywhere: python docs/make_throughput.py [--check]
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

from pages import write_or_check

from robust_hub.accuracy import proportion
from robust_hub.bench import markdown

HERE = Path(__file__).parent
PAGE = HERE / "throughput.md"
BENCH = HERE / "evidence" / "bench"
COMPARED = HERE / "evidence" / "compared_plans.jsonl"
RUNS = ("float32", "float32_compiled", "float32_same_batch", "bfloat16", "bfloat16_compiled")


def bench() -> str:
    """Set each run of the bench."""
    return "\n".join(markdown(json.loads((BENCH / f"{name}.json").read_text())) for name in RUNS)


def plans() -> str:
    """Set the fixed budget beside the sequential plan, on the same images."""
    told, *rows = (json.loads(line) for line in COMPARED.read_text().splitlines())
    lines = ["| | samples an image | seconds an image | " + " | ".join(f"r = {r:g}" for r in told["radii"]) + " |"]
    lines.append("|---" * (3 + len(told["radii"])) + "|")
    for name in ("fixed", "sequential"):
        found = [row[name] for row in rows]
        cells = [f"{_mean(found, 'samples'):,.0f}", f"{_mean(found, 'seconds'):.3f}"]
        cells += [_share([_right(row, name, radius) for row in rows]) for radius in told["radii"]]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    gaps = [
        sum(_right(row, "fixed", radius) - _right(row, "sequential", radius) for row in rows) / len(rows)
        for radius in told["radii"]
    ]
    worst = 100 * max(gaps, key=abs)
    spent = [sum(row[name]["seconds"] for row in rows) for name in ("fixed", "sequential")]
    used = [sum(row[name]["samples"] for row in rows) for name in ("fixed", "sequential")]
    middle = [median(row[name]["samples"] for row in rows) for name in ("fixed", "sequential")]
    threads = "one thread" if told["threads"] == 1 else f"{told['threads']} threads"
    return "\n".join(
        [
            *lines,
            "",
            f"{len(rows)} CIFAR-10 test images, sigma {told['sigma']:g}, n = {told['fixed']['n']:,}, alpha = "
            f"{told['fixed']['alpha']:g}, {told['dtype']}, {threads}, percent with Wilson 95 % intervals. The fixed "
            f"plan takes {used[0] / used[1]:.1f} times the samples (median image: {middle[0] / middle[1]:.1f} times) "
            f"and {spent[0] / spent[1]:.1f} times the time of the sequential plan; the largest difference between two "
            f"accuracies, fixed minus sequential, is {worst:+.1f} points.",
        ]
    )


def _right(row: dict[str, Any], plan: str, radius: float) -> bool:
    return row[plan]["predict"] == row["label"] and row[plan]["radius"] >= radius


def _mean(found: list[dict[str, Any]], what: str) -> float:
    return sum(one[what] for one in found) / len(found)


def _share(right: list[bool]) -> str:
    return proportion(sum(right), len(right)).percent


if __name__ == "__main__":
    write_or_check(PAGE, {"records": bench(), "plans": plans()}, "docs/make_throughput.py")
