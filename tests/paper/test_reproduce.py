"""Running a table: it shares what rows share, goes on where it stopped and sets only what records say."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from robust_hub.errors import CheckpointError
from robust_hub.evidence.records import read_run
from robust_hub.images.data import ImageData
from robust_hub.models.config import read_config
from robust_hub.paper import reproduce as module
from robust_hub.paper.reproduce import reproduce
from robust_hub.paper.results import draw, results
from robust_hub.paper.rows import CLEAN, MIXED, SCALES, Row, Scale, Table

TINY: dict[str, Any] = {"epochs": 1, "batch_size": 16, "learning_rate": 0.02}
SCALE = Scale(
    "tiny",
    "a test",
    "resnet18s",
    "shapes",
    pretrain=TINY,
    scratch=TINY,
    tune=TINY,
    head=TINY,
    long={"epochs": 2},
    certify={"every": 6, "n": 50, "radii": (0.0, 0.1, 0.25), "alpha": 0.05, "seed": 0, "batch_size": 64},
)
TABLE = Table(
    "table0",
    "a test",
    (
        Row("mixed", "spots", CLEAN, MIXED, paper="90 | (80)70 60"),
        Row("mixed, head", "spots", CLEAN, MIXED, head_only=True, long=True, paper="80 | 50 40"),
        Row("scratch", "spots", (0.25,), None),
    ),
    (0.1, 0.25),
)


def images(classes: int, seed: int, split: str) -> ImageData:
    labels = torch.arange(48) % classes
    noise = torch.randint(0, 40, (48, 3, 32, 32), generator=torch.Generator().manual_seed(seed))
    pixels = (labels.view(-1, 1, 1, 1) * 60 + noise).clamp(0, 255).to(torch.uint8)
    return ImageData(pixels, labels, tuple(map(str, range(classes))), name=f"toy{seed}", split=split)


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    def load(name: str, split: str, size: int, progress: bool) -> ImageData:
        return images(4 if name == "a" else 3, len(name), split)

    monkeypatch.setattr(module, "load_data", load)
    return {"shapes": "a", "spots": "bb"}


def test_rows_share_a_pretraining_and_run_once(tmp_path: Path, data: dict[str, str], monkeypatch: Any) -> None:
    done: list[str] = []
    for name in ("pretrain", "finetune", "certify"):
        original = getattr(module, name)

        def watch(*args: Any, name: str = name, original: Any = original, **options: Any) -> Any:
            done.append(name)
            return original(*args, **options)

        monkeypatch.setattr(module, name, watch)
    announced: list[str] = []
    text = reproduce(TABLE, SCALE, data, tmp_path, progress=False, announce=announced.append)
    assert [done.count(name) for name in ("pretrain", "finetune", "certify")] == [2, 2, 9]
    assert announced == ["table0, tiny: mixed", "table0, tiny: mixed, head", "table0, tiny: scratch"]
    done.clear()
    assert reproduce(TABLE, SCALE, {}, tmp_path, progress=False) == text  # all is there: not even data are needed
    assert not done
    assert results(TABLE, SCALE, tmp_path) == text

    assert draw(TABLE, SCALE, tmp_path, tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"
    run = read_run(tmp_path / "tiny" / "certified" / TABLE.rows[0].name / "sigma_0.25")
    lines = text.splitlines()
    assert lines[0] == "**table0: a test.** Ours at the scale 'tiny': a test."
    assert lines[2] == "| row | clean | paper | r = 0.1 | paper | r = 0.25 | paper |"
    assert lines[4].startswith("| mixed | ") and lines[4].count("|") == 8
    assert [cell.strip() for cell in lines[4].split("|")][3::2] == ["90.0", "(80.0) 70.0", "60.0"]
    assert "8 images (every 6th) of toy2, sequential plan, n = 50, alpha = 0.05, float32." in lines[-1]
    assert len(run.records) == 8
    clean = sum(record.base == record.label for record in run.records) / 8
    assert f"| {100 * clean:.1f} [" in lines[4]


@pytest.mark.full
def test_half_of_a_table_is_shown_and_gone_on_with(tmp_path: Path, data: dict[str, str], monkeypatch: Any) -> None:
    original, left = module.certify, 4

    def dying(*args: Any, **options: Any) -> Any:
        nonlocal left
        left -= 1
        if not left:
            raise KeyboardInterrupt
        return original(*args, **options)

    monkeypatch.setattr(module, "certify", dying)
    with pytest.raises(KeyboardInterrupt):
        reproduce(TABLE, SCALE, data, tmp_path, progress=False)
    text = results(TABLE, SCALE, tmp_path)
    assert text.count("not run yet") == 2
    whole = reproduce(TABLE, SCALE, data, tmp_path, progress=False)
    monkeypatch.undo()
    assert "not run yet" not in whole
    assert whole.splitlines()[4] == text.splitlines()[4]


def test_a_checkpoint_of_the_shelf_spares_the_pretraining(tmp_path: Path, data: dict[str, str]) -> None:
    scale = replace(SCALE, shelf={("ln", MIXED): "resnet18s_ln_mixednoise"}, pretrain=SCALES["small"].pretrain)
    table = replace(TABLE, rows=TABLE.rows[:1])
    del data["shapes"]
    assert "not run yet" not in reproduce(table, scale, data, tmp_path, progress=False)
    assert not (tmp_path / "tiny" / "pretrained").exists()


def test_a_checkpoint_of_the_shelf_that_was_trained_otherwise_is_not_taken(
    tmp_path: Path, data: dict[str, str]
) -> None:
    other = {**SCALES["small"].pretrain, "epochs": 15}
    scale = replace(SCALE, shelf={("ln", MIXED): "resnet18s_ln_mixednoise"}, pretrain=other)
    del data["shapes"]
    with pytest.raises(ValueError, match="say --data shapes=FOLDER"):
        reproduce(replace(TABLE, rows=TABLE.rows[:1]), scale, data, tmp_path, progress=False)


@pytest.mark.parametrize("left", ["all", "tuned and certified", "certified"])
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"pretrain": {**TINY, "epochs": 2}}, "epochs 1, not 2"),
        ({"pretrain": {**TINY, "optimizer": "nmuon"}}, "optimizer sgd, not nmuon"),
        ({"tune": {**TINY, "learning_rate": (0.1, 0.01)}}, "learning_rate 0.02, not the best of 0.1, 0.01"),
        ({"tune": {**TINY, "learning_rate": (0.1, 0.02)}}, "learning_rate 0.02, not the best of 0.1, 0.02"),
        ({"tune": {**TINY, "head_scale": 3.0}}, "head_scale 1.0, not 3.0"),
        ({"tune": {**TINY, "label_smoothing": 0.1}}, "label_smoothing 0.0, not 0.1"),
        ({"certify": {**SCALE.certify, "n": 60}}, "n 50, not 60"),
        ({"certify": {**SCALE.certify, "every": 12}}, "every 6, not 12"),
        ({"dtype": "bfloat16"}, "dtype float32, not bfloat16"),
    ],
)
def test_what_was_made_in_another_way_is_not_shown_as_the_scales(
    finished_row: Path, data: dict[str, str], tmp_path: Path, left: str, changed: dict[str, Any], message: str
) -> None:
    table = replace(TABLE, rows=TABLE.rows[:1])
    shutil.copytree(finished_row, tmp_path, dirs_exist_ok=True)
    for part in {"all": (), "tuned and certified": ("pretrained",), "certified": ("pretrained", "tuned")}[left]:
        shutil.rmtree(tmp_path / "tiny" / part)
    with pytest.raises(ValueError, match=f"as scale tiny says, got .*{message}.*remove it") as caught:
        reproduce(table, replace(SCALE, **changed), data, tmp_path, progress=False)
    assert str(tmp_path / "tiny") in str(caught.value)
    if left == "certified":
        with pytest.raises(ValueError, match=message):
            results(table, replace(SCALE, **changed), tmp_path)
    same = replace(SCALE, tune={**TINY, "head_scale": 1.0, "label_smoothing": 0.0, "seed": 0})
    assert "not run yet" not in reproduce(table, same, {}, tmp_path, progress=False)


@pytest.fixture(scope="module")
def finished_row(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "load_data", lambda name, split, **_: images(4 if name == "a" else 3, len(name), split))
        reproduce(replace(TABLE, rows=TABLE.rows[:1]), SCALE, {"shapes": "a", "spots": "bb"}, out, progress=False)
    return out


def test_a_network_of_other_images_is_not_certified_on_these(
    finished_row: Path, data: dict[str, str], tmp_path: Path
) -> None:
    shutil.copytree(finished_row, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "tiny" / "certified")
    with pytest.raises(ValueError, match="got images of toy2 that are not those named now"):
        reproduce(replace(TABLE, rows=TABLE.rows[:1]), SCALE, {**data, "spots": "bbb"}, tmp_path, progress=False)


@pytest.mark.parametrize(
    ("killed", "message"), [(True, ""), (False, "expected 8 records of a finished run, got 3: lost rows in .*sigma_1")]
)
def test_records_that_are_not_there_are_not_finished(
    finished_row: Path, data: dict[str, str], tmp_path: Path, killed: bool, message: str
) -> None:
    table = replace(TABLE, rows=TABLE.rows[:1])
    shutil.copytree(finished_row, tmp_path, dirs_exist_ok=True)
    folder = tmp_path / "tiny" / "certified" / table.rows[0].name / "sigma_1"
    if killed:  # between the two files
        run = json.loads((folder / "run.json").read_text())
        (folder / "run.json").write_text(json.dumps({**run, "finished": None}))
        (folder / "records.tsv").unlink()
        assert "not run yet" in results(table, SCALE, tmp_path)
        assert "not run yet" not in reproduce(table, SCALE, data, tmp_path, progress=False)
    else:
        lines = (folder / "records.tsv").read_text().splitlines(keepends=True)
        (folder / "records.tsv").write_text("".join(lines[:4]))
        with pytest.raises(ValueError, match=message):
            results(table, SCALE, tmp_path)


@pytest.mark.full
def test_a_name_that_no_shelf_has_yet_is_pretrained(tmp_path: Path, data: dict[str, str], monkeypatch: Any) -> None:
    table = replace(TABLE, rows=TABLE.rows[:1])
    scale = replace(SCALE, shelf={("ln", MIXED): "resnet18s_ln.nowhere"})
    assert "not run yet" not in reproduce(table, scale, data, tmp_path, progress=False)
    tuned = tmp_path / "tiny" / "tuned" / table.rows[0].name
    before = read_config(tuned).provenance.pretrained
    shutil.rmtree(tuned)
    shutil.rmtree(tmp_path / "tiny" / "certified")
    own = tmp_path / "tiny" / "pretrained" / "ln_0-0.25-0.5-1"
    monkeypatch.setattr(module, "checkpoint_folder", lambda name: own)  # by now the shelf has one that would do
    scale = replace(SCALE, shelf={("ln", MIXED): "resnet18s_ln_mixednoise"})
    reproduce(table, scale, data, tmp_path, progress=False)  # an experiment goes on with what it began with
    assert read_config(tuned).provenance.pretrained == before


@pytest.mark.parametrize("part", ["pretrained", "tuned"])
def test_a_half_written_checkpoint_is_refused_by_its_name(
    finished_row: Path, data: dict[str, str], tmp_path: Path, part: str
) -> None:
    table = replace(TABLE, rows=TABLE.rows[:1])
    shutil.copytree(finished_row, tmp_path, dirs_exist_ok=True)
    for later in ("tuned", "certified") if part == "pretrained" else ("certified",):
        shutil.rmtree(tmp_path / "tiny" / later)
    weights = next((tmp_path / "tiny" / part).glob("*/model.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match=rf"{part}/ln_0.*damaged|{part}/spots.*damaged"):
        reproduce(table, SCALE, data, tmp_path, progress=False)


def test_a_half_written_run_is_gone_on_with_or_refused(
    finished_row: Path, data: dict[str, str], tmp_path: Path
) -> None:
    table = replace(TABLE, rows=TABLE.rows[:1])
    shutil.copytree(finished_row, tmp_path, dirs_exist_ok=True)
    whole = results(table, SCALE, tmp_path)
    folder = tmp_path / "tiny" / "certified" / table.rows[0].name / "sigma_0.5"
    lines = (folder / "records.tsv").read_text().splitlines(keepends=True)
    run = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**run, "finished": None}))
    (folder / "records.tsv").write_text("".join(lines[:4]) + lines[4][:7])
    assert "not run yet" in results(table, SCALE, tmp_path)
    assert reproduce(table, SCALE, data, tmp_path, progress=False) == whole
    (folder / "run.json").write_text("{")
    with pytest.raises(ValueError, match="run.json"):
        reproduce(table, SCALE, data, tmp_path, progress=False)


def test_data_that_are_missing_are_named_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="expected data for table0 at scale tiny: shapes, spots; say --data shapes=FOLDER --data spots"
    ):
        reproduce(TABLE, SCALE, {}, tmp_path)
    with pytest.raises(ValueError, match="scale tiny: shapes; say --data shapes=FOLDER"):
        reproduce(TABLE, SCALE, {"spots": "x"}, tmp_path)
    with pytest.raises(ValueError, match="expected a folder of images or parquet files, got .*/none"):
        reproduce(TABLE, SCALE, {"spots": str(tmp_path / "none"), "shapes": str(tmp_path / "none")}, tmp_path)
    with pytest.raises(ValueError, match="expected a folder of images or parquet files, got .*/none"):
        reproduce(TABLE, SCALE, {"spots": str(tmp_path / "none"), "shapes": "digits"}, tmp_path, progress=False)
    assert list(tmp_path.iterdir()) == []  # all data are read before anything is trained
    assert results(TABLE, SCALE, tmp_path).count("not run yet") == 3
    with pytest.raises(ValueError, match="at least one run"):
        draw(TABLE, SCALE, tmp_path, tmp_path / "curves.png")


def test_two_runs_on_one_folder_are_an_error_for_the_second(tmp_path: Path, data: dict[str, str]) -> None:
    from filelock import FileLock

    folder = tmp_path / "tiny" / "pretrained" / "ln_0-0.25-0.5-1" / "training"
    folder.mkdir(parents=True)
    with FileLock(folder / ".lock"), pytest.raises(ValueError, match="which another process is writing"):
        reproduce(TABLE, SCALE, data, tmp_path, progress=False)


def test_only_the_rows_that_are_asked_for_are_run(tmp_path: Path, data: dict[str, str]) -> None:
    text = reproduce(TABLE, SCALE, data, tmp_path, rows=["scratch"], progress=False)
    assert [path.name for path in (tmp_path / "tiny" / "certified").iterdir()] == [TABLE.rows[2].name]
    assert text.count("not run yet") == 2
    with pytest.raises(ValueError, match="expected rows of table0 among mixed; mixed, head; scratch; got nothing"):
        reproduce(TABLE, SCALE, data, tmp_path, rows=["nothing"], progress=False)
    with pytest.raises(ValueError, match="expected rows of table0, got 'scrach', which is in no label"):
        reproduce(TABLE, SCALE, data, tmp_path, rows=["mixed", "scrach"], progress=False)
