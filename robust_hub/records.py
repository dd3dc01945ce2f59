"""One record per certified image, one run.json per run: append, read, resume."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

RECORDS_NAME = "records.tsv"
RUN_NAME = "run.json"
_LOCK_NAME = ".lock"
_PACKAGES = ("robust-hub", "torch", "timm", "numpy", "scipy", "accelerate")
_PARTS = ("identity", "environment")
_ABSENT = object()


@dataclass(frozen=True)
class Record:
    """Describe the certification of one image: one line of records.tsv.

    Attributes:
        idx: Index of the image in the unshuffled data set.
        label: True class.
        predict: Certified class, -1 when abstaining.
        radius: Certified l2 radius in [0, 1]-pixel units, 0 when abstaining.
        correct: 1 if predict equals label, else 0.
        time: Seconds spent on the image.
        base: Class the base classifier gives the clean image; this and all below are None in foreign logs.
        p_lower: Lower confidence bound of the certified class's probability.
        count: Votes of the guessed class among the n samples.
        n: Samples of the estimation.
        n0: Samples of the selection.
        alpha: Failure probability of this certificate.
        sigma: Standard deviation of the noise, [0, 1]-pixel units.
        seed: Seed of the noise; None if the operating system's entropy was used.
        counts: Pairs (class, votes) of the classes that got votes.

    Raises:
        ValueError: If the values contradict one another or are outside their range.
    """

    idx: int
    label: int
    predict: int
    radius: float
    correct: int
    time: float
    base: int | None = None
    p_lower: float | None = None
    count: int | None = None
    n: int | None = None
    n0: int | None = None
    alpha: float | None = None
    sigma: float | None = None
    seed: int | None = None
    counts: tuple[tuple[int, int], ...] | None = None

    def __post_init__(self) -> None:
        """Check that the record can be true."""
        if self.idx < 0 or self.label < 0 or self.predict < -1:
            raise ValueError(
                "expected idx and label >= 0 and predict >= -1, "
                f"got idx {self.idx}, label {self.label}, predict {self.predict}; correct the record"
            )
        if not (math.isfinite(self.radius) and self.radius >= 0):
            raise ValueError(f"expected a finite radius >= 0, got {self.radius}; correct record {self.idx}")
        if self.predict == -1 and self.radius != 0:
            raise ValueError(
                f"expected radius 0 for an abstention, got {self.radius}; correct the record of {self.idx}"
            )
        if bool(self.correct) != (self.predict == self.label):
            raise ValueError(
                f"expected correct = (predict == label), got correct {self.correct}, predict {self.predict}, "
                f"label {self.label}; correct the record of {self.idx}"
            )


COLUMNS: tuple[str, ...] = tuple(field.name for field in fields(Record))
_COHEN = COLUMNS[:6]
_HEADER = "\t".join(COLUMNS)


@dataclass(frozen=True)
class Run:
    """Hold the records of one certified data set.

    Attributes:
        records: The records, in the order of the file.
        identity: What was certified and how; empty for a foreign log.
        path: Folder or file the run was read from.
        finished: False if run.json says that the run has not reached its end.
    """

    records: tuple[Record, ...]
    identity: dict[str, Any]
    path: Path
    finished: bool = True

    @property
    def sigma(self) -> float | None:
        """Give the noise's standard deviation: from records, identity or a name like ``sigma_0.25``."""
        found = {record.sigma for record in self.records if record.sigma is not None}
        if len(found) > 1:
            raise ValueError(f"expected one sigma in {self.path}, got {sorted(found)}; keep one run per file")
        if found:
            return found.pop()
        if "sigma" in self.identity:
            return float(self.identity["sigma"])
        match = re.search(r"sigma_(\d+(?:\.\d+)?)", self.path.name)
        return float(match.group(1)) if match else None


