"""The tables of docs/results.md, set in Markdown from the records of the shelf."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

from results_records import most_said, points, ratio, recorded, right_at, right_on_clean

from robust_hub.evidence.accuracy import abstention_rate, certified_accuracy, proportion
from robust_hub.evidence.identity import noise_words
from robust_hub.evidence.records import Run
from robust_hub.evidence.tables import set_rows
from robust_hub.guarantee.plans import RADII
from robust_hub.models.shelves import checkpoint_folder, list_checkpoints
from robust_hub.paper.results import results
from robust_hub.paper.rows import SCALES, SIGMAS, Row, Scale
from robust_hub.paper.tables import TABLES
from robust_hub.publishing.evidence import certification

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
    return finished.rstrip() or "No row is finished yet."


@cache
def noise_kinds() -> dict[str, list[str]]:
    """Give the kinds of noise that networks of the shelf were certified on, in words, and the networks of each."""
    named: dict[str, list[str]] = {}
    for name in list_checkpoints():
        folder = checkpoint_folder(name)
        for words in {noise_words(run.noise, run.reproduction) for run in (certification(folder) if folder else ())}:
            named.setdefault(words, []).append(f"`{name}`")
    return named


def noises() -> str:
    """Say on which noise the networks of the shelf were certified, and where their seeds are from."""
    named = noise_kinds()
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
                _, most, said = most_said(run)
                cells.append(f"{100 * most / said:.0f}" if said else "-")
                cells += [certified_accuracy(run.records, radius).percent for radius in radii]
                lines.append(cells)
    return set_rows(header, lines)


def _runs(row: Row, scale: Scale) -> tuple[Run, ...]:
    """Read a row's runs; none where it is not finished."""
    return recorded(row, scale).runs


def _words(row: Row) -> str:
    """Say what a network is, such as "cifar100, ln: mixed noise, then clean images, one epoch"."""
    before = "from scratch, " if row.pretrained is None else f"{trained_on(row.pretrained)}, then "
    kind = ", fixed features" if row.head_only else ""
    length = "" if row.long or row.pretrained is None else ", one epoch"
    return f"{row.dataset}, {row.norm}: {before}{trained_on(row.tuned)}{kind}{length}"


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
    return [right_on_clean(runs), *(right_at(runs, radius) for radius in (0.0, *radii))]


def _difference(one: Sequence[bool], two: Sequence[bool]) -> str:
    """Word the difference of two shares of the same images in points, with its interval."""
    more = points(one, two)
    return f"{more.value:+.1f} [{more.low:+.1f}, {more.high:+.1f}]"


def _share(one: Sequence[bool], two: Sequence[bool]) -> str:
    """Word the ratio of two shares of the same images in percent, with its interval."""
    share = ratio(one, two)
    return "-" if share is None else f"{share.value:.0f} % [{share.low:.0f}, {share.high:.0f}]"


def trained_on(sigmas: Sequence[float]) -> str:
    """Say what a training saw."""
    if len(sigmas) > 1:
        return "mixed noise"
    return f"sigma {sigmas[0]:g}" if sigmas[0] else "clean images"
