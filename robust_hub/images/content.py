"""Images known by their content: hashes of what the network sees of them, and a sample of those that a training saw.

A name, a folder, an order and a split can all change after a training; what an image shows does not. A training
therefore records a sample of its images, by which they are known again wherever they turn up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from robust_hub.images.data import ImageData
from robust_hub.images.identity import image_hash
from robust_hub.images.indices import evenly

DIGITS = 16  # hexadecimal digits kept of an image's hash: two of a million images share them by chance once in 10^7
SAMPLE = 1024  # images of a training that are recorded, evenly spaced: all of small data
_LINE = 4096 // DIGITS  # hashes in a text of config.json
_TOGETHER = 256  # images that are hashed at a time


def hashes_of(data: ImageData, indices: Sequence[int] | None = None) -> list[str]:
    """Hash images, all or those at `indices`, read some at a time: `DIGITS` hexadecimal digits each."""
    chosen = range(len(data)) if indices is None else indices
    parts = (data.batch(list(chosen[at : at + _TOGETHER]))[0] for at in range(0, len(chosen), _TOGETHER))
    return [image_hash(image)[:DIGITS] for part in parts for image in part]


def sample_of(data: ImageData) -> tuple[str, ...]:
    """Give the hashes of a training's images, of many a sample, as the texts that `as_texts` makes."""
    return tuple(as_texts(set(hashes_of(data, evenly(len(data), SAMPLE)))))


def as_texts(hashes: Iterable[str]) -> list[str]:
    """Write hashes in order, many in a text."""
    ordered = sorted(hashes)
    return ["".join(ordered[at : at + _LINE]) for at in range(0, len(ordered), _LINE)]


def from_texts(texts: Iterable[str]) -> frozenset[str]:
    """Read what `as_texts` gave.

    Raises:
        ValueError: If it is something else.
        TypeError: Likewise.
    """
    hashes = [line[at : at + DIGITS] for line in texts for at in range(0, len(line), DIGITS)]
    if any(len(one) != DIGITS or set(one) - set("0123456789abcdef") for one in hashes):
        raise ValueError("a hash that is none")
    return frozenset(hashes)
