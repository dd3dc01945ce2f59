"""Images as people hold them: every form of one is certified bit for bit alike, and what is in doubt is refused."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import robust_hub
from robust_hub import SmoothedClassifier, load_data, prepare
from robust_hub.images.given import batch_pixels, image_pixels, size_of

BYTES = np.random.default_rng(0).integers(0, 256, (8, 10, 3), dtype=np.uint8)
PIXELS = torch.from_numpy(BYTES.transpose(2, 0, 1).copy()).float() / 255


class Jax:
    """An array of another library."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.values


def read_only(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    array = array.copy()
    array.flags.writeable = False
    return array


FORMS = {
    "PIL": Image.fromarray(BYTES),
    "RGBA, opaque": Image.fromarray(BYTES).convert("RGBA"),
    "(H, W, C)": BYTES,
    "(C, H, W)": np.ascontiguousarray(BYTES.transpose(2, 0, 1)),
    "read-only": read_only(BYTES),
    "strided": np.repeat(BYTES, 2, axis=1)[:, ::2],
    "reversed": BYTES[::-1].copy()[::-1],
    "(H, W, 4)": np.dstack([BYTES, np.full(BYTES.shape[:2], 255, np.uint8)]),
    "of another library": Jax(BYTES),
    "tensor of bytes": torch.from_numpy(BYTES).permute(2, 0, 1),
    "float32": BYTES.astype(np.float32) / np.float32(255),
    "float64": BYTES / 255,
    "big-endian": (BYTES / 255).astype(">f8"),
    "with a gradient": PIXELS.clone().requires_grad_(),
}


def network(channels: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3, 2), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )


def smoothed(channels: int = 3) -> SmoothedClassifier:
    return SmoothedClassifier(network(channels).eval(), mean=0.5, std=0.25)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("noise", ["lattice", "float"])
def test_every_form_gives_the_same_certificate(form: str, noise: Any) -> None:
    how: dict[str, Any] = {"n0": 20, "n": 40, "noise": noise, "seed": 3}
    want = smoothed().certify(PIXELS, 0.5, **how)
    got = smoothed().certify(FORMS[form], 0.5, **how)
    assert got == want and got.origin == want.origin
    assert smoothed().certify_batch([PIXELS, FORMS[form]], 0.5, indices=[1, 0], **how)[1] == want


def test_all_doors_take_them() -> None:
    one, many = FORMS["PIL"], [FORMS["PIL"], BYTES, PIXELS]
    door, pixels = smoothed(), torch.stack([PIXELS] * 3)
    assert (
        door.classify(many).tolist() == door.classify(np.stack([BYTES] * 3)).tolist() == door.classify(pixels).tolist()
    )
    assert door.predict(one, 0.5, n=50, seed=1) == door.predict(PIXELS, 0.5, n=50, seed=1)
    how: dict[str, Any] = {"n0": 10, "n": 20, "seed": 1}
    assert door.certify_sigmas(one, [0.25, 0.5], **how) == door.certify_sigmas(PIXELS, [0.25, 0.5], **how)
    batches = [many, tuple(many), np.stack([BYTES] * 3), np.stack([BYTES] * 3).transpose(0, 3, 1, 2)]
    batches += [(pixels * 255).round().to(torch.uint8), pixels.numpy()]
    assert all(door.certify_batch(batch, 0.5, **how) == door.certify_batch(pixels, 0.5, **how) for batch in batches)


def test_every_byte_is_its_share_of_255_exactly() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    want = np.float32(ramp) / np.float32(255)
    for form in (ramp, Image.fromarray(ramp), torch.from_numpy(ramp)[None]):
        assert image_pixels(form, 1, None).dtype == torch.float32
        assert np.array_equal(image_pixels(form, 1, None)[0].numpy(), want)
        assert all(np.array_equal(channel.numpy(), want) for channel in image_pixels(form, 3, None))


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "YCbCr", "PA"])
def test_a_picture_is_what_load_data_makes_of_it(mode: str) -> None:
    source = FORMS["RGBA, opaque"].copy()
    source.putalpha(Image.fromarray(BYTES[..., 0]))
    picture = source.convert("RGB").convert(mode) if mode in ("CMYK", "YCbCr", "1") else source.convert(mode)
    data = load_data([(picture, "a"), (picture, "b")])
    assert torch.equal(image_pixels(picture, 3, None), data[0][0])


