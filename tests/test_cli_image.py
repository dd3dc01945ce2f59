"""`certify` of image files: what is said and written is what was certified, and a stranger can check it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from torch import nn
from toys import full_disk

from robust_hub import files
from robust_hub.cli.main import main
from robust_hub.guarantee.certificate import Certificate
from robust_hub.models import resnets
from robust_hub.models.classes import note_class_names
from robust_hub.provenance import Provenance, note_provenance

pytest.importorskip("matplotlib")


def bright(names: tuple[str, ...] | None = ("dark", "bright"), size: tuple[int, ...] | None = (3, 8, 8)) -> nn.Module:
    """Is an image bright?"""
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    network.load_state_dict({"2.weight": torch.tensor([[-1.0] * 3, [1.0] * 3]), "2.bias": torch.zeros(2)})
    network.pretrained_cfg = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "input_size": size}  # type: ignore[assignment]
    note_class_names(network, names)
    return network


@pytest.fixture
def photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a bright and a middling photograph; networks are made by name here."""
    pretrained = bright()
    note_provenance(pretrained, Provenance(job="pretrain", data="shades"))
    networks = {"bright": bright(), "nameless": bright(None), "sizeless": bright(size=None), "pretrained": pretrained}
    monkeypatch.setattr(resnets, "load_model", lambda name: networks[name])
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (60, 40), (240, 230, 250)).save("light.jpg")
    Image.fromarray(np.tile(np.array([[[127], [128]]], np.uint8), (4, 4, 3))).save("grey.png")
    return tmp_path


def run(*words: object) -> Result:
    return CliRunner().invoke(main, ["certify", *map(str, words)])


def read(path: str) -> Certificate:
    return Certificate.from_json(Path(path).read_text())


def test_a_photograph_is_certified_explained_drawn_and_can_be_checked(photographs: Path) -> None:
    result = run("light.jpg", "--model", "bright", "--quiet")
    assert result.exit_code == 0, result.output
    said = " ".join(result.stdout.split())
    names = sorted(path.name for path in (photographs / "certificates").iterdir())
    assert names == ["light-certificate.png", "light-seen.png", *(f"light-sigma{s}.json" for s in ("0.25", "0.5", "1"))]
    for sigma in ("0.25", "0.5", "1"):
        one = read(f"certificates/light-sigma{sigma}.json")
        assert (one.prediction, one.n, one.sigma, one.reproduction) == (1, 1000, float(sigma), False)
        assert (
            f"sigma {sigma} bright, radius {int(1000 * one.radius) / 1000:.3f} ({one.count:,} of 1,000 votes)" in said
        )
        assert f'the answer at sigma {sigma} is "bright" for every image closer than' in said
    for words in ("60x40 pixels; the network sees the central square, resized to 8x8", "without noise bright"):
        assert words in said
    for words in ("1,000 noisy copies a sigma", "--n 10000", "largest of them is not one for all"):
        assert words in said
    assert (photographs / "certificates" / "light-certificate.png").read_bytes().startswith(b"\x89PNG")
    check = next(line for line in result.stdout.splitlines() if line.startswith("check"))
    words = check.split()[1:]
    assert words[0] == "robust-hub"
    assert CliRunner().invoke(main, words[1:]).exit_code == 0


def test_an_abstention_is_said_in_words_and_is_no_error(photographs: Path) -> None:
    result = run("grey.png", "--model", "bright", "--sigma", "0.5", "--n", "200", "--out", "here")
    assert result.exit_code == 0
    assert "no answer" in result.stdout and "which is no error" in result.stdout
    assert "noisy copies a sigma" not in result.stdout  # n was asked for
    assert read("here/grey-sigma0.5.json").abstained


def test_several_images_have_files_of_their_own(photographs: Path) -> None:
    (photographs / "more").mkdir()
    Image.new("RGB", (8, 8), "black").save("more/light.png")
    result = run("light.jpg", "more/light.png", "--model", "bright", "--sigma", "0.25,0.25", "--n", "100", "--out", "x")
    assert result.exit_code == 0, result.output
    assert [read(f"x/{name}-sigma0.25.json").class_name for name in ("light", "light-2")] == ["bright", "dark"]
    assert len(list((photographs / "x").iterdir())) == 6


