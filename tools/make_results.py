"""Write docs/results.md from the records of the shelf; with --check only compare.

Run it from anywhere: python tools/make_results.py [--check]

The records come from `robust-hub reproduce` and `robust-hub shelve`; in docs/evidence the learning rates from
tools/compare_rates.py and a run like it on an accelerator, batch norm's part from tools/batch_norm.py; accuracies under
noise from tools/under_noise.py.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from math import exp
from pathlib import Path
from statistics import mean

from pages import DOCS, EVIDENCE, write_or_check

from robust_hub import ABSTAIN
from robust_hub.evidence.accuracy import abstention_rate, certified_accuracy, proportion
from robust_hub.evidence.identity import noise_words
from robust_hub.evidence.records import Run
from robust_hub.evidence.tables import set_rows
from robust_hub.guarantee.plans import RADII
from robust_hub.models.config import read_config
from robust_hub.models.shelves import checkpoint_folder, list_checkpoints
from robust_hub.paper.experiment import Experiment
from robust_hub.paper.recorded import read_recorded
from robust_hub.paper.results import results
from robust_hub.paper.rows import SCALES, SIGMAS, Row, Scale
from robust_hub.paper.tables import TABLES
from robust_hub.provenance import CLEAN, Provenance
from robust_hub.publishing.evidence import certification
from robust_hub.publishing.evidence import under_noise as measured_under_noise

PAGE = DOCS / "results.md"
RATES = EVIDENCE / "fine_tuning_rates.jsonl"
LARGER_RATES = EVIDENCE / "fine_tuning_rates_h200.jsonl"
FLOWERS_RATES = EVIDENCE / "fine_tuning_rates_flowers102.jsonl"
BATCH_NORM = EVIDENCE / "batch_norm.jsonl"
_READ: dict[tuple[str, str], tuple[Run, ...]] = {}
SMALL, LONGER, LARGE = SCALES["small"], SCALES["small42"], SCALES["h200"]
ROWS = {row.name: row for table in TABLES.values() for row in table.rows}  # each training once


def tables() -> str:
    """Set every table that has a finished row, but for the longer pretraining, which has a section of its own."""
    finished = "\n".join(
        results(table, scale, None)
        for scale in SCALES.values()
        for table in TABLES.values()
        if scale is not LONGER and any(_runs(row, scale) for row in table.rows)
    )
    return finished or "No row is finished yet."


def noises() -> str:
    """Say on which noise the networks of the shelf were certified, and where their seeds are from."""
    named: dict[str, list[str]] = {}
    for name in list_checkpoints():
        folder = checkpoint_folder(name)
        for words in {noise_words(run.noise, run.reproduction) for run in (certification(folder) if folder else ())}:
            named.setdefault(words, []).append(f"`{name}`")
    least = min(named, key=lambda words: len(named[words]), default="")
    return "\n".join(
        f"- {', '.join(names) if words == least else f'{len(names)} others'}: noise {words}."
        for words, names in sorted(named.items(), key=lambda pair: len(pair[1]))
    )


def each_sigma() -> str:
    """Set what every sigma of every row certifies, from which the tables take the best."""
    radii = (0.0, *RADII)
    header = ["scale", "network", "sigma", "abstained", "one class", *(f"r = {radius:g}" for radius in radii)]
    lines, seen = [], set()
    for scale in SCALES.values():
        for row in ROWS.values():
            for run in _runs(row, scale):
                if run.path in seen:  # a row of many epochs at a scale where these are one
                    continue
                seen.add(run.path)
                cells = [scale.name, _words(row), f"{run.sigma:g}", abstention_rate(run.records).percent]
                said = Counter(record.predict for record in run.records if record.predict != ABSTAIN)
                cells.append(f"{100 * max(said.values()) / said.total():.0f}" if said else "-")
                cells += [certified_accuracy(run.records, radius).percent for radius in radii]
                lines.append(cells)
    return set_rows(header, lines)


def _runs(row: Row, scale: Scale) -> tuple[Run, ...]:
    """Read a row's runs, once; none where it is not finished."""
    key = row.name, scale.name
    if key not in _READ:
        _READ[key] = read_recorded(Experiment(row, scale)).runs
    return _READ[key]


def _words(row: Row) -> str:
    """Say what a network is, such as "cifar100, ln: mixed noise, then clean images, one epoch"."""
    before = "from scratch, " if row.pretrained is None else f"{_trained_on(row.pretrained)}, then "
    kind = ", fixed features" if row.head_only else ""
    length = "" if row.long or row.pretrained is None else ", one epoch"
    return f"{row.dataset}, {row.norm}: {before}{_trained_on(row.tuned)}{kind}{length}"


