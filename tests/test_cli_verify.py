"""The command that checks a certificate's file: all is well, or one sentence and another exit code."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from torch import nn

from robust_hub.certification.smoothing import SmoothedClassifier
from robust_hub.cli.main import main
from robust_hub.guarantee.certificate import Certificate
from robust_hub.images.identity import image_hash
from robust_hub.models import resnets
from robust_hub.models.identity import weights_hash

SHAPE = (3, 8, 8)
PIXELS = torch.randint(200, 250, SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def bright(weight: float = 1.0, mean: float = 0.5) -> nn.Module:
    """Is an image bright?"""
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    weights = torch.tensor([[-weight] * 3, [weight] * 3])
    network.load_state_dict({"2.weight": weights, "2.bias": torch.zeros(2)})
    network.pretrained_cfg = {"mean": (mean,) * 3, "std": (0.5,) * 3}  # type: ignore[assignment]
    return network


def certificate_of(network: nn.Module, **arguments: Any) -> Certificate:
    smoothed = SmoothedClassifier(network)
    found = smoothed.certify(PIXELS / 255, 0.25, seed=5, batch_size=64, **arguments)
    assert found.origin is not None
    origin = dataclasses.replace(found.origin, model="bright")
    return dataclasses.replace(found, reproduction=False, class_name="bright", origin=origin)


CERTIFICATE = certificate_of(bright(), n=1000)
GRID = certificate_of(bright(), radii=(0.25, 0.5), n=2000)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A certificate, its image as a picture and as arrays; networks are made by name here."""
    networks = {"bright": bright(), "brighter": bright(2.0), "moved": bright(mean=0.4)}
    networks["half"] = bright().to(torch.bfloat16)
    monkeypatch.setattr(resnets, "load_model", lambda name: networks[name])
    (tmp_path / "c.json").write_text(CERTIFICATE.to_json())
    Image.fromarray(PIXELS.permute(1, 2, 0).numpy()).save(tmp_path / "x.png")
    np.save(tmp_path / "bytes.npy", PIXELS.numpy())
    np.save(tmp_path / "floats.npy", (PIXELS / 255).numpy())
    np.save(tmp_path / "doubles.npy", PIXELS.numpy() / 255)
    return tmp_path


def run(*words: Any) -> Result:
    return CliRunner().invoke(main, ["verify-certificate", *map(str, words)])


def refused(*words: Any) -> str:
    """The one sentence of a refusal."""
    result = run(*words)
    assert result.exit_code == 2 and not result.stdout, result.output
    assert len(result.stderr.splitlines()) == 1
    return result.stderr


def test_help_has_an_example():
    assert "Example: robust-hub verify-certificate cat.json" in " ".join(run("--help").output.split())


def test_a_certificate_alone_is_audited_and_said_in_words(files):
    result = run(files / "c.json")
    assert result.exit_code == 0, result.output
    words = result.stdout
    assert "its votes support what it claims" in words
    levels = f"{255 * CERTIFICATE.radius:.6g} in 8-bit levels"
    assert f"class 1 (bright) for every image at an l2 distance below {CERTIFICATE.radius:.6g}" in words
    assert levels in words
    assert f"sum of squared differences of at most {CERTIFICATE.squared_distance:,} has the class" in words
    assert "alpha    0.001" in words and "sigma 0.25, lattice255, total variation 1e-10 paid; 1,100 samples" in words
    assert "seed     5; said to be drawn from the operating system" in words
    assert words.count("not compared") == 2


