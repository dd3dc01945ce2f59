"""Data of one's own: a folder of photographs, from training to records, without a word about size, split or rate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn

import robust_hub
from robust_hub.certification.evaluate import certify
from robust_hub.certification.task import choose_every
from robust_hub.cli.main import main
from robust_hub.evidence.records import read_run
from robust_hub.evidence.tables import markdown_table
from robust_hub.images.data import ImageData, load_data
from robust_hub.images.held_out import HeldOut, hold_out
from robust_hub.images.parts import has_split
from robust_hub.models.config import read_config
from robust_hub.models.resnets import load_model
from robust_hub.models.sizes import note_size, own_size
from robust_hub.publishing.cards import card
from robust_hub.publishing.evidence import read_evidence
from robust_hub.publishing.shelf import shelve
from robust_hub.training.finetune import finetune_clean
from robust_hub.training.recipes import RATES, suited_recipe

SMALL: dict[str, Any] = {"layers": (1, 1, 1, 1), "channels": (8, 8, 8, 8)}
QUICK: dict[str, Any] = {"epochs": 1, "learning_rate": 0.01, "batch_size": 16, "progress": False}


def write_photos(folder: Path, count: int = 12, side: int = 40, seed: int = 0) -> Path:
    """Photographs of two classes, dark and light, each of its own."""
    generator = np.random.default_rng(seed)
    for label, name in enumerate(("dark", "light")):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            pixels = generator.integers(0, 90, (side, side, 3)) + 150 * label
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{i:03}.png")
    return folder


def network(**more: Any) -> nn.Module:
    """A tiny network of ours with weights of a seed."""
    torch.manual_seed(0)
    made: nn.Module = timm.create_model("resnet18s_ln", **{"num_classes": 2, **SMALL, **more})
    return made


def pixels_of(data: ImageData) -> set[bytes]:
    """The images of data by their bytes."""
    return {image.numpy().tobytes() for image in data.batch(range(len(data)))[0]}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Photographs, and the checkpoint of a fine-tuning on them."""
    home = tmp_path_factory.mktemp("own")
    photos = write_photos(home / "photos")
    result = finetune_clean(network(), str(photos), out=home / "run", **QUICK)
    assert result.judged is not None and result.held_out is not None and result.judged.images == len(result.held_out)
    return photos, home / "run"


def test_what_is_held_out_depends_on_the_images_alone(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 30)
    train, held, which = hold_out(load_data(photos, size=32), 0.1)
    assert (len(train), len(held), which.images, held.split) == (54, 6, 6, "train-held-out")
    assert held.labels.tolist() == [0, 0, 0, 1, 1, 1]
    for i, file in enumerate(sorted(photos.glob("*/*.png"), reverse=True)):
        file.rename(file.with_name(f"{1000 + 7 * i}.png"))
    again = hold_out(load_data(photos, size=32), 0.1)
    assert pixels_of(again[1]) == pixels_of(held) and again[2] == which
    write_photos(tmp_path / "more", 9, seed=1)
    for file in (tmp_path / "more").glob("*/*.png"):
        file.rename(photos / file.parent.name / f"0{file.name}")
    grown = load_data(photos, size=32)
    assert pixels_of(grown.subset(which.among(grown))) == pixels_of(held)


def test_copies_of_an_image_stand_on_one_side_and_doubtful_labels_are_trained_on() -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (40, 3, 8, 8), generator=generator, dtype=torch.uint8)
    pixels = torch.cat([pixels, pixels, pixels[:1]])
    labels = torch.cat([torch.arange(40) % 2, torch.arange(40) % 2, torch.tensor([1])])
    train, held, which = hold_out(ImageData(pixels, labels, ("a", "b"), name="n", split="train"), 0.3)
    assert not pixels_of(train) & pixels_of(held)
    assert len(held) == 2 * len(which.hashes) == 24
    assert pixels[0].numpy().tobytes() in pixels_of(train)


