"""Records: written line by line, resumed without a lost or doubled row, read in two formats."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from robust_hub.records import COLUMNS, Record, format_record, open_run, read_records, read_run

IDENTITY = {"model": "abc", "sigma": 0.25, "seed": 1, "data": {"name": "digits", "every": 20}}


def make(idx: int, predict: int = 3, label: int = 3, radius: float = 0.1 + 0.2) -> Record:
    """Make a full record."""
    return Record(
        idx=idx,
        label=label,
        predict=predict,
        radius=0.0 if predict == -1 else radius,
        correct=int(predict == label),
        time=0.1,
        base=4,
        p_lower=0.1 + 0.7,
        count=9950,
        n=10_000,
        n0=100,
        alpha=0.001,
        sigma=0.25,
        seed=1,
        counts=((3, 9950), (5, 50)),
    )


def write(folder: Path, indices: list[int], close: bool = True) -> None:
    """Do the images that have no record yet."""
    with open_run(folder, IDENTITY) as writer:
        for idx in indices:
            if idx not in writer.done:
                writer.append(make(idx))
        if close:
            writer.close({"images": len(writer.done)})


def test_round_trip_is_exact(tmp_path: Path) -> None:
    records = [make(0), make(20, predict=-1), make(40, radius=float(np.nextafter(0.25, 0)))]
    records.append(dataclasses.replace(make(60), base=None, seed=None))
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
        "idx label predict radius correct time base p_lower count n n0 alpha sigma seed counts"
    )
    line = format_record(make(7)).split("\t")
    assert line[:6] == ["7", "3", "3", "0.30000000000000004", "1", "0.1"]
    assert line[-1] == "3:9950,5:50"


def test_truncation_anywhere_loses_at_most_the_cut_row(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    write(whole, [0, 20, 40])
    expected = (whole / "records.tsv").read_bytes()
    header = expected.index(b"\n") + 1
    second = expected.index(b"\n", header) + 1
    # Cuts inside the header, at line ends and inside every part of a row.
    for cut in [
        0,
        5,
        header - 1,
        header,
        *range(second - 3, second + 3),
        *range(second + 3, len(expected), 5),
    ]:
        folder = tmp_path / f"cut{cut}"
        write(folder, [0], close=False)
        (folder / "records.tsv").write_bytes(expected[:cut])
        lines = expected[:cut].count(b"\n")
        if cut >= header:
            assert [r.idx for r in read_records(folder)] == [0, 20, 40][: lines - 1]
        with open_run(folder, IDENTITY) as writer:
            assert writer.done == set([0, 20, 40][: max(lines - 1, 0)])
        write(folder, [0, 20, 40])
        assert (folder / "records.tsv").read_bytes() == expected


def test_kill_during_the_run_then_resume(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; sys.path.insert(0, sys.argv[2]); from test_records import IDENTITY, make\n"
        "from robust_hub.records import open_run\n"
        "writer = open_run(sys.argv[1], IDENTITY)\n"
        "writer.append(make(0)); writer.append(make(20)); os.kill(os.getpid(), signal.SIGKILL)"
    )
    folder = tmp_path / "run"
    done = subprocess.run([sys.executable, "-c", code, str(folder), str(Path(__file__).parent)], timeout=60)
    assert done.returncode == -9
    assert read_run(folder).finished is False
    write(folder, [0, 20, 40])
    run = read_run(folder)
    assert run.records == (make(0), make(20), make(40))
    assert run.finished
    assert len(json.loads((folder / "run.json").read_text())["environment"]["resumed"]) == 1


def test_failed_append_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_run(tmp_path, IDENTITY) as writer:
        writer.append(make(0))
        before = writer.path.read_bytes()

        def full(handle: int) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
            patch.setattr("os.fsync", full)
            writer.append(make(20))
        assert writer.path.read_bytes() == before
        assert writer.done == {0}
        writer.append(make(20))
    assert [r.idx for r in read_records(tmp_path)] == [0, 20]


def test_no_image_twice(tmp_path: Path) -> None:
    with open_run(tmp_path, IDENTITY) as writer:
        writer.append(make(0))
        with pytest.raises(ValueError, match="expected a new image, got idx 0 again"):
            writer.append(make(0))
    with pytest.raises(ValueError, match="expected an open run"):
        writer.append(make(20))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sigma": 0.5}, "sigma is 0.25 there and 0.5 here"),
        ({"seed": 2}, "seed is 1 there and 2 here"),
        ({"data": {"name": "digits", "every": 10}}, "data.every is 20 there and 10 here"),
        ({"extra": True}, "extra is absent there and true here"),
    ],
)
def test_other_identity_is_named(tmp_path: Path, change: dict[str, object], words: str) -> None:
    write(tmp_path, [0], close=False)
    before = (tmp_path / "records.tsv").read_bytes()
    with pytest.raises(ValueError, match=words) as error:
        open_run(tmp_path, {**IDENTITY, **change})
    assert "model" not in str(error.value)
    assert (tmp_path / "records.tsv").read_bytes() == before
    write(tmp_path, [20])  # the failure gave the lock back


def test_equal_identity_in_other_types_resumes(tmp_path: Path) -> None:
    open_run(tmp_path, {"a": (1, 2), "b": np.float64(0.5)}).release()
    open_run(tmp_path, {"a": [1, 2], "b": 0.5}).release()
    with pytest.raises(TypeError, match="expected JSON values"):
        open_run(tmp_path, {"a": object()})


def test_two_writers(tmp_path: Path) -> None:
    first = open_run(tmp_path, IDENTITY)
    with pytest.raises(ValueError, match="another process is writing; wait for it"):
        open_run(tmp_path, IDENTITY)
    code = "import sys; from robust_hub.records import open_run; open_run(sys.argv[1], {})"
    other = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert other.returncode == 1
    assert "another process is writing" in other.stderr
    first.release()
    open_run(tmp_path, IDENTITY).release()


def test_folders_that_cannot_be_runs(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(ValueError, match="expected a folder that can be written"):
        open_run(file, IDENTITY)
    with pytest.raises(ValueError, match="expected an empty folder or a run with run.json.* with file"):
        open_run(tmp_path, IDENTITY)
    write(tmp_path / "run", [0])
    (tmp_path / "run" / "run.json").write_text("{")
    with pytest.raises(ValueError, match="expected a readable .*restore"):
        open_run(tmp_path / "run", IDENTITY)
    (tmp_path / "run" / "run.json").write_text("{}")
    with pytest.raises(ValueError, match="expected identity and environment"):
        read_run(tmp_path / "run")


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


def test_records_and_tables_need_no_torch() -> None:
    code = (
        "import sys, types; sys.modules['torch'] = None; package = types.ModuleType('robust_hub')\n"
        "package.__path__ = [sys.argv[1]]; sys.modules['robust_hub'] = package\n"
        "import robust_hub.records, robust_hub.accuracy, robust_hub.plots"
    )
    package = Path(sys.modules[Record.__module__].__file__ or "").parent
    subprocess.run([sys.executable, "-c", code, str(package)], check=True, timeout=120)
