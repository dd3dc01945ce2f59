"""An experiment's records are its own, else those of its network on the shelf, and no other network's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from robust_hub.certification.evaluate import certify
from robust_hub.cli.main import main
from robust_hub.errors import CheckpointError
from robust_hub.images.data import load_data
from robust_hub.models.checkpoint import save_checkpoint
from robust_hub.models.resnets import load_model
from robust_hub.paper.experiment import Experiment
from robust_hub.paper.recorded import read_recorded
from robust_hub.paper.results import draw, results
from robust_hub.paper.rows import CLEAN, MIXED, SCALES, SIGMAS, Row, Scale, Table
from robust_hub.provenance import Provenance
from robust_hub.publishing.shelf import shelve

NAME = "resnet18s_ln.toy"
OPTIONS: dict[str, Any] = {"epochs": 2, "learning_rate": 0.02}
ROW = Row("mixed", "digits", CLEAN, MIXED, paper="90 | (80)70 60")
SCALE = Scale(
    "tiny",
    "a test",
    "resnet18s",
    "shapes",
    pretrain={"epochs": 3},
    scratch=OPTIONS,
    tune=OPTIONS,
    head=OPTIONS,
    long={},
    certify={"every": 90, "n": 50, "radii": (0.0, 0.1, 0.25), "alpha": 0.05, "seed": 0},
)
TABLE = Table("table0", "a test", (ROW, replace(ROW, label="other", norm="gn")), (0.1, 0.25))
TRAINED = {
    "job": "finetune",
    "sigmas": [0.0],
    "data": "runs/digits",
    **OPTIONS,
    "weight_decay": 0.0,
    "head_only": False,
}
BASE = {"job": "pretrain", "sigmas": list(MIXED), "data": "shapes", "epochs": 3, "learning_rate": 0.1}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shelf with a row's network, certified as the scale says."""
    home = tmp_path_factory.mktemp("made")
    torch.manual_seed(0)
    small = {"channels": (32, 32, 32, 32), "layers": (1, 1, 1, 1)}
    model = timm.create_model("resnet18s_ln", num_classes=10, **small).eval()
    save_checkpoint(model, home / "run", provenance=Provenance.from_json({**TRAINED, "base": BASE}))
    test = load_data("digits", split="test", size=32)
    runs = [
        certify(load_model(home / "run"), test, sigma, out=home / f"{sigma:g}", progress=False, **SCALE.certify).path
        for sigma in SIGMAS
    ]
    return shelve(home / "run", NAME, certified=runs, dtype=torch.float32, shelf=home / "shelf").parent


@pytest.fixture
def shelf(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROBUST_HUB_SHELF", str(tmp_path / "shelf"))
    return Path(shutil.copytree(made, tmp_path / "shelf"))


def change(path: Path, how: Callable[[dict[str, Any]], Any]) -> None:
    values = json.loads(path.read_text())
    how(values)
    path.write_text(json.dumps(values))


def test_a_row_has_the_records_of_its_network(shelf: Path, tmp_path: Path) -> None:
    for out in (None, tmp_path / "nothing"):
        recorded = read_recorded(Experiment(ROW, SCALE, out))
        assert recorded.checkpoint == NAME and [run.sigma for run in recorded.runs] == list(SIGMAS)
        assert all(run.path.parent == shelf / NAME / "certification" and run.records for run in recorded.runs)
    text = results(TABLE, SCALE, None)
    assert text == results(TABLE, SCALE, tmp_path / "nothing")
    assert text.count("not run yet") == 1 and f"Records of the shelf: `{NAME}`." in text
    assert draw(TABLE, SCALE, None, tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"


def test_an_experiments_own_records_come_first(shelf: Path, tmp_path: Path) -> None:
    experiment = Experiment(ROW, SCALE, tmp_path)
    for sigma in SIGMAS:
        folder = shelf / NAME / "certification" / f"digits_sigma_{sigma:g}"
        shutil.copytree(folder, experiment.certified_folder(sigma))
    recorded = read_recorded(experiment)
    assert recorded.checkpoint is None and recorded.runs[0].path == experiment.certified_folder(SIGMAS[0])
    assert "Records of the shelf" not in results(TABLE, SCALE, tmp_path)
    shutil.rmtree(recorded.runs[1].path)  # one sigma is left to be made
    assert read_recorded(experiment).checkpoint == NAME


@pytest.mark.parametrize(
    ("row", "scale"),
    [
        (replace(ROW, norm="gn"), SCALE),
        (replace(ROW, dataset="cifar10"), SCALE),
        (replace(ROW, tuned=(0.25,)), SCALE),
        (replace(ROW, pretrained=CLEAN), SCALE),
        (replace(ROW, pretrained=None), SCALE),
        (replace(ROW, head_only=True), SCALE),
        (ROW, replace(SCALE, depth="resnet26")),
        (ROW, replace(SCALE, pretraining="spots")),
        (ROW, replace(SCALE, pretrain={"epochs": 4})),
        (ROW, replace(SCALE, tune={**OPTIONS, "head_scale": 3.0})),
        (ROW, replace(SCALE, dtype="bfloat16")),
        (ROW, replace(SCALE, certify={**SCALE.certify, "n": 60})),
        (ROW, replace(SCALE, certify={**SCALE.certify, "seed": 1})),
    ],
)
def test_what_was_made_otherwise_is_not_the_rows(shelf: Path, row: Row, scale: Scale) -> None:
    assert read_recorded(Experiment(row, scale)).runs == ()


@pytest.mark.parametrize("harm", ["unfinished", "a sigma less", "other data"])
def test_records_that_are_not_whole_are_not_the_rows(shelf: Path, harm: str) -> None:
    folder = shelf / NAME / "certification" / "digits_sigma_0.5"
    if harm == "unfinished":
        change(folder / "run.json", lambda run: run.update(finished=None))
    elif harm == "a sigma less":
        shutil.rmtree(folder)
    else:
        change(folder / "run.json", lambda run: run["identity"].update(data="letters"))
    assert read_recorded(Experiment(ROW, SCALE)).runs == ()


def test_a_damaged_shelf_is_a_sentence(shelf: Path) -> None:
    records = shelf / NAME / "certification" / "digits_sigma_0.5" / "records.tsv"
    whole = records.read_text()
    records.write_text("".join(whole.splitlines(keepends=True)[:-1]))
    with pytest.raises(ValueError, match=r"records of a finished run, got .*: lost rows in .*digits_sigma_0.5"):
        results(TABLE, SCALE, None)
    records.write_text(whole)
    (shelf / NAME / "certification" / "digits_sigma_1" / "run.json").write_text("{")
    with pytest.raises(ValueError, match=r"digits_sigma_1/run.json"):
        results(TABLE, SCALE, None)
    (shelf / NAME / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="config.json is damaged"):
        results(TABLE, SCALE, None)


def test_the_command_shows_the_shelf(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(SCALES, "tiny", SCALE)
    monkeypatch.setattr("robust_hub.paper.tables.TABLES", {"table0": TABLE})
    monkeypatch.chdir(tmp_path)
    main(["reproduce", "table0", "--scale", "tiny", "--show"], standalone_mode=False)
    assert capsys.readouterr().out.strip() == results(TABLE, SCALE, None).strip()
    assert ROW.name == "digits_ln_0-0.25-0.5-1_then_0_full" and not (tmp_path / "runs").exists()