def test_every_class_has_a_held_out_image_and_some_to_train_on() -> None:
    pixels = torch.arange(12 * 192).remainder(251).to(torch.uint8).view(12, 3, 8, 8)
    labels = torch.tensor([0] * 5 + [1] * 5 + [2] * 2)
    train, held, _ = hold_out(ImageData(pixels, labels, ("a", "b", "c"), name="n", split="train"), 0.1)
    assert held.labels.tolist() == [0, 1] and set(train.labels.tolist()) == {0, 1, 2}
    with pytest.raises(ValueError, match=r"expected a share that holds out an image, got 0\.1 of 2 images: raise it"):
        hold_out(train.subset([8, 9]), 0.1)


def test_a_record_of_held_out_images_survives_json_and_damage_is_said() -> None:
    which = HeldOut(0.1, 300, frozenset(f"{i:016x}" for i in range(300)))
    values = json.loads(json.dumps(which.to_json()))
    assert HeldOut.from_json(values) == which and max(map(len, values["hashes"])) <= 4096
    for damage in ({"hashes": ["xyz"]}, {"hashes": 3}, {"hashes": ["G" * 16]}, {"images": "many"}):
        with pytest.raises(ValueError, match="expected a record of held-out images, got a damaged one"):
            HeldOut.from_json({**values, **damage})


def test_a_folder_named_test_has_no_split_of_its_own(tmp_path: Path) -> None:
    flat = write_photos(tmp_path / "test", 2)
    assert has_split(flat, "test") and not has_split(flat, "test", "train") and not has_split(flat, "val")
    write_photos(tmp_path / "parts" / "train", 2)
    write_photos(tmp_path / "parts" / "test", 2)
    assert has_split(tmp_path / "parts", "test", "train")
    assert not has_split([(torch.zeros(3, 8, 8), 0)], "test")


def test_training_takes_none_of_the_images_that_certify_takes(trained: tuple[Path, Path], tmp_path: Path) -> None:
    photos, run = trained
    record = read_config(run).provenance
    assert record is not None and record.held_out is not None and record.images == 22
    assert record.held_out["images"] == 2 and record.held_out["split"] == "train-held-out"
    assert {"right", "right_under_noise", "sigma"} <= record.held_out.keys()
    done = certify(load_model(run), photos, 0.25, out=tmp_path / "run", n=50, progress=False)
    assert len(done.records) == 2 and done.identity["split"] == "train-held-out"
    assert done.identity["image"] == {"shape": [3, 32, 32], "resized": 32}
    write_photos(photos, 3, seed=5)  # other images under the names of three that were trained on or held out
    later = certify(load_model(run), photos, 0.25, out=tmp_path / "later", n=50, progress=False)
    assert len(later.records) <= 2
    write_photos(photos)


