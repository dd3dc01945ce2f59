"""A run is read: its records, a line each, and its run.json; ours, or a log in the format of Cohen et al. 2019."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from robust_hub.evidence.columns import encode
from robust_hub.evidence.consistency import check_records
from robust_hub.evidence.identity import check_identity, noise_words
from robust_hub.evidence.limit import limit_of
from robust_hub.evidence.lines import read_file
from robust_hub.evidence.record import Record
from robust_hub.evidence.shown import run_html
from robust_hub.evidence.sound import values_of
from robust_hub.layout import RUN
from robust_hub.memory import uncollected
from robust_hub.parsing import read_bounded_json, shown
from robust_hub.provenance import Provenance

__all__ = ["Record", "Run", "check_unedited", "format_record", "read_json", "read_records", "read_run", "records_hash"]

HASH = "records_sha256"  # of the file of records when the run ended, in run.json
_PARTS = ("identity", "environment")


@dataclass(frozen=True, repr=False)
class Run:
    """Hold the records of one certified data set.

    Attributes:
        records: The records, in the order of the file.
        identity: What was certified and how; empty for a foreign log.
        path: Folder or file the run was read from.
        finished: False if run.json says that the run has not reached its end.
        provenance: How the certified network's weights came about; None where it did not say.
        reproduction: Whether the caller gave the seed, so that the network may have been made for its noise; False if
            it was drawn after network and images were fixed, None where run.json does not say.
    """

    records: tuple[Record, ...]
    identity: dict[str, Any]
    path: Path
    finished: bool = True
    provenance: Provenance | None = None
    reproduction: bool | None = None

    def __repr__(self) -> str:
        """Say it on one line."""
        sigma = "" if self.sigma is None else f", sigma={self.sigma:g}"
        rest = "" if self.finished else ", unfinished"
        return f"Run({shown(self.path.name)!r}, {len(self.records):,} images{sigma}{rest})"

    def _repr_html_(self) -> str:
        noise = noise_words(self.noise, self.reproduction) if self.identity else ""
        limit = limit_of(self.records, self.identity)
        return run_html(repr(self), self.records, noise, self.identity.get("trained_on") or 0, limit)

    @property
    def noise(self) -> str:
        """Name the noise of the records: "lattice255", on the grid of 8-bit pixels, or "float32", rounded normals."""
        return str(self.identity.get("noise", "float32"))

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Give the names of the classes that labels and predictions number; None where run.json does not say."""
        return tuple(self.identity["classes"]) if "classes" in self.identity else None

    def name(self, label: int) -> str:
        """Say a label or a prediction in words: the name of its class, else its number, or "abstain" for -1."""
        if label == -1:
            return "abstain"
        return self.classes[label] if self.classes and 0 <= label < len(self.classes) else str(label)

    @cached_property
    def sigma(self) -> float | None:
        """Give the noise's standard deviation: from records, identity or a name like ``sigma_0.25``."""
        sigmas = set(values_of(self.records, "sigma")) - {None}
        if len(sigmas) > 1:
            raise ValueError(f"expected one sigma in {shown(self.path)}, got {sorted(sigmas)}; keep one run per file")
        if sigmas:
            return float(sigmas.pop())
        if "sigma" in self.identity:
            return float(self.identity["sigma"])
        match = re.search(r"sigma_(\d+(?:\.\d+)?)", self.path.name)
        return float(match.group(1)) if match else None


def read_records(path: str | Path, identity: Mapping[str, Any] | None = None) -> list[Record]:
    r"""Read a run folder or a TSV: ours, or a log in the format of Cohen et al. 2019.

    Columns are found by name. Both time formats, CRLF, blank lines and repeated headers are accepted;
    ``correct`` is recomputed as predict == label; extra columns that are absent give None. A truncated last
    line is dropped. What a log says of its votes is computed again, see `robust_hub.evidence.consistency`.

    Args:
        path: Folder with records.tsv, or a TSV file.
        identity: What run.json says was certified and how; by default it is not asked.

    Raises:
        ValueError: If there is no such file, it is not a log, a line is damaged, an image occurs twice or a record
            contradicts itself, another or the identity.

    Source: https://github.com/locuslab/smoothing, ``certify.py``.
    """
    with uncollected():
        records, file, _ = read_file(Path(path))
        try:
            check_records(records, identity or {}, file, finished=False)
        except ValueError:
            check_records(records, {}, file, finished=False)  # what records say of one another goes before
            raise
    return records


