"""Commands that run whole experiments: reproduce, demo."""

from __future__ import annotations

import os
from pathlib import Path

import click

from robust_hub.cli.completion import complete_scale, complete_table
from robust_hub.cli.options import FILE, FOLDER, NAMED_FOLDER
from robust_hub.cli.output import emit, is_main, json_option, note, wants_json


@click.command()
@click.argument("table", shell_complete=complete_table)
@click.option(
    "--scale",
    default="small",
    show_default=True,
    help="small, small42, h200 or paper: which network, data and budget.",
    shell_complete=complete_scale,
)
@click.option("--data", type=NAMED_FOLDER, multiple=True, help="NAME=FOLDER or NAME=HUB_ID, once for each data set.")
@click.option(
    "--out",
    type=FOLDER,
    default=Path("runs/reproduce"),
    show_default=True,
    help="Folder for networks and records; the same command resumes.",
)
@click.option("--row", "rows", multiple=True, help="Run only rows with this in their label; once for each.")
@click.option("--show", is_flag=True, help="Run nothing, print what is there.")
@click.option("--plot", type=FILE, help="Write the curves, one a row and sigma, to this PNG.")
@click.option("--quiet", is_flag=True, help="No progress bars.")
@json_option
def reproduce(
    table: str,
    scale: str,
    data: tuple[tuple[str, str], ...],
    out: Path,
    rows: tuple[str, ...],
    show: bool,
    plot: Path | None,
    quiet: bool,
) -> None:
    """Make a TABLE of the paper, ours beside its numbers: runs the rows that have no record yet.

    TABLE is table1, table3 to table11, figure2 or figure3; --show runs nothing.

    Example: robust-hub reproduce table6 --data tiny-imagenet-32=tiny-imagenet-32/ --data cifar10=cifar10/
    """
    from robust_hub.paper.reproduce import reproduce as run
    from robust_hub.paper.results import draw, results, results_values
    from robust_hub.paper.rows import find_scale
    from robust_hub.paper.tables import check_data_name, find_table

    chosen, size = find_table(table), find_scale(scale)
    for name, _ in data:
        check_data_name(name)
    if not show:
        run(chosen, size, dict(data), out, rows=rows or None, progress=not quiet, announce=note)
    curves = draw(chosen, size, out, plot) if plot is not None and is_main() else None
    emit(
        {**results_values(chosen, size, out), "curves": curves} if wants_json() else {},
        lambda: results(chosen, size, out),
    )
    if curves is not None:
        note(f"curves: {curves}")


@click.command()
@click.option(
    "--out",
    type=FOLDER,
    default=Path("robust-hub-demo"),
    show_default=True,
    help="Folder for network, records, table and pictures.",
)
@click.option("--quiet", is_flag=True, help="No progress bars.")
@json_option
def demo(out: Path, quiet: bool) -> None:
    """See the whole way in minutes: fine-tune on handwritten digits, certify, draw, and say what it means.

    Example: robust-hub demo
    """
    # Read when torch comes in. Threads that wait by spinning, as they do by default, took four times the CPU time and
    # three times the time of a fine-tuning on a machine with other work; sleeping ones lose nothing on an idle one.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from robust_hub.demo import digit_files, explain, run_demo
    from robust_hub.evidence.values import runs_values

    runs = run_demo(out, progress=not quiet)
    files = {"curves": out / "curves.png", "digit": digit_files(out, [run.sigma or 0.0 for run in runs])}
    emit(
        {"out": out, **runs_values(runs), **files},
        lambda: f"{(out / 'table.md').read_text()}\n{explain(out, runs)}",
    )
