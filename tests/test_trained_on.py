"""Images that a network was trained on are known again, whatever became of their names, folders and splits."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from robust_hub.certification.evaluate import certify
from robust_hub.evidence.tables import markdown_table
from robust_hub.evidence.values import runs_values
from robust_hub.images.data import ImageData, load_data
from robust_hub.models.resnets import load_model
from robust_hub.provenance import note_provenance, provenance_of
from robust_hub.training.finetune import finetune_clean
from tests.test_own_data import QUICK, network, pixels_of, write_photos

SHORT: dict[str, Any] = {"n": 50, "progress": False}


class Items(Dataset[tuple[Tensor, int]]):
    """Images and labels as a torch Dataset."""

    def __init__(self, data: ImageData) -> None:
        self.data, self.classes = data, data.classes

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        pixels, labels = self.data.batch([index])
        return pixels[0], int(labels[0])


def test_a_data_set_that_is_handed_in_is_not_called_test_images(tmp_path: Path) -> None:
    data = Items(load_data(write_photos(tmp_path / "photos"), size=32))
    model = finetune_clean(network(), data, **QUICK).model
    for seen in (data, Subset(data, range(3, 20))):
        with pytest.raises(ValueError, match="expected images that the network was not trained on, got the test split"):
            certify(model, seen, 0.25, out=tmp_path / "run", **SHORT)


def test_images_that_became_a_test_split_after_the_training_are_refused(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos")
    model = finetune_clean(network(), str(photos), val=0, **QUICK).model
    for file in sorted(photos.glob("*/*.png")):
        part = tmp_path / "parts" / ("test" if int(file.stem) < 3 else "train") / file.parent.name
        part.mkdir(parents=True, exist_ok=True)
        file.rename(part / file.name)
    with pytest.raises(ValueError, match="got the test split of parts, on images of which it was: name other data"):
        certify(model, tmp_path / "parts", 0.25, out=tmp_path / "run", **SHORT)


def test_a_folder_named_test_that_grew_gives_its_held_out_part(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "test")
    model = finetune_clean(network(), str(photos), **QUICK).model
    write_photos(tmp_path / "more", 1, seed=5)
    (tmp_path / "more" / "dark" / "000.png").rename(photos / "dark" / "new.png")
    run = certify(model, photos, 0.25, out=tmp_path / "run", **SHORT)
    assert len(run.records) == 2 and run.identity["split"] == "train-held-out"


def test_what_was_held_out_is_unseen_no_more_once_somebody_else_trains_on(tmp_path: Path) -> None:
    """A loop of the user's own tells nobody what it sees; types, copies and pickles are no training."""
    photos = write_photos(tmp_path / "photos")
    model = finetune_clean(network(), str(photos), **QUICK).model
    for k, same in enumerate((model, copy.deepcopy(model).bfloat16(), pickle.loads(pickle.dumps(model)))):
        assert len(certify(same, photos, 0.25, out=tmp_path / f"run{k}", **SHORT).records) == 2
    with torch.no_grad():
        next(model.parameters()).mul_(0.99)
    with pytest.raises(ValueError, match="a network that says of no image that it was held out: fine-tune with --val"):
        certify(model, photos, 0.25, out=tmp_path / "later", **SHORT)
    train = load_data(str(photos), split="train", size=32)
    run = certify(model, train, 0.25, out=tmp_path / "later", **SHORT)
    assert run.provenance is not None and run.provenance.job is None  # how these weights came about, nobody says
    assert run.identity["trained_on"] and "on which the network was trained" in markdown_table([run])


