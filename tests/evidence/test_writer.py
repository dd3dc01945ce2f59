"""The journal: written line by line, resumed without a lost or doubled row."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import logs
import numpy as np
import pytest
from logs import IDENTITY, make, write

from robust_hub.evidence.records import read_records, read_run
from robust_hub.evidence.writer import open_run
from robust_hub.provenance import Provenance


def test_a_run_keeps_how_its_network_was_trained_from_its_start(tmp_path):
    pretraining = Provenance(job="pretrain", sigmas=(0.0, 0.25), base=Provenance(epochs=2), notes={"by": "hand"})
    open_run(tmp_path, IDENTITY, provenance=pretraining).release()
    open_run(tmp_path, IDENTITY, provenance=Provenance(job="another")).close()
    assert read_run(tmp_path).provenance == pretraining
    open_run(tmp_path / "none", IDENTITY).release()
    assert read_run(tmp_path / "none").provenance is None
    run = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**run, "recipe": {"base": 3}}))
    with pytest.raises(ValueError, match="run.json is damaged .expected how weights came about"):
        read_run(tmp_path)


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
        "import os, signal, sys; sys.path.insert(0, sys.argv[2]); from logs import IDENTITY, make\n"
        "from robust_hub.evidence.writer import open_run\n"
        "writer = open_run(sys.argv[1], IDENTITY)\n"
        "writer.append(make(0)); writer.append(make(20)); os.kill(os.getpid(), signal.SIGKILL)"
    )
    folder = tmp_path / "run"
    done = subprocess.run([sys.executable, "-c", code, str(folder), str(Path(logs.__file__).parent)], timeout=60)
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

        words = "expected to write the record of image 20 to .*records.tsv, got No space left on device: make room"
        with monkeypatch.context() as patch, pytest.raises(OSError, match=f"^{words}"):
            patch.setattr("os.fsync", full)
            writer.append(make(20))
        assert writer.path.read_bytes() == before
        assert writer.done == {0}
        writer.append(make(20))
    assert [r.idx for r in read_records(tmp_path)] == [0, 20]


class Full:
    """A file on a full disk: it takes some bytes of a line, and may not even be cut."""

    def __init__(self, file: object, takes: int, cuts: bool) -> None:
        self.file, self.takes, self.cuts = file, takes, cuts

    def __getattr__(self, name: str) -> object:
        return getattr(self.file, name)

    def write(self, line: bytes) -> int:
        return self.file.write(line[: self.takes])

    def truncate(self, end: int) -> int:
        if not self.cuts:
            raise OSError(5, "Input/output error")
        return self.file.truncate(end)


@pytest.mark.parametrize("cuts", [True, False])
def test_half_a_line_is_never_counted(cuts: bool, tmp_path: Path) -> None:
    with open_run(tmp_path, IDENTITY) as writer:
        writer.append(make(0))
        writer._file = Full(writer._file, 11, cuts)
        with pytest.raises(OSError, match="expected to write the record of image 20 .*got room for 11 of .* make room"):
            writer.append(make(20))
        assert writer.done == {0}
        if not cuts:  # what follows would stand behind half a line
            with pytest.raises(ValueError, match="expected an open run"):
                writer.append(make(40))
    assert [r.idx for r in read_run(tmp_path).records] == [0]
    write(tmp_path, [0, 20, 40])
    assert read_run(tmp_path).records == (make(0), make(20), make(40))


def test_a_run_that_cannot_be_marked_is_not_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    writer = open_run(tmp_path, IDENTITY)
    writer.append(make(0))
    before = (tmp_path / "run.json").read_bytes()
    with monkeypatch.context() as patch, pytest.raises(OSError, match="expected to write that the run is finished to"):
        patch.setattr("robust_hub.evidence.writer.replace_text", full)
        writer.close()
    assert (tmp_path / "run.json").read_bytes() == before and not read_run(tmp_path).finished
    for where in ("robust_hub.evidence.writer.replace_text", "os.fsync"):  # on starting, and on resuming
        for folder in (tmp_path, tmp_path / where):
            with monkeypatch.context() as patch, pytest.raises(ValueError, match="can be written, .*No space left"):
                patch.setattr(where, full)
                open_run(folder, IDENTITY)
    write(tmp_path, [0, 20])  # the lock was given back each time
    assert [r.idx for r in read_run(tmp_path).records] == [0, 20] and read_run(tmp_path).finished


def test_a_run_says_whether_its_seed_was_given(tmp_path: Path) -> None:
    for said in (True, False, None):
        folder = tmp_path / str(said)
        open_run(folder, {**IDENTITY, "noise": "lattice255"}, reproduction=said).release()
        open_run(folder, {**IDENTITY, "noise": "lattice255"}, reproduction=not said).close()
        run = read_run(folder)
        assert (run.reproduction, run.noise) == (said, "lattice255")
    open_run(tmp_path / "old", IDENTITY).close()
    assert (read_run(tmp_path / "old").reproduction, read_run(tmp_path / "old").noise) == (None, "float32")


def test_a_run_with_records_that_cannot_be_true_is_not_resumed(tmp_path: Path) -> None:
    write(tmp_path, [0, 20], close=False)
    file = tmp_path / "records.tsv"
    file.write_text(file.read_text().replace("0.30000000000000004", "3.0", 1))
    with pytest.raises(ValueError, match="expected a radius of at most .* got 3.0 for image 0 in .*records.tsv"):
        open_run(tmp_path, IDENTITY)


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
        ({"cut": {"name": "digits", "every": 10}}, "cut.every is 20 there and 10 here"),
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
    with pytest.raises(ValueError, match="another process is writing: wait for it"):
        open_run(tmp_path, IDENTITY)
    code = "import sys; from robust_hub.evidence.writer import open_run; open_run(sys.argv[1], {})"
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
    with pytest.raises(ValueError, match="expected a new or empty folder or a certification with run.json.* with file"):
        open_run(tmp_path, IDENTITY)
    write(tmp_path / "run", [0])
    (tmp_path / "run" / "run.json").write_text("{")
    with pytest.raises(ValueError, match="expected a readable .*restore"):
        open_run(tmp_path / "run", IDENTITY)
    (tmp_path / "run" / "run.json").write_text("{}")
    with pytest.raises(ValueError, match="expected identity and environment"):
        read_run(tmp_path / "run")


EDITED = {
    "label": ("\n20\t3\t", "\n20\t4\t"),
    "clean prediction": ("\t0.1\t4\t", "\t0.1\t3\t"),
    "time": ("\t0.1\t", "\t0.01\t"),
    "correct": ("\t1\t0.1\t", "\t0\t0.1\t"),
}


@pytest.mark.parametrize("what", EDITED)
def test_a_finished_run_keeps_what_its_votes_cannot_bear_out(what: str, tmp_path: Path) -> None:
    write(tmp_path, [0, 20, 40])
    file = tmp_path / "records.tsv"
    text = file.read_text()
    file.write_bytes(text.replace("\n", "\r\n").encode())  # as a checkout on Windows has it
    assert len(read_run(tmp_path).records) == 3
    edited = text.replace(*EDITED[what], 1)
    assert edited != text
    file.write_text(edited)
    for read in (lambda: read_run(tmp_path), lambda: open_run(tmp_path, IDENTITY)):
        with pytest.raises(ValueError, match=r"expected the records that the run ended with in .*tsv, got edited"):
            read()
    file.write_text(text)
    write(tmp_path, [0, 20, 40])
    assert read_run(tmp_path).records == (make(0), make(20), make(40))


def test_a_run_of_before_the_hash_is_read(tmp_path: Path) -> None:
    write(tmp_path, [0])
    run = json.loads((tmp_path / "run.json").read_text())
    del run["records_sha256"]
    (tmp_path / "run.json").write_text(json.dumps(run))
    assert len(read_run(tmp_path).records) == 1
