"""A table of runs as a command prints it: Markdown for a file or a pipe, columns that fit on a terminal."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from robust_hub.cli.output import in_columns

if TYPE_CHECKING:
    from robust_hub.evidence.records import Run

_WIDEST = 100  # characters of a line of prose


def table_words(runs: Sequence[Run], radii: Sequence[float], kind: str | None = None) -> str:
    """Set the accuracies of runs as a table, with what it means and where its samples are too few for a radius.

    Args:
        runs: The runs.
        radii: Radii of the table, l2 for pixels in [0, 1].
        kind: "columns", a column a run, "markdown" or "latex", a row a run; None is columns on a terminal, else
            Markdown.
    """
    from robust_hub.evidence.tables import latex_table, markdown_table, table_cells

    if kind == "latex":
        return latex_table(runs, radii)
    terminal = sys.stdout.isatty()
    if kind == "markdown" or (kind is None and not terminal):
        return markdown_table(runs, radii)
    width = shutil.get_terminal_size().columns
    rows, below = table_cells(runs, radii)
    below = below.replace("Last row:", "Last column:")  # a row a run is a column a run here
    below = f"r: right, and certified at least so far (l2 distance, pixel values from 0 to 1). {below}"
    columns = in_columns([*zip(*rows, strict=True)], width if terminal else None)
    return f"{columns}\n\n{textwrap.fill(below, min(width, _WIDEST))}"