def records_hash(text: str) -> str:
    """Hash what a file of records holds, as lower-case hex; the ends of its lines may be Windows'."""
    return hashlib.sha256(text.replace("\r\n", "\n").encode()).hexdigest()


def check_unedited(run: Mapping[str, Any], text: str, file: Path) -> None:
    """Refuse the records of a finished run that are not those that it ended with.

    Votes and bounds are computed again elsewhere; labels, clean predictions and times stand for themselves. Whoever
    edits run.json as well is not found out.

    Args:
        run: What run.json says; older ones say no hash.
        text: What the file of records holds.
        file: Where it was read, for the error.

    Raises:
        ValueError: If the file is another one.
    """
    if run.get("finished") is not None and HASH in run and run[HASH] != records_hash(text):
        raise ValueError(
            f"expected the records that the run ended with in {shown(file)}, got edited ones (another sha256 than "
            f"{RUN} says); restore the file"
        )


def read_run(folder: str | Path) -> Run:
    r"""Read a run folder, or a single TSV (whose identity is then empty).

    Args:
        folder: Folder with records.tsv and run.json, or a TSV file.

    Returns:
        The run: its records in the order of the file, and what run.json says.

    Raises:
        ValueError: If the records or run.json are absent or damaged, rows are lost, or a record contradicts its votes,
            another record or run.json, or the file is not the one that the run ended with.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     log = Path(folder) / "sigma_0.25.tsv"
        ...     lines = ["idx label predict radius correct time", "0 3 3 0.41 1 0:00:08", ""]
        ...     written = log.write_text("\n".join(lines).replace(" ", "\t"))
        ...     run = read_run(log)
        >>> run.sigma, run.records[0].radius
        (0.25, 0.41)
    """
    folder = Path(folder)
    # run.json first: a run that ends in between has all the records that it will be asked for
    run: dict[str, Any] = read_json(folder / RUN) if folder.is_dir() else {"identity": {}, "finished": True}
    finished = run.get("finished") is not None
    with uncollected():
        records, file, text = read_file(folder)
        check_records(records, run["identity"], file, finished=finished and folder.is_dir())
        check_unedited(run, text, file)
    try:
        provenance = Provenance.from_json(run.get("recipe") or {})
    except ValueError as error:
        raise ValueError(f"{shown(folder / RUN)} is damaged ({shown(error)}): restore the file") from None
    return Run(tuple(records), run["identity"], folder, finished, provenance, run.get("reproduction"))


def format_record(record: Record) -> str:
    """Give a record's line without the newline; floats keep full precision, an absent value is empty.

    Args:
        record: The record.
    """
    return encode(record)


def read_json(path: Path) -> dict[str, Any]:
    """Read a run.json.

    Raises:
        ValueError: If it is absent or damaged.
    """
    run = read_bounded_json(path, RUN)
    if any(not isinstance(run.get(k), dict) for k in _PARTS):
        raise ValueError(f"expected {' and '.join(_PARTS)} in {shown(path)}, got no such; restore the file")
    check_identity(run["identity"], path)
    for name, kind, words in (
        ("reproduction", bool, "true or false"),
        ("recipe", dict, "an object"),
        (HASH, str, "a text"),
    ):
        if not isinstance(run.get(name), (kind, type(None))):
            raise ValueError(
                f"expected {name} to be {words} in {shown(path)}, got {shown(run[name], 40)}; restore the file"
            )
    return run
