"""Write the worked examples of docs/read-a-certificate.md from a record each; with --check only compare.

Run it from anywhere: python tools/make_read.py [--check]
"""

from __future__ import annotations

import json
import math
from dataclasses import replace

from pages import DOCS, EVIDENCE, down, write_or_check

from robust_hub.evidence.record import Record
from robust_hub.evidence.records import Run, read_run
from robust_hub.evidence.tables import set_rows
from robust_hub.guarantee.bounds import lower_confidence_bound
from robust_hub.guarantee.certificate import ABSTAIN, certify_counts
from robust_hub.guarantee.words import meaning
from robust_hub.models.config import read_config

PAGE = DOCS / "read-a-certificate.md"
RUN = EVIDENCE / "mixed_full" / "sigma_0.25"
NAMES = "resnet18s_ln_mixednoise.cifar10_e5"  # whose classes are CIFAR-10's, too
CERTIFIED, ABSTAINED = 6520, 180  # test images of CIFAR-10: one that two classes vote for, and one torn between them


def record_of(run: Run, idx: int) -> Record:
    """Find an image's record."""
    (record,) = (one for one in run.records if one.idx == idx)
    return record


def votes_of(record: Record) -> tuple[int, int, float]:
    """Give count, n and p_lower of a record, which has them."""
    assert record.count is not None and record.n is not None and record.p_lower is not None
    return record.count, record.n, record.p_lower


def network_of(run: Run) -> str:
    """Name the network of a run: that of the shelf with its weights, and the type it had."""
    paths = (DOCS.parent / "model_cards").glob("*/certification/*/run.json")
    said = {path.parts[-4]: json.loads(path.read_text())["identity"]["weights"] for path in paths}
    (name,) = (name for name, weights in said.items() if weights == run.identity["weights"])
    return f"`{name}` in {run.identity['dtype']}"


def class_names() -> tuple[str, ...]:
    """Give the names of CIFAR-10's classes, as a checkpoint of the shelf has them."""
    names = read_config(DOCS.parent / "model_cards" / NAMES).label_names
    assert names is not None
    return tuple(names)


def votes(record: Record, names: tuple[str, ...]) -> str:
    """Set the votes of an image, the most first."""
    _, n, _ = votes_of(record)
    ordered = sorted(record.counts or (), key=lambda pair: -pair[1])
    rows = [[names[label], f"{count:,}", f"{100 * count / n:.1f} %"] for label, count in ordered]
    return set_rows(["class", "votes", "share"], rows)


def certified() -> str:
    """Say each field of a certified image in words."""
    run, names = read_run(RUN), class_names()
    record = record_of(run, CERTIFIED)
    (count, n, p_lower), word = votes_of(record), names[record.predict]
    assert record.sigma is not None and record.alpha is not None
    assert abs(lower_confidence_bound(count, n, record.alpha) - p_lower) < 1e-9
    rows = [
        ["`sigma`", f"{record.sigma:g}", "how strong the noise was: the typical change of one pixel, which is 0 to 1"],
        ["`n0`", f"{record.n0:,}", "noisy copies that chose the class to be certified"],
        ["`n`", f"{n:,}", "fresh noisy copies that were then counted"],
        ["`count`", f"{count:,}", f"how many of these the network called *{word}*: {100 * count / n:.2f} %"],
        ["`alpha`", f"{record.alpha:g}", f"the risk that was allowed: 1 in {1 / record.alpha:,.0f}"],
        [
            "`p_lower`",
            down(p_lower, 4),
            f"the share of *all* possible noisy copies called *{word}* is at least this, but for that risk",
        ],
        ["`prediction`", str(record.predict), f"the class, by its number; it is *{word}*"],
        ["`radius`", down(record.radius, 3), "how far the image may be changed; larger is better"],
    ]
    image = f"Image {CERTIFIED} of the test split (the first is 0)"
    said = f"{image}, network {network_of(run)}; the votes of its noisy copies:"
    return f"{said}\n\n{votes(record, names)}\n\n{set_rows(['field', 'value', 'in words'], rows)}"


def abstained() -> str:
    """Say why an image was not certified."""
    run, names = read_run(RUN), class_names()
    record = record_of(run, ABSTAINED)
    count, n, p_lower = votes_of(record)
    assert record.predict == ABSTAIN and p_lower < 0.5
    said = (
        f"The class with the most votes has {count:,} of {n:,}, so `p_lower` is {down(p_lower, 3)}, less than one "
        "half: the certificate says `prediction` -1 (`robust_hub.ABSTAIN`) and `radius` 0."
    )
    return f"{votes(record, names)}\n\n{said}"


def in_words(idx: int) -> str:
    """Say a record's certificate as the package says it, from its votes."""
    run, names = read_run(RUN), class_names()
    record = record_of(run, idx)
    votes = dict(record.counts or ())
    counts = [votes.get(label, 0) for label in range(len(names))]
    chosen = [int(label == max(votes, key=lambda one: votes[one])) * (record.n0 or 0) for label in range(len(names))]
    assert record.sigma is not None and record.alpha is not None
    given = run.reproduction is not False  # also where run.json does not say
    made = certify_counts(chosen, counts, record.sigma, record.alpha)
    certificate = replace(made, noise=run.noise, reproduction=given)
    assert certificate.prediction == record.predict and abs(certificate.radius - record.radius) < 1e-9
    return f"> {meaning(certificate, names, (3, 32, 32))}"


def distances() -> str:
    """Set what a radius allows in whole 8-bit levels, for a change of few values and of many."""
    values = 3 * 32 * 32
    rows = []
    for radius in (0.25, 0.5, 1.0):
        most = math.ceil((255 * radius) ** 2) - 1  # of the sum of squared differences: a distance below the radius
        few = [f"{math.isqrt(most // count)} levels" for count in (1, 3, 30)]
        rows.append([f"{radius:g}", *few, f"{down(math.sqrt(most / values), 1)} levels"])
    header = [
        "radius",
        "one value",
        "one pixel, its three values",
        "ten pixels",
        "every value of a 32x32 image, on average",
    ]
    return set_rows(header, rows)


def parts() -> dict[str, str]:
    """Make the page's parts."""
    return {
        "certified": certified(),
        "abstained": abstained(),
        "distances": distances(),
        "words": in_words(CERTIFIED),
        "none": in_words(ABSTAINED),
    }


if __name__ == "__main__":
    write_or_check(PAGE, parts(), "tools/make_read.py")
