"""Views: parts of images, random or whole, resized to the size that a network takes, batch by batch on the device.

A random view is torchvision's random resized crop without its loop of attempts, which a batch on a device cannot take:
the area is uniform, the aspect ratio log-uniform among those with which a box of that area lies within the image. It is
resized by the antialiased bilinear filter of Pillow: along an axis each pixel of the view is a weighted mean of pixels
of the image, so that a batch of boxes is two batched products of matrices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from robust_hub.images.data import ImageData

AREA = (0.25, 1.0)  # of a random view, as a share of the image
ASPECT = (3 / 4, 4 / 3)  # its width by its height


class Views:
    """Several views of every image, the same whenever they are asked for.

    Item v * N + i is view v of image i, of N images. View 0 is the whole image, every other one random: it depends on
    its seed, i and N alone.

    Args:
        data: The images, uint8 (C, H, W).
        size: Side of a view, in pixels.
        seeds: One seed for every random view, so that there are one more views an image than seeds.

    Example:
        >>> from robust_hub.images.data import load_data
        >>> digits = load_data("digits").subset(range(100))
        >>> views = Views(digits, 16, seeds=[1, 2])
        >>> pixels, labels = views.batch([7, 107, 207])
        >>> len(views), pixels.shape, bool((labels == digits.labels[7]).all())
        (300, torch.Size([3, 3, 16, 16]), True)
    """

    def __init__(self, data: ImageData, size: int, seeds: Sequence[int]) -> None:
        self.data, self.size = data, size
        _, height, width = data.image_shape
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        random = [random_boxes(len(data), height, width, generator) for generator in generators]
        self._boxes = torch.stack(random) if random else torch.empty(0, len(data), 4)

    def __len__(self) -> int:
        """Return the number of views of all images."""
        return (1 + len(self._boxes)) * len(self.data)

    @property
    def device(self) -> torch.device:
        """Where the pixels of a batch are."""
        return self.data.device

    def batch(self, indices: Sequence[int] | Tensor) -> tuple[Tensor, Tensor]:
        """Return views, uint8 (B, C, size, size), made where the images are, and labels, int64 (B,)."""
        chosen = torch.as_tensor(indices, dtype=torch.int64).reshape(-1)
        view, image = chosen // len(self.data), chosen % len(self.data)
        pixels, labels = self.data.batch(image)
        views = pixels.new_empty(*pixels.shape[:2], self.size, self.size)
        whole, part = (view == 0).nonzero()[:, 0], view.nonzero()[:, 0]
        if len(whole):
            views[whole.to(views.device)] = whole_view(pixels[whole], self.size)
        if len(part):
            boxes = self._boxes[view[part] - 1, image[part]].to(views.device)
            views[part.to(views.device)] = resized_boxes(pixels[part], boxes, self.size)
        return views, labels

    def batches(self, indices: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield views and labels of each row of indices, int64 (batches, B), where the images are."""
        for row in indices:
            views, labels = self.batch(row)
            yield views, labels.to(self.device)


def to_size(images: Tensor, size: int | None, generator: torch.Generator | None) -> Tensor:
    """Bring images to a network's size: a random view of each, or without a generator the whole of it.

    Args:
        images: uint8 (B, C, H, W).
        size: Side of the result, in pixels. None, or the size that the images have: they are returned as they are.
        generator: Source of the random numbers, four an image. None draws none.

    Returns:
        uint8 (B, C, size, size), on the device of the images.
    """
    if size is None or images.shape[2:] == (size, size):
        return images
    if generator is None:
        return whole_view(images, size)
    b, _, h, w = images.shape
    return resized_boxes(images, random_boxes(b, h, w, generator).to(images.device), size)


def random_boxes(count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Draw boxes within an image, their area uniform within AREA and their aspect ratio log-uniform within ASPECT.

    Where the image is so long that no box of the area has an aspect ratio in ASPECT, the box is the largest of the
    nearest one.

    Args:
        count: Number of boxes.
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        generator: Source of the random numbers.

    Returns:
        float32 (count, 4) on the generator's device: left, top, width and height in pixels, not rounded.
    """
    draws = torch.rand(count, 4, generator=generator, device=generator.device)
    area, shape, across, down = draws.unbind(1)
    share, form = AREA[0] + (AREA[1] - AREA[0]) * area, width / height
    low, high = (share * form).clamp(*ASPECT), (form / share).clamp(*ASPECT)
    aspect = low * (high / low) ** shape
    w, h = (share * aspect * (height * width)).sqrt(), (share / aspect * (height * width)).sqrt()
    shrink = torch.minimum(width / w, height / h).clamp(max=1.0)
    w, h = (w * shrink).clamp(max=width), (h * shrink).clamp(max=height)  # rounded, they may be a hair larger
    return torch.stack([across * (width - w), down * (height - h), w, h], 1)


def resized_boxes(images: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Cut a box out of each image and resize it, as Pillow's `resize((size, size), BILINEAR, box=...)` does.

    Args:
        images: uint8 (B, C, H, W).
        boxes: float (B, 4) on the same device: left, top, width and height in pixels.
        size: Side of the result, in pixels.

    Returns:
        uint8 (B, C, size, size).
    """
    b, c, h, w = images.shape
    left, top, width, height = boxes.unbind(1)
    columns = _weights(left, width, w, size).mT
    rows = _weights(top, height, h, size).unsqueeze(1)
    narrow = (images.float().reshape(b, c * h, w) @ columns).view(b, c, h, size)
    return _to_bytes(rows @ narrow)


def whole_view(images: Tensor, size: int) -> Tensor:
    """Average images over areas, their central square if they are none; smaller ones are interpolated.

    Args:
        images: uint8 (B, C, H, W).
        size: Side of the result, in pixels.

    Returns:
        uint8 (B, C, size, size).
    """
    h, w = images.shape[2:]
    side = min(h, w)
    top, left = (h - side) // 2, (w - side) // 2
    square = images[:, :, top : top + side, left : left + side].float()
    if side < size:
        return _to_bytes(functional.interpolate(square, size, mode="bilinear", align_corners=False))
    return _to_bytes(functional.interpolate(square, size, mode="area"))


def _weights(start: Tensor, length: Tensor, pixels: int, size: int) -> Tensor:
    """Give the weight of each pixel along an axis in each pixel of the result, float (B, size, pixels).

    It is a triangle around the result's centre, half as wide as two of its pixels or of the image's, if those are
    larger.
    """
    scale = (length / size)[:, None, None]
    centres = start[:, None, None] + scale * (torch.arange(size, device=start.device) + 0.5)[None, :, None]
    distance = (torch.arange(pixels, device=start.device) + 0.5 - centres).abs() / scale.clamp(min=1.0)
    weights = (1 - distance).clamp(min=0.0)
    return weights / weights.sum(2, keepdim=True)


def _to_bytes(pixels: Tensor) -> Tensor:
    return pixels.round().clamp(0, 255).to(torch.uint8)
