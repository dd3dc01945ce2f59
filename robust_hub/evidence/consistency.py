"""Whether the records of a run can be true: of their own votes, of one another, and of what run.json says.

A certificate is a claim that its votes must bear out. What the plan makes of votes is computed again here: the bound
from count, n and alpha, the radius from the bound. So a file that was edited, cut or mixed is refused where it is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, ndtr

from robust_hub.evidence.record import Record
from robust_hub.evidence.sound import Votes, are_named, values_of, votes_of, without_sound_radii, without_sound_votes
from robust_hub.guarantee.bounds import TAU, upper_confidence_bound
from robust_hub.guarantee.certificate import certified_radius
from robust_hub.parsing import shown

LOOKS_ONCE, LOOKS_AGAIN = ("fixed", "radius"), ("sequential", "closed_form")
PLANS = (*LOOKS_ONCE, *LOOKS_AGAIN)
LATTICE = "lattice255"  # whole 8-bit levels, whose bounds pay TAU
_ROUNDING, _FAR = 1e-9, 1e-6  # relative: above what versions round otherwise; what no rounding explains
_ONE = ("sigma", "alpha", "seed", "plan", "n0", "radii", "tau")  # what all records of a run share
_COUNTED = attrgetter("count", "n", "alpha", "p_lower", "tau")
_OF_GRID = attrgetter("radii", "undecided", "out_of_reach", "radius", "predict", "sigma", "p_lower", "tau")
_radius, _upper = lru_cache(1 << 16)(certified_radius), lru_cache(1 << 16)(upper_confidence_bound)


def check_records(records: Sequence[Record], identity: Mapping[str, Any], path: Path, *, finished: bool) -> None:
    """Refuse records that cannot be those of one run.

    Args:
        records: The records.
        identity: What run.json says was certified and how; empty for a log, whose records are asked for what they have.
        path: Where they were read, for errors.
        finished: Whether run.json says that every image has its record.

    Raises:
        ValueError: At the first contradiction, naming the image and the file.
    """
    for sentence in _contradictions(records, identity, finished):
        raise ValueError(f"{sentence} in {shown(path)}; restore the file")


def _contradictions(records: Sequence[Record], identity: Mapping[str, Any], finished: bool) -> Iterator[str]:
    yield from _lost_rows(records, identity, finished)
    yield from _mixed(records, identity)
    votes = votes_of(records)
    yield from _nameless(records, votes, identity)
    for record in without_sound_votes(records, votes, PLANS, identity):
        if wrong := _wrong_votes(record, identity):
            yield f"expected {wrong} in the record of image {record.idx}"
    yield from _wrong_bounds(records, identity.get("bound"))


def _lost_rows(records: Sequence[Record], identity: Mapping[str, Any], finished: bool) -> Iterator[str]:
    """Compare the images that have a record with those that were to be certified."""
    images, every = identity.get("images"), identity.get("every", 1)
    if images is None:
        return
    asked = range(0, images * every, every)
    for idx in values_of(records, "idx"):
        if idx not in asked:
            yield f"expected {images} images, each {every}th, got image {idx} beside them"
    if finished and len(records) != images:
        yield f"expected {images} records of a finished run, got {len(records)}: lost rows"


def _mixed(records: Sequence[Record], identity: Mapping[str, Any]) -> Iterator[str]:
    """Compare what records of one run share with one another and with run.json."""
    said = _said(identity)
    for name in _ONE:
        values = values_of(records, name)
        if name == "plan":
            values = [plan or "fixed" for plan in values]
        if name == "tau":
            values = [tau or 0.0 for tau in values]
        found = set(values)
        if name in said:
            if found - {said[name]}:
                odd = next(at for at, value in enumerate(values) if value != said[name])
                got = f"{shown(values[odd], 80)} for image {records[odd].idx}"
                yield f"expected {name} {said[name]} of all records, got {got}"
        elif len(found - {None}) > 1 and name not in ("n0", "radii"):
            yield f"expected one {name}, one run a file, got {' and '.join(sorted(map(str, found - {None}))[:2])}"


def _nameless(records: Sequence[Record], votes: Votes | None, identity: Mapping[str, Any]) -> Iterator[str]:
    """Compare the classes of the records with those that run.json names."""
    if (names := identity.get("classes")) is None or are_named(records, votes, len(names)):
        return
    for record in records:
        voted = [label for label, _ in record.counts or ()]
        highest = max(record.label, record.predict, *voted, -1 if record.base is None else record.base)
        if highest >= len(names):
            yield f"expected one of the {len(names)} classes that are named, got {highest} for image {record.idx}"


def _said(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Give what run.json says of every record; a name is absent where it says nothing."""
    if "alpha" not in identity:  # no run of a certification: what it does say
        return {name: identity[name] for name in _ONE if name in identity}
    plan = identity.get("plan", "fixed")
    said = {"plan": plan, **{name: identity[name] for name in ("sigma", "alpha", "seed", "n0") if name in identity}}
    if plan != "radius":
        said.setdefault("n0", 0)
    if identity.get("noise") == LATTICE:
        said["tau"] = TAU
    return said | {"radii": tuple(map(float, identity["radii"])) if "radii" in identity else None}


