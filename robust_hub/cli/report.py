"""The command that makes tables and curves of records: report."""

from __future__ import annotations

from pathlib import Path

import click

from robust_hub.cli.completion import complete_run
from robust_hub.cli.options import FILE, FOLDER, NUMBERS
from robust_hub.cli.output import emit, json_option, note
from robust_hub.cli.tables import table_words
from robust_hub.layout import RECORDS, RUN
from robust_hub.memory import uncollected
from robust_hub.models.shelves import checkpoint_folder
from robust_hub.parsing import shown

DEEPEST = 2  # folders between the one that is named and a run, as in model_cards/NAME/certification/RUN


@click.command()
@click.argument("runs", nargs=-1, required=True, type=FOLDER, shell_complete=complete_run)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["columns", "markdown", "latex"]),
    help="How the table is written [default: columns on a terminal, else markdown].",
)
@click.option(
    "--radii",
    type=NUMBERS,
    default="0,0.25,0.5,0.75,1.0",
    show_default=True,
    metavar="R,R,...",
    help="Radii of the table's columns, l2 distances for pixels in [0, 1].",
)
@click.option("--plot", type=FILE, help="Write the certified-accuracy curves to this PNG.")
@json_option
@uncollected()
def report(runs: tuple[Path, ...], kind: str | None, radii: tuple[float, ...], plot: Path | None) -> None:
    """Make a table and curves of what certify recorded.

    RUNS are run folders, folders of these such as the --out of certify, a checkpoint's folder or name, or logs in the
    format of Cohen et al. Nothing is computed anew; a table takes a second.

    Example: robust-hub report runs/digits/certified --plot curves.png
    """
    from robust_hub.evidence.plots import plot_curves
    from robust_hub.evidence.records import read_run
    from robust_hub.evidence.values import runs_values

    read = [read_run(folder) for path in runs for folder in run_folders(path)]
    curves = None if plot is None else plot_curves(read, plot)
    emit({**runs_values(read, radii), "curves": curves}, lambda: table_words(read, radii, kind))
    if curves is not None:
        note(f"curves: {curves}")


def run_folders(path: Path) -> list[Path]:
    """Find the runs that a path stands for: itself, or those in it, at most two folders deeper.

    Args:
        path: A run's folder, a log, or a folder of runs, such as a checkpoint's, or its name.

    Returns:
        The folders of runs, sorted.

    Raises:
        ValueError: If it is a folder without runs.
    """
    if not path.exists():
        path = checkpoint_folder(str(path)) or path
    if not path.is_dir() or (path / RECORDS).exists() or (path / RUN).exists():
        return [path]
    depths = ["*/" * depth + RUN for depth in range(1, DEEPEST + 2)]
    if found := sorted({file.parent for pattern in depths[:DEEPEST] for file in path.glob(pattern)}):
        return found
    deeper = min(path.glob(depths[-1]), default=None)
    near = "the --out of certify" if deeper is None else f"a folder nearer to one, such as {shown(deeper.parents[1])}"
    raise ValueError(
        f"expected a run of certify, or a folder of them, got {shown(path)}: no {RUN} lies in it or at most {DEEPEST} "
        f"folders deeper; name {near}"
    )
