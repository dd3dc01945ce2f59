"""The shelf: a checkpoint goes on it with its own records only, and says what it is worth."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file

from robust_hub.certification.evaluate import certify
from robust_hub.errors import CheckpointError
from robust_hub.evidence.accuracy import certified_accuracy, clean_accuracy
from robust_hub.evidence.records import read_run
from robust_hub.images.data import load_data
from robust_hub.layout import DIFFERENCE
from robust_hub.models import checkpoint
from robust_hub.models.config import read_config
from robust_hub.models.resnets import load_model
from robust_hub.models.shelves import list_checkpoints
from robust_hub.provenance import Provenance
from robust_hub.publishing import shelf
from robust_hub.publishing.evidence import describe, describe_all, read_evidence
from robust_hub.publishing.hub import verify
from robust_hub.publishing.shelf import shelve
from robust_hub.training.finetune import finetune_clean

NAME = "resnet18s_ln_mixednoise.toy"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A trained checkpoint, and runs of it in two types and at two sigmas."""
    home = tmp_path_factory.mktemp("made")
    options = {"epochs": 2, "learning_rate": 0.03, "batch_size": 64, "progress": False}
    finetune_clean(
        load_model("resnet18s_ln_mixednoise"),
        load_data("digits", split="train").subset(range(256)),
        out=home / "run",
        **options,
    )
    test = load_data("digits", split="test")
    for dtype, sigma in (("bfloat16", 0.1), ("bfloat16", 0.25), ("float32", 0.1)):
        network = load_model(home / "run").to(getattr(torch, dtype))
        certify(network, test, sigma, out=home / f"{dtype}_{sigma:g}", every=40, n0=20, n=100, seed=0, progress=False)
    return {path.name: path for path in home.iterdir()}


def test_of_several_learning_rates_the_log_is_the_chosen_ones(tmp_path: Path) -> None:
    digits = load_data("digits", split="train").subset(range(64))
    result = finetune_clean(
        load_model("resnet18s_ln_mixednoise"),
        digits,
        out=tmp_path / "run",
        epochs=1,
        learning_rate=(1e-6, 0.03),
        batch_size=32,
        progress=False,
    )
    folder = shelve(tmp_path / "run", NAME, shelf=tmp_path / "shelf")
    chosen = tmp_path / "run" / "training" / f"lr-{result.learning_rate:g}"
    assert (folder / "training" / "log.jsonl").read_bytes() == (chosen / "log.jsonl").read_bytes()
    assert (folder / "training" / "speed.json").exists() == (chosen / "speed.json").exists()
    assert json.loads((folder / "training" / "log.jsonl").read_text()) == result.history[0]
    again = shelve(folder, NAME, shelf=tmp_path / "again")  # of what was shelved, whose log is in its place
    assert (again / "training" / "log.jsonl").read_bytes() == (folder / "training" / "log.jsonl").read_bytes()


def test_a_checkpoint_is_its_weights_records_and_log(made: dict[str, Path], tmp_path: Path) -> None:
    folder = shelve(made["run"], NAME, certified=[made["bfloat16_0.1"], made["bfloat16_0.25"]], shelf=tmp_path)
    assert folder == tmp_path / NAME
    for sigma in ("0.1", "0.25"):
        for file in ("records.tsv", "run.json"):
            copy = folder / "certification" / f"digits_sigma_{sigma}" / file
            assert copy.read_bytes() == (made[f"bfloat16_{sigma}"] / file).read_bytes()
    assert (folder / "training" / "log.jsonl").read_bytes() == (made["run"] / "training" / "log.jsonl").read_bytes()
    assert (folder / "training" / "speed.json").exists()
    assert read_config(folder).provenance == read_config(made["run"]).provenance
    one, two = (load_model(source).bfloat16().state_dict() for source in (folder, made["run"]))
    assert all(torch.equal(one[key], two[key]) for key in two)
    assert (folder / "model.safetensors").stat().st_size < 0.6 * (made["run"] / "model.safetensors").stat().st_size