def _wrong_votes(record: Record, identity: Mapping[str, Any]) -> str:
    """Say how many votes were expected where they don't fit one another; empty if they do."""
    plan, n, count = record.plan or "fixed", record.n, record.count
    if plan not in PLANS:
        return f"a plan of {', '.join(PLANS)}, got {shown(plan)}"
    most = identity.get("n")
    if most is not None and (n is None or n > most or (plan == "fixed" and n != most)):
        return f"n {'' if plan == 'fixed' else 'at most '}{most}, got {n}"
    if "alpha" in identity and (record.p_lower is None or count is None or (n and record.counts is None)):
        return "p_lower, count and counts, got none"
    if n is not None and count is not None and not 0 <= count <= n:
        return f"a count of 0 to n = {n}, got {count}"
    if record.counts is None:
        return ""
    votes = dict(record.counts)
    if len(votes) < len(record.counts) or min(votes) < 0 or min(votes.values()) < 0:
        return f"votes >= 0 of classes, each once, got {shown(record.counts)}"
    if n is not None and sum(votes.values()) != n:
        return f"{n} votes, got {sum(votes.values())}"
    if count is None:
        return ""
    if record.predict >= 0 and votes.get(record.predict, 0) != count:
        return f"count to be the {votes.get(record.predict, 0)} votes of class {record.predict}, got {count}"
    if record.predict < 0 and count and count not in votes.values():
        return f"count to be the votes of a class, got {count}"
    return ""


def _wrong_bounds(records: Sequence[Record], bound: str | None) -> Iterator[str]:
    """Compare p_lower with the votes and the radius with p_lower."""
    said = [record for record in records if record.p_lower is not None]
    once = [record for record in said if record.plan not in LOOKS_AGAIN]
    counted = [record for record in once if record.n and record.count is not None and record.alpha is not None]
    halves = _halves(counted, bound)
    for record in (counted[at] for at in np.flatnonzero(np.isnan(halves))):
        yield (
            f"expected the p_lower that {record.count} of {record.n} votes give at alpha {record.alpha}, got "
            f"{record.p_lower} for image {record.idx}"
        )
    halved = {counted[at].idx for at in np.flatnonzero(halves == 1)}
    for record in without_sound_radii([record for record in once if record.sigma is not None]):
        if wrong := _wrong_radius(record, record.idx in halved):
            yield f"expected {wrong} for image {record.idx}"
    again = [record for record in said if record.plan in LOOKS_AGAIN and record.sigma is not None]
    different = dict(zip(map(_OF_GRID, again), again, strict=True))  # there are few: their radii are those of the grid
    for record in again if not all(map(_is_of_grid, different.values())) else ():
        if not _is_of_grid(record):
            yield (
                f"expected the p_lower of radius {record.radius}, got {record.p_lower}, predict {record.predict} for "
                f"image {record.idx}"
            )


def _halves(records: Sequence[Record], bound: str | None) -> NDArray[np.float64]:
    """Tell how p_lower spends alpha: 0 for all of it, 1 for half of it (runner_up), NaN where it is no bound at either.

    By Clopper and Pearson's defining property: p_lower is the p at which so many votes have a chance of alpha.
    """
    count, n, alpha, p, tau = np.array(list(map(_COUNTED, records)), dtype=np.float64).reshape(-1, 5).T
    tau = np.nan_to_num(tau)  # of None
    rest = n - count + 1
    some = np.maximum(count, 1)
    least = np.where(count > 0, betainc(some, rest, np.clip((p + tau) * (1 - _ROUNDING), 0, 1)), p > _ROUNDING)
    most = np.where(count > 0, betainc(some, rest, np.clip((p + 2 * tau) * (1 + _FAR) + _FAR, 0, 1)), 1.0)
    result = np.full(len(records), np.nan)
    for half, name in ((1.0, "runner_up"), (0.0, "complement")):
        share = alpha / (1 + half)
        fits = (least <= share) & (most >= share)
        result[fits & (bound in (None, name))] = half
    return result


def _wrong_radius(record: Record, half: bool) -> str:
    """Say what was expected of a radius that p_lower does not bear out; empty if it does."""
    lower, sigma, alpha = record.p_lower or 0.0, record.sigma or 0.0, record.alpha or 0.0
    upper = 1.0 - lower
    if record.predict < 0:
        far = _FAR + 2 * (record.tau or 0.0)
        return f"a class, with p_lower {lower}, got none" if lower > upper + far else ""
    if half:
        others = max((votes for label, votes in record.counts or () if label != record.predict), default=0)
        upper = min(upper, _upper(others, record.n or 0, alpha / 2))
    if lower <= upper:
        return f"no class, with p_lower {lower}, got {record.predict}"
    most = _radius(lower, upper, sigma)
    if record.radius > most * (1 + _ROUNDING) + 2e-2 * _ROUNDING * max(1.0, sigma):
        return f"a radius of at most {most:.6g}, which p_lower {lower:.6g} gives, got {record.radius}"
    return ""


def _is_of_grid(record: Record) -> bool:
    """Tell whether a plan of several looks gives this p_lower: Phi(radius / sigma), 0 when abstaining."""
    p, sigma = record.p_lower or 0.0, record.sigma or 1.0
    beyond = (*(record.undecided or ()), *(record.out_of_reach or ()))
    if record.radii is None or not set(beyond) <= set(record.radii):
        return False
    if record.predict < 0:
        return p == 0
    null = float(ndtr(record.radius / sigma))
    slack = 4e-16 + _ROUNDING * min(null, 1 - null) + 2 * (record.tau or 0.0)
    return abs(p - null) <= slack and all(radius > record.radius for radius in beyond)
