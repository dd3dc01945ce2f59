"""Write a run while it goes on: one folder, one writer, line by line, resumed where it stopped."""

from __future__ import annotations

import errno
import json
import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from robust_hub.claim import ClaimedFolder
from robust_hub.evidence.columns import COLUMNS
from robust_hub.evidence.records import (
    HASH,
    Record,
    check_unedited,
    format_record,
    read_json,
    read_records,
    records_hash,
)
from robust_hub.files import replace_text, sync_folder
from robust_hub.layout import RECORDS, RUN
from robust_hub.parsing import shown
from robust_hub.provenance import Provenance, commit, versions

_HEADER = "\t".join(COLUMNS)


class RecordWriter:
    """Append records to one run folder; made by `open_run`, holds the folder's lock until closed.

    Used as a context manager it releases the lock at the end; only `close` marks the run as finished.
    """

    def __init__(self, folder: Path, run: dict[str, Any], held: ClaimedFolder, done: set[int]) -> None:
        """Keep the open run; call `open_run` instead."""
        self.folder = folder
        self.path = folder / RECORDS
        self._run = run
        self._held = held
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
            OSError: If the line cannot be written, such as on a full disk; the image then has no record.
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
                raise OSError(errno.ENOSPC, f"room for {written} of its {len(line)} bytes")
            os.fsync(self._file.fileno())
        except OSError as error:
            self._take_back(end)
            raise _not_written(f"the record of image {record.idx}", self.path, error) from error
        except BaseException:
            self._take_back(end)
            raise
        self._done.add(record.idx)

    def _take_back(self, end: int) -> None:
        """Cut off what was written of a line; if even that fails, write no more: resuming cuts it off."""
        try:
            self._file.truncate(end)
        except OSError:
            self.release()

    def close(self, extra: Mapping[str, Any] | None = None) -> None:
        """Mark the run as finished and release the folder.

        Args:
            extra: Summary fields, kept under ``summary`` in run.json.

        Raises:
            OSError: If run.json cannot be written; the run is then not finished, its records are kept.
        """
        if self._file.closed:
            return
        self._run["finished"] = self._run.get("finished") or _now()
        self._run[HASH] = records_hash(self.path.read_text())
        if extra:
            self._run["summary"] = {**self._run.get("summary", {}), **_plain(dict(extra))}
        try:
            _write(self.folder / RUN, self._run)
        except OSError as error:
            raise _not_written("that the run is finished", self.folder / RUN, error) from error
        finally:
            self.release()

    def release(self) -> None:
        """Close the file and give the lock back without marking the run as finished."""
        self._file.close()
        self._held.release()

    def __enter__(self) -> RecordWriter:
        """Give the writer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the folder."""
        self.release()


def open_run(
    folder: str | Path,
    identity: Mapping[str, Any],
    *,
    provenance: Provenance | None = None,
    reproduction: bool | None = None,
) -> RecordWriter:
    """Start a run, or resume the one that is in the folder.

    On resume a truncated last line is dropped, so that its image is done again.

    Args:
        folder: Run folder, made if absent.
        identity: What is certified and how (model, data, sigma, seed ...), as JSON values. A resumed run must
            have the same.
        provenance: How the network's weights came about, noted when the run starts.
        reproduction: Whether the caller gave the seed, noted when the run starts; False if it was drawn after network
            and images were fixed, None leaves it out.

    Raises:
        ValueError: If the folder holds another run or other files, cannot be written or is being written by
            another process, or if its files are damaged.
    """
    folder = Path(folder)
    here: dict[str, Any] = _plain(dict(identity))
    training = {} if provenance is None else _plain(provenance.to_json())
    held = ClaimedFolder(folder, RUN, "certification")
    try:
        if held.claim():
            run = read_json(folder / RUN)
            held.check_same(run["identity"], here)
            if (folder / RECORDS).exists():
                check_unedited(run, (folder / RECORDS).read_text(errors="replace"), folder / RECORDS)
            environment = run["environment"]
            if run.get("finished") is None:
                environment["resumed"] = [*_listed(environment.get("resumed")), _now()]
        else:
            run = {"identity": here, "recipe": training, "environment": _environment(), "finished": None}
            run |= {} if reproduction is None else {"reproduction": reproduction}
        _write(folder / RUN, run)
        done = {record.idx for record in _repair(folder / RECORDS, here)}
        return RecordWriter(folder, run, held, done)
    except OSError as error:
        held.release()
        raise ValueError(
            f"expected a folder that can be written, got {folder} ({error.strerror or error}): choose another folder"
        ) from error
    except BaseException:
        held.release()
        raise


def _not_written(what: str, path: Path, error: OSError) -> OSError:
    reason = error.strerror or str(error)
    return OSError(
        f"expected to write {what} to {shown(path)}, got {reason}: make room and give the same command, which goes on "
        "where it stopped",
    )


def _repair(path: Path, identity: Mapping[str, Any]) -> list[Record]:
    """Make the file end after its last complete line, with a header, and give its records."""
    data = path.read_bytes() if path.exists() else b""
    end = data.rfind(b"\n") + 1
    if end == 0:
        with open(path, "wb") as file:
            file.write((_HEADER + "\n").encode())
            file.flush()
            os.fsync(file.fileno())
        sync_folder(path.parent)
        return []
    if data[: data.index(b"\n")].decode(errors="replace") != _HEADER:
        raise ValueError(f"expected our columns in {path}, got another format; name another folder")
    if end < len(data):
        with open(path, "r+b") as file:
            file.truncate(end)
            os.fsync(file.fileno())
    return read_records(path, identity)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


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


def _write(path: Path, run: dict[str, Any]) -> None:
    replace_text(path, json.dumps(run, indent=2) + "\n")


def _environment() -> dict[str, Any]:
    return {"versions": versions(), "commit": commit(), "platform": platform.platform(), "started": _now()}


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
