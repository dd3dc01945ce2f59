"""Tables: accuracies by hand, in Markdown and LaTeX."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from logs import LARGE, SMALL, make_grid, make_rows, runs

from robust_hub.evidence.accuracy import wilson
from robust_hub.evidence.records import Record, Run
from robust_hub.evidence.tables import latex_table, markdown_table

RADII = (0.25, 0.5, 0.75)


def test_markdown_table() -> None:
    low, high = wilson(2, 4)
    lines = markdown_table(runs(), RADII).splitlines()
    assert lines[0] == "| run | images | clean | abstain | r = 0.25 | r = 0.5 | r = 0.75 |"
    assert lines[1].count("---") == 7
    half = f"50.0 [{100 * low:.1f}, {100 * high:.1f}]"
    assert lines[2].startswith("| sigma = 0.25 | 4 | 75.0 [") and f"| {half} |" in lines[2]
    assert lines[3].startswith("| sigma = 0.5 | 4 | 50.0 [")
    assert lines[4] == "| best per radius | 4 |  |  | (50.0) 50.0 | (50.0) 50.0 | (50.0) 50.0 |"
    assert all(line.count("|") == 8 for line in lines[:5])
    other = markdown_table(runs(model="other"), RADII)
    assert "No best-sigma row: the runs differ in model." in other and "best per radius" not in other
    assert "| - |" in markdown_table({"x": make_rows(SMALL, with_base=False)})
    unfinished = Run(tuple(make_rows(SMALL)), {"sigma": 0.25}, Path("a"), finished=False)
    assert "sigma = 0.25 (unfinished)" in markdown_table([unfinished])


def test_a_table_says_what_noise_its_runs_are_of_and_that_a_best_is_chosen() -> None:
    chosen = "it is optimistic, since sigma was chosen on the images that it is measured on."
    old = markdown_table(runs())
    assert "Noise: drawn in float32, for networks that do not exploit float rounding; not recorded whether" in old
    assert old.count("Noise:") == 1 and chosen in old and chosen in latex_table(runs())
    new = [dataclasses.replace(run, identity={**run.identity, "noise": "lattice255"}) for run in runs()]
    for reproduction, words in [
        (False, "; the operating system drew its seed after network and images were fixed."),
        (True, "; its seed was given, so it counts for a network that was not made for this seed."),
    ]:
        text = markdown_table([dataclasses.replace(run, reproduction=reproduction) for run in new])
        assert (
            f"Noise: drawn on the lattice of 8-bit pixels, so that no rounding tells a network anything{words}" in text
        )
    assert "Noise:" not in markdown_table({"x": make_rows(SMALL)})
    assert "Noise:" not in markdown_table([Run(tuple(make_rows(SMALL)), {}, Path("log.tsv"))])


def test_a_table_says_where_samples_are_too_few_for_its_radii() -> None:
    rows = [Record(0, 3, 3, 0.6, True, 1.0, n=1000, sigma=0.25, alpha=0.001)]
    said = "A 0.0 may be for want of samples: at mine, n = 1,000 certifies no more than about 0.616, whatever the"
    for radii, beyond in (((0.25, 0.5), False), ((0.25, 0.75), True)):
        for table in (markdown_table({"mine": rows}, radii), latex_table({"mine": rows}, radii)):
            assert (said in table) == beyond
    assert said in markdown_table({"mine": rows}, (0.75,))._repr_html_()


def test_runs_of_one_sigma_keep_apart() -> None:
    first = Run(tuple(make_rows(SMALL)), {"sigma": 0.25}, Path("a"))
    second = Run(tuple(make_rows(LARGE)), {"sigma": 0.25}, Path("b"))
    table = markdown_table([first, second])
    assert "sigma = 0.25 (a)" in table and "sigma = 0.25 (b)" in table


def test_latex_table() -> None:
    text = latex_table({"50%_x": make_rows(SMALL), "y": make_rows(LARGE)}, (0.5,))
    assert text.startswith("% ")
    assert "run & images & clean & abstain & r = 0.5 \\\\" in text
    assert r"50\%\_x & 4 & 75.0 [" in text
    assert r"best per radius & 4 &  &  & (50.0) 50.0 \\" in text
    assert text.rstrip().endswith(r"\end{tabular}")
    assert all(line.count(" & ") == 4 for line in text.splitlines() if line.endswith(r"\\"))


def test_rows_that_share_a_sigma_have_no_best_row() -> None:
    def records(sigma: float) -> list[Record]:
        return [Record(0, 1, 1, 0.4, 1, 1.0, sigma=sigma), Record(1, 1, 2, 0.9, 0, 1.0, sigma=sigma)]

    assert "best per radius" in markdown_table({"a": records(0.25), "b": records(0.5)})
    table = markdown_table({"mixed": records(0.25), "clean": records(0.25)})
    assert "best per radius" not in table
    assert "rows that share a sigma" in table


def test_radii_that_a_run_did_not_decide_stay_empty() -> None:
    lines = markdown_table({"x": make_grid(SMALL, (0.25, 0.5, 0.75))}, (0.25, 1.0)).splitlines()
    cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert cells[:2] == ["x", "4"] and cells[3] == "-" and cells[4].startswith("50.0 [") and cells[5] == "-"
    assert "-: the run did not decide this radius" in lines[-1]
    whole = markdown_table({"x": make_grid(SMALL, (0.0, 0.25, 0.5, 0.75))}, (0.25,))
    assert "did not decide" not in whole
    two = {"x": make_grid(SMALL, (0.25, 0.5, 0.75)), "y": make_rows(LARGE)}
    assert "No best-sigma row: the runs decided different radii." in markdown_table(two, (0.25,))