def test_out_may_name_the_picture_and_programs_get_the_numbers(
    photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emitted: list[Any] = []
    monkeypatch.setattr("robust_hub.cli.image.emit", lambda values, words: emitted.append(values))
    result = run("light.jpg", "--model", "bright", "--sigma", "0.25", "--n", "100", "--out", "a/b.png")
    assert result.exit_code == 0, result.output
    ((value,),) = json.loads(json.dumps(emitted, default=str))
    one = read("a/b-sigma0.25.json")
    assert value["certificates"][0]["radius"] == one.radius and value["certificates"][0]["class_name"] == "bright"
    assert value["files"] == ["a/b.png", "a/b-seen.png", "a/b-sigma0.25.json"]
    assert all(Path(name).exists() for name in value["files"])


def test_radii_seed_and_noise_are_those_asked_for(photographs: Path) -> None:
    asked = ("--radii", "0,0.25,2", "--seed", "3", "--noise", "float", "--sigma", "0.25", "--alpha", "0.01")
    result = run("light.jpg", "--model", "bright", *asked)
    assert result.exit_code == 0, result.output
    one = read("certificates/light-sigma0.25.json")
    assert (one.radius, one.seed, one.noise, one.alpha, one.limit) == (0.25, 3, "float32", 0.01, 1000)
    said = " ".join(result.stdout.split())
    assert "99 % confidence" in said and "Only the radii 0, 0.25, 2 were tried; 2 would take more than" in said
    assert "The seed of the noise was given by the caller" in said
    assert "At most 1,000 noisy copies a sigma were drawn, too few to decide every radius that was asked for" in said
    assert "cannot certify more" not in said
    decided = run("light.jpg", "--model", "bright", "--radii", "0,0.25", "--sigma", "0.25")
    assert "noisy copies a sigma" not in decided.stdout  # fewer were drawn, and more would change nothing


def test_classes_without_names_and_those_of_a_pretraining_are_said(photographs: Path) -> None:
    few = ("--sigma", "0.25", "--n", "50")
    said = " ".join(run("light.jpg", "--model", "nameless", *few).stdout.split())
    assert "class 1, radius" in said and "robust-hub name-classes" in said
    said = " ".join(run("light.jpg", "--model", "pretrained", *few).stdout.split())
    assert "pretrained on shades, and these are the classes of that data" in said
    assert "name-classes" not in said


def test_without_matplotlib_there_is_no_picture_and_a_word_of_it(
    photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robust_hub.cli.image.find_spec", lambda name: None)
    result = run("light.jpg", "--model", "bright", "--sigma", "0.25", "--n", "50")
    assert result.exit_code == 0 and 'pip install "robust-hub[plot]"' in result.stdout
    assert not (photographs / "certificates" / "light-certificate.png").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("light.jpg", "--data", "digits"), "expected images or --data, got both: leave one of them out"),
        ((), "expected IMAGE... or --data, got neither"),
        (("--data", "digits"), "expected --out, a folder for the records, with --data, got none"),
        (("light.jpg", "--every", "3"), "expected --every with --data alone, got it beside images: leave it out"),
        ((".",), "expected an image file, got the folder .: name its files"),
        (("light.jpg", "none.jpg"), "expected an image file, got none.jpg: there is none"),
        (("light.jpg", "grey.png", "--out", "x.png"), "expected a folder as --out of 2 images, got x.png"),
        (("light.jpg", "--out", "x.jpg"), "expected --out to be a folder or to end in .png, got x.jpg"),
        (("light.jpg", "--out", "light.jpg/x"), "expected a folder that can be written, got light.jpg/x"),
        (("light.jpg", "--sigma", "0.25,-1"), "expected a finite sigma > 0"),
        (("light.jpg", "--out", "light.png.jpg"), "or to end in .png"),
        (("light.jpg", "--n", "3"), "expected n >= 10"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence_before_anything_is_written(
    photographs: Path, words: tuple[str, ...], said: str
) -> None:
    result = run("--model", "bright", "--quiet", *words)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())
    assert sorted(path.name for path in photographs.iterdir()) == ["grey.png", "light.jpg"]


def test_a_full_disk_is_said_before_the_first_vote(photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files.tempfile, "TemporaryFile", full_disk)
    result = run("light.jpg", "--model", "bright", "--n", "100")
    assert result.exit_code == 2 and "done" not in result.stderr
    assert "expected a folder that can be written, got certificates (No space left on device): name an" in result.stderr


def test_no_image_is_written_over(photographs: Path) -> None:
    (photographs / "x-certificate.png").write_bytes((photographs / "grey.png").read_bytes())
    (photographs / "x.jpg").write_bytes((photographs / "light.jpg").read_bytes())
    result = run("grey.png", "--model", "bright", "--out", "grey.png")
    assert (
        result.exit_code == 2
        and "expected --out to name a new file or a picture that was drawn, got grey.png" in result.stderr
    )
    result = run("x.jpg", "x-certificate.png", "--model", "bright", "--out", ".")
    assert result.exit_code == 2 and "expected images that are not written over, got x-certificate.png" in result.stderr


def test_files_of_another_image_stay(photographs: Path) -> None:
    """Two photographs of one name, certified one after the other; a photograph in the place of --out."""
    few = ("--model", "bright", "--sigma", "0.25", "--n", "50")
    (photographs / "more").mkdir()
    Image.new("RGB", (8, 8), "black").save("more/light.png")
    for name in ("light.jpg", "more/light.png", "light.jpg"):
        assert run(name, *few).exit_code == 0
    assert [read(f"certificates/{name}-sigma0.25.json").class_name for name in ("light", "light-2")] == [
        "bright",
        "dark",
    ]
    assert len(list((photographs / "certificates").iterdir())) == 6
    before = Path("more/light.png").read_bytes()
    result = run("light.jpg", *few, "--out", "more/light.png")
    assert result.exit_code == 2 and "expected --out to name a new file or a picture that was drawn" in result.stderr
    assert Path("more/light.png").read_bytes() == before
    for _ in range(2):
        assert run("light.jpg", *few, "--out", "drawn.png").exit_code == 0


def test_a_network_that_says_no_size_needs_one(photographs: Path) -> None:
    few: tuple[Any, ...] = ("light.jpg", "--model", "sizeless", "--sigma", "0.25", "--n", "50")
    result = run(*few)
    assert result.exit_code == 2 and "expected --size: this network does not say" in result.stderr
    assert run(*few, "--size", 16).exit_code == 0
    assert Image.open("certificates/light-seen.png").size == (16, 16)
