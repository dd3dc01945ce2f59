"""Write the figures of docs/throughput.md from the records in docs/evidence; with --check only compare.

Run it from anywhere: python tools/make_throughput.py [--check]
"""

from __future__ import annotations

import json
from statistics import median
from typing import Any

from pages import DOCS, EVIDENCE, write_or_check

from robust_hub.certification.bench import markdown
from robust_hub.evidence.accuracy import proportion
from robust_hub.training import bench as training

PAGE = DOCS / "throughput.md"
BENCH = EVIDENCE / "bench"
COMPARED = EVIDENCE / "compared_plans.jsonl"
RUNS = ("float32", "float32_compiled", "float32_same_batch", "bfloat16", "bfloat16_compiled")


def bench() -> str:
    """Set each run of the bench."""
    return "\n".join(markdown(json.loads((BENCH / f"{name}.json").read_text())) for name in RUNS)


def batches() -> str:
    """Set the run of the bench with several batch sizes of the plain loop."""
    return markdown(json.loads((BENCH / "float32_plain_batches.json").read_text()))


def train(record: str) -> str:
    """Set the bench of training."""
    return training.markdown(json.loads((BENCH / record).read_text()))


def plans() -> str:
    """Set the fixed budget beside the sequential plan, on the same images."""
    settings, *rows = (json.loads(line) for line in COMPARED.read_text().splitlines())
    lines = ["| | samples an image | seconds an image | " + " | ".join(f"r = {r:g}" for r in settings["radii"]) + " |"]
    lines.append("|---" * (3 + len(settings["radii"])) + "|")
    for name in ("fixed", "sequential"):
        results = [row[name] for row in rows]
        cells = [f"{_mean(results, 'samples'):,.0f}", f"{_mean(results, 'seconds'):.3f}"]
        cells += [_share([_right(row, name, radius) for row in rows]) for radius in settings["radii"]]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    gaps = [
        sum(_right(row, "fixed", radius) - _right(row, "sequential", radius) for row in rows) / len(rows)
        for radius in settings["radii"]
    ]
    worst = 100 * max(gaps, key=abs)
    spent = [sum(row[name]["seconds"] for row in rows) for name in ("fixed", "sequential")]
    used = [sum(row[name]["samples"] for row in rows) for name in ("fixed", "sequential")]
    middle = [median(row[name]["samples"] for row in rows) for name in ("fixed", "sequential")]
    threads = "one thread" if settings["threads"] == 1 else f"{settings['threads']} threads"
    return "\n".join(
        [
            *lines,
            "",
            f"{len(rows)} CIFAR-10 test images, sigma {settings['sigma']:g}, n = {settings['fixed']['n']:,}, alpha = "
            f"{settings['fixed']['alpha']:g}, {settings['dtype']}, {threads}, percent with Wilson 95 % intervals. The "
            f"fixed plan takes {used[0] / used[1]:.1f} times the samples (median image: {middle[0] / middle[1]:.1f} "
            f"times) and {spent[0] / spent[1]:.1f} times the time of the sequential plan; the largest difference "
            f"between two accuracies, fixed minus sequential, is {worst:+.1f} points.",
        ]
    )


def _right(row: dict[str, Any], plan: str, radius: float) -> bool:
    return bool(row[plan]["predict"] == row["label"] and row[plan]["radius"] >= radius)


def _mean(results: list[dict[str, Any]], name: str) -> float:
    total: float = sum(result[name] for result in results)
    return total / len(results)


def _share(right: list[bool]) -> str:
    return proportion(sum(right), len(right)).percent


def parts() -> dict[str, str]:
    """Make every part of the page."""
    trainings = {"training": train("train.json"), "slower": train("train_slower.json")}
    return {"records": bench(), "batches": batches(), "plans": plans(), **trainings}


if __name__ == "__main__":
    write_or_check(PAGE, parts(), "tools/make_throughput.py")
