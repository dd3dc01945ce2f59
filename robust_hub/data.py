"""Images: a name, a folder or a Dataset becomes ([0, 1] image, label).

`load_data` reads every kind of source into one class, `ImageData`: RGB images of one size, kept as uint8 in
memory when they fit, so that a training loop never waits for decoding.
"""

from __future__ import annotations

import hashlib
import io
import json
import operator
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn, Protocol

import numpy as np
import psutil
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "labels", "fine_label", "target", "class")
SPLIT_FOLDERS = ("train", "val", "valid", "validation", "test")
FINGERPRINT_IMAGES = 256


class _Images(Protocol):
    """Where images are read from, one at a time."""

    threads: bool

    def read(self, i: int) -> Any:
        """Return image i, still of any type."""

    def where(self, i: int) -> str:
        """Name image i for an error message."""


class _Files:
    threads = True

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths

    def read(self, i: int) -> Any:
        return _open(self.paths[i])

    def where(self, i: int) -> str:
        return self.paths[i]


class _Column:
    """An image column of a datasets.Dataset or a pyarrow.Table, as it is stored: still encoded."""

    threads = True

    def __init__(self, table: Any, column: str, name: str) -> None:
        self.table, self.column, self.name = table, column, name

    def read(self, i: int) -> Any:
        if hasattr(self.table, "features"):
            cell = self.table[i][self.column]
        else:
            cell = self.table.column(self.column)[i].as_py()
        if isinstance(cell, dict):
            cell = cell.get("bytes") if cell.get("bytes") is not None else cell.get("path")
        return _open(io.BytesIO(cell) if isinstance(cell, bytes) else cell) if isinstance(cell, bytes | str) else cell

    def where(self, i: int) -> str:
        return f"index {i} of {self.name}"


class _Items:
    """The images of a torch Dataset, read by one thread: a user's Dataset need not be thread-safe."""

    threads = False

    def __init__(self, dataset: Any, name: str) -> None:
        self.dataset, self.name = dataset, name

    def read(self, i: int) -> Any:
        return self.dataset[i][0]

    def where(self, i: int) -> str:
        return f"index {i} of {self.name}"