def norms(scale: Scale = SMALL) -> str:
    """Set each norm of table 6 against batch norm: differences on the same images, and the paper's."""

    def lines(sigmas: Sequence[float], title: str) -> str:
        return _against(
            "table6", "batch norm", title, _difference, lambda a, b: f"{a - b:+.1f}", sigmas, (scale, scale)
        )

    best = lines(SIGMAS, "points more than batch norm, best sigma")
    same = lines(SIGMAS[:1], f"points more than batch norm, sigma {SIGMAS[0]:g}")
    note = (
        "Differences of the percentages, with 95 % intervals for the same images (Agresti and Min 2005); the paper's "
        "are those of the best sigma."
    )
    return f"{best}\n\n{same}\n\n{note}"


def longer() -> str:
    """Set what a longer pretraining gives: each of its rows below the shorter one's, then both comparisons."""
    lines = _below_one_another((SMALL, LONGER), "epochs", lambda scale: str(scale.pretrain["epochs"]))
    return f"{lines}\n\n{norms(LONGER)}\n\n{single_sigmas(LONGER)}"


def larger() -> str:
    """Set what the larger network and its larger pretraining give: each of its rows below the small network's."""
    return _below_one_another((SMALL, LARGE), "scale", lambda scale: f"`{scale.name}`")


def _below_one_another(scales: tuple[Scale, Scale], title: str, cell: Callable[[Scale], str]) -> str:
    """Set the rows that a second scale has, each below the first one's, the best sigma at each radius."""
    header = ["network", title, "clean", *(f"r = {radius:g}" for radius in (0.0, *RADII))]
    lines, seen = [], set()
    for row in ROWS.values():
        both = [_runs(row, scale) for scale in scales]
        if row.pretrained is None or not all(both) or both[1][0].path in seen:
            continue
        seen.add(both[1][0].path)
        for scale, runs in zip(scales, both, strict=True):
            hits = _best(runs, RADII)
            lines.append([_words(row), cell(scale), *(proportion(sum(hit), len(hit)).percent for hit in hits)])
    return set_rows(header, lines)


def single_sigmas(scale: Scale = SMALL) -> str:
    """Set mixed noise against each row of table 5: its accuracies as shares of that row's, and the paper's."""
    length = "" if scale is SMALL else f" after {scale.pretrain['epochs']} epochs"
    lines = _against(
        "table5",
        "mixed noise",
        f"mixed noise{length}, as a share of",
        lambda row, mixed: _share(mixed, row),
        lambda row, mixed: f"{100 * mixed / row:.0f} %",
        scales=(SMALL, scale),
    )
    return f"{lines}\n\nRatios of the percentages of table 5, with 95 % intervals for the same images."


def _against(
    name: str,
    reference: str,
    title: str,
    cell: Callable[[Sequence[bool], Sequence[bool]], str],
    paper_cell: Callable[[float, float], str],
    sigmas: Sequence[float] = SIGMAS,
    scales: tuple[Scale, Scale] = (SMALL, SMALL),
) -> str:
    """Set every finished row of a table beside one of them, at clean images and every radius from 0.

    Args:
        name: A table.
        reference: Label of the row that the others are set beside.
        title: Head of the first column.
        cell: Ours, from whether the row and the reference are right, image by image.
        paper_cell: The paper's, from the row's percentage and the reference's.
        sigmas: Those whose best counts at each radius.
        scales: Scale of the rows, and of the one that they are set beside.
    """
    table = TABLES[name]
    header = [title, "clean", "paper", "r = 0"]
    for radius in table.radii:
        header += [f"r = {radius:g}", "paper"]
    lines = []
    base = next(row for row in table.rows if row.label == reference)
    reference_runs = _runs(base, scales[1])
    for row in table.rows:
        both = (_runs(row, scales[0]), reference_runs)
        runs = [[run for run in one if run.sigma in sigmas] for one in both]
        if row is base or not all(runs):
            continue
        ours = [cell(one, two) for one, two in zip(*(_best(one, table.radii) for one in runs), strict=True)]
        papers = [paper_cell(one, two) for one, two in zip(_papers(row), _papers(base), strict=True)]
        pairs = [text for pair in zip(ours[2:], papers[1:], strict=True) for text in pair]
        lines.append([row.label, ours[0], papers[0], ours[1], *pairs])
    return set_rows(header, lines)


def _papers(row: Row) -> list[float]:
    """Give the paper's clean accuracy and certified accuracies."""
    return [row.paper_clean or 0.0, *(value for _, value in row.paper_certified)]


def _best(runs: Sequence[Run], radii: Sequence[float]) -> list[list[bool]]:
    """Give, for clean accuracy and every radius from 0, image by image whether the best of a row's sigmas is right."""
    hits = [[record.base == record.label for record in runs[0].records]]
    for radius in (0.0, *radii):
        each = [[bool(r.correct) and r.radius >= radius for r in run.records] for run in runs]
        hits.append(max(each, key=sum))
    return hits


def _difference(one: Sequence[bool], two: Sequence[bool]) -> str:
    """Give the difference of two shares of the same images in points, with a 95 % interval.

    Wald's interval after half an image is added to each of the four cells; Agresti and Min 2005.
    """
    gained = sum(a and not b for a, b in zip(one, two, strict=True))
    lost = sum(b and not a for a, b in zip(one, two, strict=True))
    n, d = len(one) + 2, gained - lost
    width = 1.96 * (gained + lost + 1 - d * d / n) ** 0.5
    return f"{100 * d / len(one):+.1f} [{100 * (d - width) / n:+.1f}, {100 * (d + width) / n:+.1f}]"


