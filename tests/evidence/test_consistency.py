"""Records that cannot be true are refused where they are read: edited, lost, mixed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from courses import drive, random_votes

from robust_hub.evidence import consistency
from robust_hub.evidence.columns import COLUMNS
from robust_hub.evidence.consistency import PLANS as ALL
from robust_hub.evidence.records import Record, format_record, read_records, read_run
from robust_hub.evidence.sound import votes_of, without_sound_radii, without_sound_votes
from robust_hub.guarantee.bounds import TAU
from robust_hub.guarantee.plans import Plan, closed_form_plan, fixed_plan, radius_plan, sequential_plan

PLANS = {
    "complement": fixed_plan(n=1000),
    "runner_up": fixed_plan(n=1000, bound="runner_up"),
    "sequential": sequential_plan((0.0, 0.25, 0.5), n=1000),
    "closed_form": closed_form_plan((0.25, 0.5), n=1000),
    "radius": radius_plan(0.05, n=1000),
}
SHARES = (0.999, 0.97, 0.8, 0.5, 1.0)  # of the votes for class 1, an image each
EVERY, SIGMA = 20, 0.25


def certified(plan: Plan, seed: int = 5) -> list[Record]:
    """Make the records of images whose class 1 gets these shares of votes, by the plan itself."""
    result = []
    for i, share in enumerate(SHARES):
        draw = random_votes([1 - share, share * 0.999, share * 0.001], 100 * seed + i)
        c, _ = drive(plan, SIGMA, draw)
        votes = tuple((k, v) for k, v in enumerate(c.counts) if v) or None
        values = {
            name: getattr(c, name) for name in ("radius", "p_lower", "count", "n", "n0", "alpha", "sigma", "plan")
        }
        grid = {"radii": c.radii, "undecided": c.undecided or None, "out_of_reach": c.out_of_reach or None}
        result.append(
            Record(
                idx=EVERY * i,
                label=1,
                predict=c.prediction,
                correct=int(c.prediction == 1),
                time=0.1,
                base=1,
                seed=3,
                counts=votes,
                **values,
                **grid,
            )
        )
    return result


def write(folder: Path, records: list[Record], of: Plan, /, **changed: Any) -> Path:
    """Write a run as it lies on a disk, whatever it says."""
    folder.mkdir(exist_ok=True)
    (folder / "records.tsv").write_text("\n".join(["\t".join(COLUMNS), *map(format_record, records), ""]))
    identity = {"sigma": SIGMA, **of.describe(), "seed": 3, "every": EVERY, "images": len(SHARES)}
    run = {"identity": identity, "environment": {}, "finished": "2026-01-01T00:00:00Z"}
    identity |= {k: v for k, v in changed.items() if k != "finished"}
    run |= {k: v for k, v in changed.items() if k == "finished"}
    (folder / "run.json").write_text(json.dumps(run))
    return folder


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("seed", range(5))
def test_what_plans_certify_is_read(name: str, seed: int, tmp_path: Path) -> None:
    plan = PLANS[name]
    records = certified(plan, seed)
    assert {-1, 1} <= {record.predict for record in records}
    folder = write(tmp_path / "run", records, plan)
    assert list(read_run(folder).records) == records == read_records(folder)
    assert list(read_run(folder / "records.tsv").records) == records


Edit = Callable[[Record], dict[str, Any]]
EDITS: dict[str, Edit] = {
    "radius": lambda r: {"radius": 3.0},
    "radius by a thousandth": lambda r: {"radius": r.radius * 1.001},
    "p_lower": lambda r: {"p_lower": min(1.0, r.p_lower * 1.01)},
    "p_lower, lower": lambda r: {"p_lower": r.p_lower * 0.99},
    "p_lower and radius": lambda r: {"p_lower": 1 - 1e-9, "radius": 1.4},
    "p_lower beyond 1": lambda r: {"p_lower": 1.5},
    "alpha": lambda r: {"alpha": 0.05},
    "alpha, smaller": lambda r: {"alpha": 1e-6},
    "sigma": lambda r: {"sigma": 0.5},
    "seed": lambda r: {"seed": 4},
    "no seed": lambda r: {"seed": None},
    "n0": lambda r: {"n0": 50},
    "n": lambda r: {"n": r.n - 1},
    "n beyond": lambda r: {"n": 2000},
    "count": lambda r: {"count": r.count + 1},
    "counts": lambda r: {"counts": (*r.counts[:-1], (r.counts[-1][0], r.counts[-1][1] + 1))},
    "class twice": lambda r: {"counts": (*r.counts, (1, 0))},
    "negative votes": lambda r: {"counts": ((7, -1), (8, 1), *r.counts)},
    "predict": lambda r: {"predict": 2, "label": 2},
    "abstains": lambda r: {"predict": -1, "radius": 0.0},
    "no p_lower": lambda r: {"p_lower": None, "radius": 3.0},
    "no count": lambda r: {"count": None},
    "no counts": lambda r: {"counts": None},
    "plan": lambda r: {"plan": "radius" if r.plan != "radius" else "fixed"},
    "no such plan": lambda r: {"plan": "x\x1b[2J"},
    "other image": lambda r: {"idx": 7},
    "image beyond": lambda r: {"idx": EVERY * 5},
}


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_record_is_refused_by_its_image(edit: str, name: str, tmp_path: Path) -> None:
    plan = PLANS[name]
    records = certified(plan)
    if edit == "n0" and name == "radius":
        pytest.skip("a pilot's length is not written down")
    change = EDITS[edit](records[1])
    changed = object.__new__(Record)  # past the checks of a record's own: the file may say anything
    for field in dataclasses.fields(Record):
        object.__setattr__(changed, field.name, change.get(field.name, getattr(records[1], field.name)))
    folder = write(tmp_path, [records[0], changed, *records[2:]], plan)
    with pytest.raises(ValueError, match=r"^expected [^\n]*(image|line|beside) ?\d*[^\n]*records\.tsv[^\n]*$") as error:
        read_run(folder)
    words = str(error.value)
    assert words.isprintable() and (f"image {changed.idx}" in words or "line 3 of" in words)


@pytest.mark.parametrize("name", PLANS)
def test_an_abstention_that_is_given_a_class_is_refused(name: str, tmp_path: Path) -> None:
    plan = PLANS[name]
    records = certified(plan)
    at = next(i for i, record in enumerate(records) if record.predict == -1 and record.counts)
    guessed = next(label for label, votes in records[at].counts if votes == records[at].count)
    least = (records[at].radii or (0.0,))[0]
    records[at] = dataclasses.replace(records[at], predict=guessed, correct=int(guessed == 1), radius=least)
    with pytest.raises(ValueError, match=f"for image {records[at].idx} in"):
        read_run(write(tmp_path, records, plan))


def test_a_grid_is_the_runs(tmp_path: Path) -> None:
    plan = PLANS["sequential"]
    records = certified(plan)
    assert records[0].radius == 0.5 and records[0].undecided is None
    for change, words in [
        ({"radii": (0.0, 0.5)}, "expected radii"),
        ({"radii": None}, "expected radii"),
        ({"undecided": (0.25,)}, "expected the p_lower of radius"),
        ({"out_of_reach": (7.0,)}, "expected the p_lower of radius"),
        ({"radius": 0.25}, "expected the p_lower of radius"),
    ]:
        with pytest.raises(ValueError, match=f"{words}.* image 0"):
            read_run(write(tmp_path, [dataclasses.replace(records[0], **change), *records[1:]], plan))


def test_lost_rows_of_a_finished_run_are_refused(tmp_path: Path) -> None:
    plan = PLANS["complement"]
    records = certified(plan)
    with pytest.raises(ValueError, match="expected 5 records of a finished run, got 4: lost rows"):
        read_run(write(tmp_path, records[:-1], plan))
    with pytest.raises(ValueError, match="expected 5 records of a finished run, got 0: lost rows"):
        read_run(write(tmp_path, [], plan))
    assert len(read_run(write(tmp_path, records[:-1], plan, finished=None)).records) == 4
    with pytest.raises(ValueError, match="expected 4 images, each 20th, got image 80 beside them"):
        read_run(write(tmp_path, records, plan, images=4))
    with pytest.raises(ValueError, match="got 0 twice"):
        read_run(write(tmp_path, [*records[:-1], records[0]], plan))


def test_a_log_of_several_runs_is_refused(tmp_path: Path) -> None:
    records = certified(PLANS["complement"])
    log = tmp_path / "log.tsv"
    for change in ({"sigma": 0.5}, {"seed": 9}):
        mixed = [records[0], dataclasses.replace(records[3], **change)]
        log.write_text("\n".join(["\t".join(COLUMNS), *map(format_record, mixed), ""]))
        with pytest.raises(ValueError, match=f"expected one {next(iter(change))}, one run a file, got"):
            read_records(log)


def test_a_bound_is_held_to_its_share_of_alpha(tmp_path: Path) -> None:
    halves, whole = (certified(PLANS[name]) for name in ("runner_up", "complement"))
    for records, other in ((halves, "complement"), (whole, "runner_up")):
        with pytest.raises(ValueError, match="expected the p_lower that .* votes give at alpha 0.001"):
            read_run(write(tmp_path, records, PLANS["complement"], bound=other))
    # Two rivals share what is left: the runner-up's radius is above what p_lower alone gives, and no more.
    c, _ = drive(PLANS["runner_up"], SIGMA, random_votes([0.2, 0.6, 0.2], 0))
    counts = tuple(enumerate(c.counts))
    record = dataclasses.replace(halves[0], radius=c.radius, p_lower=c.p_lower, count=c.count, counts=counts)
    assert c.radius > 0 and read_run(write(tmp_path, [record, *halves[1:]], PLANS["runner_up"])).records[0] == record
    more = dataclasses.replace(record, radius=c.radius * 1.001)
    with pytest.raises(ValueError, match="expected a radius of at most .* for image 0"):
        read_run(write(tmp_path, [more, *halves[1:]], PLANS["runner_up"]))


def test_records_of_one_noise_are_not_passed_off_as_those_of_another(tmp_path: Path) -> None:
    plan = PLANS["complement"]
    rounded = certified(plan)  # in float32, nothing paid
    paid = [
        dataclasses.replace(r, tau=TAU, p_lower=max(0.0, (r.p_lower or 0) - TAU), radius=r.radius * 0.99)
        for r in rounded
    ]
    assert list(read_run(write(tmp_path, paid, plan, noise="lattice255")).records) == paid
    for records in (rounded, [*paid[:-1], rounded[-1]]):
        with pytest.raises(ValueError, match="expected tau 1e-10 of all records, got 0.0 for image"):
            read_run(write(tmp_path, records, plan, noise="lattice255"))
    with pytest.raises(ValueError, match=r"expected one tau, one run a file, got 0\.0 and 1e-10"):
        read_run(write(tmp_path, [*paid[:-1], rounded[-1]], plan))


def test_tau_is_taken_off_the_bound(tmp_path: Path) -> None:
    records = certified(PLANS["complement"])
    less = [dataclasses.replace(r, tau=1e-3, p_lower=max(0, r.p_lower - 1e-3), radius=r.radius * 0.9) for r in records]
    assert list(read_run(write(tmp_path, less, PLANS["complement"])).records) == less
    for tau in (1e-3, 1e-6):  # said, and not taken off
        with pytest.raises(ValueError, match="expected the p_lower that"):
            read_run(write(tmp_path, [dataclasses.replace(r, tau=tau) for r in records], PLANS["complement"]))
    with pytest.raises(ValueError, match=r"tau in \[0, 1\)"):
        dataclasses.replace(records[0], tau=-1e-9)


@pytest.mark.parametrize(
    "change",
    [
        {"sigma": "0.25"},
        {"sigma": 0},
        {"sigma": True},
        {"alpha": 1.0},
        {"n": 0},
        {"n": 10**30},
        {"n0": -1},
        {"every": 0},
        {"images": 2.5},
        {"seed": "3"},
        {"plan": "other"},
        {"plan": []},
        {"bound": {}},
        {"radii": []},
        {"radii": [0.5, 0.25]},
        {"radii": "0.25"},
        {"dtype": ["float32"]},
        {"noise": 3},
        {"split": None},
    ],
)
def test_values_of_run_json_are_of_their_kind(change: dict[str, Any], tmp_path: Path) -> None:
    folder = write(tmp_path, certified(PLANS["complement"]), PLANS["complement"], **change)
    with pytest.raises(ValueError, match=f"^expected {next(iter(change))} to be .*run.json, got .*; restore the file$"):
        read_run(folder)


def test_a_class_without_a_name_is_none_of_the_run(tmp_path: Path) -> None:
    plan = PLANS["complement"]
    run = read_run(write(tmp_path / "named", certified(plan), plan, classes=["cat", "dog", "owl"], matched="by name"))
    assert {run.name(record.predict) for record in run.records} == {"dog", "abstain"}
    assert (run.name(2), run.name(3), run.name(-1)) == ("owl", "3", "abstain")
    with pytest.raises(ValueError, match="expected one of the 2 classes that are named, got 2 for image"):
        read_run(write(tmp_path / "fewer", certified(plan), plan, classes=["cat", "dog"], matched="by name"))
    assert read_run(write(tmp_path / "old", certified(plan), plan)).classes is None


@pytest.mark.parametrize("name", PLANS)
def test_what_is_told_for_all_at_once_is_what_each_record_tells(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each edit of each record is refused in the very words of the look at one record after another."""

    def words(folder: Path) -> str:
        try:
            read_run(folder)
        except ValueError as error:
            return str(error)
        return ""

    plan, folder = PLANS[name], tmp_path / "run"
    records = [*certified(plan, 0), *certified(plan, 1)[:2]]
    records = [dataclasses.replace(record, idx=EVERY * i) for i, record in enumerate(records)]
    refused = 0
    for at, record in enumerate(records):
        for edit in (lambda r: {"radius": r.radius * (1 + 3e-9)}, *EDITS.values()):
            try:
                change = edit(record)
            except TypeError:  # an edit of votes, where there are none
                continue
            changed = object.__new__(Record)
            for field in dataclasses.fields(Record):
                object.__setattr__(changed, field.name, change.get(field.name, getattr(record, field.name)))
            write(folder, [*records[:at], changed, *records[at + 1 :]], plan, images=len(records), classes=["a"] * 8)
            fast = words(folder)
            with monkeypatch.context() as patched:
                patched.setattr(consistency, "votes_of", lambda _: None)
                patched.setattr(consistency, "without_sound_radii", list)
                assert fast == words(folder)
            refused += bool(fast)
    assert refused > 50


def test_sound_records_are_not_looked_at_one_by_one() -> None:
    for plan in PLANS.values():
        records = certified(plan)
        left = without_sound_votes(records, votes_of(records), ALL, {"n": 1000})
        assert all(record.counts is None for record in left) and len(left) < len(records)
    records = certified(PLANS["complement"])
    votes = votes_of(records)
    assert without_sound_votes(records, votes, ALL, {"n": 1000}) == []
    assert without_sound_radii(records) == []
    assert without_sound_votes(records, votes, ALL, {"n": 999}) == records
    odd = dataclasses.replace(records[1], radius=records[1].radius * 1.001)
    assert without_sound_radii([records[0], odd, records[2]]) == [odd]