class ImageData(Dataset[tuple[Tensor, int]]):
    """Hold labelled RGB images of one size; item i is (float32 (3, H, W) in [0, 1], int).

    Made by `load_data`. Pixels are uint8, in memory or decoded when asked for.

    Attributes:
        classes: Names of the classes; label k means classes[k].
        name: What the data are, for records.
        split: The part of the data, such as "train".
        labels: int64 (N,).
    """

    def __init__(
        self,
        pixels: Tensor | None,
        labels: Tensor,
        classes: Sequence[str],
        *,
        name: str,
        split: str,
        images: _Images | None = None,
        size: int | None = None,
        order: Tensor | None = None,
        shape: tuple[int, int, int] | None = None,
    ) -> None:
        """Keep uint8 pixels (N, 3, H, W), or `images` that are decoded when asked for."""
        self._pixels, self._images, self._size = pixels, images, size
        self._order = torch.arange(len(labels)) if order is None else order
        self.labels, self.classes, self.name, self.split = labels, tuple(classes), name, split
        if shape is None:
            assert pixels is not None
            shape = (int(pixels.shape[1]), int(pixels.shape[2]), int(pixels.shape[3]))
        self._shape = shape

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return one image, float32 (3, H, W) in [0, 1], and its label."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor, int]]:
        """Return several (image, label) pairs, as a DataLoader asks for them."""
        pixels, labels = self.batch(indices)
        return [(x, int(y)) for x, y in zip(pixels.float().div_(255), labels, strict=True)]

    def batch(self, indices: Sequence[int] | Tensor) -> tuple[Tensor, Tensor]:
        """Return images, uint8 (B, 3, H, W) in 0..255, and labels, int64 (B,).

        Raises:
            IndexError: If an index is outside the data.
            ValueError: If a lazily read image is damaged or of another size.
        """
        chosen = torch.as_tensor(indices, dtype=torch.int64).reshape(-1)
        if len(chosen) and not -len(self) <= int(chosen.min()) <= int(chosen.max()) < len(self):
            raise IndexError(f"expected indices below {len(self)}, got {int(chosen.min())} to {int(chosen.max())}")
        rows = self._order[chosen]
        if self._pixels is not None:
            return self._pixels[rows], self.labels[chosen]
        assert self._images is not None
        return _decode(self._images, rows.tolist(), self._shape, self._size), self.labels[chosen]

    def subset(self, indices: Sequence[int] | Tensor) -> ImageData:
        """Return the images at `indices`, in that order; pixels are shared, not copied."""
        return self._part(torch.as_tensor(indices, dtype=torch.int64).reshape(-1), self.split)

    def _part(self, chosen: Tensor, split: str) -> ImageData:
        return ImageData(
            self._pixels, self.labels[chosen], self.classes, name=self.name, split=split, images=self._images,
            size=self._size, order=self._order[chosen], shape=self._shape,
        )  # fmt: skip

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of every image."""
        return self._shape

    @property
    def in_memory(self) -> bool:
        """Whether the pixels are held in memory."""
        return self._pixels is not None

    @cached_property
    def fingerprint(self) -> str:
        """Sha256 (hex) over shape, classes, all labels and the pixels of 256 evenly spaced images."""
        chosen = np.unique(np.linspace(0, len(self) - 1, min(len(self), FINGERPRINT_IMAGES)).astype(np.int64))
        digest = hashlib.sha256(json.dumps([len(self), *self._shape, *self.classes]).encode())
        digest.update(self.labels.numpy().astype("<i8").tobytes())
        digest.update(self.batch(chosen.tolist())[0].contiguous().numpy().tobytes())
        return digest.hexdigest()


def load_data(
    source: str | Path | Dataset[Any] | Any,
    split: str = "train",
    *,
    image_column: str | None = None,
    label_column: str | None = None,
    size: int | None = None,
    in_memory: bool | None = None,
) -> ImageData:
    """Read labelled images from a name, a folder or a Dataset.

    Args:
        source: "digits" (scikit-learn's 1,797 handwritten digits at 32x32; train 1,297, test 500); a folder
            with one subfolder a class, or <split>/<class>/; a folder of parquet files named
            <split>-*.parquet; a "torch/cifar10"-style name of timm's; a Hub id; a `datasets` Dataset or
            DatasetDict; a torch Dataset of (image, int), each image a PIL image, a uint8 tensor (C, H, W),
            or a float tensor in [0, 1], which is rounded to uint8 (multiples of 1/255). An ImageData is
            returned as it is.
        split: The split, literally as the source calls it; a Dataset handed in is one split and takes the
            name. A folder without split folders is the split "train", or the one it is itself called.
        image_column: Image column of a table; found by its type if None.
        label_column: Label column of a table; found by its type if None.
        size: Resize the shorter side to this many pixels and crop the centre. Needed if the images differ
            in size.
        in_memory: Decode once into memory as uint8; None does so if that takes at most half of the free
            memory.

    Raises:
        ValueError: If the data are empty, damaged, of one class, of several sizes without `size`, without
            that split or column, or with labels outside the classes.
        TypeError: If the source or its items are of an unknown type.
        ImportError: If an optional package is missing.
    """
    if size is not None and size < 1:
        raise ValueError(f"expected a size of at least 1 pixel, got {size}")
    if isinstance(source, ImageData):
        if size is not None and source.image_shape[1:] != (size, size):
            raise ValueError(
                f"expected images of size {size}, got {source.image_shape}: give size to the first load_data"
            )
        return source
    if isinstance(source, str | Path):
        images, labels, classes, name = _named(str(source), isinstance(source, Path), split, image_column, label_column)
    elif hasattr(source, "features") and hasattr(source, "column_names"):
        images, labels, classes = _hf_table(source, image_column, label_column, "the dataset")
        name = str(getattr(getattr(source, "info", None), "dataset_name", None) or "dataset")
    elif isinstance(source, dict) and all(hasattr(part, "features") for part in source.values()):
        name = "dataset"
        images, labels, classes = _hf_table(_pick(source, split, name), image_column, label_column, name)
    else:
        images, labels, classes = _torch_items(source)
        name = type(source).__name__
    return _finish(images, labels, classes, name, split, size, in_memory)


def crop_flip(images: Tensor, generator: torch.Generator | None = None, padding: int = 4) -> Tensor:
    """Move each image at random by up to `padding` pixels, reflecting at the edges, and mirror half of them.

    Args:
        images: (B, C, H, W), any dtype, H and W above `padding`; the result has the same shape and dtype.
        generator: Source of the random numbers, two shifts and one flip an image.
        padding: Largest shift in pixels, at least 0.

    Raises:
        ValueError: If the shape or the padding does not fit.
    """
    if images.ndim != 4 or not 0 <= padding < min(images.shape[2:]):
        raise ValueError(
            f"expected images (B, C, H, W) larger than the padding, got {tuple(images.shape)} and {padding}"
        )
    b, c, h, w = images.shape
    device = generator.device if generator is not None else images.device
    shift = torch.randint(-padding, padding + 1, (2, b, 1), generator=generator, device=device).to(images.device)
    flip = torch.randint(0, 2, (b, 1), generator=generator, device=device).to(images.device).bool()
    rows = torch.arange(h, device=images.device) + shift[0]
    cols = torch.arange(w, device=images.device) + shift[1]
    rows, cols = ((n - 1) - ((n - 1) - at.abs()).abs() for at, n in ((rows, h), (cols, w)))
    cols = torch.where(flip, cols.flip(1), cols)
    at = (
        torch.arange(b, device=images.device).view(b, 1, 1, 1),
        torch.arange(c, device=images.device).view(1, c, 1, 1),
    )
    return images[at[0], at[1], rows.view(b, 1, h, 1), cols.view(b, 1, 1, w)]


def holdout_split(data: ImageData, fraction: float, seed: int) -> tuple[ImageData, ImageData]:
    """Split data into a part to train on and a held-out part with about `fraction` of every class.

    The same arguments give the same split; both parts keep the order of the data. Every class keeps at
    least one image to train on.

    Raises:
        ValueError: If the fraction is outside (0, 1) or holds out no image.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"expected a fraction in (0, 1), got {fraction}")
    held = _stratified(data.labels, fraction, seed)
    if not bool(held.any()):
        raise ValueError(f"expected a fraction that holds out an image, got {fraction} of {len(data)} images: raise it")
    return data._part(torch.where(~held)[0], data.split), data._part(torch.where(held)[0], f"{data.split}-held-out")


