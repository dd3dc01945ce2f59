"""One record per certified image, one run.json per run: what they hold, how they are read."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robust_hub.evidence.columns import OURS, REQUIRED, decoder, encode
from robust_hub.layout import RECORDS, RUN
from robust_hub.provenance import Provenance

_PARTS = ("identity", "environment")


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
        n0: Samples of the selection; 0 where the plan needs none.
        alpha: Failure probability of this certificate.
        sigma: Standard deviation of the noise, [0, 1]-pixel units.
        seed: Seed of the noise; None if the operating system's entropy was used.
        counts: Pairs (class, votes) of the classes that got votes.
        plan: Name of the plan, see `robust_hub.guarantee.plans`.
        radii: The grid of radii that were decided, `radius` being one of them; None if any radius can come out.
        undecided: Radii of the grid that were neither certified nor given up when the samples ran out.
        out_of_reach: Radii of the grid that so many samples can never certify.

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
    plan: str | None = None
    radii: tuple[float, ...] | None = None
    undecided: tuple[float, ...] | None = None
    out_of_reach: tuple[float, ...] | None = None

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
        if self.radii is not None and self.predict != -1 and self.radius not in self.radii:
            raise ValueError(f"expected a radius of the grid {self.radii}, got {self.radius}; correct {self.idx}")


@dataclass(frozen=True)
class Run:
    """Hold the records of one certified data set.

    Attributes:
        records: The records, in the order of the file.
        identity: What was certified and how; empty for a foreign log.
        path: Folder or file the run was read from.
        finished: False if run.json says that the run has not reached its end.
        provenance: How the certified network's weights came about; None where it did not say.
    """

    records: tuple[Record, ...]
    identity: dict[str, Any]
    path: Path
    finished: bool = True
    provenance: Provenance | None = None

    @property
    def sigma(self) -> float | None:
        """Give the noise's standard deviation: from records, identity or a name like ``sigma_0.25``."""
        sigmas = {record.sigma for record in self.records if record.sigma is not None}
        if len(sigmas) > 1:
            raise ValueError(f"expected one sigma in {self.path}, got {sorted(sigmas)}; keep one run per file")
        if sigmas:
            return sigmas.pop()
        if "sigma" in self.identity:
            return float(self.identity["sigma"])
        match = re.search(r"sigma_(\d+(?:\.\d+)?)", self.path.name)
        return float(match.group(1)) if match else None


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
    file = path / RECORDS if path.is_dir() else path
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
    r"""Read a run folder, or a single TSV (whose identity is then empty).

    Args:
        folder: Folder with records.tsv and run.json, or a TSV file.

    Returns:
        The run: its records in the order of the file, and what run.json says.

    Raises:
        ValueError: If the records or run.json are absent or damaged.

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
    records = tuple(read_records(folder))
    if not folder.is_dir():
        return Run(records, {}, folder)
    run = read_json(folder / RUN)
    try:
        provenance = Provenance.from_json(run.get("recipe") or {})
    except ValueError as error:
        raise ValueError(f"{folder / RUN} is damaged ({error}): restore the file") from None
    return Run(records, run["identity"], folder, run.get("finished") is not None, provenance)


def format_record(record: Record) -> str:
    """Give a record's line without the newline; floats keep full precision, an absent value is empty.

    Args:
        record: The record.
    """
    return encode(record)


def _parse(text: str, file: Path) -> Iterator[Record]:
    lines = text.split("\n")
    complete = lines[-1] == ""
    header = lines[0].rstrip("\r").split("\t")
    if not set(REQUIRED) <= set(header):
        raise ValueError(
            f"expected the columns {' '.join(REQUIRED)} in {file}, got {lines[0][:80]!r}; name a certification log"
        )
    ours, decode = OURS in header, decoder(header)
    for number, raw in enumerate(lines[1:], start=2):
        line = raw.rstrip("\r")
        texts = line.split("\t")
        if not line.strip() or texts == header:
            continue
        unfinished = number == len(lines) and not complete
        if unfinished and ours:
            return  # cut by a kill: even a line that parses may have lost digits
        try:
            if len(texts) != len(header):
                raise ValueError(f"{len(texts)} values")
            values = decode(texts)
            yield Record(correct=int(values["predict"] == values["label"]), **values)
        except ValueError as error:
            if unfinished:
                return
            raise ValueError(
                f"expected {len(header)} valid values in line {number} of {file}, got {line[:80]!r} "
                f"({error}); restore or remove the line"
            ) from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a run.json.

    Raises:
        ValueError: If it is absent or damaged.
    """
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"expected a readable {path}, got {error}; restore the file") from error
    if not isinstance(run, dict) or any(not isinstance(run.get(k), dict) for k in _PARTS):
        raise ValueError(f"expected {' and '.join(_PARTS)} in {path}, got no such; restore the file")
    return run
