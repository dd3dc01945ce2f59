"""The card's line that loads a checkpoint works for whoever reads that card, from any folder."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import huggingface_hub
import pytest
import timm
import torch
from click.testing import CliRunner
from huggingface_hub import constants
from loopback_hub import TOKEN, USER, Hub, wsgi

import robust_hub
from robust_hub.cli.main import main
from robust_hub.images.data import load_data
from robust_hub.layout import CARD
from robust_hub.models.checkpoint import save_checkpoint
from robust_hub.models.resnets import load_model
from robust_hub.models.shelves import VARIABLE
from robust_hub.provenance import Provenance
from robust_hub.publishing.cards import card
from robust_hub.publishing.evidence import read_evidence
from robust_hub.publishing.hub import publish
from robust_hub.publishing.loading import at_home, load_line
from robust_hub.publishing.shelf import shelve

NAME = "resnet18s_ln_mixednoise.photos"
TINY: dict[str, Any] = {"channels": (32, 32, 32, 32), "layers": (1, 1, 1, 1), "num_classes": 5}
X = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def shelved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small pretrained network on a shelf that no name leads to."""
    torch.manual_seed(0)
    start = Provenance(job="pretrain", data="digits", epochs=1, sigmas=(0.0, 0.5))
    run = save_checkpoint(timm.create_model("resnet18s_ln", **TINY), tmp_path_factory.mktemp("run"), provenance=start)
    return shelve(run, NAME, license="mit", shelf=tmp_path_factory.mktemp("mine") / "shelf")


@pytest.fixture
def digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps stand for the epoch of a card's fine-tuning."""
    few = load_data("digits", split="train").subset(range(100))
    monkeypatch.setattr("robust_hub.training.finetune.load_data", lambda *args, **options: few)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub for the client of this process, a cache and a login of its own."""
    found = Hub()
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hook = huggingface_hub.utils._http.hf_request_event_hook
    transport = httpx2.WSGITransport(app=wsgi(found))
    huggingface_hub.set_client_factory(
        lambda: httpx2.Client(transport=transport, event_hooks={"request": [hook]}, follow_redirects=True, timeout=None)
    )
    yield found
    huggingface_hub.set_client_factory(huggingface_hub.utils._http.default_client_factory)


def run(text: str) -> dict[str, Any]:
    """Run a card's blocks of Python, word for word and in turn."""
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        exec(block, names)
        if "loaded" not in names:
            names["loaded"] = names["model"]
    return names


@pytest.mark.parametrize("word", ["a b", "q\"uo'te", "a\n```\nimport os\n```python", "b\\s\tx", "turn\u202e", "\udcff"])
def test_a_folder_of_any_name_is_data_and_no_code(word: str, shelved: Path, tmp_path: Path) -> None:
    """A newline in it closed the card's block of code, and what followed stood there to be run."""
    folder = shutil.copytree(shelved, tmp_path / word / NAME)
    text = card(read_evidence(NAME, folder))
    text.encode()
    line = load_line(NAME, folder)
    assert line.isprintable() and eval(line, {"robust_hub": robust_hub}) is not None
    assert [line[:3] for line in text.splitlines()].count("```") == 10 and "\nimport os" not in text
    (shell,) = re.findall(r"train.py --device-modules robust_hub --model (.*) --pretrained", text)
    given = subprocess.run(["bash", "-c", f"printf %s {shell}"], capture_output=True).stdout
    assert given == b"local-dir:" + os.fsencode(folder)
    (shell,) = re.findall(rf"with {VARIABLE}=(.*) in the environment", text)
    assert subprocess.run(["bash", "-c", f"printf %s {shell}"], capture_output=True).stdout == os.fsencode(
        folder.parent
    )


def test_of_the_shelf_by_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, digits: None) -> None:
    name = "resnet18s_gn_mixednoise"
    monkeypatch.chdir(tmp_path)
    text = card(read_evidence(name))
    assert f'model = timm.create_model("{name}", pretrained=True)' in text and "folder may move" not in text
    names = run(text)
    assert torch.equal(names["loaded"](X), load_model(name)(X)) and names["certificate"].n <= 1000


def test_of_a_shelf_of_ones_own_by_its_folder(
    shelved: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, digits: None
) -> None:
    monkeypatch.chdir(tmp_path)
    text = card(read_evidence(NAME, os.path.relpath(shelved)))
    assert f'model = robust_hub.load_model("{shelved}")' in text and "The folder may move" in text
    names = run(text)
    assert torch.equal(names["loaded"](X), load_model(shelved)(X)) and names["result"].model is names["model"]