def _stratified(labels: Tensor, fraction: float, seed: int) -> Tensor:
    """Mark `fraction` of every class: bool (N,)."""
    generator = torch.Generator().manual_seed(seed)
    held = torch.zeros(len(labels), dtype=torch.bool)
    for label in torch.unique(labels):
        members = torch.where(labels == label)[0]
        count = min(round(fraction * len(members)), len(members) - 1)
        held[members[torch.randperm(len(members), generator=generator)[:count]]] = True
    return held


def _label(name: str) -> str:
    """Name data for records: of a folder its last part alone, since the way there is the machine's affair."""
    return Path(name).resolve().name if Path(name).is_dir() else name


def _finish(
    images: _Images | Tensor,
    labels: Any,
    classes: Sequence[str] | None,
    name: str,
    split: str,
    size: int | None,
    in_memory: bool | None,
) -> ImageData:
    """Check labels and sizes, and decode if it fits."""
    if len(labels) == 0:
        raise ValueError(f"expected at least one image, got an empty data set: {name}, split '{split}'")
    try:
        target = torch.tensor([operator.index(label) for label in labels], dtype=torch.int64)
    except TypeError as error:
        raise TypeError(f"expected integer labels, got {type(labels[0]).__name__} in {name}: {error}") from None
    classes = [str(k) for k in range(int(target.max()) + 1)] if classes is None else classes
    outside = torch.where((target < 0) | (target >= len(classes)))[0]
    if len(outside):
        i = int(outside[0])
        raise ValueError(
            f"expected labels from 0 to {len(classes) - 1}, got {int(target[i])} at index {i} of {name}, "
            f"split '{split}': correct the labels or choose a split that has them"
        )
    if len(torch.unique(target)) < 2:
        raise ValueError(
            f"expected at least two classes, got only '{classes[int(target[0])]}' in {name}, split '{split}'"
        )
    if isinstance(images, Tensor):
        images = _Items([(image, 0) for image in images], name)
    first = _array(images, 0, size)
    shape = (3, first.shape[0], first.shape[1])
    if in_memory is None:
        in_memory = len(target) * first.size <= psutil.virtual_memory().available // 2
    pixels = _decode(images, range(len(target)), shape, size) if in_memory else None
    return ImageData(
        pixels,
        target,
        classes,
        name=_label(name),
        split=split,
        images=None if in_memory else images,
        size=size,
        shape=shape,
    )


