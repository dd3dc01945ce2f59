"""Runs side by side: the best at each radius, the radii that all decided, and runs that do not belong together."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from logs import LARGE, SMALL, make_grid, make_rows, runs

from robust_hub.evidence.comparisons import best_per_radius, decided_radii, labelled
from robust_hub.evidence.records import Run
from robust_hub.evidence.tables import markdown_table
from robust_hub.guarantee.plans import RADII


def test_labels_need_runs_with_records_each_once() -> None:
    assert list(labelled(runs())) == ["sigma = 0.25", "sigma = 0.5"]
    with pytest.raises(ValueError, match="at least one run"):
        labelled([])
    with pytest.raises(ValueError, match="got none in 'x'"):
        labelled({"x": []})
    with pytest.raises(ValueError, match="each run once"):
        labelled([*runs(), runs()[1]])


def test_decided_radii_are_those_of_every_grid_and_the_papers_without_one() -> None:
    run = runs()[0]
    one, two = (
        dataclasses.replace(run, records=tuple(make_grid(SMALL, radii)))
        for radii in ((0.0, 0.25, 0.5, 0.75), (0.25, 0.3, 0.5, 0.75))
    )
    assert decided_radii([run]) == RADII
    assert decided_radii([one]) == decided_radii([run, one]) == (0.25, 0.5, 0.75)
    assert decided_radii([two, one]) == (0.25, 0.5, 0.75)


def test_best_per_radius() -> None:
    best = best_per_radius(runs(), (0.25, 0.5, 0.75))
    # Both are at 50 % at 0.25 and at radius 0: the first (the smaller sigma) stays; LARGE wins above.
    assert [b.label for b in best] == ["sigma = 0.25", "sigma = 0.5", "sigma = 0.5"]
    assert [b.accuracy.value for b in best] == [0.5, 0.5, 0.5]
    tie = best_per_radius(
        {"a": make_rows([(1, 1.0, 1), (2, 0, 1)]), "b": make_rows([(1, 1.0, 1), (1, 0.1, 1)])}, (1.0,)
    )
    assert (tie[0].label, tie[0].at_zero.value) == ("b", 1.0)


def test_best_needs_runs_that_match() -> None:
    with pytest.raises(ValueError, match="of different images"):
        best_per_radius({"a": make_rows(SMALL), "b": make_rows(SMALL[:3])})
    with pytest.raises(ValueError, match="differ in model"):
        best_per_radius(runs(model="other"))
    best_per_radius(runs(seed=9, n=1000))


NEW = ("noise", "logits", "autocast", "tf32", "torch", "device_name", "image", "images_hash", "alpha")


@pytest.mark.parametrize("name", NEW)
def test_what_moves_a_vote_may_not_differ(name: str) -> None:
    with pytest.raises(ValueError, match=f"the runs differ in {name};"):
        best_per_radius(runs(**{name: "other"}))  # one of them does not say it
    said = [dataclasses.replace(run, identity={**run.identity, name: "same"}) for run in runs()]
    best_per_radius(said)
    said[0] = dataclasses.replace(said[0], identity={**said[0].identity, name: "another"})
    with pytest.raises(ValueError, match=f"the runs differ in {name};"):
        best_per_radius(said)


def test_what_runs_were_before_they_said_it_is_the_same() -> None:
    best_per_radius(runs(noise="float32", plan="fixed"))


def test_the_best_of_several_seeds_is_refused() -> None:
    small, large = make_rows(SMALL), make_rows(LARGE)
    seeds = [Run(tuple(small), {"sigma": 0.25, "seed": 1}, Path("a")), Run(tuple(large), {"sigma": 0.25}, Path("b"))]
    named = {name: [dataclasses.replace(r, sigma=0.25) for r in rows] for name, rows in (("a", small), ("b", large))}
    for given in (seeds, named, {**named, "c": [dataclasses.replace(r, sigma=0.5) for r in small]}):
        with pytest.raises(ValueError, match="share a sigma, such as several seeds, the best is no accuracy of one"):
            best_per_radius(given)
        assert "No best-sigma row: of rows that share a sigma" in markdown_table(given)


def test_best_of_runs_with_different_grids_is_refused() -> None:
    a, b = make_grid(SMALL, (0.25, 0.5, 0.75)), make_grid(SMALL, (0.25, 0.5, 0.75, 2.0))
    with pytest.raises(ValueError, match="decided different radii"):
        best_per_radius({"a": a, "b": b}, (0.25,))
    with pytest.raises(ValueError, match="decided different radii"):
        best_per_radius({"a": a, "b": make_rows(SMALL)}, (0.25,))
    assert best_per_radius({"a": a}, (0.25,))[0].at_zero is None
    assert best_per_radius({"a": make_grid(SMALL, (0.0, 0.25, 0.5, 0.75))}, (0.25,))[0].at_zero.value == 0.5
