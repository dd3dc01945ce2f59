"""The tool that fills minutes of an accelerator: its steps work one after another, and it plans to end in time."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from robust_hub.models.resnets import load_model
from robust_hub.models.shelves import VARIABLE
from robust_hub.publishing.hub import verify

TOOLS = Path(__file__).parents[1] / "tools"
pytestmark = pytest.mark.skipif(not TOOLS.exists(), reason="the tools are not part of this copy")

if TOOLS.exists():
    import train_in_minutes as tool


def test_epochs_fill_the_time_and_no_more():
    for seconds, speed, images in ((540, 6000, 173_394), (540, 17_000, 173_394), (61, 100, 1000)):
        epochs = tool.epochs_within(seconds, speed, images)
        assert epochs * images <= seconds * speed < (epochs + 2) * images
    assert tool.epochs_within(1, 10, 1000) == 1


def test_steps_are_written_as_they_end_whatever_ends_them(tmp_path):
    timeline = tool.Timeline(tmp_path / "timeline.json", minutes=1)
    with pytest.raises(RuntimeError, match="lost"), timeline.step("train") as row:
        row["images"] = 5
        raise RuntimeError("lost")
    (row,) = json.loads((tmp_path / "timeline.json").read_text())
    assert (row["step"], row["images"]) == ("train", 5) and 0 <= row["seconds"] < 60 - timeline.left + 1
    with tool.Timeline(tmp_path / "timeline.json", minutes=1).step("again"):
        pass
    assert [row["step"] for row in json.loads((tmp_path / "timeline.json").read_text())] == ["train", "again"]


def test_options_of_the_accelerator_are_those_of_the_tables():
    full = tool.full()
    assert (full.pretrain["optimizer"], full.pretrain["batch_size"], full.pretrain["compile"]) == ("nmuon", 1024, True)
    assert "epochs" not in full.pretrain and full.tune["epochs"] == 1
    assert (full.certify["every"], full.certify["n"], full.dtype) == (20, 10_000, "bfloat16")


@pytest.mark.full
def test_a_rehearsal_makes_checkpoints_with_records(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "out" / "shelf"))
    words = ["resnet18s_ln", "--data", "digits", "--size", "64", "--tune", "digits=digits", "--rehearse"]
    words += ["--minutes", "9", "--pretraining", "0.01", "--out", str(tmp_path / "out"), "--license", "apache-2.0"]
    done = CliRunner().invoke(tool.main, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    steps = [row["step"] for row in json.loads((tmp_path / "out" / "timeline.json").read_text())]
    assert steps[:4] == ["load", "pretrain", "shelve", "fine-tune on digits"] and steps[-1] == "shelve digits"
    assert len(steps) == 8
    tuned = load_model("resnet18s_ln_mixednoise.digits")
    assert tuned.num_classes == 10
    verify(tmp_path / "out" / "shelf" / "resnet18s_ln_mixednoise.digits")
    before = (tmp_path / "out" / "epochs.json").read_bytes()
    monkeypatch.setattr(tool, "epochs_within", lambda *_: 99)
    images, row = tool.load_some("digits", "train", tool.toy(), 64), {}
    tool.pretrain("resnet18s_ln", images, 1.0, tmp_path / "out", tool.toy(), row)  # goes on: no trial, no training
    assert row["epochs"] != 99 and (tmp_path / "out" / "epochs.json").read_bytes() == before
