"""Accuracy: the numbers of the tables, against scipy, by hand and against published logs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
from logs import LARGE, SMALL, make_grid, make_rows
from scipy.stats import binomtest

from robust_hub.evidence.accuracy import (
    Proportion,
    abstention_rate,
    average_certified_radius,
    certified_accuracy,
    clean_accuracy,
    curve,
    grid_of,
    wilson,
)
from robust_hub.evidence.records import Record, read_records, read_run
from robust_hub.evidence.tables import markdown_table

ORACLES = Path(__file__).parents[3] / "shared" / "oracles"
RADII = (0.25, 0.5, 0.75)


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 500), (500, 500), (181, 500), (1, 7), (9999, 10000)])
def test_wilson_ends_where_the_score_test_does(k: int, n: int, confidence: float) -> None:
    """The ends of the interval are the p with |k / n - p| = z sqrt(p (1 - p) / n)."""
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    low, high = wilson(k, n, confidence)
    assert 0 <= low <= k / n <= high <= 1 and low < high
    for end in (low, high):
        assert abs(k / n - end) == pytest.approx(z * (end * (1 - end) / n) ** 0.5, abs=1e-9)


@pytest.mark.parametrize("arguments", [(1, 0), (-1, 5), (6, 5), (1, 5, 0.0), (1, 5, 1.0), (1, 5, float("nan"))])
def test_wilson_bad_input(arguments: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="expected"):
        wilson(*arguments)


def test_certified_accuracy_by_hand() -> None:
    records = make_rows(SMALL)
    # radius >= r, not >; the wrong image never counts, the abstention not even at 0.
    assert [certified_accuracy(records, r).value for r in (0, 0.25, 0.2500001, 0.5, 0.75)] == [
        0.5,
        0.5,
        0.25,
        0.25,
        0,
    ]
    accuracy = certified_accuracy(records, 0.25)
    assert accuracy == Proportion(0.5, 4, *wilson(2, 4))
    assert average_certified_radius(records) == 0.75 / 4
    assert abstention_rate(records).value == 0.25
    clean = clean_accuracy(records)
    assert clean is not None and clean.value == 0.75
    assert clean_accuracy(make_rows(SMALL, with_base=False)) is None


def test_curve_equals_certified_accuracy() -> None:
    generator = np.random.default_rng(0)
    rows = [(int(generator.integers(-1, 3)), float(generator.integers(0, 9)) / 8, 1) for _ in range(200)]
    records = make_rows([(p, 0.0 if p == -1 else r, b) for p, r, b in rows])
    radii = np.linspace(0, 1.25, 21)
    expected = [certified_accuracy(records, float(r)).value for r in radii]
    np.testing.assert_array_equal(curve(records, radii), expected)
    assert 0 < expected[5] < expected[0] < 1


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="at least one record"):
        certified_accuracy([], 0.5)
    with pytest.raises(ValueError, match="at least one record"):
        curve([], [0.5])
    for radius in (-0.1, float("nan"), "0.25", None, [0.25], True):
        with pytest.raises(ValueError, match="radii >= 0"):
            certified_accuracy(make_rows(SMALL), radius)


def test_records_of_several_sigmas_are_no_accuracy() -> None:
    records = [dataclasses.replace(r, sigma=s) for r, s in zip(make_rows(SMALL), (0.25, 0.25, None, 0.5), strict=True)]
    for ask in (
        lambda: certified_accuracy(records, 0.25),
        lambda: curve(records, [0.25]),
        lambda: average_certified_radius(records),
        lambda: abstention_rate(records),
        lambda: clean_accuracy(records),
    ):
        with pytest.raises(ValueError, match="expected records of one sigma, got 0.25 and 0.5: each is a classifier"):
            ask()
    assert certified_accuracy(records[:3], 0.25).n == 3


def test_radii_that_were_not_decided_are_refused() -> None:
    grid = make_grid(SMALL, (0.25, 0.5, 0.75))
    assert [certified_accuracy(grid, r).value for r in (0.25, 0.5)] == [0.5, 0.25]
    assert curve(grid, [0.25, 0.5]).tolist() == [0.5, 0.25]
    for radius in (0.0, 0.3, 1.0):
        with pytest.raises(ValueError, match=r"grid that was decided, \(0.25, 0.5, 0.75\), got"):
            certified_accuracy(grid, radius)
    with pytest.raises(ValueError, match="grid that was decided"):
        curve(grid, [0.25, 0.3])
    with pytest.raises(ValueError, match="radii of a fixed plan for an average"):
        average_certified_radius(grid)
    assert grid_of(grid) == (0.25, 0.5, 0.75)
    assert grid_of(make_rows(SMALL)) is None
    mixed = [*make_grid(SMALL, (0.25, 0.5, 0.75)), *make_rows(LARGE)]
    assert grid_of(mixed) == (0.25, 0.5, 0.75)
    with pytest.raises(ValueError, match="grid that was decided"):
        certified_accuracy(mixed, 1.0)


def test_synthetic_log_in_cohens_format(tmp_path: Path) -> None:
    lines = ["idx\tlabel\tpredict\tradius\tcorrect\ttime"]
    lines += [f"{20 * i}\t1\t1\t{0.01 * i:.3}\t1\t0:00:14.26" for i in range(100)]
    lines += [f"{20 * i}\t1\t2\t{0.9:.3}\t0\t16.6" for i in range(100, 150)]
    lines += [f"{20 * i}\t1\t-1\t0.0\t0\t16.6" for i in range(150, 200)]
    log = tmp_path / "log__sigma_0.25.tsv"
    log.write_text("\n".join(lines) + "\n")
    records = read_records(log)
    assert [certified_accuracy(records, r).value for r in (0, *RADII)] == [0.5, 0.375, 0.25, 0.125]
    assert certified_accuracy(records, 0.25).n == 200
    assert "| sigma = 0.25 | 200 | - | 25.0 [" in markdown_table([read_run(log)])


@pytest.mark.skipif(not ORACLES.is_dir(), reason="the published logs are not here")
@pytest.mark.parametrize(
    ("sigma", "published"),
    [
        ("0.25", (0.60, 0.43, 0.27)),
        ("0.50", (0.55, 0.41, 0.32, 0.23)),
        ("1.00", (0.39, 0.34, 0.28, 0.22)),
    ],
)
def test_cohens_published_table(sigma: str, published: tuple[float, ...]) -> None:
    run = read_run(ORACLES / f"cohen2019__cifar10__resnet110__noise_{sigma}__test__sigma_{sigma}.tsv")
    assert run.sigma == float(sigma)
    accuracies = [certified_accuracy(run.records, r) for r in (0.25, 0.5, 0.75, 1.0)[: len(published)]]
    assert all(accuracy.n == 500 for accuracy in accuracies)
    assert [f"{accuracy.value:.2f}" for accuracy in accuracies] == [f"{value:.2f}" for value in published]


@pytest.mark.skipif(not ORACLES.is_dir(), reason="the published logs are not here")
def test_every_published_log_reads() -> None:
    logs = sorted(ORACLES.glob("cohen2019__*.tsv"))
    sizes = [len(read_records(log)) for log in logs]
    assert len(logs) == 13 and sorted(set(sizes)) == [427, 500, 513]


class Swept(list[Record]):
    """Records that count how often they are gone through."""

    times = 0

    def __iter__(self) -> Iterator[Record]:
        self.times += 1
        return super().__iter__()


def test_a_curve_goes_through_the_records_as_often_whatever_the_number_of_radii() -> None:
    grid = tuple(k / 100 for k in range(50))
    for radii in (None, grid):
        swept = [Swept([Record(0, 1, 1, 0.25, 1, 1.0, sigma=0.5, radii=radii)] * 7) for _ in range(2)]
        curve(swept[0], [0.25])
        curve(swept[1], grid)
        assert swept[0].times == swept[1].times > 0


def test_the_interval_is_scipys_to_the_last_bit() -> None:
    for n in (1, 2, 7, 500, 49_999):
        for k in {0, 1, n // 3, n // 2, n - 1, n}:
            for confidence in (0.5, 0.95, 0.999):
                expected = binomtest(k, n).proportion_ci(confidence, method="wilson")
                assert wilson(k, n, confidence) == (expected.low, expected.high)
