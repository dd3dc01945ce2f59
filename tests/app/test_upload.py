"""What is dropped in: seen as every command sees it, or refused in one sentence."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from robust_hub.app.drawings import DRAWINGS, SIZE, drawing
from robust_hub.app.upload import prepare_drawing, prepare_file
from robust_hub.images.given import prepare
from robust_hub.images.photograph import as_png


def colours(mode: str = "RGB", size: tuple[int, int] = (90, 60)) -> Image.Image:
    levels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    return Image.fromarray(levels).convert(mode)


def exif(path: Path) -> None:
    notes = Image.Exif()
    notes[0x0112] = 6  # a telephone that was held upright
    colours().save(path, exif=notes)


def clear(path: Path) -> None:
    image = colours("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    image.save(path)


SEEN: dict[str, Callable[[Path], None]] = {
    "colours.png": lambda path: colours().save(path),
    "grey.png": lambda path: colours("L").save(path),
    "palette.gif": lambda path: colours("P").save(path),
    "print.jpg": lambda path: colours("CMYK").save(path),
    "upright.jpg": exif,
    "clear.png": clear,
    "web.webp": lambda path: colours().save(path, lossless=True),
}


@pytest.mark.parametrize("name", SEEN)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_is_what_python_and_the_command_line_make_of_it(name: str, channels: int, tmp_path: Path) -> None:
    SEEN[name](tmp_path / name)
    seen = prepare_file(tmp_path / name, 32, channels)
    assert torch.equal(seen.x, prepare(tmp_path / name, torch.nn.Identity(), size=32, channels=channels))
    assert seen.pixels.shape == (channels, 32, 32) and seen.pixels.dtype == torch.uint8
    assert seen.title == f"{name}, {'60 x 90' if name == 'upright.jpg' else '90 x 60'} pixels"


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_png_holds_every_pixel_and_is_seen_as_the_same(channels: int, tmp_path: Path) -> None:
    prepared = prepare_drawing("cat", 32, channels)
    (tmp_path / "image.png").write_bytes(as_png(prepared.pixels))
    assert torch.equal(prepare_file(tmp_path / "image.png", 32, channels).pixels, prepared.pixels)
    assert torch.equal(prepared.x * 255, prepared.pixels.float())


def animated(path: Path) -> None:
    colours("P").save(path, save_all=True, append_images=[colours("P").rotate(90), colours("P").rotate(180)])


def cut(path: Path) -> None:
    content = io.BytesIO()
    colours().save(content, "JPEG")
    path.write_bytes(content.getvalue()[:2000])


def said_to_be(width: int, height: int) -> Callable[[Path], object]:
    """A PNG of a pixel whose header says more."""

    def write(path: Path) -> None:
        content = io.BytesIO()
        Image.new("L", (1, 1)).save(content, "PNG")
        header = b"IHDR" + struct.pack(">II", width, height) + content.getvalue()[24:29]
        checked = header + struct.pack(">I", zlib.crc32(header))
        path.write_bytes(content.getvalue()[:12] + checked + content.getvalue()[33:])

    return write


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "text.jpg": (lambda path: path.write_text("no picture"), "text.jpg, or one of no format that Pillow knows:"),
    "empty.png": (lambda path: path.write_bytes(b""), "an empty file"),
    "cut.jpg": (cut, "an image that can be decoded, .* truncated"),
    "bomb.png": (said_to_be(30_000, 30_000), "at most 50 million pixels, got far more"),
    "wide.png": (said_to_be(9_000, 9_000), "at most 50 million pixels, got 9,000 x 9,0"),
    "moving.gif": (animated, "expected one picture, got 3 in moving.gif"),
    "deep.png": (lambda path: Image.new("I;16", (9, 9)).save(path), "expected an 8-bit image, got mode I;16"),
    "float.tif": (lambda path: Image.new("F", (9, 9)).save(path), "expected an 8-bit image, got mode F"),
    "vector.svg": (lambda path: path.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>"), "of no format"),
    "light.hdr": (lambda path: path.write_bytes(b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 1 +X 1\n1234"), "no format"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_picture_of_eight_bits_is_refused_in_a_sentence(name: str, tmp_path: Path) -> None:
    write, words = REFUSED[name]
    write(tmp_path / name)
    with pytest.raises(ValueError, match=words) as refused:
        prepare_file(tmp_path / name, 32, 3)
    said = str(refused.value)
    assert said.startswith("expected ") and "\n" not in said and name in said
    assert str(tmp_path) not in said and "0x" not in said


def test_a_file_that_is_gone_or_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"got gone.png, which is no longer there"):
        prepare_file(tmp_path / "gone.png", 32, 3)
    colours().save(tmp_path / "large.png")
    monkeypatch.setattr("robust_hub.app.upload.MOST_BYTES", 1000)
    with pytest.raises(ValueError, match=r"expected a file of at most .* got large.png"):
        prepare_file(tmp_path / "large.png", 32, 3)


def test_a_file_whose_pictures_cannot_be_counted_is_within_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(_: object) -> int:
        raise ValueError("damaged")

    animated(tmp_path / "moving.gif")
    monkeypatch.setattr("PIL.GifImagePlugin.GifImageFile.n_frames", property(damaged))
    monkeypatch.setattr("robust_hub.app.upload.MOST_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"million pixels, got 90 x 60 in moving.gif"):
        prepare_file(tmp_path / "moving.gif", 32, 3)


@pytest.mark.parametrize("name", DRAWINGS)
def test_drawings_differ_and_are_the_same_every_time(name: str) -> None:
    assert drawing(name).size == (SIZE, SIZE) and drawing(name).mode == "RGB"
    assert drawing(name).tobytes() == drawing(name).tobytes()
    assert all(drawing(name).tobytes() != drawing(other).tobytes() for other in DRAWINGS if other != name)