def test_other_splits_come_first_and_the_training_images_are_refused(
    trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, run = trained
    model = load_model(run)
    write_photos(tmp_path / "other", 2, seed=9)
    with pytest.raises(ValueError, match=r"expected images that were held out .* photos, got none of them in other"):
        certify(model, tmp_path / "other", 0.25, out=tmp_path / "x", n=50, progress=False)
    write_photos(tmp_path / "parts" / "train", 2)
    write_photos(tmp_path / "parts" / "val", 3, seed=3)
    done = certify(model, tmp_path / "parts", 0.25, out=tmp_path / "val", n=50, progress=False)
    assert done.identity["split"] == "val" and len(done.records) == 6
    assert "parts has no test split: its validation split is certified" in capsys.readouterr().err
    everything = finetune_clean(network(), str(photos), val=0, **QUICK).model
    with pytest.raises(ValueError, match="got photos, all of which it was trained on: fine-tune with --val"):
        certify(everything, photos, 0.25, out=tmp_path / "x", n=50, progress=False)
    further = finetune_clean(everything, str(photos), **QUICK)
    with pytest.raises(ValueError, match="all of which it was trained on"):  # by the training before
        certify(further.model, photos, 0.25, out=tmp_path / "x", n=50, progress=False)
    with pytest.raises(ValueError, match=r"expected a test split in other, got a training split alone.* --val 0\.1"):
        certify(network(), tmp_path / "other", 0.25, out=tmp_path / "x", n=50, progress=False)
    assert not (tmp_path / "x").exists()


def test_a_validation_split_judges_the_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_photos(tmp_path / "parts" / "train", 8)
    write_photos(tmp_path / "parts" / "valid", 3, seed=3)
    result = finetune_clean(network(), tmp_path / "parts", **QUICK)
    assert result.judged is not None and result.judged.images == 6 and result.provenance.images == 16
    assert result.judged.split == "val" and "hashes" not in (result.provenance.held_out or {})
    said = capsys.readouterr().err
    assert "judged on its validation split, 6 images" in said and "nothing is certified yet" in said
    write_photos(tmp_path / "two" / "train", 8)
    write_photos(tmp_path / "two" / "test", 3, seed=3)
    plain = finetune_clean(network(), tmp_path / "two", **QUICK)
    assert plain.judged is None and plain.provenance.images == 16 and plain.provenance.held_out is None


def test_the_same_call_resumes_with_the_same_images_held_out(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 8)
    first = finetune_clean(network(), photos, out=tmp_path / "run", **QUICK)
    (tmp_path / "run" / "config.json").unlink()
    again = finetune_clean(network(), photos, out=tmp_path / "run", **QUICK)
    assert again.history == first.history and again.judged == first.judged
    assert again.provenance.held_out == first.provenance.held_out
    with pytest.raises(ValueError, match="expected a folder of the same training|settings|another training|differ"):
        finetune_clean(network(), photos, out=tmp_path / "run", val=0.4, **QUICK)


def test_images_are_of_the_size_that_the_network_was_trained_at(
    trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, run = trained
    model = load_model(run)
    assert own_size(model) == 32
    certify(model, photos, 0.25, out=tmp_path / "run", n=50, progress=False)
    assert "photos: images of 40x40 are resized to the network's 32x32" in capsys.readouterr().err
    whole = load_data(photos)
    with pytest.raises(ValueError, match=r"expected images of 32x32, at which this network was trained, got 40x40"):
        certify(model, whole, 0.25, out=tmp_path / "x", n=50, progress=False)
    capsys.readouterr()
    larger = finetune_clean(model, whole, out=tmp_path / "larger", **QUICK).model
    assert (
        "the network was trained at 32x32: it is trained, and then certified, at 40x40 (load_data with size=32 "
        in capsys.readouterr().err
    )
    assert own_size(larger) == own_size(load_model(tmp_path / "larger")) == 40
    with pytest.raises(ValueError, match="expected images of 40x40"):
        certify(load_model(tmp_path / "larger"), load_data(photos, size=32), 0.25, out=tmp_path / "x", n=50)


def test_the_whole_way_of_a_flat_folder_on_the_command_line(trained: tuple[Path, Path], tmp_path: Path) -> None:
    photos, run = trained

    def call(*words: object) -> Any:
        return CliRunner().invoke(main, [str(word) for word in words])

    out = tmp_path / "runs"
    common = ("certify", "--model", run, "--data", photos, "--n", 50, "--quiet")
    done = call(*common, "--out", out)
    assert done.exit_code == 0, done.output
    assert "resized to the network's 32x32" in done.output and "2 images that training held out" in done.output
    assert "certifying all 2 images" in done.output
    refused = call(*common, "--size", 40, "--split", "train", "--out", tmp_path / "x")
    assert refused.exit_code == 2 and "expected images of 32x32, at which this network was trained" in refused.output
    refused = call(*common, "--size", 40, "--out", tmp_path / "x")
    assert refused.exit_code == 2 and "expected images of 32x32, at which this network was trained" in refused.output
    photo = call("certify", photos / "dark" / "000.png", "--model", run, "--size", 40, "--out", tmp_path / "x")
    assert photo.exit_code == 2 and "expected images of 32x32, at which this network was trained" in photo.output
    none = call(*common, "--limit", -1, "--out", tmp_path / "x")
    assert none.exit_code == 2 and "expected limit" in none.output and "certifying" not in none.output
    asked = call(*common, "--split", "train", "--limit", 3, "--out", tmp_path / "asked")
    assert asked.exit_code == 0 and "certifying the first 3 of 24 images" in asked.output
    tuned = call(
        *("finetune", "--model", run, "--data", photos, "--epochs", 1, "--head-only", "--quiet"),
        *("--out", tmp_path / "tuned"),
    )
    assert tuned.exit_code == 0, tuned.output
    assert "2 of 24 images (8 %) are held out of training" in tuned.output
    assert "chosen for 22 training images: batches of 22, learning rate 0.3 (" in tuned.output
    again = call("certify", "--model", tmp_path / "tuned", "--data", photos, "--n", 50, "--out", tmp_path / "twice")
    assert again.exit_code == 0, again.output  # both trainings held out the same images


@pytest.mark.parametrize(
    ("count", "every"), [(1, 1), (372, 1), (500, 1), (501, 2), (1000, 2), (6149, 13), (10_000, 20), (10_001, 21)]
)
def test_every_is_what_makes_at_most_500(count: int, every: int, tmp_path: Path) -> None:
    assert choose_every(count, tmp_path) == every
    assert len(range(0, count, every)) <= 500


def test_a_run_goes_on_with_its_own_every(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, plain = load_data("digits", split="test"), {"mean": (0, 0, 0), "std": (1, 1, 1)}
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))
    how: dict[str, Any] = {"out": tmp_path, "n": 50, "progress": False, **plain}
    first = certify(model, data, 0.25, every=250, **how)
    again = certify(model, data, 0.25, **how)
    assert again.records == first.records and [record.idx for record in again.records] == [0, 250]
    choose_every(10_000, tmp_path / "none")
    choose_every(123, tmp_path / "none", 5)
    said = capsys.readouterr().err
    assert "certifying 500 of 10,000 images, every 20th; --every 1 takes all" in said
    assert "certifying the first 5 of 123 images" in said


def test_the_recipe_suits_the_number_of_images() -> None:
    assert suited_recipe(50_000).epochs == 1
    few, some = suited_recipe(288), suited_recipe(2761)
    assert few.batch_size * few.epochs * (288 // few.batch_size) >= 3200 and isinstance(few.learning_rate, float)
    assert some.learning_rate == RATES and some.judge_sigma == 0.25 and some.head_scale == 300
    assert "right most often under noise of sigma 0.25" in some.words
    asked = suited_recipe(288, epochs=7, head_scale=2.0, batch_size=16)
    assert (asked.epochs, asked.head_scale, asked.batch_size) == (7, 2.0, 16)
    assert suited_recipe(288, head_only=True).head_scale == 1.0
    assert suited_recipe(288, optimizer="adamw").learning_rate == 0.01


@pytest.mark.parametrize(
    ("images", "asked", "said"),
    [
        (1, {}, "1 training image: 100 epochs, batches of 1, learning rate 0.001, 300 times that for the new"),
        (288, {"epochs": 7}, "288 training images: batches of 32, learning rate 0.001, 300 times that"),
        (288, {"batch_size": 8, "head_scale": 2.0}, "288 training images: 3 epochs, learning rate 0.001 ("),
        (288, {"optimizer": "adamw"}, "288 training images: 12 epochs, batches of 32, learning rate 0.01 ("),
        (3000, {"holdout": 0.3}, "kept is the rate that is right most often under noise of sigma 0.25 on 30 % of them"),
    ],
)
def test_what_was_chosen_is_said_and_nothing_else(images: int, asked: dict[str, Any], said: str) -> None:
    assert said in suited_recipe(images, **asked).words


def test_classes_that_are_too_small_to_hold_out_of_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = write_photos(tmp_path / "few", 4)
    assert finetune_clean(network(), str(few), **QUICK).judged is None
    assert "few: no class has 5 images, so none are held out: certify needs others" in capsys.readouterr().err
    write_photos(tmp_path / "more", 9, seed=2)
    for file in (tmp_path / "more" / "dark").glob("*.png"):
        file.rename(few / "dark" / f"x{file.name}")
    assert finetune_clean(network(), str(few), **QUICK).judged is not None
    assert "held out of training, for certify (--val); 1 class has too few for that" in capsys.readouterr().err


def test_several_rates_are_judged_under_noise_where_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robust_hub.training.recipes.ENOUGH", 20)
    seen: list[bool] = []
    kept = robust_hub.NoiseMixture.add

    def add(self: Any, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        seen.append(self.sigmas == (0.25,))
        return kept(self, images, generator)

    monkeypatch.setattr(robust_hub.NoiseMixture, "add", add)
    data = load_data("digits").subset(range(40))
    result = finetune_clean(network(num_classes=10), data, epochs=1, progress=False)
    assert len(seen) == len(RATES) and all(seen)
    assert result.learning_rate in RATES and result.provenance.options["judge_sigma"] == 0.25


def test_cards_and_tables_say_which_part_was_certified(trained: tuple[Path, Path], tmp_path: Path) -> None:
    photos, run = trained
    model = load_model(run)
    for name, data in (("held", photos), ("seen", load_data(photos, size=32))):
        certify(model, data, 0.25, out=tmp_path / name, n=50, limit=2, progress=False)
    held, seen = (read_run(tmp_path / name) for name in ("held", "seen"))
    assert "Images: the part of photos that was held out of training." in markdown_table([held])
    assert "Images: the train split of photos, on which the network was trained." in markdown_table([seen])
    folder = shelve(run, "resnet18s_ln.photos", certified=[tmp_path / "held"], shelf=tmp_path / "shelf")
    text = card(read_evidence("resnet18s_ln.photos", folder))
    assert "2 images of photos, the part held out of training, 10 % (all of them)" in text
    assert "Accuracy of the base classifier beside the training: 2 images held out of training: " in text
    assert "hashes" not in text
    again = certify(load_model(folder), photos, 0.25, out=tmp_path / "shelved", n=50, progress=False)
    assert len(again.records) == 2
    before = (folder / "config.json").read_text()
    damaged = {"right": -1, "right_under_noise": [1], "images": 0, "sigma": "x", "split": ["test"]}
    for name, value in (("right", 3), *damaged.items()):
        config = json.loads(before)
        config["robust_hub"]["recipe"]["held_out"][name] = value
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(ValueError, match="expected right answers on images kept apart, got .*: restore config"):
            card(read_evidence("resnet18s_ln.photos", folder))
    config["robust_hub"]["recipe"]["held_out"]["split"] = "test"
    (folder / "config.json").write_text(json.dumps(config))
    run = certify(load_model(folder), photos, 0.25, out=tmp_path / "called", n=50, progress=False)
    assert run.identity["split"] == "train-held-out", "a record does not say of them what they are not"


class OfAClass(nn.Module):
    """A network whose configuration is its class's, and so that of every other of its kind."""

    pretrained_cfg = {"input_size": (3, 8, 8), "mean": (0.5,) * 3, "std": (0.5,) * 3}  # noqa: RUF012


def test_the_size_of_a_training_is_said_by_the_network_that_was_trained_alone() -> None:
    one, other = OfAClass(), OfAClass()
    timms = timm.create_model("resnet18")
    note_size(one, (3, 16, 16))
    note_size(nn.Sequential(timms), (3, 64, 64))
    assert (own_size(one), own_size(other)) == (16, 8)
    assert own_size(timms) == 64 and timms.default_cfg == timms.pretrained_cfg
    assert own_size(timm.create_model("resnet18")) == 224
