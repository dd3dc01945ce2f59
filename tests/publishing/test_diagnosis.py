"""doctor: what is wrong is found and said with what to do, and nothing of the user's is given away."""

from __future__ import annotations

import io
import json
import shutil
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from click.testing import CliRunner
from huggingface_hub import constants

from robust_hub.cli import doctor as command
from robust_hub.cli.main import main
from robust_hub.layout import CONFIG, DIFFERENCE, WEIGHTS
from robust_hub.models import pins, remote, shelves
from robust_hub.models.checkpoint import save_checkpoint
from robust_hub.models.pins import write_pin
from robust_hub.models.resnets import load_model
from robust_hub.publishing import surroundings
from robust_hub.publishing.diagnosis import diagnose
from robust_hub.publishing.surroundings import Finding, public

TINY: dict[str, Any] = {"channels": (32, 32, 32, 32), "layers": (1, 1, 1, 1), "num_classes": 5}
NAME, TUNED = "resnet18s_ln.mine", "resnet18s_ln.tuned"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shelf with a checkpoint and a difference to it."""
    torch.manual_seed(0)
    shelf = tmp_path_factory.mktemp("made") / "shelf"
    save_checkpoint(timm.create_model("resnet18s_ln", **TINY), shelf / NAME)
    save_checkpoint(load_model(shelf / NAME), shelf / TUNED, base=NAME)
    return shelf


@pytest.fixture
def shelf(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only shelf, of a user whose home is tmp_path, without a network."""
    copy = Path(shutil.copytree(made, tmp_path / "shelf"))
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("ROBUST_HUB_SHELF", str(copy))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shelves, "SOURCE_TREE", tmp_path)
    monkeypatch.setattr(shelves, "PACKAGED", tmp_path / "package")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return copy


def found(part: str, **options: bool) -> dict[str, Finding]:
    return {finding.name: finding for finding in diagnose(**options) if finding.part == part}


def test_a_sound_installation_is_well(shelf: Path) -> None:
    for words in (["doctor"], ["doctor", "--deep"]):
        told = CliRunner().invoke(main, words)
        lines = told.output.splitlines()
        assert told.exit_code == 0 and lines[-1] == "all is well", told.output
        assert f"versions: timm: {version('timm')}" in lines and "shelves: 1: ~/shelf: 2 checkpoints" in lines
        assert any(line.startswith(f"checkpoints: {TUNED}: weights") for line in lines)
    read = json.loads(CliRunner().invoke(main, ["doctor", "--json"]).output)
    assert (
        read["well"]
        and {"part": "shelves", "name": "2", "value": "~/model_cards: no such folder", "wrong": False}
        in (read["findings"])
    )


def flip(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda shelf: flip(shelf / NAME / WEIGHTS), {NAME: "is not what config.json promises", TUNED: "is not what"}),
        (lambda shelf: (shelf / NAME / WEIGHTS).unlink(), {NAME: "found none", TUNED: "found none"}),
        (
            lambda shelf: flip(shelf / TUNED / DIFFERENCE),
            {TUNED: "difference.safetensors.zlib is not what config.json"},
        ),
        (lambda shelf: (shelf / TUNED / CONFIG).write_text("{"), {TUNED: "config.json is damaged"}),
        (lambda shelf: shutil.rmtree(shelf / NAME), {TUNED: "expected the name of a checkpoint as base"}),
    ],
)
def test_what_is_damaged_is_named(harm: Callable[[Path], Any], said: dict[str, str], shelf: Path) -> None:
    harm(shelf)
    checkpoints = found("checkpoints")
    assert {name for name, one in checkpoints.items() if one.wrong} == said.keys()
    assert all(words in checkpoints[name].value for name, words in said.items())
    told = CliRunner().invoke(main, ["doctor"])
    assert told.exit_code == 1 and f"checkpoints: {TUNED}: WRONG: " in told.output
    assert told.output.splitlines()[-1].endswith("what to do stands there")


def test_deep_compares_what_the_network_computes(shelf: Path) -> None:
    path = shelf / NAME / CONFIG
    config = json.loads(path.read_text())
    config["robust_hub"]["fingerprint"]["logits"][0][0] += 1
    path.write_text(json.dumps(config))
    assert not found("checkpoints")[NAME].wrong
    deep = found("checkpoints", deep=True)[NAME]
    assert deep.wrong and "give other logits here" in deep.value


