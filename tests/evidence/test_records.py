"""Records: what a line holds, read in two formats."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from logs import IDENTITY, make
from scipy.special import ndtr

from robust_hub.evidence import lines
from robust_hub.evidence.columns import CODEC, COLUMNS, REQUIRED, Column, decoder
from robust_hub.evidence.records import Record, format_record, read_records, read_run
from robust_hub.evidence.writer import open_run


def test_round_trip_is_exact(tmp_path: Path) -> None:
    records = [make(0), make(20, predict=-1), make(40, radius=float(np.nextafter(0.25, 0)))]
    records.append(dataclasses.replace(make(60), base=None))
    with open_run(tmp_path / "run", IDENTITY) as writer:
        for record in records:
            writer.append(record)
        writer.close({"accuracy": np.float64(0.5)})
    assert read_records(tmp_path / "run") == records
    assert read_records(tmp_path / "run" / "records.tsv") == records
    run = read_run(tmp_path / "run")
    assert (run.records, run.identity, run.sigma, run.finished) == (tuple(records), IDENTITY, 0.25, True)
    written = json.loads((tmp_path / "run" / "run.json").read_text())
    assert written["summary"] == {"accuracy": 0.5}
    assert "numpy" in written["environment"]["versions"]


def test_columns_start_with_cohens() -> None:
    assert " ".join(COLUMNS) == (
        "idx label predict radius correct time base p_lower count n n0 alpha sigma seed counts "
        "plan radii undecided out_of_reach tau"
    )
    assert tuple(field.name for field in dataclasses.fields(Record)) == COLUMNS
    assert " ".join(REQUIRED) == "idx label predict radius correct time"
    line = format_record(make(7)).split("\t")
    assert line[:6] == ["7", "3", "3", "0.30000000000000004", "1", "0.1"]
    assert line[14:] == ["3:9950,5:50", "", "", "", "", ""]


COHEN = (
    "idx\tlabel\tpredict\tradius\tcorrect\ttime\r\n"
    "5000\t3\t3\t1.22\t1\t0:01:14.250000\r\n"
    "\r\n"
    "5020\t7\t4\t0.365\t1\t16.6\r\n"  # a wrong `correct`: recomputed
    "5040\t4\t-1\t0.0\t0\t1 day, 2:00:01\r\n"
    "idx\tlabel\tpredict\tradius\tcorrect\ttime\r\n"
    "5060\t4\t4\t0.3126\t1\t3"
)


def test_cohens_format(tmp_path: Path) -> None:
    log = tmp_path / "noise_0.25__sigma_0.50.tsv"
    log.write_bytes(COHEN.encode())
    records = read_records(log)
    assert records == [
        Record(5000, 3, 3, 1.22, 1, 74.25),
        Record(5020, 7, 4, 0.365, 0, 16.6),
        Record(5040, 4, -1, 0.0, 0, 93601.0),
        Record(5060, 4, 4, 0.3126, 1, 3.0),
    ]
    assert records[0].p_lower is None and records[0].counts is None
    run = read_run(log)
    assert (run.sigma, run.identity, run.finished) == (0.5, {}, True)
    log.write_bytes(COHEN.encode()[: -len("126\t1\t3")])
    assert len(read_records(log)) == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (COHEN.replace("5020\t7", "5000\t7"), "got 5000 twice"),
        (COHEN.replace("0.365", "nan"), r"line 4 of .*finite radius"),
        (COHEN.replace("\t16.6", ""), r"line 4 of .*5 values"),
        (COHEN.replace("-1\t0.0", "-1\t0.5"), "expected radius 0 for an abstention"),
        ("a\tb\n1\t2\n", "expected the columns idx label"),
        ("", "expected the columns idx label"),
    ],
)
def test_damaged_logs(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "log.tsv").write_text(text, newline="")
    with pytest.raises(ValueError, match=words):
        read_records(tmp_path / "log.tsv")


def make_won(idx: int = 4, radius: float = 0.25, undecided: tuple[float, ...] | None = (0.5,)) -> Record:
    """Make a record of a sequential plan."""
    return dataclasses.replace(
        make(idx, radius=radius),
        plan="sequential",
        n0=0,
        p_lower=float(ndtr(radius / 0.25)),
        radii=(0.1, 0.25, 0.5, 1.0, 2.0),
        undecided=undecided,
        out_of_reach=(1.0, 2.0),
        tau=1e-12,
    )


def test_records_of_a_grid_round_trip(tmp_path: Path) -> None:
    record = make_won()
    (tmp_path / "log.tsv").write_text("\t".join(COLUMNS) + "\n" + format_record(record) + "\n")
    assert read_records(tmp_path / "log.tsv") == [record]
    with pytest.raises(ValueError, match=r"expected a radius of the grid \(0.1, 0.2\), got 0.25"):
        dataclasses.replace(record, radii=(0.1, 0.2))


def test_logs_of_before_the_grid_still_read(tmp_path: Path) -> None:
    record = make(4)
    names, values = COLUMNS[:15], format_record(record).split("\t")[:15]
    (tmp_path / "log.tsv").write_text("\t".join(names) + "\n" + "\t".join(values) + "\n" + "\t".join(values[:9]))
    assert read_records(tmp_path / "log.tsv") == [record]


@pytest.mark.parametrize("column", CODEC, ids=COLUMNS)
def test_each_column_reads_what_it_wrote_and_nothing_else(column: Column, tmp_path: Path) -> None:
    whole = make_won()
    value = getattr(whole, column.name)
    assert column.read(column.write(value)) == value
    texts = dict(zip(COLUMNS, format_record(whole).split("\t"), strict=True))
    log = tmp_path / "log.tsv"
    decode = decoder(COLUMNS)

    def read(text: str) -> Record:
        values = decode([({**texts, column.name: text})[name] for name in COLUMNS])
        return Record(correct=int(values["predict"] == values["label"]), **values)

    def read_file(text: str) -> list[Record]:
        line = "\t".join(({**texts, column.name: text})[name] for name in COLUMNS)
        log.write_text("\t".join(COLUMNS) + "\n" + line + "\n")
        return read_records(log)

    assert read(f" {texts[column.name]} ") == whole == read_file(f" {texts[column.name]} ")[0]
    if column.derived:
        assert read("") == read("x") == whole
    elif column.optional:
        assert read("") == dataclasses.replace(whole, **{column.name: None})
    elif not column.derived:
        with pytest.raises(ValueError, match="line 2 of .*restore or remove the line"):
            read_file("")
    if not column.derived and column.name != "plan":
        for text in ("x", "1e400", "9" * 5000, "\x00", "nan"):
            with pytest.raises(ValueError, match="line 2 of .*restore or remove the line"):
                read_file(text)


def test_columns_stand_in_any_order_beside_others(tmp_path: Path) -> None:
    names = ["note", *reversed(COLUMNS)]
    texts = dict(zip(COLUMNS, format_record(make(4)).split("\t"), strict=True))
    line = "\t".join(texts.get(name, "x") for name in names)
    (tmp_path / "log.tsv").write_text("\t".join(names) + "\n" + line + "\n")
    assert read_records(tmp_path / "log.tsv") == [make(4)]


def test_absent_and_binary_logs(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a run folder or a TSV"):
        read_records(tmp_path / "none")
    (tmp_path / "log.tsv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="not text"):
        read_records(tmp_path / "log.tsv")


def test_records_that_cannot_be_true() -> None:
    with pytest.raises(ValueError, match=r"correct = \(predict == label\)"):
        Record(0, 3, 3, 0.1, 0, 1.0)
    with pytest.raises(ValueError, match="predict >= -1"):
        Record(0, -1, -1, 0.0, 1, 1.0)
    with pytest.raises(ValueError, match="finite radius >= 0"):
        Record(0, 3, 3, float("inf"), 1, 1.0)


def test_what_reads_records_needs_no_torch() -> None:
    names = ("records", "writer", "accuracy", "comparisons", "tables", "plots")
    code = (
        "import sys\n"
        "class No:\n"  # and no None in sys.modules, which scipy takes for a torch
        "    def find_spec(self, name, *rest):\n"
        "        if name.split('.')[0] in ('torch', 'timm'): raise ImportError(name)\n"
        "sys.meta_path.insert(0, No())\n"
        f"import {', '.join(f'robust_hub.evidence.{name}' for name in names)}"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_read_at_once_are_those_read_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    rows = [
        Record(k, k % 3, k % 3, 0.25, 1, 1.5, sigma=0.5, seed=7, counts=((k % 3, 9), (5, k)), plan="fixed", n=9 + k)
        for k in range(20)
    ]
    rows.append(Record(20, 1, 1, 0.25, 1, 1.5, radii=(0.0, 0.25)))
    path = tmp_path / "records.tsv"
    path.write_bytes((end.join(["\t".join(COLUMNS), *map(format_record, rows)]) + end).encode())
    at_once = list(lines._parse(path.read_bytes().decode(), path))
    monkeypatch.setattr(lines, "_parse_at_once", lambda *_: None)
    assert at_once == list(lines._parse(path.read_bytes().decode(), path)) == rows
