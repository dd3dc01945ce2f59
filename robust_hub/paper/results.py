"""What is recorded of a table's rows, set in Markdown beside the paper's numbers or drawn as curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from robust_hub.evidence.accuracy import clean_accuracy
from robust_hub.evidence.comparisons import best_per_radius
from robust_hub.evidence.plots import plot_curves
from robust_hub.evidence.records import Run
from robust_hub.evidence.tables import set_rows
from robust_hub.evidence.values import runs_values
from robust_hub.paper.experiment import Experiment
from robust_hub.paper.recorded import read_recorded
from robust_hub.paper.rows import Row, Scale, Table

_NOTE = (
    "Percent of the certified images, Wilson 95 % intervals; clean: the base classifier on clean images; "
    "(accuracy at 0) certified accuracy of the sigma among 0.25, 0.5 and 1.0 that is best at the radius over all "
    "these images, an interval that does not count the choice."
)


def results(table: Table, scale: Scale, out: str | Path | None) -> str:
    """Set the records of a table's rows in Markdown, ours beside the paper's; rows without records say so.

    A row that the folder has no records of takes those of the shelf's checkpoint that is the row's network.

    Args:
        table: A table of `robust_hub.paper.tables`.
        scale: A scale of `robust_hub.paper.rows`.
        out: Folder of the experiments; None reads the shelf alone.

    Raises:
        CheckpointError: If a checkpoint of the shelf is damaged.
        ValueError: If records are damaged, or are of a network that was trained or certified otherwise than the scale
            says.
    """
    header = ["row", "clean", "paper"]
    for radius in table.radii:
        header += [f"r = {radius:g}", "paper"]
    read = [read_recorded(experiment) for experiment in _experiments(table, scale, out)]
    rows = [
        [table.label(row), *_in_turn(_our_cells(recorded.runs, table.radii), _paper_cells(row, table.radii))]
        for row, recorded in zip(table.rows, read, strict=True)
    ]
    title = f"**{table.name}: {table.title}.** Ours at the scale {scale.name!r}: {scale.title}."
    notes = [_NOTE, *sorted({_certification(run) for recorded in read for run in recorded.runs})]
    shelved = dict.fromkeys(f"`{recorded.checkpoint}`" for recorded in read if recorded.checkpoint is not None)
    if shelved:
        notes.append(f"Records of the shelf: {', '.join(shelved)}.")
    return "\n".join([title, "", set_rows(header, rows), "", " ".join(notes)]) + "\n"


def results_values(table: Table, scale: Scale, out: str | Path | None) -> dict[str, Any]:
    """Give the records of a table's rows as JSON values, beside the paper's numbers, which are percent as printed.

    Args:
        table: A table of `robust_hub.paper.tables`.
        scale: A scale of `robust_hub.paper.rows`.
        out: Folder of the experiments; None reads the shelf alone.

    Returns:
        "table", "scale" and "rows": of each its label, the shelf's checkpoint if its records are that one's, "ours" as
        `robust_hub.evidence.values.runs_values` gives it, null where it was not run, and the "paper".

    Raises:
        CheckpointError: If a checkpoint of the shelf is damaged.
        ValueError: If records are damaged, or are of a network that was trained or certified otherwise than the scale
            says.
    """
    rows = []
    for experiment in _experiments(table, scale, out):
        recorded, row = read_recorded(experiment), experiment.row
        paired = zip(table.radii, row.paper_certified, strict=False)
        certified = [{"radius": radius, "at_zero": zero, "accuracy": value} for radius, (zero, value) in paired]
        rows.append(
            {
                "row": table.label(row),
                "checkpoint": recorded.checkpoint,
                "ours": runs_values(recorded.runs, table.radii) if recorded.runs else None,
                "paper": {"clean": row.paper_clean, "certified": certified},
            }
        )
    return {"table": table.name, "scale": scale.name, "rows": rows}


def draw(table: Table, scale: Scale, out: str | Path | None, picture: str | Path) -> Path:
    """Draw the certified accuracy of every finished row, one curve a sigma.

    Args:
        table: A table or figure of `robust_hub.paper.tables`.
        scale: A scale of `robust_hub.paper.rows`.
        out: Folder of the experiments; rows that it has no records of are the shelf's, as are all with None.
        picture: Image file to write.

    Returns:
        The file written.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If no row is finished, or the file cannot be written.
    """
    curves = {
        f"{experiment.row.dataset}, {experiment.row.label}, sigma = {run.sigma:g}": run.records
        for experiment in _experiments(table, scale, out)
        for run in read_recorded(experiment).runs
    }
    return plot_curves(curves, picture, title=f"{table.name}, scale {scale.name}")


def _experiments(table: Table, scale: Scale, out: str | Path | None) -> list[Experiment]:
    """Give the experiment of each row."""
    return [Experiment(row, scale, None if out is None else Path(out)) for row in table.rows]


def _our_cells(runs: Sequence[Run], radii: Sequence[float]) -> list[str]:
    """Give clean accuracy and that at each radius, the best sigma's, as our records have them."""
    if not runs:
        return ["not run yet", *("-" for _ in radii)]
    clean = clean_accuracy(runs[0].records)
    cells = ["-" if clean is None else clean.percent]
    for best in best_per_radius(runs, radii):
        at_zero = "" if best.at_zero is None else f"({100 * best.at_zero.value:.1f}) "
        cells.append(at_zero + best.accuracy.percent)
    return cells


def _paper_cells(row: Row, radii: Sequence[float]) -> list[str]:
    """Give the same as the paper prints it; "-" where it does not."""
    cells = ["-" if row.paper_clean is None else f"{row.paper_clean:.1f}"]
    cells += [f"{'' if zero is None else f'({zero:.1f}) '}{value:.1f}" for zero, value in row.paper_certified]
    return cells + ["-"] * (1 + len(radii) - len(cells))


def _in_turn(ours: Sequence[str], papers: Sequence[str]) -> list[str]:
    """Give a cell of ours, then one of the paper's, and so on."""
    return [cell for pair in zip(ours, papers, strict=True) for cell in pair]


def _certification(run: Run) -> str:
    """Say which images a run certified, and how."""
    identity = run.identity
    images = f"{identity['images']} images (every {identity['every']}th) of {identity.get('data')}"
    plan = f"{identity.get('plan', 'fixed')} plan, n = {identity['n']:,}, alpha = {identity['alpha']:g}"
    return f"{images}, {plan}, {identity['dtype']}."