@pytest.mark.parametrize("image", ["x.png", "bytes.npy", "floats.npy", "doubles.npy"])
def test_its_network_and_image_and_fresh_samples_are_compared(files, image):
    result = run(files / "c.json", "--model", "bright", "--image", files / image, "--fresh", 300)
    assert result.exit_code == 0, result.output
    assert result.stdout.count("those of the certificate") == 2
    assert "300 of 300 votes for the class, no contradiction" in result.stdout


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_a_network_of_grey_images_is_known_in_either_layout(tmp_path, monkeypatch, layout):
    def grey():
        torch.manual_seed(0)
        layers = [nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3)]
        one = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 2)).eval()
        one.pretrained_cfg = {"mean": (0.5,), "std": (0.25,)}
        return one

    monkeypatch.setattr(resnets, "load_model", lambda _: grey())
    image = torch.arange(144, dtype=torch.uint8).view(1, 12, 12)
    network = SmoothedClassifier(grey().to(memory_format=layout))
    found = network.certify(image / 255, sigma=0.25, n=100, n0=10)
    (tmp_path / "c.json").write_text(found.to_json())
    for mode in ("L", "RGB"):
        Image.fromarray(image[0].numpy()).convert(mode).save(tmp_path / "x.png")
        result = run(tmp_path / "c.json", "--model", "grey", "--image", tmp_path / "x.png")
        assert result.exit_code == 0, result.output
        assert result.stdout.count("those of the certificate") == 2


def test_float_noise_has_no_whole_levels(files):
    certificate = certificate_of(bright(), n=1000, noise="float")
    (files / "float.json").write_text(certificate.to_json())
    result = run(files / "float.json", "--model", "bright", "--image", files / "x.png", "--fresh", 300)
    assert result.exit_code == 0, result.output
    assert "sum of squared differences" not in result.stdout and "sigma 0.25, float32; 1,100" in result.stdout


def test_equal_weights_in_another_function_are_refused(files, monkeypatch):
    class Dark(nn.Sequential):
        def forward(self, x):
            return -super().forward(x)

    network = bright()
    dark = Dark(*network)
    dark.pretrained_cfg = network.pretrained_cfg
    monkeypatch.setattr(resnets, "load_model", lambda name: dark)
    words = refused(files / "c.json", "--model", "dark")
    assert "another function: dark has the weights of the certificate, but gives other logits" in words


def test_a_grid_is_audited_too(files):
    (files / "grid.json").write_text(GRID.to_json())
    assert "at an l2 distance below 0.5, pixels in [0, 1]; 127.5 in 8-bit levels" in run(files / "grid.json").stdout


def test_whole_levels_and_a_reproduction(files):
    bounds = {"tau": 1e-10, "p_lower": CERTIFICATE.p_lower - 1e-9, "p_upper": CERTIFICATE.p_upper + 1e-9, "radius": 0.5}
    changed = dataclasses.replace(CERTIFICATE, noise="lattice255", reproduction=True, seed=None, **bounds)
    (files / "lattice.json").write_text(changed.to_json())
    words = run(files / "lattice.json").stdout
    assert "a sum of squared differences of at most 16,256 has the class" in words
    assert "lattice255, total variation 1e-10 paid" in words and "not kept; a reproduction: the caller gave it" in words


def test_an_abstention_claims_nothing(files):
    dark = dataclasses.replace(CERTIFICATE.origin, weights=weights_hash(bright()))
    split = Certificate(-1, 0.0, 0.0, 1.0, 0.25, 0.001, 64, 0, 0, (0, 0), plan="radius", origin=dark)
    (files / "split.json").write_text(split.to_json())
    result = run(files / "split.json", "--model", "bright", "--image", files / "x.png", "--fresh", 10)
    assert result.exit_code == 0, result.output
    assert "claim    none" in result.stdout and "with nothing to contradict" in result.stdout


def test_json_has_the_same(files):
    options = ("--model", "bright", "--image", files / "x.png", "--fresh", 100, "--json")
    report = json.loads(run(files / "c.json", *options).stdout)
    assert report["well"] and report["weights"] and report["image"]
    assert report["radius"] == CERTIFICATE.radius and report["class"] == 1
    assert report["fresh"]["count"] == report["fresh"]["samples"] == 100
    result = run(files / "c.json", "--model", "brighter", "--json")
    assert result.exit_code == 2
    said = json.loads(result.stdout)
    assert not said["well"] and said["why"].startswith("other weights")


def test_a_damaged_file_is_one_sentence(files):
    text = CERTIFICATE.to_json()
    for content, said in (
        (text[:-5].encode(), "in JSON, got"),
        (b"\xff\xfe", "can't decode byte 0xff"),
        (b"[" * 100_000, "far too deep"),
        (b" " * 4_000_001, "at most 4,000,000 bytes"),
    ):
        (files / "c.json").write_bytes(content)
        assert said in refused(files / "c.json")
    assert "got /nowhere.json: there is none" in refused("/nowhere.json")
    assert "there is none" in refused(files)


