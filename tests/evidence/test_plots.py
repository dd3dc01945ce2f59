"""Figures: one labelled curve a run, with the right heights; words when matplotlib is absent."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toys import full_disk

from robust_hub.evidence.limit import Limit
from robust_hub.evidence.limits import limits_of
from robust_hub.evidence.plots import _draw, plot_curves
from robust_hub.evidence.records import Record, Run
from robust_hub.guarantee.reach import largest_radius

RUNS = {
    "sigma = 0.25": [Record(0, 1, 1, 0.4, 1, 1.0), Record(1, 1, 2, 0.9, 0, 1.0)],
    "sigma = 0.5": [Record(0, 1, 1, 0.8, 1, 1.0), Record(1, 1, 1, 0.2, 1, 1.0)],
}


def test_png_is_a_picture_of_the_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure_module = pytest.importorskip("matplotlib.figure")
    image_module = pytest.importorskip("matplotlib.image")
    saved: list[Any] = []
    original = figure_module.Figure.savefig

    def keep(self: Any, *args: Any, **options: Any) -> None:
        saved.append(self)
        original(self, *args, **options)

    monkeypatch.setattr(figure_module.Figure, "savefig", keep)
    out = plot_curves(RUNS, tmp_path / "new" / "curves", title="digits")
    assert out == tmp_path / "new" / "curves.png"
    assert out.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert np.ptp(image_module.imread(out)) > 0.5
    (axes,) = saved[0].axes
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert set(lines) == {"sigma = 0.25, 2 images", "sigma = 0.5, 2 images"}
    radii, heights = lines["sigma = 0.25, 2 images"].get_data()
    np.testing.assert_array_equal(heights, np.where(radii <= 0.4, 50.0, 0.0))
    assert radii[0] == 0 and radii[-1] > 0.8
    assert axes.get_title() == "digits"


def test_nothing_certified_still_draws(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    out = plot_curves({"x": [Record(0, 1, -1, 0.0, 0, 1.0)]}, tmp_path / "curves.png")
    assert out.stat().st_size > 1000


def test_bad_input(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match="at least one run"):
        plot_curves({}, tmp_path / "curves.png")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="expected a file that can be written"):
        plot_curves(RUNS, tmp_path / "file" / "curves.png")


def test_missing_matplotlib_gives_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "robust-hub\[plot\]"'):
        plot_curves(RUNS, tmp_path / "curves.png")


def test_a_grid_is_drawn_at_its_radii_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure_module = pytest.importorskip("matplotlib.figure")
    saved: list[Any] = []
    original = figure_module.Figure.savefig
    monkeypatch.setattr(
        figure_module.Figure, "savefig", lambda self, out, **how: (saved.append(self), original(self, out, **how))
    )
    grid = (0.25, 0.5)
    records = [Record(0, 1, 1, 0.5, 1, 1.0, radii=grid), Record(1, 1, -1, 0.0, 0, 1.0, radii=grid)]
    plot_curves({"sequential": records, **RUNS}, tmp_path / "x.png")
    (axes,) = saved[0].axes
    points = axes.containers[0].lines[0]
    assert points.get_xdata().tolist() == [0.25, 0.5]
    assert points.get_ydata().tolist() == [50.0, 50.0]


@pytest.mark.parametrize(
    "labels", [[f"data set {k}, sigma = {k / 4:g}" for k in range(60)], ["a long name " * 12, "b"]]
)
def test_a_legend_of_many_or_long_labels_leaves_the_axes_their_size(labels: list[str]) -> None:
    pytest.importorskip("matplotlib")
    widths = []
    for names in (["a", "b"], labels):
        figure = _draw({name: [Record(0, 1, 1, 0.4, True, 1.0)] for name in names}, None)
        figure.draw_without_rendering()
        (axes,) = figure.axes
        widths.append(axes.get_window_extent().width)
    assert widths[1] > 0.9 * widths[0]


def test_many_curves_have_a_colour_each() -> None:
    pytest.importorskip("matplotlib")
    figure = _draw({str(k): [Record(0, 1, 1, 0.4, True, 1.0)] for k in range(24)}, None)
    assert len({tuple(line.get_color()) for line in figure.axes[0].get_lines()}) == 24


def test_a_picture_that_cannot_be_written_whole_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    out = plot_curves(RUNS, tmp_path / "curves.png")
    before = out.read_bytes()
    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(ValueError, match="expected a file that can be written, got .*No space left on device"):
        plot_curves({"other": RUNS["sigma = 0.5"]}, out)
    assert out.read_bytes() == before and [path.name for path in tmp_path.iterdir()] == ["curves.png"]


def fixed(radius: float, n: int = 1000, sigma: float = 0.25) -> Record:
    return Record(0, 1, 1, radius, 1, 1.0, n=n, sigma=sigma, alpha=0.001, plan="fixed")


def test_a_curve_that_its_samples_end_says_so() -> None:
    pytest.importorskip("matplotlib")
    figure = _draw({"a": [fixed(0.61)], "b": [fixed(0.2)]}, None)
    (axes,) = figure.axes
    lines = [line for line in axes.get_lines() if line.get_linestyle() == ":"]
    assert [line.get_xdata()[0] for line in lines] == [largest_radius(1000, 0.25)]  # one for both
    assert [text.get_text() for text in axes.texts] == ["n = 1,000 certifies no more"]
    (axes,) = _draw({"a": [fixed(0.61)], "b": [fixed(0.2, 500)], "c" * 50: [fixed(0.2, 400)]}, None).axes
    said = ["a: n = 1,000 certifies no more", "b: n = 500 certifies no more", "n = 400 certifies no more"]
    assert [text.get_text() for text in axes.texts] == said
    colours = [line.get_color() for line in axes.get_lines()]
    assert colours[:3] == colours[3:] == [text.get_color() for text in axes.texts]


@pytest.mark.parametrize(
    "record",
    [
        fixed(0.4),  # its limit is beyond the figure
        Record(0, 1, 1, 0.4, 1, 1.0),  # a foreign log
        Record(0, 1, 1, 0.4, 1, 1.0, n=1000, sigma=0.25, alpha=0.001, plan="radius"),  # as many as its pilot asked for
        Record(0, 1, 1, 0.5, 1, 1.0, n=96, sigma=0.25, alpha=0.001, plan="sequential", radii=(0.25, 0.5)),
    ],
)
def test_a_curve_that_ends_for_other_reasons_has_no_line(record: Record) -> None:
    pytest.importorskip("matplotlib")
    (axes,) = _draw({"a": [record]}, None).axes
    assert len(axes.texts) == 0


def test_limits_are_those_of_the_runs_bound_and_of_a_grids_samples() -> None:
    run = Run((fixed(0.6),), {"bound": "runner_up"}, Path("run"))
    assert limits_of([run])["sigma = 0.25"].radius == largest_radius(1000, 0.25, bound="runner_up")
    assert limits_of(run) == limits_of([run])
    assert len(_draw(run, None).axes[0].texts) == 1
    grid, short = (0.25, 0.5, 0.75), {"n": 1000}
    how = {"n": 64, "sigma": 0.25, "alpha": 0.001, "plan": "sequential", "radii": grid, "out_of_reach": (0.75,)}
    record = Record(0, 1, 1, 0.5, 1, 1.0, **how)
    run = Run((record,), short, Path("run"))
    assert limits_of(iter([run])) == {"sigma = 0.25": Limit(0.75, "n = 1,000 cannot certify 0.75")}
    assert limits_of({"a": [record]}) == {"a": Limit(0.75, "its n cannot certify 0.75")}
    other = Record(1, 1, 1, 0.75, 1, 1.0, n=64, sigma=0.25, alpha=0.001, plan="sequential", radii=grid)
    assert limits_of({"a": [record, other]}) == {}


def test_many_limits_are_lines_without_words() -> None:
    pytest.importorskip("matplotlib")
    (axes,) = _draw({str(n): [fixed(0.61, n)] for n in range(500, 507)}, None).axes
    assert len([line for line in axes.get_lines() if line.get_linestyle() == ":"]) == 7 and len(axes.texts) == 0