def _decode(images: _Images, rows: Sequence[int], shape: tuple[int, int, int], size: int | None) -> Tensor:
    """Read images into uint8 (B, 3, H, W), in threads where the source allows it."""
    out = np.empty((len(rows), *shape), dtype=np.uint8)

    def work(start: int) -> None:
        for at in range(start, min(start + 32, len(rows))):
            array = _array(images, rows[at], size)
            if array.shape[:2] != shape[1:]:
                got = f"{array.shape[0]}x{array.shape[1]} at {images.where(rows[at])}"
                raise ValueError(
                    f"expected images of one size, {shape[1]}x{shape[2]} as the first, got {got}: pass size=..."
                )
            out[at] = array.transpose(2, 0, 1)

    if images.threads and len(rows) > 32:
        with ThreadPoolExecutor(min(32, os.cpu_count() or 1)) as pool:
            list(pool.map(work, range(0, len(rows), 32)))
    else:
        for start in range(0, len(rows), 32):
            work(start)
    return torch.from_numpy(out)


def _open(file: Any) -> Image.Image:
    with Image.open(file) as image:
        image.load()
        return image


def _array(images: _Images, i: int, size: int | None) -> np.ndarray[Any, Any]:
    """Read image i as RGB uint8 (H, W, 3), resized and cropped if `size` is given."""
    try:
        item = images.read(i)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        _damaged(images.where(i), error)
    if isinstance(item, Image.Image):
        if item.mode[0] in "IF":
            raise ValueError(
                f"expected an 8-bit image, got mode {item.mode} at {images.where(i)}: convert it to 8 bits"
            )
        try:
            image = item.convert("RGB")
        except (OSError, SyntaxError) as error:
            _damaged(images.where(i), error)
    else:
        image = Image.fromarray(_tensor_pixels(item, images.where(i)))
    if size is not None and image.size != (size, size):
        image = ImageOps.fit(image, (size, size), method=Image.Resampling.BICUBIC)
    return np.asarray(image)


def _damaged(where: str, error: BaseException) -> NoReturn:
    message = f"expected an image that can be decoded, got a damaged one at {where} ({error}): replace or remove it"
    raise ValueError(message) from error


def _tensor_pixels(item: Any, where: str) -> np.ndarray[Any, Any]:
    """Turn a tensor (C, H, W), uint8 or float in [0, 1], into uint8 (H, W, 3)."""
    if not isinstance(item, Tensor):
        raise TypeError(f"expected a PIL image or a tensor, got {type(item).__name__} at {where}")
    if item.ndim != 3 or item.shape[0] not in (1, 3):
        raise ValueError(f"expected an image (C, H, W) with 1 or 3 channels, got shape {tuple(item.shape)} at {where}")
    if item.is_floating_point():
        low, high = float(item.min()), float(item.max())
        if not (low >= 0 and high <= 1):
            raise ValueError(
                f"expected pixels in [0, 1], got {low:.3g} to {high:.3g} at {where}: "
                "pass raw pixels, not normalised ones"
            )
        item = item.float().mul(255).round().to(torch.uint8)
    elif item.dtype != torch.uint8:
        raise TypeError(f"expected uint8 or float pixels, got {item.dtype} at {where}")
    pixels: np.ndarray[Any, Any] = item.cpu().expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
    return pixels


_Found = tuple[_Images | Tensor, Any, Sequence[str] | None]


def _named(
    source: str, is_path: bool, split: str, image_column: str | None, label_column: str | None
) -> tuple[_Images | Tensor, Any, Sequence[str] | None, str]:
    """Find out what a name or folder means."""
    if source == "digits" and not is_path:
        return (*_digits(split), source)
    if source.startswith("torch/") and not is_path:
        return (*_torch_items(_timm_dataset(source, split)), source)
    root = Path(source).expanduser()
    if root.is_dir():
        tables = _parquet_files(root)
        if tables:
            return (*_parquet(_pick(tables, split, source), image_column, label_column, source), root.name)
        return (*_folder(root, split), root.resolve().name)
    if is_path or root.exists() or source.startswith((".", "/", "~")):
        raise ValueError(f"expected a folder of images or parquet files, got {source}, which is no folder")
    hub = source.removeprefix("hfds/")
    library = _extra("datasets", f"reading '{hub}' from the Hub")
    try:
        found = library.load_dataset(hub)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"expected 'digits', a folder, torch/<name> or a Hub id, got '{source}': {reason}") from error
    return (*_hf_table(_pick(found, split, hub), image_column, label_column, hub), hub)


