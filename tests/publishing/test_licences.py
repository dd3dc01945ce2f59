"""Licences: the Hub's ids, asked for and never assumed, kept in config.json and said on the card."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from click.testing import CliRunner
from huggingface_hub import ModelCard

from robust_hub.cli import publish as cli
from robust_hub.cli.main import main
from robust_hub.errors import CheckpointError
from robust_hub.layout import CONFIG
from robust_hub.models.checkpoint import save_checkpoint
from robust_hub.models.config import read_config
from robust_hub.models.resnets import load_model
from robust_hub.models.shelves import PACKAGED, checkpoint_folder, list_checkpoints
from robust_hub.provenance import Provenance, provenance_of
from robust_hub.publishing.cards import card
from robust_hub.publishing.evidence import read_evidence
from robust_hub.publishing.hub import publish
from robust_hub.publishing.licences import LICENCES, check_licence, record_licence
from robust_hub.publishing.shelf import shelve

NAME = "resnet18s_ln.mine"
TINY: dict[str, Any] = {"channels": (32, 32, 32, 32), "layers": (1, 1, 1, 1), "num_classes": 5}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    start = Provenance(job="pretrain", data="runs/holiday photos", epochs=1, sigmas=(0.0, 0.5))
    return save_checkpoint(timm.create_model("resnet18s_ln", **TINY), tmp_path_factory.mktemp("run"), provenance=start)


def text_of(folder: Path) -> str:
    return card(read_evidence(NAME, folder))


@pytest.mark.parametrize("word", ["apache-2.0", "Apache-2.0", " CC-BY-NC-4.0 ", "other", "BSD-3-Clause"])
def test_an_id_is_taken_in_the_hubs_spelling_and_in_spdxs(word: str) -> None:
    assert check_licence(word) == word.strip().lower() and check_licence(word) in LICENCES


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("apache2", "got 'apache2': did you mean apache-2.0"),
        ("GPL-3.0-only", "got 'GPL-3.0-only': did you mean gpl-3.0"),
        ("my own\x1b[2J", r"got 'my own\\x1b\[2J': did you mean .* `other` stands for one that is not in https://"),
        ("", "got '': did you mean apache-2.0 or cc-by-nc-4.0 or other"),
    ],
)
def test_another_is_refused_with_near_ones(word: str, said: str, saved: Path, tmp_path: Path) -> None:
    for use in (lambda: check_licence(word), lambda: shelve(saved, NAME, license=word, shelf=tmp_path / "shelf")):
        with pytest.raises(ValueError, match=f"expected the Hub's id of a licence, {said}"):
            use()
    assert not (tmp_path / "shelf").exists()


def test_none_is_assumed(saved: Path, tmp_path: Path) -> None:
    folder = shelve(saved, NAME, shelf=tmp_path)
    text = text_of(folder)
    assert ModelCard(text).data.license is None and read_config(folder).license is None
    assert "No licence has been chosen for these weights, so that nobody but their maker may use" in text
    assert "holiday photos: not known here, to be named by whoever publishes these weights" in text
    assert "\nlicense" not in text and "as far as" not in text


def test_the_chosen_one_is_kept_and_said(saved: Path, tmp_path: Path) -> None:
    folder = shelve(saved, NAME, license="CC-BY-4.0", shelf=tmp_path)
    assert json.loads((folder / CONFIG).read_text())["robust_hub"]["license"] == "cc-by-4.0"
    assert ModelCard(text_of(folder)).data.license == "cc-by-4.0"
    assert "Weights: cc-by-4.0, as far as they are ours to license; the code, robust_hub, is Apache-2.0." in text_of(
        folder
    )
    again = shelve(folder, "resnet18s_ln.again", shelf=tmp_path)
    assert read_config(again).license == "cc-by-4.0"
    assert "Code and weights: Apache-2.0, as far" in text_of(shelve(again, NAME, license="apache-2.0", shelf=tmp_path))


def test_all_else_in_config_json_stays(saved: Path, tmp_path: Path) -> None:
    folder = shelve(saved, NAME, shelf=tmp_path)
    before = json.loads((folder / CONFIG).read_text())
    record_licence(folder, "mit")
    record_licence(folder, "isc")
    after = json.loads((folder / CONFIG).read_text())
    assert after["robust_hub"].pop("license") == "isc" and after == before
    load_model(folder)
    (folder / CONFIG).write_text(json.dumps({**before, "robust_hub": None}))
    with pytest.raises(ValueError, match="expected a checkpoint of robust_hub, got .* of another library: adopt it"):
        record_licence(folder, "mit")
    (folder / CONFIG).write_text(json.dumps({**before, "robust_hub": {**before["robust_hub"], "license": ["mit"]}}))
    with pytest.raises(CheckpointError, match=r"names the licence \['mit'\], expected the Hub's id of one"):
        read_config(folder)


def test_weights_say_under_which_licence_those_were_that_they_started_from(tmp_path: Path) -> None:
    start = provenance_of(load_model("resnet18s_ln_mixednoise"))
    assert start is not None and start.notes["license"] == "apache-2.0"
    model = timm.create_model("resnet18s_ln", **TINY)
    folder = save_checkpoint(model, tmp_path, provenance=Provenance(job="finetune", data="digits", base=start))
    assert "They started from weights under Apache-2.0, whose terms go on with them." in text_of(folder)
    assert read_config(folder).license is None


def test_every_licence_of_what_weights_started_from_goes_on(tmp_path: Path) -> None:
    """A licence between two trainings hid the one before it, and nothing said that another was chosen over it."""
    first = Provenance(job="pretrain", notes={"license": "cc-by-nc-4.0"})
    second = Provenance(job="finetune", base=first, notes={"license": "mit"})
    folder = save_checkpoint(
        timm.create_model("resnet18s_ln", **TINY), tmp_path / "run", provenance=Provenance(job="finetune", base=second)
    )
    said = "started from weights under cc-by-nc-4.0, whose terms go on with them"
    with pytest.warns(UserWarning, match=said):
        shelved = shelve(folder, NAME, license="apache-2.0", shelf=tmp_path / "shelf")
    assert "They started from weights under MIT and cc-by-nc-4.0, whose terms go on" in text_of(shelved)
    shutil.copytree(Path(PACKAGED / "resnet18s_ln_mixednoise"), tmp_path / "whole")
    values = json.loads((tmp_path / "whole" / CONFIG).read_text())
    values["robust_hub"]["recipe"]["base"] = {"job": "pretrain", "license": "cc-by-nc-4.0"}
    (tmp_path / "whole" / CONFIG).write_text(json.dumps(values))
    with pytest.warns(UserWarning, match=f"these weights, apache-2.0, {said}"):
        publish(tmp_path / "whole", "me/mine", name="resnet18s_ln_mixednoise", dry_run=True)


def test_the_shelf_of_this_repository_is_apache() -> None:
    for name in list_checkpoints():
        folder = checkpoint_folder(name)
        assert folder is not None and read_config(folder).license == "apache-2.0"
    assert timm.models.get_pretrained_cfg("resnet18s_ln_mixednoise").license == "apache-2.0"
    assert read_config(PACKAGED / "resnet18s_ln_mixednoise").license == "apache-2.0"


def test_nothing_is_published_without_one(saved: Path, tmp_path: Path) -> None:
    folder = shelve(saved, NAME, shelf=tmp_path)
    with pytest.raises(ValueError, match="expected a licence for the weights in .*, got none: .*nothing was sent"):
        publish(folder, "me/mine")
    run = CliRunner().invoke
    told = run(main, ["publish", str(folder), "--repo", "me/mine", "--dry-run"])
    assert told.exit_code == 0 and "no licence is chosen for these weights: to be sent they need" in told.output
    refused = run(main, ["publish", str(folder), "--repo", "me/mine"])
    assert refused.exit_code == 2 and "expected a licence for the weights" in refused.output
    taken = publish(folder, "me/mine", license="mit", dry_run=True)
    assert dict((path, size) for path, size, _ in taken.files)[CONFIG] > (folder / CONFIG).stat().st_size


def test_a_person_at_a_terminal_is_asked_until_it_is_one(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, answers = shelve(saved, NAME, shelf=tmp_path), ["mitt", "", "MIT"]
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: answers.pop(0))
    monkeypatch.setattr("sys.stdin", type("Terminal", (), {"isatty": lambda self: True})())
    assert cli._asked_licence(folder, dry=False) == "mit" and answers == []
    assert "did you mean mit" in capsys.readouterr().err
    assert cli._asked_licence(folder, dry=True) is None
    record_licence(folder, "isc")
    assert cli._asked_licence(folder, dry=False) is None


@pytest.mark.parametrize("repo", ["me/../x", "mine", "me/a b", "me/x\n```"])
def test_a_dry_run_refuses_a_repository_that_is_none(repo: str, saved: Path) -> None:
    with pytest.raises(ValueError, match="expected a repository owner/name, got"):
        publish(saved, repo, name=NAME, dry_run=True)
