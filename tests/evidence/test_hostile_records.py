"""Files of strangers: whatever the bytes are, reading ends in a run or in one sentence that prints on a line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from logs import make

from robust_hub.cli.main import main
from robust_hub.evidence import lines as reading
from robust_hub.evidence.columns import COLUMNS
from robust_hub.evidence.records import Run, format_record, read_run

RECORDS = "\n".join(["\t".join(COLUMNS), *(format_record(make(20 * i)) for i in range(3)), ""]).encode()
FOREIGN = (
    b"idx\tlabel\tpredict\tradius\tcorrect\ttime\n0\t3\t3\t1.22\t1\t0:01:14.25\n20\t7\t-1\t0.0\t0\t1 day, 2:00:01\n"
)
IDENTITY = {
    "sigma": 0.25,
    "alpha": 0.001,
    "n0": 100,
    "n": 10_000,
    "seed": 1,
    "every": 20,
    "images": 3,
    "data": "digits",
}
RUN = json.dumps(
    {"identity": IDENTITY, "recipe": {"epochs": 1, "base": {"sigmas": [0, 1]}}, "environment": {}, "finished": "x"}
).encode()
PIECES = [
    *(b"9" * 5000, b"1e400", b"NaN", b"-Infinity", b"nan", b"-1", b"\x00", b"\x1b[2J", b"\xff", "\u202e".encode()),
    *(b"[" * 2000, b'{"a":' * 100, b"null", b"[]", b"{}", b'"x"', b"\t", b"\n", b"\r", b",", b":", b"0", b"9"),
    *(b"sequential", b"radius", b"0:0:0", b'"sigma": 0.5, ', b'"sigma": 0.25, "sigma": 0.25, ', b"99999999999999999"),
]
FUZZ = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


@st.composite
def harmed(draw: st.DrawFn, whole: bytes) -> bytes:
    """Bytes, or a file that was harmed: cut, or with pieces of it replaced by others up to three times."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=200))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(whole)))
        stop = start + draw(st.integers(0, 12) | st.just(len(whole)))
        whole = whole[:start] + draw(st.sampled_from(PIECES) | st.binary(max_size=8)) + whole[stop:]
    return whole


def check(path: Path) -> None:
    try:
        run = read_run(path)
    except ValueError as error:
        words = str(error)
        assert words.isprintable() and 10 < len(words) < 2000, words
        assert "set_int_max_str_digits" not in words
    else:
        assert isinstance(run, Run) and (run.sigma is None or run.sigma > 0) and run.noise


@FUZZ
@given(harmed(RECORDS))
def test_any_records_are_read_or_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run.json").write_bytes(RUN)
    (tmp_path / "records.tsv").write_bytes(content)
    check(tmp_path)
    check(tmp_path / "records.tsv")


@FUZZ
@given(harmed(RUN))
def test_any_run_json_is_read_or_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "records.tsv").write_bytes(RECORDS)
    (tmp_path / "run.json").write_bytes(content)
    check(tmp_path)


@FUZZ
@given(harmed(FOREIGN))
def test_any_foreign_log_is_read_or_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "log.tsv").write_bytes(content)
    check(tmp_path / "log.tsv")


