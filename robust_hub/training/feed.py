"""The images of a training: where they are kept, which views of them are shown, and its batches on the device."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from robust_hub.images.data import ImageData
from robust_hub.images.views import Views
from robust_hub.training.options import Options
from robust_hub.training.schedule import seed_of


def near(data: ImageData, options: Options, device: torch.device) -> ImageData:
    """Put the images on the accelerator if they take no more than a quarter of its free memory."""
    if device.type != "cuda" or options.num_workers or not data.in_memory:
        return data
    free, _ = torch.cuda.mem_get_info(device)
    return data.to(device) if len(data) * math.prod(data.image_shape) <= free // 4 else data


def views_of(data: ImageData, options: Options) -> ImageData | Views:
    """Give the views of the images that are the same in every epoch, if such views are trained on."""
    if options.view_count is None or options.view_size is None:
        return data
    seeds = [seed_of(options.seed, "view", view) for view in range(1, options.view_count)]
    return Views(data, options.view_size, seeds)


def batches_of(
    data: ImageData | Views, batches: Tensor, options: Options, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (uint8 images, labels) of each row of indices, on the device; workers read whole batches."""
    if data.device.type == device.type and not options.num_workers:
        yield from data.batches(batches)
        return
    source: Any = DataLoader(
        batches,  # type: ignore[arg-type]
        batch_size=None,
        collate_fn=data.batch,
        num_workers=options.num_workers,
        pin_memory=device.type == "cuda" and data.device.type == "cpu",
        generator=torch.Generator(),
    )
    for images, labels in source:
        yield images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