class RecordWriter:
    """Append records to one run folder; made by `open_run`, holds the folder's lock until closed.

    Used as a context manager it releases the lock at the end; only `close` marks the run as finished.
    """

    def __init__(self, folder: Path, run: dict[str, Any], lock: FileLock, done: set[int]) -> None:
        """Keep the open run; call `open_run` instead."""
        self.folder = folder
        self.path = folder / RECORDS_NAME
        self._run = run
        self._lock = lock
        self._done = done
        self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115 - closed by release()

    @property
    def done(self) -> frozenset[int]:
        """Give the indices of the images that already have a record."""
        return frozenset(self._done)

    def append(self, record: Record) -> None:
        """Write one line and push it to the disk before returning.

        Args:
            record: The record of an image that has none yet.

        Raises:
            ValueError: If the image already has a record, or the writer is closed.
        """
        if self._file.closed:
            raise ValueError(f"expected an open run, got the closed {self.folder}; use open_run again")
        if record.idx in self._done:
            raise ValueError(f"expected a new image, got idx {record.idx} again; skip the indices in `done`")
        end = os.fstat(self._file.fileno()).st_size
        line = (format_record(record) + "\n").encode()
        try:
            written = self._file.write(line)
            if written != len(line):
                raise OSError(f"wrote {written} of {len(line)} bytes to {self.path}; is the disk full?")
            os.fsync(self._file.fileno())
        except BaseException:
            self._file.truncate(end)
            raise
        self._done.add(record.idx)

    def close(self, extra: Mapping[str, Any] | None = None) -> None:
        """Mark the run as finished and release the folder.

        Args:
            extra: Summary fields, kept under ``summary`` in run.json.
        """
        if self._file.closed:
            return
        self._run["finished"] = _now()
        if extra:
            self._run["summary"] = {**self._run.get("summary", {}), **_plain(dict(extra))}
        try:
            _write_json(self.folder / RUN_NAME, self._run)
        finally:
            self.release()

    def release(self) -> None:
        """Close the file and give the lock back without marking the run as finished."""
        self._file.close()
        self._lock.release()

    def __enter__(self) -> RecordWriter:
        """Give the writer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the folder."""
        self.release()


def open_run(folder: str | Path, identity: Mapping[str, Any]) -> RecordWriter:
    """Start a run, or resume the one that is in the folder.

    On resume a truncated last line is dropped, so that its image is done again.

    Args:
        folder: Run folder, made if absent.
        identity: What is certified and how (model, data, sigma, seed ...), as JSON values. A resumed run must
            have the same.

    Raises:
        ValueError: If the folder holds another run or other files, cannot be written or is being written by
            another process, or if its files are damaged.
    """
    folder = Path(folder)
    wanted: dict[str, Any] = _plain(dict(identity))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / _LOCK_NAME, timeout=0, thread_local=False)
        lock.acquire()
    except Timeout as error:
        raise ValueError(
            f"expected a free run folder, got {folder}, which another process is writing; "
            "wait for it or name another folder"
        ) from error
    except OSError as error:
        raise ValueError(
            f"expected a folder that can be written, got {folder} ({error.strerror or error}); name another folder"
        ) from error
    try:
        try:
            run = _start_or_resume(folder, wanted)
            done = {record.idx for record in _repair(folder / RECORDS_NAME)}
            return RecordWriter(folder, run, lock, done)
        except OSError as error:
            raise ValueError(
                f"expected a folder that can be written, got {folder} ({error.strerror or error}); name another folder"
            ) from error
    except BaseException:
        lock.release()
        raise