def _pick(parts: Any, split: str, name: str) -> Any:
    if split not in parts:
        raise ValueError(f"expected one of the splits {', '.join(parts)} of {name}, got '{split}'")
    return parts[split]


def _extra(package: str, purpose: str) -> Any:
    try:
        return import_module(package)
    except ImportError:
        raise ImportError(f'{purpose} needs {package}: pip install "robust-hub[data]"') from None


def _digits(split: str) -> _Found:
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ImportError("the data set 'digits' needs scikit-learn: pip install scikit-learn") from None
    bunch = load_digits()
    labels = torch.from_numpy(bunch.target).long()
    held = _stratified(labels, 500 / 1797, seed=0)
    # Rounding per class may miss 500 by a few: the last ones move over.
    while int(held.sum()) != 500:
        extra = int(held.sum()) > 500
        held[int(torch.where(held == extra)[0][-1])] = not extra
    chosen = _pick({"train": ~held, "test": held}, split, "digits")
    small = torch.from_numpy(bunch.images).float()[:, None] / 16
    large = torch.nn.functional.interpolate(small, scale_factor=4, mode="bilinear", align_corners=False)
    pixels = large.mul(255).round().clamp(0, 255).to(torch.uint8)
    return pixels[chosen], labels[chosen], [str(name) for name in bunch.target_names]


def _timm_dataset(name: str, split: str) -> Any:
    from timm.data.dataset_factory import create_dataset

    two = ("cifar10", "cifar100", "mnist", "kmnist", "fashion_mnist")
    if name.removeprefix("torch/") in two:
        _pick({"train": 0, "test": 0}, split, name)  # timm reads any other word as the test split
    root = Path(torch.hub.get_dir()) / "datasets"
    root.mkdir(parents=True, exist_ok=True)
    try:
        return create_dataset(name, root=str(root), split=split, download=True)
    except (AssertionError, OSError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"expected a data set that timm can read, got '{name}', split '{split}': {reason}") from error


def _folder(root: Path, split: str) -> _Found:
    from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

    parts = {p.name: p for p in sorted(root.iterdir()) if p.is_dir() and p.name in {*SPLIT_FOLDERS, split}}
    # A folder without split folders is its own split: "train", or whatever the folder is called.
    parts = parts or {"train": root, root.resolve().name: root}
    chosen = _pick(parts, split, str(root))
    classes = sorted({p.name for part in parts.values() for p in part.iterdir() if p.is_dir() and p.name[0] != "."})
    index = {name: k for k, name in enumerate(classes)}
    present = {name: k for name, k in index.items() if (chosen / name).is_dir()}
    found = make_dataset(str(chosen), present, extensions=IMG_EXTENSIONS, allow_empty=True) if present else []
    if not found:
        raise ValueError(f"expected images in one subfolder a class, got a folder without images: {chosen}")
    return _Files([path for path, _ in found]), [label for _, label in found], classes


def _parquet_files(root: Path) -> dict[str, list[str]]:
    """Find <split>-*.parquet in a folder, its data/ folder, or a folder named like the split."""
    found: dict[str, list[str]] = {}
    for path in sorted([*root.glob("*.parquet"), *root.glob("*/*.parquet")]):
        inside = path.parent != root and path.parent.name != "data"
        name = path.parent.name if inside else re.sub(r"-\d.*$", "", path.stem)
        found.setdefault(name, []).append(str(path))
    return found


def _parquet(files: list[str], image_column: str | None, label_column: str | None, name: str) -> _Found:
    try:
        library = import_module("datasets")
    except ImportError:
        return _arrow_table(files, image_column, label_column, name)
    try:
        table = library.load_dataset("parquet", data_files={"part": files}, split="part")
    except Exception as error:
        raise ValueError(
            f"expected parquet files that can be read, got {files[0]}: {error.__cause__ or error}"
        ) from error
    return _hf_table(table, image_column, label_column, name)


