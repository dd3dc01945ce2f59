"""Certify the same images with a fixed budget and with a sequential plan, in turn in one process, and keep both.

python tools/compare_plans.py MODEL DATA OUT.jsonl [--n 20000] [--every 20] [--start 0]

The first line of OUT says what was compared, each further line is one image. Given again, it goes on where it stopped.
tools/make_throughput.py sets the result in docs/throughput.md.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click
import torch

from robust_hub import SmoothedClassifier, load_data, load_model
from robust_hub.certification.matching import match
from robust_hub.guarantee.plans import RADII as PAPER_RADII
from robust_hub.guarantee.plans import Plan, fixed_plan, sequential_plan
from robust_hub.models.identity import weights_hash

RADII = (0.0, *PAPER_RADII)
TURN = 10  # images that one plan certifies before the other does


@click.command()
@click.argument("model")
@click.argument("data")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--n", default=20_000, show_default=True)
@click.option("--every", default=20, show_default=True)
@click.option("--start", default=0, show_default=True, help="First index: the lines of several processes are one file.")
@click.option("--sigma", default=0.25, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(model: str, data: str, out: Path, n: int, every: int, start: int, sigma: float, seed: int) -> None:
    """Run, or go on with, the comparison."""
    network = load_model(model).to(torch.bfloat16).to(memory_format=torch.channels_last)
    images = load_data(data, split="test")
    smoothed = SmoothedClassifier(network)
    plans: dict[str, Plan] = {"fixed": fixed_plan(n=n), "sequential": sequential_plan(RADII, n)}
    settings: dict[str, Any] = {"model": model, "weights": weights_hash(network), "dtype": "bfloat16"}
    settings |= {"data": images.name, "data_fingerprint": images.data_hash, "every": every, "sigma": sigma}
    settings |= {"seed": seed, "radii": list(RADII), "threads": torch.get_num_threads(), "turn": TURN}
    settings |= {name: plan.describe() for name, plan in plans.items()}
    images = match(smoothed, images).renumber(images)
    lines = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else [settings]
    if lines[0] != json.loads(json.dumps(settings)):
        raise click.UsageError(f"{out} holds another comparison: name another file")
    if not out.exists():
        out.write_text(json.dumps(settings) + "\n")
    todo = [i for i in range(start, len(images), every) if i not in {line["idx"] for line in lines[1:]}]
    for k, indices in enumerate(_turns(todo)):
        pixels = torch.stack([images[i][0] for i in indices])
        rows: dict[int, dict[str, Any]] = {i: {"idx": i, "label": images[i][1]} for i in indices}
        for name in list(plans) if k % 2 else list(plans)[::-1]:
            begun = time.perf_counter()
            certificates = smoothed.certify_batch(pixels, sigma, plan=plans[name], seed=seed, indices=indices)
            seconds = (time.perf_counter() - begun) / len(indices)
            for i, certificate in zip(indices, certificates, strict=True):
                rows[i][name] = {
                    "predict": certificate.prediction,
                    "radius": certificate.radius,
                    "samples": certificate.samples,
                    "seconds": round(seconds, 4),
                }
        with out.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows.values())
        click.echo(f"{indices[-1]}: {sum(r['fixed']['seconds'] for r in rows.values()):.1f} s fixed", err=True)


def _turns(todo: list[int]) -> list[tuple[int, ...]]:
    return [tuple(todo[k : k + TURN]) for k in range(0, len(todo), TURN)]


if __name__ == "__main__":
    main()
