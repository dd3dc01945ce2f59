"""Write the figures of docs/choose-sigma-and-n.md; with --check only compare.

Radii are computed from the bound itself, accuracies and costs come from the records of a checkpoint on the shelf.
Run it from anywhere: python tools/make_choose.py [--check]
"""

from __future__ import annotations

from statistics import mean, median

from pages import DOCS, EVIDENCE, down, write_or_check

from robust_hub.evidence.accuracy import abstention_rate, certified_accuracy, clean_accuracy
from robust_hub.evidence.records import Run, read_run
from robust_hub.evidence.tables import set_rows
from robust_hub.guarantee.bounds import lower_confidence_bound, smallest_n
from robust_hub.guarantee.certificate import certified_radius

PAGE = DOCS / "choose-sigma-and-n.md"
CHECKPOINT = "resnet18s_ln_mixednoise.cifar10_e5"
FIXED = EVIDENCE / "mixed_full" / "sigma_0.25"
SIGMAS, SAMPLES = (0.12, 0.25, 0.5, 1.0), (100, 1_000, 10_000, 100_000, 1_000_000)
SHARES, RADII, ALPHA = (0.6, 0.8, 0.9, 0.99, 1.0), (0.0, 0.25, 0.5, 0.75, 1.0), 0.001


def radius_of(share: float, n: int, sigma: float, alpha: float = ALPHA) -> float:
    """Compute the radius that so many votes of n give."""
    p = lower_confidence_bound(round(share * n), n, alpha)
    return certified_radius(p, 1 - p, sigma) if p > 0.5 else 0.0


def largest() -> str:
    """Set the radius of an image whose copies all agree."""
    rows = [[f"{n:,}", *(down(radius_of(1.0, n, sigma), 2) for sigma in SIGMAS)] for n in SAMPLES]
    few = smallest_n(ALPHA)
    said = f"Below n = {few} nothing can be certified at alpha = {ALPHA:g}, whatever the network says."
    return f"{set_rows(['n', *(f'sigma {sigma:g}' for sigma in SIGMAS)], rows)}\n\n{said}"


def shares() -> str:
    """Set the radius by the share of the votes, at sigma 0.5."""
    rows = [[f"{100 * share:g} %", *(down(radius_of(share, n, 0.5), 2) for n in SAMPLES[:-1])] for share in SHARES]
    return set_rows(["share of the votes", *(f"n = {n:,}" for n in SAMPLES[:-1])], rows)


def runs_of(name: str = CHECKPOINT) -> list[Run]:
    """Read a checkpoint's runs, by growing sigma."""
    folders = (DOCS.parent / "model_cards" / name / "certification").iterdir()
    return sorted((read_run(folder) for folder in folders), key=lambda run: float(run.identity["sigma"]))


def tradeoff() -> str:
    """Set what each sigma certifies of one network."""
    runs = runs_of()
    rows = [
        [
            f"{run.sigma:g}",
            f"{100 * abstention_rate(run.records).value:.0f}",
            *(f"{100 * certified_accuracy(run.records, radius).value:.0f}" for radius in RADII),
        ]
        for run in runs
    ]
    clean = clean_accuracy(runs[0].records)
    assert clean is not None
    said = (
        f"`{CHECKPOINT}`, {clean.n} CIFAR-10 test images, percent; its accuracy on clean images, without any noise, is "
        f"{clean.percent} %. An interval is about 4 points either way: [results](results.md) has them all."
    )
    header = ["sigma", "abstains", *(f"right and certified at {radius:g}" for radius in RADII)]
    return f"{set_rows(header, rows)}\n\n{said}"


def risk() -> str:
    """Say what a tenth of alpha costs, of 10,000 votes at sigma 0.5."""
    said = [
        f"{100 * share:g} % of the votes certify {down(radius_of(share, 10_000, 0.5, ALPHA / 10), 3)} in place of "
        f"{down(radius_of(share, 10_000, 0.5), 3)}"
        for share in (0.8, 1.0)
    ]
    return f"At alpha = {ALPHA / 10:g}, sigma 0.5 and n = 10,000, {said[0]}, and {said[1]}."


def cost() -> str:
    """Set what an image cost in the recorded runs."""
    rows = []
    for run in (read_run(FIXED), *runs_of()):
        samples = [(record.n or 0) + (record.n0 or 0) for record in run.records]
        seconds = mean(record.time or 0.0 for record in run.records)
        plan = "fixed, n = {:,}" if run.records[0].plan in (None, "fixed") else "`--radii`, at most {:,}"
        rows.append(
            [
                f"{plan.format(int(run.identity['n']))}, {run.identity['dtype']}",
                f"{run.sigma:g}",
                f"{mean(samples):,.0f}",
                f"{median(samples):,.0f}",
                f"{seconds:.1f}",
                str(run.identity.get("device_name") or "cpu, not recorded in full"),
            ]
        )
    header = ["how many samples", "sigma", "mean of an image", "median", "seconds an image", "machine"]
    return set_rows(header, rows)


def parts() -> dict[str, str]:
    """Make the page's parts."""
    return {"largest": largest(), "shares": shares(), "tradeoff": tradeoff(), "cost": cost(), "risk": risk()}


if __name__ == "__main__":
    write_or_check(PAGE, parts(), "tools/make_choose.py")