def _arrow_table(files: list[str], image_column: str | None, label_column: str | None, name: str) -> _Found:
    _extra("pyarrow", f"reading the parquet files of {name}")
    try:
        table = import_module("pyarrow").concat_tables([import_module("pyarrow.parquet").read_table(f) for f in files])
    except (OSError, ValueError) as error:
        raise ValueError(f"expected parquet files that can be read, got {files[0]}: {error}") from error
    written = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    kinds: dict[str, str] = {}
    for field in table.schema:
        is_class = written.get(field.name, {}).get("_type") == "ClassLabel"
        is_image = str(field.type).startswith("struct<") and "bytes: binary" in str(field.type)
        integer = "integer" if re.fullmatch(r"u?int\d+", str(field.type)) else "other"
        kinds[field.name] = "image" if is_image else "class" if is_class else integer
    image, label = _columns(kinds, image_column, label_column, name)
    classes = written[label].get("names") if kinds[label] == "class" else None
    return _Column(table.select([image]), image, name), table.column(label).to_pylist(), classes


def _hf_table(table: Any, image_column: str | None, label_column: str | None, name: str) -> _Found:
    if not hasattr(table, "__len__"):
        raise TypeError("expected a Dataset with a length, got an IterableDataset: load it without streaming=True")
    kinds = {}
    for column, feature in table.features.items():
        encoded = type(feature).__name__ == "Image" or (isinstance(feature, dict) and "bytes" in feature)
        integer = "integer" if re.fullmatch(r"u?int\d+", str(getattr(feature, "dtype", ""))) else "other"
        kinds[column] = "image" if encoded else "class" if type(feature).__name__ == "ClassLabel" else integer
    image, label = _columns(kinds, image_column, label_column, name)
    classes = table.features[label].names if kinds[label] == "class" else None
    table = table.with_format(None)
    images = table.select_columns([image])
    if type(table.features[image]).__name__ == "Image":
        images = images.cast_column(image, import_module("datasets").Image(decode=False))
    return _Column(images, image, name), list(table[label]), classes


def _columns(kinds: dict[str, str], image: str | None, label: str | None, name: str) -> tuple[str, str]:
    """Choose the image and the label column, by name or by type ("image", "class", "integer", "other")."""
    for word, column in (("image", image), ("label", label)):
        if column is not None and column not in kinds:
            raise ValueError(f"expected one of the columns {', '.join(kinds)} of {name}, got {word}_column='{column}'")
    images = [column for column, kind in kinds.items() if kind == "image"]
    labels = [column for column, kind in kinds.items() if kind == "class"]
    labels = labels or [column for column, kind in kinds.items() if kind == "integer" and column in LABEL_COLUMNS]
    return image or _one(images, IMAGE_COLUMNS, "image", kinds, name), label or _one(
        labels, LABEL_COLUMNS, "label", kinds, name
    )


def _one(found: list[str], preferred: tuple[str, ...], word: str, kinds: dict[str, str], name: str) -> str:
    usual = [column for column in preferred if column in found]
    if not usual and len(found) != 1:
        got = "none" if not found else ", ".join(found)
        raise ValueError(
            f"expected one {word} column in {name}, got {got}: pass {word}_column=, one of {', '.join(kinds)}"
        )
    return (usual or found)[0]


def _torch_items(dataset: Any) -> _Found:
    """Read the labels of a torch Dataset, from its `targets` if it has them, else from its items."""
    name = type(dataset).__name__
    if isinstance(dataset, IterableDataset) or not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
        raise TypeError(f"expected a name, a folder or a Dataset with a length and indices, got {name}")
    joint = type(getattr(dataset, "transforms", None)).__name__ not in ("NoneType", "StandardTransform")
    plain = getattr(dataset, "target_transform", None) is None and not joint
    labels = getattr(dataset, "targets", None) if plain else None
    if labels is None or len(labels) != len(dataset):
        labels = []
        for i in range(len(dataset)):
            item = dataset[i]
            if not isinstance(item, tuple | list) or len(item) != 2:
                raise TypeError(f"expected items (image, label), got {type(item).__name__} at index {i} of {name}")
            labels.append(item[1])
    classes = getattr(dataset, "classes", None) or getattr(getattr(dataset, "dataset", None), "classes", None)
    return _Items(dataset, name), labels, [str(c) for c in classes] if classes else None