@pytest.mark.parametrize("val", [0, 0.1])
def test_what_an_earlier_training_saw_under_another_name_is_not_held_out(
    tmp_path: Path, val: float, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = write_photos(tmp_path / "photos", 20)
    base = finetune_clean(network(), str(photos), val=val, **QUICK)
    kept = set() if base.held_out is None else pixels_of(base.held_out)
    renamed = photos.rename(tmp_path / "renamed")
    write_photos(tmp_path / "more", 1, seed=5)
    (tmp_path / "more" / "dark" / "000.png").rename(renamed / "dark" / "new.png")
    result = finetune_clean(base.model, str(renamed), val=0.4, **QUICK)
    model, said = result.model, capsys.readouterr().err
    left = len(kept) + 1 if kept else 1
    assert (result.judged is None) or result.judged.images <= left
    assert "images that are kept apart were trained on before" in said
    if not kept:
        with pytest.raises(ValueError, match="got renamed, all of which it was trained on"):
            certify(model, renamed, 0.25, out=tmp_path / "run", **SHORT)
        return
    assert len(certify(model, renamed, 0.25, out=tmp_path / "run", **SHORT).records) == len(kept)


def test_networks_of_other_images_of_the_same_name_are_certified(tmp_path: Path) -> None:
    base = finetune_clean(network(), str(write_photos(tmp_path / "one" / "photos", seed=3)), val=0, **QUICK).model
    photos = write_photos(tmp_path / "two" / "photos")
    model = finetune_clean(base, str(photos), **QUICK).model
    assert len(certify(model, photos, 0.25, out=tmp_path / "run", **SHORT).records) == 2


def test_training_images_that_are_asked_for_are_counted_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = load_data(write_photos(tmp_path / "photos"), size=32)
    model = finetune_clean(network(), data.subset(range(20)), out=tmp_path / "run", **QUICK).model
    mixed = data.subset(range(16, 24))
    mixed.split = "mine"
    run = certify(load_model(tmp_path / "run"), mixed, 0.25, out=tmp_path / "certified", **SHORT)
    assert "photos: at least 4 of these 8 images are ones that the network was trained on" in capsys.readouterr().err
    assert run.identity["trained_on"] == runs_values([run])["runs"][0]["trained_on"] == 4
    assert "Images: of photos, at least 4 of 8 ones on which the network was trained." in markdown_table([run])
    assert "At least 4 of them are ones on which the network was trained." in run._repr_html_()
    again = certify(model, mixed, 0.25, out=tmp_path / "certified", **SHORT)
    assert again.identity == run.identity
    other = certify(model, data.subset(range(20, 24)), 0.25, out=tmp_path / "unseen", **SHORT)
    assert "trained_on" not in other.identity and "was trained" not in other._repr_html_()


def test_a_record_of_held_out_images_that_names_trained_ones_is_contradicted(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos")
    result = finetune_clean(network(), str(photos), out=tmp_path / "run", **QUICK)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    recipe = config["robust_hub"]["recipe"]
    held = dict(recipe["held_out"])
    recipe["held_out"]["hashes"] = recipe["trained_on"]
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="got none of them in photos"):
        certify(load_model(tmp_path / "run"), photos, 0.25, out=tmp_path / "x", **SHORT)
    recipe["held_out"], recipe["trained_on"] = held, ["xyz"]
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="expected a record of images that were trained on, got a damaged one"):
        certify(load_model(tmp_path / "run"), photos, 0.25, out=tmp_path / "x", **SHORT)
    assert result.provenance.trained_on == provenance_of(result.model).trained_on  # type: ignore[union-attr]


def test_of_many_images_a_sample_is_kept_and_still_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("images.content.SAMPLE", "certification.parts.SAMPLE"):
        monkeypatch.setattr(f"robust_hub.{name}", 8)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (64, 3, 32, 32), generator=generator, dtype=torch.uint8)
    data = ImageData(pixels, torch.arange(64) % 2, ("a", "b"), name="n", split="train")
    model = finetune_clean(network(), data, **QUICK).model
    provenance = provenance_of(model)
    assert provenance is not None and len("".join(provenance.trained_on or ())) == 8 * 16
    with pytest.raises(ValueError, match="expected images that the network was not trained on"):
        certify(model, Items(data.subset(range(1, 64))), 0.25, out=tmp_path / "run", **SHORT)
    note_provenance(model, None)
    assert len(certify(model, Items(data), 0.25, out=tmp_path / "run", limit=2, **SHORT).records) == 2


def test_what_judges_a_training_is_of_its_classes_and_size_and_not_trained_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = write_photos(tmp_path / "photos")
    data = load_data(photos, size=32)
    train, rest = data.subset(range(20)), data.subset(range(16, 24))
    turned = rest.renumbered(1 - rest.labels, ("light", "dark"))
    plain, other = (finetune_clean(network(), train, val=val, **QUICK).judged for val in (rest, turned))
    assert plain is not None and plain == other and plain.images == 4
    assert "photos: 4 of 8 images are trained on, too, and judge nothing" in capsys.readouterr().err
    for val, words in (
        (load_data(photos, size=16), r"expected images in val of the shape that is trained on, \(3, 32, 32\), got"),
        (rest.renumbered(rest.labels, ("x", "light")), "expected val of the classes that are trained on, got others"),
        (train.subset(range(4)), "expected images in val that are not trained on, got 4 that all are"),
    ):
        with pytest.raises(ValueError, match=words):
            finetune_clean(network(), train, val=val, **QUICK)
