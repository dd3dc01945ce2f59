"""The paper's tables as data: complete, in the paper's words, and named without a doubt."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from robust_hub.guarantee.plans import RADII
from robust_hub.paper.rows import CLEAN, MIXED, SCALES, Row, find_scale
from robust_hub.paper.tables import TABLES, find_table

PAPER = Path(__file__).parents[3] / "shared" / "paper.md"
ROWS = [(table.name, row) for table in TABLES.values() for row in table.rows]


def test_every_table_and_figure_is_here() -> None:
    assert list(TABLES) == ["table1", *(f"table{k}" for k in range(3, 12)), "figure2", "figure3"]
    assert [len(table.rows) for table in TABLES.values()] == [11, 1, 5, 5, 4, 5, 5, 5, 5, 5, 2, 4]


@pytest.mark.parametrize(("name", "row"), ROWS)
def test_every_row_has_the_papers_numbers(name: str, row: Row) -> None:
    assert row.paper_clean is not None and 0 < row.paper_clean < 100
    certified = row.paper_certified
    assert len(certified) == (0 if name.startswith("figure") else len(TABLES[name].radii))
    values = [value for _, value in certified]
    assert values == sorted(values, reverse=True)  # accuracy falls with the radius
    assert all(zero is None or zero >= value for zero, value in certified)


def test_numbers_are_read_as_the_paper_prints_them() -> None:
    row = Row("x", "cifar10", CLEAN, MIXED, paper="14.29 | (90.2)80.1 62.5 (90)4")
    assert row.paper_clean == 14.29
    assert row.paper_certified == ((90.2, 80.1), (None, 62.5), (90.0, 4.0))
    assert (Row("x", "y", CLEAN).paper_clean, Row("x", "y", CLEAN).paper_certified) == (None, ())


def test_the_paper_contradicts_itself_only_where_it_does() -> None:
    # Rows of several tables that train the same share one run of ours; the paper prints other numbers for some.
    same: dict[str, set[float]] = {}
    for name, row in ROWS:
        if name.startswith("table") and row.paper_certified:
            same.setdefault(row.name, set()).add(row.paper_certified[0][1])
    several = {name: values for name, values in same.items() if len(values) > 1}
    mixed = "cifar10_ln_0-0.25-0.5-1_then_0_full"
    assert several == {
        f"{mixed}_long": {71.4, 77.6, 80.1},  # tables 1 and 6, 5, 3
        mixed: {65.9, 66.7},  # tables 1 and 4
        "cifar10_ln_0.25_then_0.25_full_long": {72.6, 78.6},  # tables 1 and 5
    }


def test_names_of_rows_tell_them_apart() -> None:
    for table in TABLES.values():
        names = [row.name for row in table.rows]
        assert len(set(names)) == len(names)


def test_scales() -> None:
    assert list(SCALES) == ["small", "small42", "h200", "paper"]
    small, longer = SCALES["small"], SCALES["small42"]  # which differ in the length of pretraining alone
    assert (small.pretrain["epochs"], longer.pretrain) == (14, {**small.pretrain, "epochs": 42})
    assert (longer.tune, longer.long, longer.certify) == (small.tune, small.long, small.certify)
    assert not set(small.shelf.values()) & set(longer.shelf.values())
    assert SCALES["paper"].pretrain["epochs"] == 100
    assert SCALES["paper"].certify.get("n") == 100_000 and "radii" not in SCALES["paper"].certify
    for scale in SCALES.values():
        assert set(RADII) <= set(scale.certify.get("radii", RADII))


def test_unknown_names_offer_near_ones() -> None:
    with pytest.raises(ValueError, match="expected a table among table1, .*got 'tabel6': did you mean table6"):
        find_table("tabel6")
    with pytest.raises(ValueError, match="a scale among small, small42, h200, paper, got 'smal': did you mean small"):
        find_scale("smal")
    assert find_table("table6").title.startswith("CIFAR-10")


@pytest.mark.skipif(not PAPER.is_file(), reason="the paper's text is not here")
def test_the_numbers_are_together_in_the_papers_text() -> None:
    number = r"\d+\.\d"
    lines = [re.findall(number, line) for line in PAPER.read_text().splitlines()]

    def there(wanted: list[str]) -> bool:
        return any(wanted == line[at : at + len(wanted)] for line in lines for at in range(len(line)))

    lost = [row for _, row in ROWS if not there(re.findall(number, row.paper))]
    assert all(row.head_only for row in lost)  # of these the text has the columns, each in a line
    columns = zip(*(re.findall(number, row.paper) for row in lost), strict=True)
    assert len(lost) == 5 and all(there(list(column)) for column in columns)
