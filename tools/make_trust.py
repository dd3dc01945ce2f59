"""Write the tables of docs/trust.md from their record; --measure makes the record anew, --check only compares.

Run it from anywhere: python tools/make_trust.py [--measure | --check]. The record is docs/evidence/trust.json: what the
plain certifier and ours say of networks that were built to get a false certificate.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch
from attackers import PLAIN, BatchMean, Fingerprint, Table, gray, our_copies, plain_certify, plain_votes
from pages import DOCS, EVIDENCE, write_or_check
from scipy.special import betaincinv
from scipy.stats import binom, binomtest
from torch import Tensor, nn

from robust_hub import SmoothedClassifier
from robust_hub.evidence.accuracy import certified_accuracy
from robust_hub.evidence.records import read_run
from robust_hub.evidence.tables import set_rows
from robust_hub.guarantee.bounds import lower_confidence_bound
from robust_hub.guarantee.look import ESTIMATION, SELECTION
from robust_hub.guarantee.plans import RADII
from robust_hub.provenance import versions

PAGE, RECORD = DOCS / "trust.md", EVIDENCE / "trust.json"
CERTIFIED = DOCS.parent / "model_cards" / "resnet18s_ln_mixednoise.cifar10_e5" / "certification"
SMALL, N0, N = (3, 4, 4), 100, 10_000
LEVEL, ALPHA = 1e-6, 0.05  # of false alarms of a test, of the certificates that it makes
# Test, how many certificates it makes: those whose alarm is a count of false ones.
COUNTING = (
    ("a linear classifier, fixed plan", 3000),
    ("a linear classifier, sequential plan", 2000),
    ("three classes, both bounds", 600),
    ("predictions", 300),
)


def measure() -> dict[str, Any]:
    """Ask both certifiers about each network."""
    cases: dict[str, Callable[[], Any]] = {
        "fingerprint": fingerprint,
        "batch": batch,
        "seed": seed,
        "bounds": bounds,
        "autocast": autocast,
    }
    return {**{name: case() for name, case in cases.items()}, "versions": versions()}


def fingerprint() -> list[dict[str, Any]]:
    """Certify an image by its rounding, and another one that is closer than the radius."""
    rows = []
    for sigma in (0.25, 0.5, 1.0):
        near, far, network = gray(129), gray(127), Fingerprint()
        claim, other = (plain_certify(network, x, sigma, N0, 2000) for x in (near, far))
        ours = SmoothedClassifier(network, **PLAIN)
        float_noise = ours.certify(near, sigma, n=2000, noise="float")
        lattice = [ours.certify(x, sigma, n=2000).counts for x in (near, far)]
        rows.append(
            {
                "sigma": sigma,
                "distance": float((near.double() - far.double()).norm()),
                "plain": {**vars(claim), "class of the other": other.prediction},
                "ours, float": {"radius": float_noise.radius, "count": float_noise.count},
                "ours, lattice": lattice,
            }
        )
    return rows


def batch() -> dict[str, Any]:
    """Certify a network that votes by the mean of its batch."""
    x, network = gray(140, (3, 8, 8)), BatchMean(limit=0.54)
    claim = plain_certify(network, x, 0.5, N0, N)
    truth = (140 / 255 - network.limit) * x.numel() ** 0.5  # of the same network, an image at a time
    return {"plain": vars(claim), "truth": truth, "ours": refusal(network, x, 0.5)}


def refusal(network: nn.Module, x: Tensor, sigma: float) -> str:
    """Give the words in which our certifier refuses a network."""
    try:
        SmoothedClassifier(network, **PLAIN).certify(x, sigma, n=N)
    except ValueError as error:
        return str(error)
    raise AssertionError("expected a refusal")


class Recorder(nn.Module):
    """Keeps the noisy copies that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, z: Tensor) -> Tensor:
        """Vote for class 0."""
        self.seen.append(z.clone())
        return torch.tensor([[1.0, 0.0]]).expand(len(z), 2)


def seed() -> dict[str, Any]:
    """Certify a network that knows the noise of seed 0, with that seed and with others."""
    x = torch.randint(0, 256, SMALL, generator=torch.Generator().manual_seed(0)) / 255
    recorder = Recorder()
    torch.manual_seed(0)
    plain_certify(recorder, x, 0.25, N0, N)
    known = Table(torch.cat(recorder.seen))
    claims = []
    for start in (0, 1):
        torch.manual_seed(start)
        claims.append(vars(plain_certify(known, x, 0.25, N0, N)))
    ours = SmoothedClassifier(Table(our_copies(x, "lattice", 0.25, 0, N, [SELECTION, ESTIMATION])), **PLAIN)
    given, fresh = ours.certify(x, 0.25, n=N, seed=0), ours.certify(x, 0.25, n=N)
    words = ("prediction", "radius", "count", "reproduction")
    return {"plain": claims, "ours": [{word: getattr(one, word) for word in words} for one in (given, fresh)]}


def bounds() -> list[dict[str, Any]]:
    """Compare the tails at both certifiers' bounds with alpha, where an inverse is known to err."""
    rows = []
    for n, alpha in ((10**5, 5e-4), (10**6, 1e-3), (10**7, 1e-6), (10**8, 1e-12)):
        count = n - 999
        plain, ours = float(betaincinv(count, n - count + 1, alpha)), lower_confidence_bound(count, n, alpha)
        excess = [float(binom.sf(count - 1, n, p)) / alpha - 1 for p in (plain, ours)]
        rows.append({"n": n, "alpha": alpha, "plain": excess[0], "ours": excess[1], "lost": 1 - ours / plain})
    return rows


