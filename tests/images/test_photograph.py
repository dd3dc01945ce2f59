"""One image file: upright, on white, cropped and resized as an image of a data set; a sentence where it is none."""

import numpy as np
import pytest
import torch
from PIL import Image

from robust_hub.images.data import load_data
from robust_hub.images.photograph import read_photograph


def picture(size=(60, 40)):
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    return Image.fromarray(np.stack([x * 4, y * 6, (x + y) * 2], -1).astype(np.uint8))


def test_a_photograph_is_read_as_an_image_of_a_data_set_is(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "data" / "cat").mkdir(parents=True)
    path = tmp_path / "data" / "cat" / "x.jpg"
    picture().save(path, exif=exif)
    (tmp_path / "data" / "dog").mkdir()
    picture().save(tmp_path / "data" / "dog" / "y.jpg")
    photograph = read_photograph(path, 32)
    assert torch.equal(photograph.pixels, load_data(tmp_path / "data", "train", size=32).batch([0])[0][0])
    assert (photograph.width, photograph.height) == (40, 60)  # upright
    said = "40x60 pixels; the network sees the central square, resized to 32x32: these pixels are what is certified"
    assert photograph.describe() == f"{path}: {said}"


@pytest.mark.parametrize(
    ("size", "to", "said"),
    [
        ((32, 32), 32, "as the network sees them"),
        ((64, 64), 32, "sees them, resized to 32x32"),
        ((8, 8), 32, "enlarged"),
    ],
)
def test_what_was_done_to_it_is_said(tmp_path, size, to, said):
    picture(size).save(tmp_path / "x.png")
    assert said in read_photograph(tmp_path / "x.png", to).describe()


def test_other_pictures_of_the_file_and_what_is_transparent_are_said(tmp_path):
    pages = [Image.new("RGB", (32, 32), colour) for colour in ("red", "lime", "blue")]
    for name in ("x.gif", "x.tif"):
        pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
        photograph = read_photograph(tmp_path / name, 32)
        assert f"{name}, the first of its 3 pictures: 32x32 pixels, as the network sees them" in photograph.describe()
    Image.new("LA", (8, 8), (0, 100)).save(tmp_path / "x.png")
    assert "8x8 pixels in front of white, as the network" in read_photograph(tmp_path / "x.png", 8).describe()
    assert "white" not in read_photograph(tmp_path / "x.png", 8, 4).describe()
    Image.new("RGBA", (8, 8), (0, 0, 0, 255)).save(tmp_path / "x.png")
    assert "white" not in read_photograph(tmp_path / "x.png", 8).describe()


def test_channels_are_the_networks(tmp_path):
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(tmp_path / "x.png")
    assert read_photograph(tmp_path / "x.png", 8).pixels.min() == 255  # transparent, so white
    assert [len(read_photograph(tmp_path / "x.png", 8, channels).pixels) for channels in (1, 3, 4)] == [1, 3, 4]
    with pytest.raises(ValueError, match="expected tensors of 2 channels, got a picture at .*x.png: it has 1, 3 or 4"):
        read_photograph(tmp_path / "x.png", 8, 2)


def test_what_is_no_photograph_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="expected an image file, got the folder .*: name its files, or"):
        read_photograph(tmp_path, 8)
    with pytest.raises(ValueError, match="expected an image file, got .*none.png: there is none"):
        read_photograph(tmp_path / "none.png", 8)
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(ValueError, match="expected an image that can be decoded, got a damaged one at .*text.jpg"):
        read_photograph(tmp_path / "text.jpg", 8)
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(tmp_path / "wide.png")
    with pytest.raises(ValueError, match="expected an 8-bit image, got mode I;16 at .*wide.png: convert it to 8 bits"):
        read_photograph(tmp_path / "wide.png", 8)
    Image.new("LAB", (8, 8)).save(tmp_path / "lab.tif")
    with pytest.raises(ValueError, match="expected a grey or RGB image, got mode LAB at .*lab.tif"):
        read_photograph(tmp_path / "lab.tif", 8, 1)
