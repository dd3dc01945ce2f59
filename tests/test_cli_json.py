"""With --json each command prints one document, whose names at the top are those of docs/command-line.md."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from click.testing import CliRunner, Result
from PIL import Image

import robust_hub
from robust_hub.cli.main import main
from robust_hub.evidence.records import read_run
from robust_hub.models.checkpoint import read_weights

PAGE = Path(__file__).parents[1] / "docs" / "command-line.md"
SMALL = {"channels": (32,) * 4, "layers": (1,) * 4, "num_classes": 2}


def documented() -> dict[str, set[str]]:
    """The names at the top of each command's document, as the page has them."""
    rows = re.findall(r"^\| (`[^|]*) \| ([\w, ]+) \|$", PAGE.read_text(), re.MULTILINE)
    return {name: set(keys.split(", ")) for names, keys in rows for name in re.findall("`([^`]+)`", names)}


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def said(*words: object, of: str = "") -> dict[str, Any]:
    """The document of a command, which is all that is on standard output."""
    result = run(*words, "--json")
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.stdout, parse_constant=pytest.fail)
    assert document.keys() == documented()[of or str(words[0])]
    return document


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of two classes, dark and bright, and a small network's checkpoint."""
    home = tmp_path_factory.mktemp("home")
    drawn = np.random.default_rng(0)
    for split in ("train", "test"):
        for k, name in enumerate(("dark", "light")):
            (home / "pictures" / split / name).mkdir(parents=True)
            for i in range(8):
                pixels = drawn.integers(150 * k, 150 * k + 100, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(home / "pictures" / split / name / f"{i}.png")
    torch.manual_seed(0)
    robust_hub.save_checkpoint(timm.create_model("resnet18s_ln", **SMALL), home / "first")
    return home


def train(home: Path, command: str, out: str) -> dict[str, Any]:
    words = ("--model", home / "first", "--data", home / "pictures", "--epochs", 1, "--batch-size", 8)
    return said(command, *words, "--out", home / out)


@pytest.fixture(scope="module")
def tuned(home: Path) -> dict[str, Any]:
    return train(home, "finetune", "tuned")


@pytest.fixture(scope="module")
def certified(home: Path, tuned: dict[str, Any]) -> dict[str, Any]:
    words = ("--data", home / "pictures", "--every", 1, "--n", 50, "--sigma", "0.25,0.5", "--quiet")
    return said("certify", "--model", tuned["folder"], *words, "--out", home / "certified")


def test_training(home: Path, tuned: dict[str, Any]) -> None:
    assert tuned["folder"] == str(home / "tuned") and read_weights(home / "tuned")
    assert tuned["history"][-1]["epoch"] == 1
    assert train(home, "pretrain", "mixed")["learning_rate"] == 0.1


def test_certification_and_report(home: Path, certified: dict[str, Any]) -> None:
    runs = certified["runs"]
    assert [one["sigma"] for one in runs] == [0.25, 0.5] and certified["out"] == str(home / "certified")
    for one in runs:
        read = read_run(one["folder"])
        assert one["images"] == len(read.records) == 16
        assert one["clean"]["value"] == sum(record.base == record.label for record in read.records) / 16
    again = said("report", home / "certified")
    assert {**again, "out": certified["out"]} == {**certified, "curves": None}
    shown = set(re.findall(r"[a-z_0-9]+", PAGE.read_text().partition("A run in `runs`")[2]))
    assert runs[0].keys() <= shown


def test_a_checkpoints_way(home: Path, certified: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    chosen = ("--certified", certified["runs"][0]["folder"], "--shelf", tmp_path)
    shelved = said("shelve", home / "tuned", "resnet18s_ln.json", *chosen)
    folder = Path(shelved["folder"])
    assert folder == tmp_path / "resnet18s_ln.json" and shelved["card"] == str(folder / "README.md")
    assert (folder / "README.md").exists() and (folder / "curves.png").exists()
    assert said("card", folder) == {"name": folder.name, "card": str(folder / "README.md")}
    assert said("verify", folder) == {"source": str(folder), "revision": None, "folder": str(folder), "well": True}
    sent = said("publish", folder, "--namespace", "me", "--dry-run")
    assert sent["dry_run"] and sent["revision"] is None and sent["repo_id"] == "me/resnet18s_ln.json"
    assert {"README.md", "config.json", "model.safetensors"} <= {one["path"] for one in sent["files"]}
    assert all(len(one["sha256"]) == 64 and one["bytes"] > 0 for one in sent["files"])
    named = said("name-classes", folder, "--data", home / "pictures")
    assert named == {"config": str(folder / "config.json"), "classes": ["dark", "light"]}


def test_adopt(tmp_path: Path) -> None:
    model = timm.create_model("resnet18s_ln", **SMALL)
    timm.models.save_for_hf(model, tmp_path / "timm", safe_serialization=True)
    assert said("adopt", tmp_path / "timm") == {"folder": str(tmp_path / "timm")}


def test_models(monkeypatch: pytest.MonkeyPatch) -> None:
    (packaged,) = (one for one in said("models")["models"] if one["name"] == "resnet18s_ln_mixednoise")
    assert packaged["weights"] and packaged["megabytes"] > 5 and packaged["certified"][0]["radius"] == 0.25
    everything = said("models", "--all")["models"]
    assert {"name": "resnet26_in", "weights": False} in everything
    monkeypatch.setattr("robust_hub.publishing.hub.list_published", lambda name: [(f"{name}/a", "0" * 40, True)])
    listed = said("models", "--remote", "--namespace", "me", of="models --remote")
    assert listed["published"] == [{"repo_id": "me/a", "revision": "0" * 40, "pinned": True}]


def test_certificates(home: Path, tuned: dict[str, Any], tmp_path: Path) -> None:
    model = robust_hub.load_model(tuned["folder"])
    certificate = robust_hub.SmoothedClassifier(model).certify(torch.zeros(3, 32, 32), 0.25, n=100)
    (tmp_path / "c.json").write_text(certificate.to_json())
    found = said("verify-certificate", tmp_path / "c.json")
    assert found["well"] and found["radius"] == certificate.radius
    (tmp_path / "c.json").write_text("{}")
    refused = run("verify-certificate", tmp_path / "c.json", "--json")
    assert refused.exit_code == 2 and not json.loads(refused.stdout)["well"] and "robust-hub: " in refused.stderr


def test_the_papers_tables() -> None:
    found = said("reproduce", "table1", "--show")
    assert found["table"] == "table1" and found["scale"] == "small" and found["curves"] is None
    ours = [one for one in found["rows"] if one["ours"]]
    assert ours and ours[0]["checkpoint"] and 0 < ours[0]["ours"]["runs"][0]["clean"]["value"] < 1
    assert found["rows"][0]["paper"]["clean"] > 1  # percent, as printed


def test_benches(home: Path, tuned: dict[str, Any]) -> None:
    words = ("--model", tuned["folder"], "--data", home / "pictures", "--repeats", 1)
    small = ("--images", 2, "--samples", 16, "--n", 100, "--batch-size", 16, "--plain-batch-size", 16)
    assert said("bench", "certify", *words, *small, of="bench certify")["settings"]["images"] == 2
    assert said("bench", "train", *words, "--steps", 1, "--batch-size", 4, of="bench train")["rows"]


def test_the_demo(certified: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [read_run(one["folder"]) for one in certified["runs"]]
    monkeypatch.setattr("robust_hub.demo.run_demo", lambda out, progress: runs)
    found = said("demo", "--out", tmp_path)
    assert found["curves"] == str(tmp_path / "curves.png") and len(found["runs"]) == 2


def test_a_refusal_prints_no_document(tmp_path: Path) -> None:
    for words in (("report", tmp_path), ("verify", tmp_path), ("certify", "--every")):
        result = run(*words, "--json")
        assert result.exit_code == 2 and not result.stdout and result.stderr