def test_a_photograph_is_turned_upright() -> None:
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(BYTES).save(file, "png", exif=exif)
    assert image_pixels(Image.open(file), 3, None).shape == (3, 10, 8)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        (BYTES > 9, TypeError, "expected pixels of uint8, or floats in .*, got bool"),
        (BYTES.astype(np.uint16), TypeError, "got uint16: divide by the largest value"),
        (BYTES.astype(">i4"), TypeError, "got >i4"),
        (BYTES.astype(object), TypeError, "got object"),
        (BYTES * 1j, TypeError, "got complex128"),
        (np.ma.masked_less(BYTES, 9), TypeError, "expected pixels, got a masked array"),
        (BYTES.astype(np.float32), ValueError, r"got values from 0 to 255: divide those of 0 to 255 by 255"),
        (BYTES.tolist(), TypeError, "got list: a list is of several images"),
        ("cat.jpg", TypeError, r"got str: open it first, with PIL.Image.open or robust_hub.prepare\(path"),
        (None, TypeError, "expected a PIL image, a NumPy array or a tensor, got NoneType$"),
        (BYTES[:3, :3], ValueError, r"got shape \(3, 3, 3\) at the image given, which may be either"),
        (np.zeros((3, 9, 1)), ValueError, "which may be either"),
        (BYTES[..., :2], ValueError, r"with 1 or 3 channels, got shape \(8, 10, 2\)"),
        (np.zeros((8, 8, 4)), ValueError, "leave the alpha channel out"),
        (np.zeros((0, 8, 3), np.uint8), ValueError, r"got shape \(0, 8, 3\)"),
        (BYTES[None], ValueError, "expected one image"),
        (torch.zeros(8, 8, dtype=torch.uint8), ValueError, r"expected one image \(C, H, W\), got shape \(8, 8\)"),
        (torch.zeros(0, 8, 8, dtype=torch.uint8), ValueError, "expected an image, got a tensor of shape"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8, device="meta"), ValueError, "on meta: pass its bytes"),
        (Image.new("I;16", (8, 8)), ValueError, "expected an 8-bit image, got mode I;16"),
        (Image.new("F", (8, 8)), ValueError, "expected an 8-bit image, got mode F"),
    ],
)
def test_what_is_no_image_or_in_doubt_is_refused(given: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        smoothed().certify(given, 0.5, n0=10, n=20)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ([], ValueError, "expected at least one image, got none"),
        (np.zeros((0, 8, 8, 3), np.uint8), ValueError, "expected at least one image, got none"),
        (FORMS["PIL"], TypeError, r"expected several images, got Image: put it in a list, \[image\]"),
        (BYTES, ValueError, r"expected images \(B, C, H, W\) or \(B, H, W, C\), or a list of images"),
        ([1, 2], TypeError, "expected a PIL image, a NumPy array or a tensor, got int"),
        ([BYTES, BYTES[:5]], ValueError, r"got \(3, 5, 10\) on cpu at 1: certify each shape by itself"),
        ([PIXELS, PIXELS * 2], ValueError, r"expected pixels in \[0, 1\]"),
        (iter([BYTES]), TypeError, "expected a PIL image, a NumPy array or a tensor, got list_iterator"),
        ({"image": BYTES}, TypeError, "got dict"),
    ],
)
def test_what_are_no_images_is_refused(given: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        smoothed().certify_batch(given, 0.5, n0=10, n=20)


def test_colours_of_16_bits_are_refused_that_pillow_would_cut() -> None:
    import struct
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = b"".join(b"\0" + bytes(8 * 6) for _ in range(8))
    header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    with pytest.raises(ValueError, match="expected an 8-bit image, got mode RGB of 16 bits at the image given"):
        image_pixels(Image.open(io.BytesIO(png)), 3, None)


def test_a_file_that_was_closed_says_so(tmp_path: Any) -> None:
    FORMS["PIL"].save(tmp_path / "photo.png")
    with Image.open(tmp_path / "photo.png") as picture:
        pass
    with pytest.raises(ValueError, match=r"expected an image that was read, got the image given, whose file is closed"):
        image_pixels(picture, 3, None)


def test_nothing_is_resized_unasked() -> None:
    model = timm.create_model("resnet18s_ln", num_classes=3)
    photograph = Image.fromarray(np.tile(BYTES, (8, 10, 1)))
    with pytest.raises(ValueError, match=r"expected an image of 32x32.*got 64x100: pass robust_hub.prepare\(image"):
        SmoothedClassifier(model).certify(photograph, 0.25)
    assert size_of(model) == (32, 32) and size_of(network()) is None
    x = prepare(photograph, model)
    assert torch.equal(x, load_data([(photograph, "a"), (photograph, "b")], size=32)[0][0])
    assert torch.equal((x * 255).round() / 255, x)


def test_prepare_reads_a_file_and_says_what_it_cannot(tmp_path: Any) -> None:
    model, path = timm.create_model("resnet18s_ln"), tmp_path / "photo.png"
    FORMS["PIL"].save(path)
    assert torch.equal(prepare(path, model), prepare(FORMS["PIL"], model))
    assert prepare(str(path), network(1), size=16).shape == (1, 16, 16)
    path.write_bytes(b"no image")
    with pytest.raises(ValueError, match="expected an image that can be decoded, got a damaged one at .*photo.png"):
        prepare(path, model)
    with pytest.raises(ValueError, match="expected a network that says the side of its images, got None"):
        prepare(FORMS["PIL"], network())
    for form in (BYTES, torch.from_numpy(BYTES).permute(2, 0, 1), BYTES / 255):
        assert torch.equal(prepare(form, model), prepare(FORMS["PIL"], model))
    with pytest.raises(TypeError, match="expected a PIL image, a NumPy array or a tensor, got int"):
        prepare(7, model)  # type: ignore[arg-type]
    assert robust_hub.prepare is prepare


def test_a_batch_of_tensors_is_given_back_as_it_is() -> None:
    batch: Tensor = torch.rand(2, 3, 4, 4)
    assert batch_pixels(batch, 3, (32, 32)) is batch and image_pixels(batch[0], 1, (32, 32)).shape == (3, 4, 4)


@pytest.mark.parametrize(
    "form", [lambda x: x, lambda x: x.transpose(2, 0, 1)[:, ::-1], torch.from_numpy, lambda x: x[..., 0]]
)
def test_bytes_that_are_0_and_1_alone_are_no_levels(form: Any) -> None:
    """A mask, or an image in [0, 1] that was cut to bytes, would be certified as a black image."""
    mask = (BYTES > 127).astype(np.uint8)
    mask = mask.transpose(2, 0, 1).copy() if form is torch.from_numpy else mask
    said = r"expected 8-bit pixels from 0 to 255, got 0 and 1 alone at the image given: multiply by 255, or pass floats"
    for call in (
        lambda: image_pixels(form(mask), 3, None),
        lambda: batch_pixels([form(mask)], 3, None),
        lambda: prepare(form(mask), network(), size=8),
    ):
        with pytest.raises(ValueError, match=said):
            call()
    assert image_pixels(np.zeros_like(BYTES), 3, None).max() == 0  # black is an image
    assert image_pixels(form(mask * 255) if form is not torch.from_numpy else form(mask).float(), 3, None).max() == 1


def test_data_without_a_pixel_above_1_are_said_to_be_black(capsys: pytest.CaptureFixture[str]) -> None:
    pixels, labels = torch.ones(4, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 0, 1])
    load_data(TensorDataset(pixels, labels))
    assert "no pixel is above 1 of 255, so all images are black: give floats if 1 is white" in capsys.readouterr().err
    load_data(TensorDataset(pixels * 255, labels))
    assert "black" not in capsys.readouterr().err