def _share(one: Sequence[bool], two: Sequence[bool]) -> str:
    """Give the ratio of two shares of the same images in percent, with a 95 % interval of its logarithm.

    For the interval half an image is added to what either, and what both, have right, so that it can be taken of none.
    """
    if not any(two):
        return "-"
    both = sum(x and y for x, y in zip(one, two, strict=True)) + 0.5
    a, b = sum(one) + 0.5, sum(two) + 0.5
    factor = exp(1.96 * max(1 / a + 1 / b - 2 * both / (a * b), 0.0) ** 0.5)
    return f"{100 * sum(one) / sum(two):.0f} % [{100 * a / b / factor:.0f}, {100 * a / b * factor:.0f}]"


def rates(trials: Path = RATES, measured_on: str = "training images of CIFAR-10") -> str:
    """Set the trials of learning rates."""
    rows = [json.loads(line) for line in trials.read_text().splitlines()]
    rows.sort(
        key=lambda row: (
            row["sigma"],
            row["norm"],
            row["pretrained"],
            row["pretraining_epochs"],
            row["head_only"],
            row["epochs"],
            row["learning_rate"],
        )
    )
    header = ["norm", "pretrained on", "epochs", "fine-tuned on", "epochs", "features", "classifier", "clean"]
    lines = []
    for row in rows:
        head = row["learning_rate"] * row["head_scale"]
        cells = [
            row["norm"],
            _trained_on(row["pretrained"]),
            str(row["pretraining_epochs"]),
            _trained_on([row["sigma"]]),
            str(row["epochs"]),
            "fixed" if row["head_only"] else f"{row['learning_rate']:g}",
            f"{head:g}",
            *(f"{row[name]:.1f}" for name in ("clean", "noisy", "radius 0.25")),
        ]
        lines.append(cells)
    images = {row["images"] for row in rows}
    return (
        set_rows([*header, "under noise", "r = 0.25"], lines)
        + f"\n\n{', '.join(map(str, images))} held-out {measured_on}, one run each."
    )


def _trained_on(sigmas: Sequence[float]) -> str:
    """Say what a training saw."""
    if len(sigmas) > 1:
        return "mixed noise"
    return f"sigma {sigmas[0]:g}" if sigmas[0] else "clean images"


def under_noise() -> str:
    """Set what pretraining gives: accuracy on held-out images of the pretraining set under each noise."""
    rows = []
    for name in list_checkpoints():
        folder = checkpoint_folder(name)
        measured = None if folder is None else measured_under_noise(folder)
        if folder is None or measured is None:
            continue
        training = read_config(folder).provenance or Provenance()
        values = list(measured.accuracies.values())
        cells = [f"`{name}`", _trained_on(training.sigmas or CLEAN), str(training.epochs), measured.dtype]
        cells += [*(value.percent for value in values), f"{100 * mean(value.value for value in values):.1f}"]
        rows.append((list(measured.accuracies), f"{values[0].n:,}", measured.data, cells))
    sigmas, images, data, _ = rows[0]
    assert all(row[:3] == (sigmas, images, data) for row in rows)
    columns = [f"sigma {sigma:g}" if sigma else "clean" for sigma in sigmas]
    header = ["checkpoint", "pretrained on", "epochs", "network in", *columns, "mean"]
    note = f"{images} validation images of {data}, percent with Wilson 95 % intervals, one draw of noise an image."
    return set_rows(header, [row[3] for row in rows]) + f"\n\n{note}"


def batch_norm() -> str:
    """Set what of clean fine-tuning costs a batch-norm network its robustness."""
    rows = [json.loads(line) for line in BATCH_NORM.read_text().splitlines()]
    header = ["statistics of batch norm", "features", "clean", "under noise", "r = 0.25", "shift"]
    lines = []
    for row in rows:
        numbers = [f"{row[name]:.1f}" for name in ("clean", "noisy", "radius 0.25", "shift")]
        lines.append([row["statistics"], row["features"], *numbers])
    images = {row["images"] for row in rows}
    return (
        set_rows(header, lines)
        + f"\n\n{', '.join(map(str, images))} held-out training images of CIFAR-10, one run each."
    )


def parts() -> dict[str, str]:
    """Make every part of the page."""
    return {
        "records": tables(),
        "noises": noises(),
        "rates": rates(),
        "larger rates": rates(LARGER_RATES),
        "flowers rates": rates(FLOWERS_RATES, "images of the validation split of Flowers-102"),
        "batch norm": batch_norm(),
        "norms": norms(),
        "each sigma": each_sigma(),
        "single sigmas": single_sigmas(),
        "under noise": under_noise(),
        "longer": longer(),
        "larger": larger(),
    }


if __name__ == "__main__":
    write_or_check(PAGE, parts(), "tools/make_results.py")