def autocast() -> dict[str, Any]:
    """Count votes within torch.autocast and without."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Flatten(), nn.Linear(1152, 2)).eval()
    x = torch.full((3, 8, 8), 128 / 255)
    result: dict[str, Any] = {}
    for name, enabled in (("without", False), ("within", True)):
        with warnings.catch_warnings(record=True) as said, torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            warnings.simplefilter("always")
            torch.manual_seed(0)
            plain = plain_votes(network, x, 0.25, N).tolist()
            ours = SmoothedClassifier(network, **PLAIN).certify(x, 0.25, n=N, seed=0)
        result[name] = {
            "plain": plain,
            "ours": ours.counts,
            "warned": any("autocast" in str(one.message) for one in said),
        }
    return result


def attacks(record: dict[str, Any]) -> str:
    """Set what both certifiers say of each network."""
    rows = []
    for one in record["fingerprint"]:
        claim, lattice = one["plain"], one["ours, lattice"]
        rows.append(
            [
                f"reads float rounding, sigma {one['sigma']:g}",
                f"class 0 already at distance {one['distance']:.3f}",
                f"class {claim['prediction']} up to {claim['radius']:.3f}, {claim['count']:,} of {claim['n']:,} votes",
                f"lattice noise: {lattice[0][1]:,} and {lattice[1][1]:,} votes for class 1 at the two images",
            ]
        )
    one = record["batch"]
    claim = f"up to {one['plain']['radius']:.3f}, {one['plain']['count']:,} of {one['plain']['n']:,} votes"
    rows.append(["votes by its batch's mean", f"radius {one['truth']:.3f}", claim, "refused: its rows interact"])
    plain, ours = record["seed"]["plain"], record["seed"]["ours"]
    rows.append(
        [
            "knows the noise of seed 0",
            "class 0",
            f"class {plain[0]['prediction']} up to {plain[0]['radius']:.3f} with seed 0, "
            f"class {plain[1]['prediction']} with seed 1",
            f"class {ours[1]['prediction']} with a seed of the system's; with seed 0 given class "
            f"{ours[0]['prediction']}, marked as a reproduction",
        ]
    )
    within, without = record["autocast"]["within"], record["autocast"]["without"]
    moved = abs(within["plain"][0] - without["plain"][0])
    rows.append(
        [
            "`torch.autocast` around the call",
            "another function",
            f"{moved:,} of {N:,} votes move, nothing is said",
            f"{abs(within['ours'][0] - without['ours'][0])} votes move: it is off inside, and a warning says so",
        ]
    )
    return set_rows(["the network", "the truth", "plain certifier", "ours"], rows)


def tails(record: dict[str, Any]) -> str:
    """Set by how much each bound spends more than alpha at count = n - 999."""
    cells = [
        [f"{one['n']:,}", f"{one['alpha']:g}", f"{one['plain']:.1e}", f"{one['ours']:.1e}", f"{one['lost']:.1e}"]
        for one in record["bounds"]
    ]
    header = ["n", "alpha", "tail / alpha - 1, scipy's inverse", "ours", "given away of p_lower"]
    return set_rows(header, cells)


def power() -> str:
    """Set what each counting test sees, if certificates are false more often than they may be."""
    cells = []
    for name, runs in COUNTING:
        alarm = int(binom.isf(LEVEL, runs, ALPHA)) + 1
        seen = [f"{100 * binom.sf(alarm - 1, runs, factor * ALPHA):.1f} %" for factor in (1.5, 2, 3)]
        cells.append([name, f"{runs:,}", str(alarm), *seen])
    return set_rows(["certificates of", "how many", "alarm at", "sees 1.5 alpha", "2 alpha", "3 alpha"], cells)


def noises() -> str:
    """Set certified accuracies of one checkpoint on both noises, image by image."""
    cells = []
    for sigma in ("0.25", "0.5", "1"):
        both = [
            read_run(EVIDENCE / "noises" / f"float32_sigma_{sigma}"),
            read_run(CERTIFIED / f"cifar10_sigma_{sigma}"),
        ]
        if [run.noise for run in both] != ["float32", "lattice255"]:
            raise ValueError(f"expected a run on either noise, got {[run.noise for run in both]}")
        for radius in (0.0, *RADII):
            held = [{one.idx: one.correct and one.radius >= radius for one in run.records} for run in both]
            if held[0].keys() != held[1].keys():
                raise ValueError("expected the same images in both runs")
            only = [sum(a[i] > b[i] for i in a) for a, b in (held, held[::-1])]
            p = binomtest(only[0], sum(only)).pvalue if sum(only) else 1.0
            shown = [certified_accuracy(run.records, radius).percent for run in both]
            cells.append([sigma, f"{radius:g}", *shown, f"{only[0]} and {only[1]}", f"{p:.2f}"])
    return set_rows(["sigma", "radius", "float32", "lattice", "images that only one certifies", "p"], cells)


def parts() -> dict[str, str]:
    """Make the page's parts from the records."""
    record = json.loads(RECORD.read_text())
    return {"attacks": attacks(record), "tails": tails(record), "noises": noises(), "power": power()}


def main() -> None:
    """Measure, if asked to, and write the page or compare it."""
    if "--measure" in sys.argv[1:]:
        RECORD.write_text(json.dumps(measure(), indent=1) + "\n")
    write_or_check(PAGE, parts(), "python tools/make_trust.py")


if __name__ == "__main__":
    main()