def test_absent_packages_say_what_brings_them(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without(name: str) -> str:
        if name in ("datasets", "timm"):
            raise PackageNotFoundError(name)
        return "1.0" if name == "torch" else version(name)

    monkeypatch.setattr(surroundings.importlib.metadata, "version", without)
    packages = found("versions")
    assert packages["datasets"].value == 'absent: pip install "robust-hub[data]"' and not packages["datasets"].wrong
    assert packages["timm"].wrong and packages["timm"].value.startswith('absent: pip install "timm>=')
    assert packages["torch"].wrong and packages["torch"].value.startswith("1.0, expected >=")
    assert "pytest" not in packages and "ruff" not in packages


def test_a_cache_that_cannot_be_written_or_has_no_room(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not found("caches")["Hub's files"].wrong
    with monkeypatch.context() as patch:
        patch.setattr(surroundings.os, "access", lambda *_: False)  # as of a disk that is mounted read-only
        one = found("caches")["Hub's files"]
    assert one.wrong and one.value == "~/cache cannot be written: set HF_HOME to a folder on a disk with room"
    (shelf / "file").write_text("")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(shelf / "file" / "hub"))
    assert found("caches")["Hub's files"].wrong
    monkeypatch.setattr(surroundings, "LEAST", 1e18)
    assert "GB free: set TORCH_HOME" in found("caches")["torch's data sets"].value


def test_the_network_is_asked_once_for_two_seconds(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "(not asked): out of reach (HF_HUB_OFFLINE is set): what is here works" in found("network")["Hub"].value
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    asked = []

    class Silent:
        def head(self, address: str, timeout: float) -> None:
            asked.append(address)
            time.sleep(30)

    monkeypatch.setattr(remote, "get_session", Silent)
    monkeypatch.setattr(surroundings, "PATIENCE", 0.1)
    hub = found("network")["Hub"]
    assert "out of reach (no answer within 0.1 s)" in hub.value and not hub.wrong and asked == [constants.ENDPOINT]


def test_pins_are_said_and_damaged_ones_are_wrong(shelf: Path) -> None:
    path = write_pin(NAME, "me/mine", "0123456789ab" + "0" * 28)
    assert found("pins")[NAME].value == "me/mine at 0123456789ab, fetched when it is first loaded"
    path.write_text(path.read_text().replace("me/mine", "me//mine"))
    assert found("pins")[NAME].wrong and "correct pins.json" in found("pins")[NAME].value
    path.write_text("{")
    assert found("pins")["pins.json"].wrong and pins.user_pins() == path


def test_nothing_of_the_users_is_given_away(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surroundings.getpass, "getuser", lambda: "alice")
    secret = "hf_" + "aBcD1234" * 4
    texts = {
        f"{shelf}/x and {shelf.parent}: gone": "~/shelf/x and ~: gone",
        "/scratch/alice/data": "/scratch/USER/data",
        f"https://alice:{secret}@hub.example answers": "https://hub.example answers",
        "https://alice:p@ss/w@hub.example answers": "https://hub.example answers",
        f"HF_TOKEN={secret}": "HF_TOKEN=hf_...",
        "https://hub.example/x?a=1&token=secret b": "https://hub.example/x?... b",
        "a\nb\x1b[2J": r"a b\x1b[2J",
        "/malice/palice": "/malice/palice",
    }
    assert {text: public(Finding("a", "b", text)).value for text in texts} == texts


def test_what_may_not_be_read_is_said_and_ends_nothing(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unreadable = shelf.parent / ("x" * 300)  # which no system lets anyone read, root neither
    monkeypatch.setenv(shelves.VARIABLE, str(unreadable))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(unreadable / "hub"))
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert "cannot be read" in found("shelves")["1"].value
    assert [one.name for one in diagnose() if one.part == "caches"][:1] == ["Hub's files"]


def test_a_terminal_gets_a_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    found = [Finding("versions", "timm", "1.0"), Finding("versions", "x" * 50, "absent, " * 9, wrong=True)]
    command._print_table(found)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["versions", "timm", "1.0"] and lines[1].split() == ["x" * 44, "WRONG:", "absent,"]
    assert lines[2].split() == ["x" * 6, "absent,", "absent,"] and len(lines) == 6


def test_a_terminal_is_told_at_once_that_it_takes_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def found(**_: object) -> list[Finding]:
        said.append(stream.getvalue())
        return [Finding("versions", "timm", "1.0")]

    said: list[str] = []
    monkeypatch.setattr("robust_hub.publishing.diagnosis.diagnose", found)
    for stream in (Terminal(), io.StringIO()):
        monkeypatch.setattr(sys, "stderr", stream)
        with pytest.raises(SystemExit, match="0"):
            command.doctor.main([], standalone_mode=False)
    assert said == ["looking at versions, device, network and every checkpoint: some seconds\n", ""]


def test_a_terminal_needs_no_package_that_is_not_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich", None)
    command._print_table([Finding("versions", "timm", "1.0")])
