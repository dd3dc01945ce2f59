"""Images: a name, a folder or a Dataset becomes ([0, 1] image, label).

`load_data` checks what robust_hub.images.sources finds and holds it in one class, `ImageData`: images of one
size, kept as uint8 in memory when they fit, so that a training loop never waits for decoding.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.utils.data import Dataset

from robust_hub.bars import hiding_bars
from robust_hub.images.encoded import EncodedImages, too_large
from robust_hub.images.indices import as_indices, evenly
from robust_hub.images.labels import class_indices
from robust_hub.images.shown import data_html, firsts
from robust_hub.images.source import Source
from robust_hub.images.sources import find
from robust_hub.memory import free
from robust_hub.notes import say
from robust_hub.numbers import whole_number

HASHED_IMAGES = 256


class ImageData(Dataset[tuple[Tensor, int]]):
    """Hold labelled images of one size; item i is (float32 (C, H, W) in [0, 1], int).

    Made by `load_data`. Pixels are uint8, in memory or decoded when asked for.

    Attributes:
        classes: Names of the classes; label k means classes[k].
        name: What the data are, for records.
        split: The part of the data, such as "train".
        resized: What the shorter side was resized to before the centre was cropped; None for images as they are.
        came: Height and width of the first image, where the usual size was taken in their place; else None.
        labels: int64 (N,).
        named: Whether the source names its classes; else they are called by their labels, "0", "1" and so on.

    Example:
        >>> import torch
        >>> pixels = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
        >>> data = ImageData(pixels, torch.tensor([0, 1, 0, 1]), ("cat", "dog"), name="pets", split="train")
        >>> image, label = data[1]
        >>> image.shape, data.classes[label], len(data.subset([0, 2]))
        (torch.Size([3, 8, 8]), 'dog', 2)
    """

    def __init__(
        self,
        pixels: Tensor | EncodedImages,
        labels: Tensor,
        classes: Sequence[str],
        *,
        name: str,
        split: str,
        resized: int | None = None,
        order: Tensor | None = None,
        named: bool = True,
    ) -> None:
        """Keep pixels, uint8 (M, C, H, W), of which image i is row order[i]; without an order, row i."""
        self._pixels, self._order = pixels, torch.arange(len(labels)) if order is None else order
        self.labels, self.classes, self.name, self.split = labels, tuple(classes), name, split
        self.resized, self.named = resized, named
        self.came: tuple[int, int] | None = None

    def __repr__(self) -> str:
        """Say it on one line."""
        shape = "x".join(map(str, self.image_shape))
        return f"ImageData({self.name!r}, {self.split!r}, {len(self):,} images of {shape}, {self.num_classes} classes)"

    def _repr_html_(self) -> str:
        chosen = firsts(self.labels)
        names = [self.classes[k] for k in self.labels[chosen].tolist()]
        return data_html(repr(self), zip(self.batch(chosen)[0], names, strict=True), self.labels.cpu(), self.classes)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return one image, float32 (C, H, W) in [0, 1], and its label."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor, int]]:
        """Return several (image, label) pairs, as a DataLoader asks for them."""
        pixels, labels = self.batch(indices)
        return [(x, int(y)) for x, y in zip(pixels.float().div_(255), labels, strict=True)]

    def batch(self, indices: Sequence[int] | Tensor) -> tuple[Tensor, Tensor]:
        """Return images, uint8 (B, C, H, W) in 0..255, and labels, int64 (B,).

        Raises:
            IndexError: If an index is outside the data.
            ValueError: If a lazily read image is damaged or of another size.
        """
        chosen = self._chosen(indices)
        return self._cut(self._order[chosen].to(self.device)), self.labels[chosen]

    def batches(self, indices: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images, uint8 (B, C, H, W), and labels, int64 (B,), of each row, all where the pixels are.

        The indices go there once, so that no batch waits for a copy of its own.

        Args:
            indices: int64 (batches, B).

        Raises:
            IndexError: If an index is outside the data.
            ValueError: If a lazily read image is damaged or of another size.
        """
        chosen = self._checked(indices)
        order, labels = self._order[chosen].to(self.device), self.labels[chosen].to(self.device)
        for rows, classes in zip(order, labels, strict=True):
            yield self._cut(rows), classes

    def _cut(self, rows: Tensor) -> Tensor:
        """Give the pixels of rows, int64 (B,) on their device; those in memory image by image, not byte by byte."""
        return self._pixels.index_select(0, rows) if isinstance(self._pixels, Tensor) else self._pixels[rows]

    def _chosen(self, indices: Sequence[int] | Tensor) -> Tensor:
        """Give indices, or those that a mask marks, as int64 (B,)."""
        return self._checked(as_indices(indices, len(self)))

    def _checked(self, chosen: Tensor) -> Tensor:
        """Give indices back, int64 of any shape, if all are within the data."""
        if chosen.numel() and not -len(self) <= int(chosen.min()) <= int(chosen.max()) < len(self):
            raise IndexError(f"expected indices below {len(self)}, got {int(chosen.min())} to {int(chosen.max())}")
        return chosen

    def subset(self, indices: Sequence[int] | Tensor) -> ImageData:
        """Return the images at `indices`, in that order, or those that a mask of N truth values marks.

        Pixels are shared, not copied.

        Raises:
            IndexError: If an index is outside the data.
            TypeError: If they are no whole numbers, and no mask of all images.
        """
        chosen = self._chosen(indices)
        return self._with(self._pixels, self.labels[chosen], self._order[chosen])

    def renumbered(self, labels: Tensor, classes: Sequence[str]) -> ImageData:
        """Return the same images with other labels, int64 (N,), of other classes; pixels are shared, not copied."""
        data = self._with(self._pixels, labels, self._order)
        data.classes = tuple(classes)
        return data

    def _with(self, pixels: Tensor | EncodedImages, labels: Tensor, order: Tensor) -> ImageData:
        data = ImageData(pixels, labels, self.classes, name=self.name, split=self.split, order=order)
        data.resized, data.named, data.came = self.resized, self.named, self.came
        return data

    def to(self, device: torch.device | str) -> ImageData:
        """Return the same images with their pixels on a device, so that batches are cut there; only if in memory."""
        pixels = self._pixels.to(device) if isinstance(self._pixels, Tensor) else self._pixels
        return self._with(pixels, self.labels, self._order)

    def keeping(self, indices: Sequence[int] | Tensor, *, progress: bool = False) -> ImageData:
        """Return the same images, with those at `indices` decoded now if they take at most half of the free memory.

        Args:
            indices: Which ones; all others are decoded when asked for, as before.
            progress: Whether to show a bar where it takes more than a second.

        Raises:
            IndexError: If an index is outside the data.
            ValueError: If an image is damaged or of another size.
        """
        if isinstance(self._pixels, Tensor):
            return self
        rows = self._order[self._chosen(indices)]
        if self._pixels.bytes_of(len(rows)) > free() // 2:
            return self
        return self._with(self._pixels.keeping(rows, progress=progress), self.labels, self._order)

    @property
    def device(self) -> torch.device:
        """Where the pixels of a batch are."""
        return self._pixels.device if isinstance(self._pixels, Tensor) else torch.device("cpu")

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of every image."""
        _, channels, height, width = self._pixels.shape
        return channels, height, width

    @property
    def in_memory(self) -> bool:
        """Whether the pixels are held in memory."""
        return isinstance(self._pixels, Tensor)

    @cached_property
    def data_hash(self) -> str:
        """Sha256 (hex) over shape, classes, all labels and the pixels of 256 evenly spaced images."""
        digest = self._digest()
        digest.update(self.batch(evenly(len(self), HASHED_IMAGES))[0].contiguous().numpy().tobytes())
        return str(digest.hexdigest())

    @cached_property
    def labels_hash(self) -> str:
        """Sha256 (hex) over shape, classes and all labels: what is known without decoding an image."""
        return str(self._digest().hexdigest())

    def _digest(self) -> Any:
        digest = hashlib.sha256(json.dumps([len(self), *self.image_shape, *self.classes]).encode())
        digest.update(self.labels.numpy().astype("<i8").tobytes())
        return digest


def load_data(
    source: str | Path | Dataset[Any] | Any,
    split: str = "train",
    *,
    image_column: str | None = None,
    label_column: str | None = None,
    layout: str | None = None,
    size: int | None = None,
    usual_size: int | None = None,
    channels: int | None = None,
    in_memory: bool | None = None,
    num_workers: int | None = None,
    progress: bool = True,
) -> ImageData:
    """Read labelled images from a name, a folder or a Dataset.

    Args:
        source: "digits" (scikit-learn's 1,797 handwritten digits at 32x32; train 1,297, test 500); a folder
            with one subfolder a class, or <split>/<class>/, or images and a metadata.csv; a folder of parquet
            files named <split>-*.parquet, or one such file; what `save_to_disk` wrote; tar shards (docs/data.md
            has all of them); a "torch/cifar10"-style name of timm's; a Hub id; a `datasets` Dataset or
            DatasetDict, whose `with_transform` is applied; a torch Dataset of (image, label), each image a
            PIL image, a uint8 tensor (C, H, W) or NumPy array (H, W, C), or one of floats in [0, 1], which
            is rounded to uint8 (multiples of 1/255). An ImageData is returned as it is.
        split: The split, as the source calls it or by another usual name ("val" is a folder Validation, too);
            a Dataset handed in is one split and takes the name. A folder without split folders is the split
            "train", or the one it is itself called.
        image_column: Image column of a table, or key of items that are dicts; found by type and name if None.
        label_column: Label column, or key, likewise. Strings in it are names of classes.
        layout: How a folder keeps its images, where that is in doubt: "classes", "splits", "metadata", "table",
            "saved" or "shards". None recognises it, or says in one sentence what was seen.
        size: Resize the shorter side to this many pixels and crop the centre. None keeps the images' own size,
            which must be the same of all.
        usual_size: The size to take without `size` where the first image has another, such as that of a network.
        channels: Channels of the images: 3 for RGB, 1 for grey, 4 for RGB and alpha; any other number takes
            tensors that have it. None is 3; training, certification and the command line ask the model.
        in_memory: Decode once into memory as uint8; None does so if that takes at most half of the free
            memory.
        num_workers: Processes that decode, or threads where the images are few; 0 or 1 for this one alone, None for
            one a CPU.
        progress: Whether to show a bar where decoding takes more than a second, and the bars of datasets.

    Returns:
        The images, as uint8 of one size, upright by their EXIF notes, what is transparent in front of white
        (`robust_hub.images.decoding.as_seen`); 16-bit images are refused. Class names are kept through Subset,
        random_split and ConcatDataset (`robust_hub.images.nests`). docs/images.md says all of it.

    Raises:
        ValueError: If the data are empty, damaged, of one class, of several sizes without `size`, without
            that split or column, with labels outside the classes, if items change when they are read again, or
            a folder can be read in two ways.
        TypeError: If the source, its items or labels are of an unknown type, or a label is missing.
        ImportError: If an optional package is missing.
        ChildProcessError: If a process that decodes images ended.
        MemoryError: If they are to be in memory, which does not hold them.

    Example:
        >>> digits = load_data("digits", split="test")
        >>> len(digits), digits.image_shape, digits.classes[:3]
        (500, (3, 32, 32), ('0', '1', '2'))
    """
    if not isinstance(split, str):
        raise TypeError(f"expected the name of a split, such as 'train', got {split!r}")
    size = None if size is None else whole_number("a size of at least 1 pixel", size)
    channels = None if channels is None else whole_number("channels of at least 1", channels)
    if num_workers is not None:
        num_workers = whole_number("num_workers of at least 0, or None for one a CPU", num_workers, 0)
    if isinstance(source, ImageData):
        if size is not None and source.image_shape[1:] != (size, size):
            got = f"{source.image_shape}: give size to the first load_data"
            raise ValueError(f"expected images of size {size}, got {got}")
        if channels is not None and source.image_shape[0] != channels:
            got = f"{source.image_shape}: give channels to the first load_data"
            raise ValueError(f"expected images of {channels} channels, got {got}")
        return source
    with hiding_bars(not progress):
        opened = find(source, split, image_column, label_column, layout)
    labels, classes = _check_labels(opened, split)
    encoded = EncodedImages(opened, size, 3 if channels is None else channels, num_workers)
    came = None
    if size is None and usual_size is not None and encoded.shape[2:] != (usual_size, usual_size):
        size, came = usual_size, (int(encoded.shape[2]), int(encoded.shape[3]))
        encoded = EncodedImages(opened, size, encoded.channels, num_workers)
    needed, there = encoded.bytes_of(len(labels)), free()
    if in_memory and needed > there + psutil.swap_memory().free:
        raise MemoryError(too_large(encoded, len(labels)))
    in_memory = needed <= there // 2 if in_memory is None else in_memory
    pixels = encoded.read(torch.arange(len(labels)), progress=progress) if in_memory else encoded
    if isinstance(pixels, Tensor) and int(pixels[:HASHED_IMAGES].max()) <= 1 and int(pixels.max()) == 1:
        say(f"{opened.name}: no pixel is above 1 of 255, so all images are black: give floats if 1 is white")
    named = bool(opened.classes) or list(classes) != [str(k) for k in range(len(classes))]  # of labels that are texts
    data = ImageData(pixels, labels, classes, name=opened.name, split=split, resized=size, named=named)
    data.came = came
    return data


def _check_labels(source: Source, split: str) -> tuple[Tensor, Sequence[str]]:
    """Return the labels, int64 (N,), and the names of their classes."""
    name = f"{source.name}, split '{split}'"
    if len(source.labels) == 0:
        raise ValueError(f"expected at least one image, got an empty data set: {name}")
    labels, classes = class_indices(source.labels, source.classes, name)
    if len(torch.unique(labels)) < 2:
        raise ValueError(f"expected at least two classes, got only '{classes[int(labels[0])]}' in {name}")
    return labels, classes
