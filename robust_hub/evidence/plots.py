"""Certified-accuracy curves as figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robust_hub.evidence.accuracy import certified_accuracy, curve, grid_of, wilson
from robust_hub.evidence.comparisons import Runs, labelled, listed
from robust_hub.evidence.figures import image_of, literal, new_figure, save
from robust_hub.evidence.limit import Limit
from robust_hub.evidence.limits import limits_of
from robust_hub.evidence.tally import Tally, tally

SIZE = (6.0, 4.0)  # inches
SHARE = 0.6  # of the figure that a legend within the axes may take in either direction
ROWS = 20  # of a legend beside them
FEW, LONGEST = 6, 40  # lines of limits that have words beside them, letters of the runs that these are about
_BESIDE = {
    **{"xycoords": ("data", "axes fraction"), "xytext": (-2, 0), "textcoords": "offset points", "fontsize": 7},
    **{"rotation": 90, "ha": "right", "va": "center", "zorder": 1.5},
    "bbox": {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.8},
}
COLOURS = 10  # that matplotlib goes through


def plot_curves(runs: Runs, out: str | Path, *, title: str | None = None) -> Path:
    """Draw certified accuracy over the radius, one curve a run, with Wilson 95 % bands.

    A run that decided a grid of radii is drawn at those radii alone, with error bars. A thin line says from which
    radius on the samples of a run certify nothing, whatever the network, where that lies within the figure.

    Args:
        runs: Records by label, or runs.
        out: Image file to write (PNG unless its suffix names another format); its folder is made if absent.
        title: Text above the figure.

    Returns:
        The file written.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If there are no records, or the file cannot be written.
    """
    return save(_draw(runs, title), out)


def draw_curves(runs: Runs, *, title: str | None = None) -> bytes:
    """Draw the same figure as the bytes of a PNG.

    Args:
        runs: Records by label, or runs.
        title: Text above the figure.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If there are no records.

    Example:
        >>> from robust_hub.evidence.record import Record
        >>> draw_curves({"sigma = 0.25": [Record(0, 3, 3, 0.6, True, 1.0)]})[1:4]
        b'PNG'
    """
    return image_of(_draw(runs, title))


def _draw(runs: Runs, title: str | None) -> Any:
    figure = new_figure(SIZE)
    runs = listed(runs)
    table = {label: tally(records) for label, records in labelled(runs).items()}
    top = max((counted.reached.max(initial=0.0) for counted in table.values()), default=0.0)
    radii = np.linspace(0, 1.05 * top if top > 0 else 1.0, 501)
    axes = figure.add_subplot()
    if len(table) > COLOURS:
        axes.set_prop_cycle(color=_colours(len(table)))
    colours = {}
    for name, counted in table.items():
        grid = grid_of(counted)
        if grid is None:
            colours[name] = _draw_curve(axes, literal(name), counted, radii)
        else:
            colours[name] = _draw_grid(axes, literal(name), counted, grid)
    axes.set(xlabel="l2 radius, pixels in [0, 1]", ylabel="certified accuracy (%)")
    axes.set(xlim=(0, radii[-1]), ylim=(0, 100))
    axes.grid(alpha=0.3)
    _draw_limits(axes, {k: limit for k, limit in limits_of(runs).items() if limit.radius <= radii[-1]}, colours)
    if title:
        axes.set_title(literal(title))
    _explain(figure, axes)
    return figure


def _draw_limits(axes: Any, limits: Mapping[str, Limit], colours: Mapping[str, Any]) -> None:
    """Say where curves end because of their samples: a thin line each, with words where they are few."""
    sharing: dict[Limit, list[str]] = {}
    for label, limit in limits.items():
        sharing.setdefault(limit, []).append(label)
    for limit, labels in sharing.items():
        colour = colours[labels[0]] if len(labels) == 1 else "#444444"
        axes.axvline(limit.radius, color=colour, linestyle=":", linewidth=1)
        if len(sharing) > FEW:
            continue
        whose = f"{', '.join(labels)}: " if len(labels) < len(colours) else ""
        whose = whose if len(whose) <= LONGEST else ""  # the line has the curve's colour
        axes.annotate(literal(whose + limit.words), (limit.radius, 0.5), color=colour, **_BESIDE)


def _explain(figure: Any, axes: Any) -> None:
    """Put the legend into the axes, or beside them in a wider figure where it would take most of them."""
    inside = axes.legend()
    width, height = _inches(figure, inside)
    if width <= SHARE * SIZE[0] and height <= SHARE * SIZE[1]:
        return
    inside.remove()
    handles, labels = axes.get_legend_handles_labels()
    beside = figure.legend(handles, labels, loc="outside right upper", ncols=-(-len(labels) // ROWS), fontsize="small")
    width, height = _inches(figure, beside)
    figure.set_size_inches(SIZE[0] + width, max(SIZE[1], height + 0.2))


def _inches(figure: Any, legend: Any) -> tuple[float, float]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    box = legend.get_window_extent(FigureCanvasAgg(figure).get_renderer())  # type: ignore[no-untyped-call]
    return box.width / figure.dpi, box.height / figure.dpi


def _colours(count: int) -> Any:
    """Give as many colours as there are curves, beyond those that matplotlib goes through by itself."""
    from matplotlib import colormaps

    return colormaps["turbo"](np.linspace(0, 1, count))


def _draw_curve(axes: Any, label: str, counted: Tally, radii: NDArray[np.float64]) -> Any:
    """Draw a run that decided every radius, and give its colour."""
    n, values = counted.n, curve(counted, radii)
    bands = np.array([wilson(round(value * n), n) for value in values])
    (line,) = axes.plot(radii, 100 * values, drawstyle="steps-pre", label=f"{label}, {n} images")
    low, high = 100 * bands.T
    axes.fill_between(radii, low, high, step="pre", alpha=0.15, linewidth=0, color=line.get_color())
    return line.get_color()


def _draw_grid(axes: Any, label: str, counted: Tally, grid: tuple[float, ...]) -> Any:
    """Draw a run that decided the radii of a grid, and give its colour."""
    accuracies = [certified_accuracy(counted, radius) for radius in grid]
    middle = np.array([100 * one.value for one in accuracies])
    ends = np.array([[100 * one.low for one in accuracies], [100 * one.high for one in accuracies]])
    errors = np.abs(ends - middle)
    drawn = axes.errorbar(grid, middle, errors, fmt="o:", capsize=3, markersize=4, label=f"{label}, {counted.n} images")
    return drawn.lines[0].get_color()