def read_records(path: str | Path) -> list[Record]:
    r"""Read a run folder or a TSV: ours, or a log in the format of Cohen et al. 2019.

    Columns are found by name. Both time formats, CRLF, blank lines and repeated headers are accepted;
    ``correct`` is recomputed as predict == label; extra columns that are absent give None. A truncated last
    line is dropped.

    Args:
        path: Folder with records.tsv, or a TSV file.

    Raises:
        ValueError: If there is no such file, it is not a log, a line is damaged or an image occurs twice.

    Source: https://github.com/locuslab/smoothing, ``certify.py``.
    """
    path = Path(path)
    file = path / RECORDS_NAME if path.is_dir() else path
    try:
        text = file.read_bytes().decode()
    except OSError as error:
        raise ValueError(
            f"expected a run folder or a TSV of records, got {path} ({error.strerror or error}); "
            "name the folder that certify wrote"
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(f"expected a TSV of records, got {file}, not text; restore the file") from error
    records = list(_parse(text, file))
    seen: set[int] = set()
    for record in records:
        if record.idx in seen:
            raise ValueError(f"expected one record per image, got {record.idx} twice in {file}; remove one")
        seen.add(record.idx)
    return records


def read_run(folder: str | Path) -> Run:
    """Read a run folder, or a single TSV (whose identity is then empty).

    Args:
        folder: Folder with records.tsv and run.json, or a TSV file.

    Raises:
        ValueError: If the records or run.json are absent or damaged.
    """
    folder = Path(folder)
    records = tuple(read_records(folder))
    if not folder.is_dir():
        return Run(records, {}, folder)
    run = _read_json(folder / RUN_NAME)
    return Run(records, run["identity"], folder, run.get("finished") is not None)


def format_record(record: Record) -> str:
    """Give a record's line without the newline; floats keep full precision, an absent value is empty.

    Args:
        record: The record.
    """
    return "\t".join(_format(name, getattr(record, name)) for name in COLUMNS)


def _format(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name == "counts":
        return ",".join(f"{int(label)}:{int(votes)}" for label, votes in value)
    if name in _FLOATS:
        return repr(float(value))
    return str(int(value))


_FLOATS = ("radius", "time", "p_lower", "alpha", "sigma")


def _parse(text: str, file: Path) -> Iterator[Record]:
    lines = text.split("\n")
    complete = lines[-1] == ""
    header = lines[0].rstrip("\r").split("\t")
    if not set(_COHEN) <= set(header):
        raise ValueError(
            f"expected the columns {' '.join(_COHEN)} in {file}, got {lines[0][:80]!r}; name a certification log"
        )
    ours = tuple(header) == COLUMNS
    for number, raw in enumerate(lines[1:], start=2):
        line = raw.rstrip("\r")
        values = line.split("\t")
        if not line.strip() or values == header:
            continue
        unfinished = number == len(lines) and not complete
        if unfinished and ours:
            return  # cut by a kill: even a line that parses may have lost digits
        try:
            if len(values) != len(header):
                raise ValueError(f"{len(values)} values")
            yield _record(dict(zip(header, values, strict=True)))
        except ValueError as error:
            if unfinished:
                return
            raise ValueError(
                f"expected {len(header)} valid values in line {number} of {file}, got {line[:80]!r} "
                f"({error}); restore or remove the line"
            ) from error


def _record(row: dict[str, str]) -> Record:
    values: dict[str, Any] = {}
    for name in COLUMNS:
        text = row.get(name, "").strip()
        if name == "correct":
            continue
        if name == "time":
            values[name] = _seconds(text)
        elif not text and name not in _COHEN:
            values[name] = None
        elif name == "counts":
            pairs = (pair.split(":") for pair in text.split(","))
            values[name] = tuple((int(label), int(votes)) for label, votes in pairs)
        else:
            values[name] = float(text) if name in _FLOATS else int(text)
    return Record(correct=int(values["predict"] == values["label"]), **values)


def _seconds(text: str) -> float:
    """Read seconds, or H:MM:SS.ffffff with days before it as Python's timedelta prints them."""
    if ":" not in text:
        return float(text)
    days, _, clock = text.rpartition(",")
    hours, minutes, seconds = clock.split(":")
    whole = int(days.split()[0]) if days else 0
    return 86400.0 * whole + 3600 * int(hours) + 60 * int(minutes) + float(seconds)


def _start_or_resume(folder: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    path = folder / RUN_NAME
    if path.exists():
        run = _read_json(path)
        different = list(_differences(run["identity"], wanted))
        if different:
            raise ValueError(
                f"expected the run that is in {folder}, got another one: {'; '.join(different)}; "
                "name another folder or repeat the same settings"
            )
        run["environment"].setdefault("resumed", []).append(_now())
    else:
        others = sorted(p.name for p in folder.iterdir() if p.name not in (_LOCK_NAME, RUN_NAME + ".tmp"))
        if others:
            raise ValueError(
                f"expected an empty folder or a run with {RUN_NAME}, got {folder} with "
                f"{', '.join(others[:3])}; name another folder"
            )
        run = {"identity": wanted, "environment": _environment(), "finished": None}
    _write_json(path, run)
    return run


def _repair(path: Path) -> list[Record]:
    """Make the file end after its last complete line, with a header, and give its records."""
    data = path.read_bytes() if path.exists() else b""
    end = data.rfind(b"\n") + 1
    if end == 0:
        with open(path, "wb") as file:
            file.write((_HEADER + "\n").encode())
            file.flush()
            os.fsync(file.fileno())
        _sync_folder(path.parent)
        return []
    if data[: data.index(b"\n")].decode(errors="replace") != _HEADER:
        raise ValueError(f"expected our columns in {path}, got another format; name another folder")
    if end < len(data):
        with open(path, "r+b") as file:
            file.truncate(end)
            os.fsync(file.fileno())
    return read_records(path)


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key in sorted(set(old) | set(new)):
        left, right = old.get(key, _ABSENT), new.get(key, _ABSENT)
        if isinstance(left, dict) and isinstance(right, dict):
            yield from _differences(left, right, f"{prefix}{key}.")
        elif left is _ABSENT or right is _ABSENT or left != right:
            yield f"{prefix}{key} is {_show(left)} there and {_show(right)} here"


def _show(value: Any) -> str:
    return "absent" if value is _ABSENT else json.dumps(value)


def _plain(values: dict[str, Any]) -> Any:
    """Give the values as JSON reads them back: tuples as lists, numpy scalars as numbers, paths as text."""
    try:
        return json.loads(json.dumps(values, default=_encode, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise TypeError(f"expected JSON values, got another ({error}); convert it") from error


def _encode(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"expected a readable {path}, got {error}; restore the file") from error
    if not isinstance(run, dict) or any(not isinstance(run.get(k), dict) for k in _PARTS):
        raise ValueError(f"expected {' and '.join(_PARTS)} in {path}, got no such; restore the file")
    return run


def _write_json(path: Path, value: dict[str, Any]) -> None:
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # pragma: no cover - Windows cannot open a folder
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _environment() -> dict[str, Any]:
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {"versions": versions, "platform": platform.platform(), "started": _now()}


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