def test_of_the_current_folders_shelf_from_another_one(
    shelved: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A name that works here alone is none for a card."""
    (tmp_path / "here").mkdir()
    folder = Path(shutil.copytree(shelved, tmp_path / "project" / "model_cards" / NAME))
    monkeypatch.chdir(tmp_path / "project")
    text = card(read_evidence(NAME))
    line = load_line(NAME, f"model_cards/{NAME}")
    assert line == f'robust_hub.load_model("{folder}")' and f"model = {line}" in text
    by_name = f"with {VARIABLE}={folder.parent} in the environment, or from the folder {tmp_path / 'project'}"
    assert by_name in text
    assert torch.equal(load_model(NAME)(X), load_model(shelved)(X))
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv(VARIABLE, str(folder.parent))
    assert load_line(NAME, folder) == f'timm.create_model("{NAME}", pretrained=True)'
    assert torch.equal(load_model(NAME)(X), load_model(shelved)(X))
    monkeypatch.setenv(VARIABLE, os.path.relpath(folder.parent))  # leads elsewhere from elsewhere
    assert load_line(NAME, folder) == line


def test_a_name_that_leads_to_another_folder_is_none(shelved: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(shelved, tmp_path / "resnet18s_ln_mixednoise"))
    assert load_line("resnet18s_ln_mixednoise", copy) == f'robust_hub.load_model("{copy}")'


def test_the_users_own_folder_is_a_tilde(shelved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(shutil.copytree(shelved, tmp_path / "someone" / 'run "of" photos'))
    monkeypatch.setenv("HOME", str(tmp_path / "someone"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "someone"))
    line = load_line(NAME, folder)
    assert line == 'robust_hub.load_model("~/run \\"of\\" photos")' and at_home(tmp_path) == tmp_path.as_posix()
    names: dict[str, Any] = {}
    exec(f"import robust_hub\nmodel = {line}", names)
    assert torch.equal(names["model"](X), load_model(shelved)(X))
    with pytest.raises(ValueError, match="no model is called '~no_such_user/here'"):
        load_model("~no_such_user/here")


def test_published_from_the_hub(
    hub: Hub, shelved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits: None
) -> None:
    repo_id = f"{USER}/{NAME}"
    told = publish(shelved, repo_id)
    text = hub.repos[repo_id].commits[-1][1][CARD].decode()
    assert f'model = timm.create_model("hf-hub:{repo_id}", pretrained=True)' in text
    assert "folder may move" not in text and "OWNER/" not in text and str(shelved.parent) not in text
    monkeypatch.chdir(tmp_path)
    names = run(text)
    assert torch.equal(names["loaded"](X), load_model(shelved)(X)) and told.revision is not None


SCRIPT = """
import argparse, timm, torch
parser = argparse.ArgumentParser()
parser.add_argument("--model")
parser.add_argument("--pretrained", action="store_true")
parser.add_argument("--data-dir")
parser.add_argument("--split")
args = parser.parse_args()
torch.save(timm.create_model(args.model, pretrained=args.pretrained).state_dict(), args.data_dir)
"""


def test_timms_scripts_run_as_the_card_says(shelved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a script of this test's in the place of validate.py."""
    monkeypatch.setenv("HOME", str(tmp_path / "someone"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "validate.py").write_text(SCRIPT)
    inside = Path(shutil.copytree(shelved, tmp_path / "someone" / "my photos"))
    for folder, said in ((shelved, f"local-dir:{shelved}"), (inside, "\"local-dir:$HOME\"'/my photos'")):
        block = re.search(r"```sh\n(.*?)\npython train.py", card(read_evidence(NAME, folder)), flags=re.DOTALL)
        assert block is not None and f"--model {said} --pretrained" in block[1]
        words = [
            os.path.expandvars(word) for word in shlex.split(block[1].replace("FOLDER", "out.pt").replace("\\\n", ""))
        ]
        assert words[:2] == ["python", "-c"]
        monkeypatch.setattr("sys.argv", ["-c", *words[3:]])
        exec(words[2], {})
        loaded = torch.load("out.pt", weights_only=True)
        assert all(torch.equal(loaded[key], value) for key, value in load_model(shelved).state_dict().items())


def test_shelve_says_how_to_load_it(shelved: Path, tmp_path: Path) -> None:
    words = ["shelve", str(shelved), NAME, "--shelf", str(tmp_path / "shelf"), "--license", "mit"]
    told = CliRunner().invoke(main, words)
    assert told.stdout == f"{tmp_path / 'shelf' / NAME}\n"
    assert told.stderr == f'load it in Python with: robust_hub.load_model("{tmp_path / "shelf" / NAME}")\n'
