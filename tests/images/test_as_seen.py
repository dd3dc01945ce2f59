"""What an image becomes: upright, in front of white, in the channels that are asked for; in threads and processes."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from test_decoding import Split
from test_decoding import in_processes as in_processes
from test_sources import Items, image_folder, picture, pixels

from robust_hub.images.data import load_data
from robust_hub.images.decoding import MODES, as_seen, open_image

HIGH = picture(5, width=12, height=8)


def noted(orientation: int) -> Image.Exif:
    notes = Image.Exif()
    notes[0x0112] = orientation
    return notes


def bytes_of(image: Image.Image, form: str = "PNG", **notes: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **notes)
    return file.getvalue()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(10))
def test_an_image_is_turned_as_its_notes_say(form: str, orientation: int) -> None:
    encoded = bytes_of(HIGH, form, exif=noted(orientation))
    with Image.open(io.BytesIO(encoded)) as opened:
        expected = ImageOps.exif_transpose(opened).convert("RGB")
    assert expected.size == ((8, 12) if 5 <= orientation <= 8 else (12, 8))
    found = as_seen(open_image(encoded))
    assert found.size == expected.size and found.tobytes() == expected.tobytes()


def test_damaged_notes_leave_the_image() -> None:
    for notes in (b"Exif\0\0MM\0*\0\0", b"no notes", b"Exif\0\0" + b"\xff" * 40):
        encoded = bytes_of(HIGH, exif=notes)
        assert as_seen(open_image(encoded)).tobytes() == HIGH.tobytes()


def cell(orientation: int) -> Image.Image:
    """A picture of 8x8 that its notes turn to `picture(3)`."""
    turned = {1: None, 3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    method = turned[orientation]
    return picture(3) if method is None else picture(3).transpose(method)


@pytest.mark.parametrize("processes", [False, True])
@pytest.mark.parametrize("kind", ["folder", "parquet", "datasets", "transformed", "ImageFolder", "items"])
def test_every_source_is_upright(tmp_path: Path, in_processes: Split, kind: str, processes: bool) -> None:
    datasets = pytest.importorskip("datasets")
    in_processes(processes)
    root = tmp_path / "pets"
    encoded = [bytes_of(cell(o), exif=noted(o)) for o in (1, 3, 6, 8)]
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for i, one in enumerate(encoded):
            (root / name / f"{i}.png").write_bytes(one)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    rows = {"image": [{"bytes": one, "path": None} for one in encoded * 2], "label": [0, 1] * 4}
    table = datasets.Dataset.from_dict(rows, features=features)
    if kind == "parquet":
        table.to_parquet(tmp_path / "table" / "train.parquet")
    found: Any = {
        "folder": root,
        "parquet": tmp_path / "table",
        "datasets": table,
        "transformed": table.with_transform(lambda batch: batch),
        "ImageFolder": __import__("torchvision").datasets.ImageFolder(root),
        "items": Items([(open_image(one), i % 2) for i, one in enumerate(encoded * 2)]),
    }[kind]
    data = load_data(found, in_memory=True)
    assert torch.equal(data.batch(range(8))[0], pixels(3).expand(8, -1, -1, -1))


def clear(mode: str) -> Image.Image:
    """Colours with a transparent left half, in a mode of Pillow."""
    image = picture(4).convert("L" if mode in ("LA", "L+tRNS") else "RGB")
    if mode.endswith("tRNS"):
        image.paste(7 if image.mode == "L" else (7, 8, 9), (0, 0, 4, 8))
        image.info["transparency"] = 7 if image.mode == "L" else (7, 8, 9)
        return image
    if mode == "P":
        image = image.quantize(16)
        image.paste(0, (0, 0, 4, 8))
        image.info["transparency"] = 0
        return image
    alpha = Image.new("L", (8, 8), 255)
    alpha.paste(0, (0, 0, 4, 8))
    image.putalpha(alpha)
    return image.convert(mode)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P", "RGBa", "La", "RGB+tRNS", "L+tRNS"])
def test_what_is_transparent_is_white(mode: str) -> None:
    if mode == "PA":
        image = clear("P").convert("PA")
    elif mode == "La":
        image = clear("LA").convert("La")
    else:
        image = clear(mode)
    for channels in (1, 3):
        seen = np.asarray(as_seen(image, channels)).reshape(8, 8, channels)
        assert (seen[:, :4] == 255).all() and (seen[:, 4:] < 255).any()
    if mode in ("RGBA", "P", "RGB+tRNS", "L+tRNS", "LA"):
        again = open_image(bytes_of(image))
        assert as_seen(again).tobytes() == as_seen(image).tobytes()


def test_half_transparent_colours_are_mixed_with_white_and_opaque_ones_stay() -> None:
    image = Image.new("RGBA", (8, 8), (100, 0, 255, 51))
    assert as_seen(image).getpixel((0, 0)) == (224, 204, 255)  # a fifth of the colour, four of white
    assert as_seen(image, 4).getpixel((0, 0)) == (100, 0, 255, 51)
    assert as_seen(picture(1).convert("RGBA")).tobytes() == picture(1).tobytes()
    palette = picture(1).quantize(16)
    assert as_seen(palette).tobytes() == palette.convert("RGB").tobytes()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_processes_and_threads_give_equal_channels(tmp_path: Path, in_processes: Split, channels: int) -> None:
    root = image_folder(tmp_path / "pets", count=2)
    clear("RGBA").save(root / "dog" / "a.png")
    clear("P").save(root / "cat" / "p.png")
    HIGH.crop((0, 0, 8, 8)).save(root / "dog" / "e.jpg", exif=noted(6))
    batches = []
    for yes in (False, True):
        in_processes(yes)
        batches.append(load_data(root, channels=channels, in_memory=True).batch(range(7))[0])
    assert batches[0].shape == (7, channels, 8, 8) and torch.equal(*batches)


def test_modes_that_cannot_be_seen_are_named() -> None:
    assert sorted(MODES) == [1, 3, 4]
    items = Items([(Image.new("LAB", (8, 8)), 0), (picture(1), 1)])
    with pytest.raises(ValueError, match="expected a grey or RGB image, got mode LAB at index 0 of Items"):
        load_data(items, channels=1)
    for mode in ("I;16", "I", "F"):
        with pytest.raises(ValueError, match=f"expected an 8-bit image, got mode {mode} at index 0 of Items"):
            load_data(Items([(Image.new(mode, (8, 8)), 0), (picture(1), 1)]), channels=1)


def png48(level: int) -> bytes:
    """Make a PNG of 16 bits a channel, which Pillow cannot write."""
    row = b"\0" + np.full((8, 3), level, dtype=">u2").tobytes()
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(8 * row)),
        (b"IEND", b""),
    ]
    chunks = [struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


WIDE = {
    "rgb.png": png48(0x1234),
    "rgb.ppm": b"P6 8 8 65535\n" + b"\x12\x34" * 192,
    "ten.ppm": b"P6 8 8 1023\n" + b"\x01\x34" * 192,
}


@pytest.mark.parametrize("name", WIDE)
def test_colours_of_16_bits_are_refused_as_grey_ones_are(name: str, tmp_path: Path) -> None:
    for kind in ("cat", "dog"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "plain.ppm").write_bytes(b"P6 8 8 255\n" + b"\x12" * 192)
    assert load_data(tmp_path).batch([0])[0].unique().tolist() == [0x12]
    (tmp_path / "dog" / name).write_bytes(WIDE[name])
    with pytest.raises(ValueError, match=rf"expected an 8-bit image, got mode RGB of 16 bits at .*{name}: convert it"):
        load_data(tmp_path)
