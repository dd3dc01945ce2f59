"""report finds the runs that a path stands for, says what it looked for, and gives JSON that is the table."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from robust_hub.cli.main import main
from robust_hub.evidence.accuracy import certified_accuracy
from robust_hub.evidence.record import Record
from robust_hub.evidence.records import read_run
from robust_hub.evidence.writer import open_run

RADII = (0.0, 0.25)


def report(*words: object) -> Result:
    return CliRunner().invoke(main, ["report", *(str(word) for word in words)])


def make_run(folder: Path, sigma: float) -> Path:
    """Write a finished run of four images."""
    with open_run(folder, {"sigma": sigma, "images": 4, "data": "toys"}) as writer:
        for idx in range(4):
            writer.append(Record(idx, idx % 2, 0, sigma * (idx + 1) / 4, idx % 2 == 0, 0.1, base=0, sigma=sigma))
        writer.close({"records": 4})
    return folder


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    for sigma in (0.25, 0.5):
        make_run(tmp_path / "runs" / "certified" / f"sigma_{sigma}", sigma)
    return tmp_path / "runs"


def rows(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return [line for line in result.output.splitlines() if line.startswith("| sigma")]


def test_a_parent_one_or_two_folders_up_is_its_runs(parent: Path) -> None:
    folders = sorted((parent / "certified").iterdir())
    expected = rows(report(*folders))
    assert len(expected) == 2
    assert rows(report(parent / "certified")) == rows(report(parent)) == expected


def test_runs_at_both_depths_are_all_there(parent: Path) -> None:
    make_run(parent / "sigma_1", 1.0)
    assert [row.split(" | ")[0] for row in rows(report(parent))] == ["| sigma = 0.25", "| sigma = 0.5", "| sigma = 1"]
    assert len(rows(report(parent / "sigma_1", parent / "certified"))) == 3
    twice = report(parent, parent / "sigma_1")
    assert twice.exit_code == 2 and "expected each run once" in twice.output


def test_a_folder_without_runs_says_what_was_looked_for(parent: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    said = report(tmp_path / "empty").output
    assert "no run.json lies in it or at most 2 folders deeper; name the --out of certify" in said
    above = report(tmp_path)
    assert above.exit_code == 2 and f"name a folder nearer to one, such as {parent / 'certified'}" in above.output
    assert len(above.output.splitlines()) == 1
    assert "No such file or directory" in report(tmp_path / "nosuch").output


def test_a_checkpoint_by_folder_and_by_name(parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "shelf" / "resnet18s_ln.toys"
    shutil.copytree(parent / "certified", folder / "certification")
    (folder / "config.json").write_text("{}")
    monkeypatch.setenv("ROBUST_HUB_SHELF", str(tmp_path / "shelf"))
    monkeypatch.chdir(tmp_path)
    assert rows(report(folder)) == rows(report("resnet18s_ln.toys")) == rows(report(parent))


def test_json_has_every_digit_of_the_table(parent: Path) -> None:
    result = report(parent, "--json", "--radii", "0.0,0.25", "--plot", parent / "curves.png")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["curves"] == str(parent / "curves.png") and (parent / "curves.png").exists()
    assert said["not_compared"] is None and len(said["best"]) == 2
    for run in said["runs"]:
        records = read_run(run["folder"]).records
        assert run["images"] == 4 and run["finished"] and run["clean"]["value"] == 0.5
        for one, radius in zip(run["certified"], RADII, strict=True):
            share = certified_accuracy(records, radius)
            assert one == {
                "radius": radius,
                "accuracy": {"value": share.value, "images": 4, "low": share.low, "high": share.high},
            }
    alone = json.loads(report(parent / "certified" / "sigma_0.25", "--json").stdout)
    assert alone["best"] == [] and alone["not_compared"] == "there is one run" and alone["curves"] is None


def test_json_of_a_log_says_null_of_what_it_does_not_tell(tmp_path: Path) -> None:
    log = tmp_path / "log.tsv"
    log.write_text("idx\tlabel\tpredict\tradius\tcorrect\ttime\n0\t1\t1\t0.3\t1\t0.1\n")
    (run,) = json.loads(report(log, "--json").stdout)["runs"]
    assert run["clean"] is None and run["noise"] is None and run["sigma"] is None
    assert run["certified"][0]["accuracy"]["value"] == 1.0


def test_columns_have_a_column_a_run_and_markdown_is_what_a_pipe_gets(parent: Path) -> None:
    lines = report(parent, "--format", "columns").stdout.splitlines()
    assert lines[0].split("  ")[0] == "run" and lines[0].endswith(
        "sigma = 0.25       sigma = 0.5        best per radius"
    )
    assert next(line for line in lines if line.startswith("r = 0.25")).split() == [
        *("r", "=", "0.25", "0.0", "[0.0,", "49.0]", "25.0", "[4.6,", "69.9]", "(50.0)", "25.0")
    ]
    prose = " ".join(lines)
    assert "Last column: (accuracy at 0)" in prose and "r: right, and certified at least so far" in prose
    assert report(parent).stdout == report(parent, "--format", "markdown").stdout


def test_a_zero_for_want_of_samples_is_said_to_be_one(tmp_path: Path) -> None:
    with open_run(tmp_path / "few", {"sigma": 0.25, "images": 1, "data": "toys"}) as writer:
        writer.append(Record(0, 0, 0, 0.4, True, 0.1, base=0, sigma=0.25, n=200, alpha=0.001, count=200))
        writer.close({"records": 1})
    short = "A 0.0 may be for want of samples: at sigma = 0.25, n = 200 certifies no more than about 0.456"
    for kind in ("columns", "markdown"):
        assert short in " ".join(report(tmp_path / "few", "--format", kind).stdout.split())
        assert "for want of samples" not in report(tmp_path / "few", "--format", kind, "--radii", "0,0.25").stdout


def test_several_runs_with_too_few_samples_are_said_together(tmp_path: Path) -> None:
    for name in "ab":
        with open_run(tmp_path / "runs" / name, {"sigma": 0.25, "images": 1, "data": "toys"}) as writer:
            writer.append(Record(0, 0, 0, 0.4, True, 0.1, base=0, sigma=0.25, n=200, alpha=0.001, count=200))
            writer.close({"records": 1})
    said = " ".join(report(tmp_path / "runs").stdout.split())
    assert "want of samples: in 2 runs, the first of them sigma = 0.25" in said and said.count("n = 200 certifies") == 1
