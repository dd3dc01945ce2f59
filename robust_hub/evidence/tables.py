"""Certified accuracies as tables, in Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from robust_hub.evidence.accuracy import abstention_rate, certified_accuracy, clean_accuracy, decides
from robust_hub.evidence.comparisons import Best, Runs, best_of, incomparable, labelled, listed
from robust_hub.evidence.identity import noise_words
from robust_hub.evidence.limits import limits_note
from robust_hub.evidence.records import Record, Run
from robust_hub.evidence.tally import tally
from robust_hub.guarantee.plans import RADII
from robust_hub.markup import Table, note, rows
from robust_hub.parsing import shown, table_cell


def markdown_table(runs: Runs, radii: Sequence[float] = RADII) -> Table:
    """Write the runs as a Markdown table: a row per sigma, then the paper's form, best sigma per radius.

    Accuracies are in percent, with Wilson 95 % intervals.

    Args:
        runs: Records by label, or a run or several.
        radii: Radii, l2 in [0, 1]-pixel units.

    Returns:
        The table, and a note below it that says where samples are too few for a radius: a text, which a notebook
        shows as a table.

    Raises:
        ValueError: If there are no runs, or one without records.

    Example:
        >>> from robust_hub.evidence.records import Record
        >>> records = [Record(0, 3, 3, 0.6, True, 1.0), Record(1, 5, 5, 0.2, True, 1.0)]
        >>> print(markdown_table({"mine": records}, radii=(0.25,)).splitlines()[2])
        | mine | 2 | - | 0.0 [0.0, 65.8] | 50.0 [9.5, 90.5] |
    """
    (header, *lines), below = table_cells(runs, radii)
    text = f"{set_rows(header, ([table_cell(cell) for cell in line] for line in lines))}\n\n{below}\n"
    return Table(text, rows(header, lines) + note(below))


def table_cells(runs: Runs, radii: Sequence[float] = RADII) -> tuple[list[list[str]], str]:
    """Give the cells of `markdown_table` as plain texts, for whatever else sets them, and the note below it.

    Args:
        runs: Records by label, or a run or several.
        radii: Radii, l2 in [0, 1]-pixel units.

    Returns:
        The rows, the first their headings; and the note.

    Raises:
        ValueError: If there are no runs, or one without records.
    """
    header, lines, best, below = _cells(runs, radii)
    return [header, *lines, *([best] if best else [])], below


def set_rows(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a Markdown table of cells that are Markdown already, without a newline at its end."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def latex_table(runs: Runs, radii: Sequence[float] = RADII) -> str:
    """Write the runs as a LaTeX tabular (package booktabs) with the rows of `markdown_table`.

    Args:
        runs: Records by label, or runs.
        radii: Radii, l2 in [0, 1]-pixel units.

    Raises:
        ValueError: If there are no runs, or one without records.
    """
    header, rows, best, note = _cells(runs, radii)
    lines = [f"% {note}", r"\begin{tabular}{l" + "r" * (len(header) - 1) + "}", r"\toprule"]
    lines += [" & ".join(map(_escape_latex, header)) + r" \\", r"\midrule"]
    lines += [" & ".join(map(_escape_latex, row)) + r" \\" for row in rows]
    if best:
        lines += [r"\midrule", " & ".join(map(_escape_latex, best)) + r" \\"]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _cells(runs: Runs, radii: Sequence[float]) -> tuple[list[str], list[list[str]], list[str], str]:
    runs = listed(runs)
    table = {label: tally(records) for label, records in labelled(runs).items()}
    header = ["run", "images", "clean", "abstain", *(f"r = {radius:g}" for radius in radii)]
    rows = []
    for label, counted in table.items():
        clean = clean_accuracy(counted)
        certified = (certified_accuracy(counted, radius) if decides(counted, radius) else None for radius in radii)
        abstaining = abstention_rate(counted) if decides(counted, 0.0) else None
        shares = (clean, abstaining, *certified)
        rows.append([label, str(counted.n), *("-" if s is None else s.percent for s in shares)])
    note = (
        "Percent of all images with Wilson 95 % intervals; an abstention counts as wrong; "
        "clean: the base classifier on clean images."
    )
    if not all(decides(counted, radius) for counted in table.values() for radius in (0.0, *radii)):
        note += " -: the run did not decide this radius (abstain: radius 0)."
    note += _noise_note(runs) + _part_note(runs)
    if short := limits_note(runs, radii):
        note += f" {short}"
    reason = incomparable(runs)
    if reason:
        return header, rows, [], f"{note} No best-sigma row: {reason}."
    if len(table) == 1:
        return header, rows, [], note
    decided = [radius for radius in radii if all(decides(counted, radius) for counted in table.values())]
    bests = {best.radius: best for best in best_of(table, decided)}
    winners = [_winner(bests[radius]) if radius in bests else "-" for radius in radii]
    images = str(next(iter(table.values())).n)
    note += (
        " Last row: (accuracy at 0) accuracy of the run that is best at that radius over the whole set; it is "
        "optimistic, since sigma was chosen on the images that it is measured on."
    )
    return header, rows, ["best per radius", images, "", "", *winners], note


def _noise_note(runs: Mapping[str, Sequence[Record]] | list[Run]) -> str:
    """Say what noise our runs are of; nothing of records alone and of logs, which do not tell."""
    if isinstance(runs, Mapping):
        return ""
    words = dict.fromkeys(noise_words(run.noise, run.reproduction) for run in runs if run.identity)
    return "".join(f" Noise: {one}." for one in words)


def _part_note(runs: Mapping[str, Sequence[Record]] | list[Run]) -> str:
    """Say where images were held out of the training data, and where they were trained on."""
    if isinstance(runs, Mapping):
        return ""
    words = []
    for run in runs:
        data, split, seen = (run.identity.get(name) for name in ("data", "split", "trained_on"))
        lineage = [] if run.provenance is None else run.provenance.lineage()
        if str(split).endswith("-held-out") and not seen:
            words.append(f" Images: the part of {shown(data)} that was held out of training.")
        elif data and (data, split) in [(one.data, one.split) for one in lineage]:
            words.append(f" Images: the {shown(split)} split of {shown(data)}, on which the network was trained.")
        elif seen:
            count = f"at least {seen} of {len(run.records)}"
            words.append(f" Images: of {shown(data)}, {count} ones on which the network was trained.")
    return "".join(dict.fromkeys(words))


def _winner(best: Best) -> str:
    at_zero = "" if best.at_zero is None else f"({100 * best.at_zero.value:.1f}) "
    return f"{at_zero}{100 * best.accuracy.value:.1f}"


def _escape_latex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(special.get(c, "\\" + c if c in "&%$#_{}" else c) for c in shown(text))