def test_an_edited_radius_is_one_sentence(files):
    (files / "c.json").write_text(dataclasses.replace(CERTIFICATE, radius=3.0).to_json())
    said = refused(files / "c.json")
    assert "do not support what it claims: expected a radius of at most 0.6158" in said


def test_another_network_is_one_sentence(files):
    assert "other weights: the certificate is about bright in float32" in refused(
        files / "c.json", "--model", "brighter"
    )
    assert "another normalisation: the certificate is about mean (0.5, 0.5, 0.5)" in refused(
        files / "c.json", "--model", "moved"
    )


def test_a_network_is_compared_in_the_certificates_type(files):
    half = certificate_of(bright().to(torch.bfloat16), n=100)
    (files / "half.json").write_text(half.to_json())
    assert run(files / "half.json", "--model", "bright").exit_code == 0
    assert "in bfloat16" in refused(files / "half.json", "--model", "brighter")


def test_another_image_is_one_sentence(files):
    other = PIXELS.clone()
    other[0, 0, 0] += 1
    np.save(files / "other.npy", other.numpy())
    np.save(files / "small.npy", other[:, :4].numpy())
    np.save(files / "whole.npy", other.long().numpy())
    np.save(files / "objects.npy", np.array([{}], dtype=object))
    (files / "no.png").write_bytes(b"no picture")
    Image.new("F", (8, 8)).save(files / "f.tiff")
    for name, said in (
        ("other.npy", "other.npy has other pixels: it says nothing"),
        ("small.npy", "another image: the certificate is about pixels of shape (3, 8, 8)"),
        ("small.npy", "small.npy has shape (3, 4, 8)"),
        ("whole.npy", "expected pixels of uint8, or floats in [0, 1], in"),
        ("objects.npy", "got none that can be read"),
        ("no.png", "expected an image that can be decoded"),
        ("nowhere.png", "nowhere.png: there is none"),
        ("f.tiff", "expected an 8-bit image, got mode F"),
    ):
        assert said in refused(files / "c.json", "--image", files / name)


def test_pictures_are_fitted_as_data_are_and_grey_ones_read(files):
    grey = PIXELS[:1]
    Image.fromarray(grey[0].numpy()).save(files / "grey.png")
    origin = dataclasses.replace(CERTIFICATE.origin, image=image_hash(grey), image_shape=(1, 8, 8))
    (files / "grey.json").write_text(dataclasses.replace(CERTIFICATE, origin=origin).to_json())
    assert run(files / "grey.json", "--image", files / "grey.png").exit_code == 0
    Image.new("RGB", (20, 30), (200, 0, 0)).save(files / "large.png")
    red = torch.tensor([200, 0, 0], dtype=torch.uint8).view(3, 1, 1).expand(SHAPE)
    origin = dataclasses.replace(CERTIFICATE.origin, image=image_hash(red))
    (files / "red.json").write_text(dataclasses.replace(CERTIFICATE, origin=origin).to_json())
    assert run(files / "red.json", "--image", files / "large.png").exit_code == 0


def test_fresh_samples_contradict_votes_that_were_never_counted(files):
    forged = dataclasses.replace(CERTIFICATE, prediction=0, counts=CERTIFICATE.counts[::-1])
    (files / "c.json").write_text(forged.to_json())
    assert run(files / "c.json").exit_code == 0  # the votes do support it
    said = refused(files / "c.json", "--model", "bright", "--image", files / "x.png", "--fresh", 100)
    assert "contradicted: 0 of 100 fresh votes are for the class" in said


def test_what_is_missing_is_said(files):
    assert "expected --model and --image with --fresh" in refused(files / "c.json", "--fresh", 10)
    assert "expected --fresh to be a whole number, at least 1" in refused(files / "c.json", "--fresh", 0)
    (files / "c.json").write_text(dataclasses.replace(CERTIFICATE, origin=None).to_json())
    assert "expected a certificate that says of which network" in refused(files / "c.json", "--model", "bright")
