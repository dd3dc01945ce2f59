"""Views: where their boxes lie, what they show, and that each is the same whenever it is asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torch import Tensor

from robust_hub.images.data import ImageData
from robust_hub.images.views import Views, random_boxes, resized_boxes, to_size, whole_view


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photographs(count: int, height: int, width: int) -> Tensor:
    """Smooth random colours with noise on them, uint8 (B, 3, H, W)."""
    coarse = torch.rand(count, 3, 5, 5, generator=seeded(0)) * 255
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    noise = torch.randn(smooth.shape, generator=seeded(1)) * 40
    return (smooth + noise).clamp(0, 255).to(torch.uint8)


def in_pillow(image: Tensor, box: list[float], size: int, filter: Image.Resampling) -> Tensor:
    """Resize a box (left, top, width, height) of one image."""
    left, top, width, height = box
    corners = (max(left, 0.0), max(top, 0.0), min(left + width, image.shape[2]), min(top + height, image.shape[1]))
    whole = Image.fromarray(image.permute(1, 2, 0).numpy())
    return torch.from_numpy(np.array(whole.resize((size, size), filter, box=corners))).permute(2, 0, 1)


def data_of(images: Tensor) -> ImageData:
    labels = torch.arange(len(images)) % 2
    return ImageData(images, labels, ("a", "b"), name="photographs", split="train")


def test_area_is_uniform_and_aspect_log_uniform_as_far_as_the_image_reaches() -> None:
    left, top, width, height = random_boxes(20_000, 64, 64, seeded(0)).double().unbind(1)
    for start, length in ((left, width), (top, height)):
        assert bool((start >= 0).all()) and bool((start + length <= 64 + 1e-4).all())
    area, aspect = width * height / 64**2, width / height
    assert stats.kstest(area.numpy(), stats.uniform(0.25, 0.75).cdf).pvalue > 0.01
    assert 3 / 4 - 1e-5 <= float(aspect.min()) < 0.76 and 1.32 < float(aspect.max()) <= 4 / 3 + 1e-5
    free = aspect[area <= 3 / 4].log().numpy()  # a box of that area lies within the square at every aspect ratio
    assert stats.kstest(free, stats.uniform(np.log(3 / 4), np.log(16 / 9)).cdf).pvalue > 0.01
    assert stats.kstest((left / (64 - width)).numpy(), stats.uniform().cdf).pvalue > 0.01
    assert stats.kstest((top / (64 - height)).numpy(), stats.uniform().cdf).pvalue > 0.01


@pytest.mark.parametrize(("height", "width"), [(64, 128), (200, 50)])
def test_boxes_of_long_images_stay_within_them_at_the_nearest_aspect(height: int, width: int) -> None:
    left, top, w, h = random_boxes(5_000, height, width, seeded(1)).unbind(1)
    assert bool((left >= 0).all() and (top >= 0).all())
    assert bool((left + w <= width + 1e-3).all() and (top + h <= height + 1e-3).all())
    aspect = w / h
    assert float(aspect.min()) >= 3 / 4 - 1e-5 and float(aspect.max()) <= 4 / 3 + 1e-5
    largest = 4 / 3 * 64 / 128 if width > height else 50 / (3 / 4) / 200
    assert float((w * h / (height * width)).max()) == pytest.approx(largest, abs=1e-4)


@pytest.mark.parametrize(("height", "width", "size"), [(64, 64, 32), (50, 40, 32), (37, 90, 8), (16, 20, 32)])
def test_a_random_view_is_what_pillow_makes_of_the_box(height: int, width: int, size: int) -> None:
    images = photographs(24, height, width)
    boxes = random_boxes(24, height, width, seeded(2))
    views = resized_boxes(images, boxes, size)
    assert views.dtype == torch.uint8 and views.shape == (24, 3, size, size)
    expected = [
        in_pillow(image, box, size, Image.Resampling.BILINEAR)
        for image, box in zip(images, boxes.tolist(), strict=True)
    ]
    off = (views.int() - torch.stack(expected).int()).abs()
    assert int(off.max()) <= 1 and float(off.float().mean()) < 0.2  # Pillow rounds between the two axes


def test_the_whole_view_averages_areas() -> None:
    images = photographs(8, 64, 64)
    means = images.float().unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5))
    assert torch.equal(whole_view(images, 32), means.round().to(torch.uint8))
    wide = whole_view(photographs(8, 64, 100), 16)
    assert torch.equal(wide, whole_view(photographs(8, 64, 100)[:, :, :, 18:82], 16))
    small = photographs(8, 16, 16)
    expected = [in_pillow(image, [0, 0, 16, 16], 32, Image.Resampling.BILINEAR) for image in small]
    assert int((whole_view(small, 32).int() - torch.stack(expected).int()).abs().max()) <= 1


def test_images_that_have_the_size_are_left_alone_and_draw_nothing() -> None:
    images, generator = photographs(4, 32, 32), seeded(3)
    before = generator.get_state()
    assert to_size(images, None, generator) is images and to_size(images, 32, generator) is images
    assert torch.equal(generator.get_state(), before)
    assert torch.equal(to_size(images, 16, None), whole_view(images, 16))


def test_a_new_view_follows_the_generator() -> None:
    images = photographs(6, 40, 48)
    first, again, other = (to_size(images, 16, seeded(seed)) for seed in (4, 4, 5))
    assert first.shape == (6, 3, 16, 16)
    assert torch.equal(first, again)
    assert all(not torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_views_are_the_same_whenever_they_are_asked_for() -> None:
    data = data_of(photographs(10, 48, 40))
    views = Views(data, 16, seeds=[7, 8])
    pixels, labels = views.batch(range(30))
    assert len(views) == 30 and pixels.shape == (30, 3, 16, 16)
    assert torch.equal(labels, data.labels.repeat(3))
    assert torch.equal(pixels[:10], whole_view(data.batch(range(10))[0], 16))
    some = torch.tensor([25, 3, 11, 25])
    assert torch.equal(views.batch(some)[0], pixels[some])
    assert all(len(pixels[i::10].flatten(1).unique(dim=0)) == 3 for i in range(10))
    assert torch.equal(Views(data, 16, seeds=[7]).batch(range(20))[0], pixels[:20])  # however many others there are
    assert not torch.equal(Views(data, 16, seeds=[9]).batch(range(10, 20))[0], pixels[10:20])
    assert torch.equal(Views(data, 16, seeds=[]).batch(range(10))[0], pixels[:10])


@pytest.mark.gpu
def test_views_on_a_device_are_those_of_the_cpu() -> None:
    data = data_of(photographs(32, 64, 64))
    here, there = (Views(one, 32, seeds=[1]).batch(range(64))[0] for one in (data, data.to("cuda")))
    assert there.is_cuda
    assert int((there.cpu().int() - here.int()).abs().max()) <= 1
    drawn = to_size(data.to("cuda").batch(range(32))[0], 32, torch.Generator("cuda").manual_seed(1))
    assert drawn.is_cuda and drawn.shape == (32, 3, 32, 32)