def test_the_files_that_are_harmed_are_whole(tmp_path: Path) -> None:
    (tmp_path / "records.tsv").write_bytes(RECORDS)
    (tmp_path / "run.json").write_bytes(RUN)
    (tmp_path / "log.tsv").write_bytes(FOREIGN)
    assert [len(read_run(path).records) for path in (tmp_path, tmp_path / "log.tsv")] == [3, 2]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"identity": ' + b"[" * 100_000, "more than 64 deep"),
        (RUN.replace(b"10000", b"9" * 5000), "a number of 5,000 digits"),
        (RUN.replace(b"0.001", b"1e400"), "1e400, which is beyond any number"),
        (RUN.replace(b"0.001", b"NaN"), "NaN, which is no number"),
        (RUN.replace(b'"seed": 1', b'"seed": 1, "seed": 1'), "'seed' twice in one object"),
        (RUN.replace(b'"data": "digits"', b'"data": {"a": 1}'), "expected data to be a text"),
        (RUN.replace(b'"environment": {}', b'"environment": []'), "expected identity and environment"),
        (RUN.replace(b'"seed": 1', b'"seed": 1, "classes": "cat"'), "expected classes to be a list of names"),
        (RUN.replace(b'"seed": 1', b'"seed": 1, "classes": ["cat", 1]'), "expected classes to be a list of names"),
        (RUN.replace(b'"seed": 1', b'"seed": 1, "outputs": [-1]'), "expected outputs to be a list of whole numbers"),
        (RUN[:-1] + b', "reproduction": 1}', "expected reproduction to be true or false"),
        (RUN.replace(b'{"sigmas": [0, 1]}', b"[3]"), "expected how weights came about"),
        (RUN.replace(b'{"epochs": 1, "base": {"sigmas": [0, 1]}}', b"[3]"), "expected recipe to be an object"),
    ],
)
def test_a_hostile_run_json_is_one_sentence(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "records.tsv").write_bytes(RECORDS)
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(ValueError, match=rf"^[^\n]*{words}[^\n]*run.json|run.json[^\n]*{words}"):
        read_run(tmp_path)


def test_hostile_headers_and_long_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log\x1b[2J.tsv"
    log.write_bytes(RECORDS.replace(b"tau", b"sigma", 1))
    with pytest.raises(ValueError, match=r"expected each column once, got sigma twice in .*log\\x1b\[2J.tsv"):
        read_run(log)
    log.write_bytes(b"\x1b]0;x\x07" * 10)
    with pytest.raises(ValueError, match=r"expected the columns .* got '\\x1b\]0;x\\x07"):
        read_run(log)
    monkeypatch.setattr(reading, "_MOST_BYTES", 100)
    log.write_bytes(RECORDS)
    with pytest.raises(ValueError, match="more than 100 bytes"):
        read_run(log)
    log.unlink()
    log.mkdir()
    (log / "run.json").write_bytes(RUN)
    (log / "records.tsv").mkdir()
    with pytest.raises(ValueError, match=r"expected a run folder or a TSV of records, got .* \(no file\)"):
        read_run(log)


def test_a_file_that_is_cut_anywhere_is_read_or_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(RUN.replace(b'"x"', b"null"))
    for cut in range(0, len(RECORDS), 3):
        (tmp_path / "records.tsv").write_bytes(RECORDS[:cut])
        check(tmp_path)
    (tmp_path / "records.tsv").write_bytes(RECORDS)
    for cut in range(0, len(RUN), 3):
        (tmp_path / "run.json").write_bytes(RUN[:cut])
        with pytest.raises(ValueError, match=r"expected a readable run.json in .*restore the file$"):
            read_run(tmp_path)


def test_no_name_of_a_file_reaches_the_terminal_raw(tmp_path: Path) -> None:
    evil = "a|b\x1b[2J\n$x$"
    folders = []
    for i in range(2):
        folder = tmp_path / f"{evil}{i}"
        folder.mkdir()
        identity = {"data": evil, "split": evil, "noise": evil, evil: i, "model": evil}
        (folder / "run.json").write_text(json.dumps({"identity": identity, "environment": {}, "finished": None}))
        (folder / "records.tsv").write_text("idx\tlabel\tpredict\tradius\tcorrect\ttime\n0\t3\t3\t0.1\t1\t1\n")
        folders.append(str(folder))
    log = tmp_path / f"{evil}.tsv"
    log.write_bytes(FOREIGN)
    for kind in ("markdown", "latex"):
        done = CliRunner().invoke(main, ["report", *folders, str(log), "--format", kind])
        assert done.exit_code == 0, done.output
        assert all(line.isprintable() for line in done.output.split("\n")) and r"\x1b" in done.output.replace("{}", "")
    done = CliRunner().invoke(main, ["report", *folders])
    assert r"of the kind a|b\x1b[2J\n$x$" in done.output and r"the runs differ in a|b\x1b[2J\n$x$" in done.output