def test_a_fine_tuned_checkpoint_is_shelved_as_a_difference(made: dict[str, Path], tmp_path: Path) -> None:
    runs = [made["bfloat16_0.1"], made["bfloat16_0.25"]]
    whole = shelve(made["run"], NAME, certified=runs, shelf=tmp_path / "whole")
    folder = shelve(made["run"], NAME, certified=runs, base="resnet18s_ln_mixednoise", shelf=tmp_path / "shelf")
    assert not list(folder.glob("model*")) and (folder / DIFFERENCE).exists()
    one, two = (load_model(source).bfloat16().state_dict() for source in (folder, whole))
    assert all(torch.equal(one[key], two[key]) for key in two)
    worth = describe(read_evidence(NAME, folder))
    assert (worth.base, worth.certified) == ("resnet18s_ln_mixednoise", describe(read_evidence(NAME, whole)).certified)
    assert worth.megabytes == (folder / DIFFERENCE).stat().st_size / 1e6
    again = shelve(folder, NAME, certified=[*folder.glob("certification/*")], shelf=tmp_path / "shelf")  # and back
    assert (again / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert not (again / DIFFERENCE).exists() and describe(read_evidence(NAME, again)).base is None
    with pytest.raises(CheckpointError, match="expected the name of a checkpoint as base: nowhere has no trained"):
        shelve(made["run"], NAME, base="nowhere", shelf=tmp_path / "third")


def test_what_it_is_worth_is_read_from_the_best_sigmas_records(made: dict[str, Path], tmp_path: Path) -> None:
    runs = [made["bfloat16_0.1"], made["bfloat16_0.25"]]
    worth = describe(read_evidence(NAME, shelve(made["run"], NAME, certified=runs, shelf=tmp_path)))
    values = [certified_accuracy(read_run(run).records, 0.25) for run in runs]
    assert (
        worth.certified == values[1] and values[1].value > values[0].value == 0
    )  # 100 samples reach 0.15 at sigma 0.1
    assert worth.clean == clean_accuracy(read_run(runs[0]).records)
    assert (worth.data, worth.sigma, worth.trained) == ("digits", 0.25, "fine-tuned on digits, 2 epochs")
    assert worth.megabytes == pytest.approx((tmp_path / NAME / "model.safetensors").stat().st_size / 1e6)


def test_without_records_it_is_half_precision_and_worth_unknown(made: dict[str, Path], tmp_path: Path) -> None:
    worth = describe(read_evidence(NAME, shelve(made["run"], NAME, shelf=tmp_path)))
    assert (worth.data, worth.sigma, worth.clean, worth.certified) == (None,) * 4
    assert worth.megabytes < 0.6 * (made["run"] / "model.safetensors").stat().st_size / 1e6


def test_records_of_other_weights_are_refused(made: dict[str, Path], tmp_path: Path) -> None:
    other = timm.create_model("resnet18s_ln", num_classes=10)
    checkpoint.save_checkpoint(other, tmp_path / "other")
    with pytest.raises(ValueError, match="bfloat16_0.1 holds records of other weights"):
        shelve(tmp_path / "other", NAME, certified=[made["bfloat16_0.1"]], shelf=tmp_path / "shelf")
    assert not (tmp_path / "shelf").exists()


def test_a_type_that_changes_the_certified_network_is_refused(made: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"its type is float32.*leave dtype out"):
        shelve(made["run"], NAME, certified=[made["float32_0.1"]], dtype=torch.bfloat16, shelf=tmp_path)
    both = shelve(made["run"], NAME, certified=[made["float32_0.1"], made["bfloat16_0.25"]], shelf=tmp_path)
    assert next(iter(load_file(str(both / "model.safetensors")).values())).dtype == torch.float32


def test_a_name_has_the_records_of_its_newest_weights_alone(made: dict[str, Path], tmp_path: Path) -> None:
    folder = shelve(made["run"], NAME, certified=[made["bfloat16_0.1"], made["bfloat16_0.25"]], shelf=tmp_path)
    again = shelve(folder, NAME, certified=[folder / "certification" / "digits_sigma_0.25"], shelf=tmp_path)
    assert [path.name for path in (again / "certification").iterdir()] == ["digits_sigma_0.25"]
    assert (again / "training" / "log.jsonl").read_bytes() == (made["run"] / "training" / "log.jsonl").read_bytes()
    other = again / "certification" / "digits_sigma_0.1"
    shutil.copytree(made["bfloat16_0.1"], other)
    written = json.loads((other / "run.json").read_text())
    (other / "run.json").write_text(json.dumps({**written, "identity": {**written["identity"], "weights": "00"}}))
    with pytest.raises(ValueError, match="expected records of one network in .*: shelve it anew"):
        describe(read_evidence(NAME, again))


def test_a_full_disk_is_a_sentence_and_leaves_what_was_there(
    made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shelve(made["run"], NAME, certified=[made["bfloat16_0.1"]], shelf=tmp_path)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def full(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ValueError, match="expected a folder that can be written, got .*No space left.*make room"):
        shelve(folder, NAME, certified=[folder / "certification" / "digits_sigma_0.1"], shelf=tmp_path)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["model.safetensors.partial", "records.tsv", "run.json", "log.jsonl"])
def test_a_disk_that_is_full_in_the_middle_leaves_the_old_checkpoint_whole(
    made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = shelve(made["run"], NAME, certified=[made["bfloat16_0.1"]], shelf=tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    write = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if path.name != name:
            return write(path, content)
        write(path, content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ValueError, match="expected a folder that can be written, got .*No space left.*make room"):
        shelve(made["run"], NAME, certified=[made["bfloat16_0.25"]], shelf=tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert verify(folder) == folder


def test_two_runs_for_one_sigma_and_a_promise_that_the_weights_do_not_keep_are_refused(
    made: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="one run for data and sigma, got .*float32_0.1 beside another"):
        shelve(made["run"], NAME, certified=[made["bfloat16_0.1"], made["float32_0.1"]], shelf=tmp_path)
    recipe = {"job": "finetune", "data": "spots", "epochs": 1}
    base = {"job": "pretrain", "sigmas": [0.25], "data": "shapes", "epochs": 3}
    checkpoint.save_checkpoint(
        load_model(made["run"]), tmp_path / "single", provenance=Provenance.from_json({**recipe, "base": base})
    )
    with pytest.raises(
        ValueError, match=r"got weights pretrained on shapes, 3 epochs, sigma 0.25: call.*resnet18s_ln\.<"
    ):
        shelve(tmp_path / "single", NAME, shelf=tmp_path)
    assert not (tmp_path / NAME).exists()
    assert shelve(tmp_path / "single", "resnet18s_ln.noise0.25", shelf=tmp_path).is_dir()


def test_unfinished_runs_and_wrong_names_are_refused(made: dict[str, Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for file in ("records.tsv", "run.json"):
        (run / file).write_bytes((made["bfloat16_0.1"] / file).read_bytes())
    written = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**written, "finished": None}))
    with pytest.raises(ValueError, match="expected finished runs"):
        shelve(made["run"], NAME, certified=[run], shelf=tmp_path)
    with pytest.raises(ValueError, match="is a resnet18s_ln, expected a name that starts with it"):
        shelve(made["run"], "resnet18s_gn_mixednoise.toy", shelf=tmp_path)
    with pytest.raises(ValueError, match="no checkpoint folder and no model is called"):
        shelve(tmp_path / "nowhere_at_all", NAME, shelf=tmp_path)
    with pytest.raises(CheckpointError, match="nothing_mixednoise has no trained weights in "):
        read_evidence("nothing_mixednoise")


def test_everything_that_is_here_can_be_described() -> None:
    described = {one.name: one for one in describe_all()}
    assert described.keys() == set(list_checkpoints())
    assert described["resnet18s_ln_mixednoise"].trained.startswith("pretrained on tiny-imagenet-32, 14 epochs")


@pytest.mark.full
@pytest.mark.skipif(len(list_checkpoints()) < 2, reason="the shelf is part of a clone only")
def test_records_on_the_shelf_are_those_of_its_weights() -> None:
    for name in list_checkpoints():
        evidence = read_evidence(name)
        if evidence.runs:
            model = load_model(evidence.folder)
            for run in evidence.runs:
                shelf.check_run(run, model)


def test_an_entry_that_is_a_link_is_not_written_through(made: dict[str, Path], tmp_path: Path) -> None:
    elsewhere = Path(shutil.copytree(made["run"], tmp_path / "elsewhere"))
    before = {path: path.read_bytes() for path in elsewhere.rglob("*") if path.is_file()}
    (tmp_path / "shelf").mkdir()
    (tmp_path / "shelf" / NAME).symlink_to(elsewhere)
    with pytest.raises(ValueError, match=r"expected a folder in .*, which leads to .*elsewhere: remove the link"):
        shelve(made["run"], NAME, shelf=tmp_path / "shelf")
    assert {path: path.read_bytes() for path in elsewhere.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("data", "word"),
    [
        ("../../evil", "evil"),
        ("..", ".."),
        ("C:\\photos\\..\\evil", "evil"),
        ("a\0b\x1b[2J", "a_b_[2J"),
        ("what? <mine>|", "what_ _mine__"),
        ("蝴" * 200, "蝴" * 50),
    ],
)
def test_records_of_data_of_any_name_stay_in_the_folder(data: str, word: str) -> None:
    folder = Path("certification", f"{shelf._folder_word(data)}_sigma_0.25")
    assert folder.parts == ("certification", f"{word}_sigma_0.25") and len(folder.name.encode()) < 255
