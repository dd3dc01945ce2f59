"""A table shows what the records say beside what the paper says, and whose records they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from robust_hub.evidence.records import Record, Run
from robust_hub.paper import results as module
from robust_hub.paper.experiment import Experiment
from robust_hub.paper.recorded import Recorded
from robust_hub.paper.results import draw, results
from robust_hub.paper.rows import CLEAN, MIXED, SIGMAS, Row, Scale, Table
from robust_hub.paper.tables import TABLES

SCALE = Scale("tiny", "a test", "resnet18s", "shapes", pretrain={}, scratch={}, tune={}, head={}, long={}, certify={})
TABLE = Table(
    "table0",
    "rows",
    (
        Row("first", "digits", CLEAN, MIXED, paper="90 | (80)70 60.3"),
        Row("second", "digits", CLEAN, paper="50"),
        Row("third", "digits", CLEAN, CLEAN),
    ),
    (0.25, 0.5),
)
IDENTITY = {"images": 10, "every": 20, "data": "digits", "n": 10_000, "alpha": 0.001, "dtype": "bfloat16"}


def run(sigma: float, right: int, radius: float) -> Run:
    """Ten images, of which some are right with a radius; the base classifier is right of nine."""
    answers = [(0, radius, 1)] * right + [(-1, 0.0, 0)] * (10 - right)
    records = [Record(i, 0, *answer, 0.1, base=int(i == 9), sigma=sigma) for i, answer in enumerate(answers)]
    return Run(tuple(records), IDENTITY, Path(f"sigma_{sigma:g}"))


RUNS = (run(0.25, 8, 0.3), run(0.5, 6, 0.6), run(1.0, 4, 0.6))


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> dict[str, Recorded]:
    """What the folder OUT has of each row, by its label."""
    values = {"first": Recorded(RUNS), "second": Recorded(), "third": Recorded(RUNS, "resnet18s_ln.x")}

    def read(experiment: Experiment) -> Recorded:
        assert experiment.scale is SCALE
        return values[experiment.row.label] if experiment.out == Path("OUT") else Recorded()

    monkeypatch.setattr(module, "read_recorded", read)
    return values


def test_ours_stand_beside_the_papers(recorded: dict[str, Recorded]) -> None:
    lines = results(TABLE, SCALE, "OUT").splitlines()
    assert lines[0] == "**table0: rows.** Ours at the scale 'tiny': a test."
    assert lines[2] == "| row | clean | paper | r = 0.25 | paper | r = 0.5 | paper |"
    first, second, third = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines[4:7])
    assert first[::2] == ["first", "90.0", "(80.0) 70.0", "60.3"]
    assert first[1].startswith("90.0 [")
    assert first[3].startswith("(80.0) 80.0 [")  # sigma 0.25 is the best at 0.25,
    assert first[5].startswith("(60.0) 60.0 [")  # and 0.5 at 0.5
    assert second == ["second", "not run yet", "50.0", "-", "-", "-", "-"]
    assert third[1::2] == first[1::2] and third[2::2] == ["-", "-", "-"]


def test_the_note_says_how_and_whose(recorded: dict[str, Recorded]) -> None:
    fixed = "10 images (every 20th) of digits, fixed plan, n = 10,000, alpha = 0.001, bfloat16."
    shelf = "Records of the shelf: `resnet18s_ln.x`."
    assert results(TABLE, SCALE, "OUT").splitlines()[-1].endswith(f"choice. {fixed} {shelf}")
    recorded["first"] = Recorded(tuple(replace(one, identity={**IDENTITY, "plan": "sequential"}) for one in RUNS))
    recorded["second"] = recorded["third"]
    both = f"{fixed} {fixed.replace('fixed', 'sequential')}"
    assert results(TABLE, SCALE, "OUT").splitlines()[-1].endswith(f"choice. {both} {shelf}")
    assert shelf not in results(replace(TABLE, rows=TABLE.rows[:1]), SCALE, "OUT")


def test_without_a_folder_the_shelf_alone_is_read(recorded: dict[str, Recorded]) -> None:
    assert results(TABLE, SCALE, None).count("not run yet") == 3


def test_a_row_has_a_curve_for_each_sigma(
    recorded: dict[str, Recorded], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    drawn: dict[str, Any] = {}

    def plot(curves: dict[str, Any], picture: Path, title: str) -> Path:
        drawn.update(curves=curves, title=title)
        return picture

    monkeypatch.setattr(module, "plot_curves", plot)
    assert draw(TABLE, SCALE, "OUT", tmp_path / "x.png") == tmp_path / "x.png"
    labels = [f"digits, {label}, sigma = {sigma:g}" for label in ("first", "third") for sigma in SIGMAS]
    assert list(drawn["curves"]) == labels and drawn["title"] == "table0, scale tiny"
    assert drawn["curves"][labels[1]] == RUNS[1].records


def test_rows_of_several_data_sets_are_told_apart_by_their_labels() -> None:
    for table in TABLES.values():
        labels = [table.label(row) for row in table.rows]
        assert len(set(labels)) == len(labels), table.name
    assert TABLES["figure3"].label(TABLES["figure3"].rows[2]) == "flowers102, mixed noise"
