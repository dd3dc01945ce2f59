"""What a notebook shows of images: one of each class as it is, and how many there are."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence

import torch
from PIL import Image
from torch import Tensor

from robust_hub.markup import block, rows, words

SHOWN = 10  # thumbnails, and classes that are counted by name
_SIDE = 96  # of a thumbnail at most, in pixels
_STYLE = "display:inline-block;margin:4px;text-align:center"
_IMAGE = "width:64px;height:64px;object-fit:contain;image-rendering:pixelated"


def firsts(labels: Tensor) -> list[int]:
    """Give the index of the first image of each of the first classes that there are, labels int64 (N,)."""
    return [int((labels == k).nonzero()[0]) for k in torch.unique(labels)[:SHOWN].tolist()]


def data_html(heading: str, thumbnails: Iterable[tuple[Tensor, str]], labels: Tensor, classes: Sequence[str]) -> str:
    """Show a data set: what it is, thumbnails under their class, and counts.

    Args:
        heading: What the data are.
        thumbnails: Images, uint8 (C, H, W), with the name of their class; of 1, 3 or 4 channels, others are left out.
        labels: Labels of all images, int64 (N,).
        classes: Names of the classes.

    Returns:
        HTML with the images in it, and nothing that is fetched.
    """
    pictures = "".join(
        f'<figure style="{_STYLE}"><img alt="" style="{_IMAGE}" src="{_address(x)}">'
        f"<figcaption>{words(name, 24)}</figcaption></figure>"
        for x, name in thumbnails
        if len(x) in (1, 3, 4)
    )
    counts = torch.bincount(labels, minlength=len(classes)).tolist()
    listed = [(name, f"{count:,}") for name, count in zip(classes[:SHOWN], counts, strict=False)]
    if len(classes) > SHOWN:
        listed.append((f"{len(classes) - SHOWN:,} more classes", f"{sum(counts[SHOWN:]):,}"))
    return block(heading, f"<div>{pictures}</div>", rows(["class", "images"], listed))


def _address(x: Tensor) -> str:
    """Give an image, uint8 (C, H, W), as the address of a PNG that holds it."""
    pixels = x.cpu().numpy()
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    image.thumbnail((_SIDE, _SIDE))
    file = io.BytesIO()
    image.save(file, "png")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
