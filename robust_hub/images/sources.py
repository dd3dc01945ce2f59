"""Sources: where labelled images are found, and how one of them is read.

`find` turns a name, a folder or a Dataset into a `Source`: its rows still as their owner keeps them (paths, encoded
bytes, items), the labels unchecked, and a name for records. robust_hub.images.data makes data of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import IterableDataset

from robust_hub.images.decoding import fit, has_bytes, open_image

USUAL = {"image": ("image", "img"), "label": ("label", "labels", "fine_label", "target", "class")}
SPLIT_FOLDERS = ("train", "val", "valid", "validation", "test")


@dataclass(frozen=True)
class Source:
    """Hold labelled images as their owner keeps them; nothing is checked yet.

    Attributes:
        name: What the data are, for records: of a folder its last part alone, never the way there.
        rows: One row an image.
        labels: One label a row.
        classes: Names of the classes; None if the source does not say.
        key: Where a row keeps its image; None if the row is the image.
        encoded: Whether rows are paths or bytes, which threads may open. A user's Dataset need not be thread-safe.
    """

    name: str
    rows: Any
    labels: Any
    classes: Sequence[str] | None
    key: str | int | None = None
    encoded: bool = True

    def where(self, i: int) -> str:
        """Name image i for an error message."""
        return str(self.rows[i]) if self.encoded and isinstance(self.rows, list) else f"index {i} of {self.name}"

    def pixels(self, i: int, size: int | None) -> np.ndarray[Any, Any]:
        """Read image i: RGB uint8 (3, H, W) in 0..255, fitted to (size, size) if a size is given.

        Raises:
            ValueError: If the image is damaged, not of 8 bits, or a tensor of another shape or outside [0, 1].
            TypeError: If it is neither a PIL image nor a tensor of uint8 or floats.
        """
        try:
            item = self._read(i)
            if isinstance(item, Image.Image):
                if not has_bytes(item):
                    got = f"mode {item.mode} at {self.where(i)}"
                    raise ValueError(f"expected an 8-bit image, got {got}: convert it to 8 bits")
                item = item.convert("RGB")
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            got = f"a damaged one at {self.where(i)} ({error})"
            raise ValueError(f"expected an image that can be decoded, got {got}: replace or remove it") from error
        image = item if isinstance(item, Image.Image) else Image.fromarray(_bytes(item, self.where(i)))
        return fit(image, size)

    def cells(self, rows: list[int]) -> list[Any]:
        """Read several images of an encoded source, still encoded: bytes or paths."""
        if self.key is not None:  # of a datasets.Dataset, three times as fast so as row by row
            cells = self.rows[rows][self.key]
        else:
            cells = self.rows.take(rows).to_pylist() if hasattr(self.rows, "take") else [self.rows[i] for i in rows]
        return [_encoded(cell) for cell in cells]

    def _read(self, i: int) -> Any:
        cell = self.rows[i] if self.key is None else self.rows[i][self.key]
        if not self.encoded:
            return cell
        cell = _encoded(cell.as_py() if hasattr(cell, "as_py") else cell)  # of a pyarrow scalar
        return open_image(cell) if isinstance(cell, bytes | str) else cell


def _encoded(cell: Any) -> Any:
    """Give the bytes or else the path that a table's cell holds."""
    if isinstance(cell, dict):
        return cell.get("path") if cell.get("bytes") is None else cell["bytes"]
    return cell


def _bytes(item: Any, where: str) -> np.ndarray[Any, Any]:
    """Turn a tensor (C, H, W), uint8 or float in [0, 1], into uint8 (H, W, 3)."""
    if not isinstance(item, Tensor):
        raise TypeError(f"expected a PIL image or a tensor, got {type(item).__name__} at {where}")
    if item.ndim != 3 or item.shape[0] not in (1, 3):
        raise ValueError(f"expected an image (C, H, W) with 1 or 3 channels, got shape {tuple(item.shape)} at {where}")
    if item.is_floating_point():
        low, high = float(item.min()), float(item.max())
        if not (low >= 0 and high <= 1):
            got = f"{low:.3g} to {high:.3g} at {where}"
            raise ValueError(f"expected pixels in [0, 1], got {got}: pass raw pixels, not normalised ones")
        item = item.float().mul(255).round().to(torch.uint8)
    elif item.dtype != torch.uint8:
        raise TypeError(f"expected uint8 or float pixels, got {item.dtype} at {where}")
    pixels: np.ndarray[Any, Any] = item.cpu().expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
    return pixels


def find(source: Any, split: str, image_column: str | None = None, label_column: str | None = None) -> Source:
    """Find the images and labels of one split; what a source may be, `robust_hub.images.data.load_data` says.

    Raises:
        ValueError: If there is no such source, split or column, or it cannot be read.
        TypeError: If the source is of an unknown type.
        ImportError: If an optional package is missing.
    """
    columns = (image_column, label_column)
    if isinstance(source, str | Path):
        return _named(source, split, columns)
    if isinstance(source, dict) and all(hasattr(part, "features") for part in source.values()):
        source = _pick(source, split, "the DatasetDict")
    if hasattr(source, "features") and hasattr(source, "column_names"):
        name = getattr(getattr(source, "info", None), "dataset_name", None) or "dataset"
        return _table(source, columns, Path(name).name)
    return _items(source, type(source).__name__)


def stratified(labels: Tensor, fraction: float, seed: int) -> Tensor:
    """Mark about `fraction` of every class and never all of it: bool (N,), the same for the same arguments."""
    generator = torch.Generator().manual_seed(seed)
    held = torch.zeros(len(labels), dtype=torch.bool)
    for label in torch.unique(labels):
        members = torch.where(labels == label)[0]
        count = min(round(fraction * len(members)), len(members) - 1)
        held[members[torch.randperm(len(members), generator=generator)[:count]]] = True
    return held


def _named(source: str | Path, split: str, columns: tuple[str | None, str | None]) -> Source:
    name, root = str(source), Path(source).expanduser()
    if source == "digits":
        return _digits(split)
    if isinstance(source, str) and source.startswith("torch/"):
        return _items(_timm(source, split), source)
    if root.is_dir():
        tables = _parquet_files(root)
        if tables:
            return _table(_parquet(_pick(tables, split, name), name), columns, root.resolve().name)
        return _folder(root, split)
    if isinstance(source, Path) or root.exists() or name.startswith((".", "/", "~")):
        raise ValueError(f"expected a folder of images or parquet files, got {name}, which is no folder")
    library = _need("datasets", f"reading '{name}' from the Hub")
    try:
        with _offline_unless_reached(library, name):
            loaded = library.load_dataset(name)
    except Exception as error:
        got = f"'{name}': {_first_line(error)}"
        raise ValueError(f"expected 'digits', a folder, torch/<name> or a Hub id, got {got}") from error
    return _table(_pick(loaded, split, name), columns, name)


@contextmanager
def _offline_unless_reached(library: Any, name: str) -> Iterator[None]:
    """Look into the cache at once where the Hub does not answer, in place of half a minute of retries."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    before = library.config.HF_HUB_OFFLINE
    try:
        HfApi().dataset_info(name, timeout=10)
    except (HfHubHTTPError, HFValidationError):
        pass  # it answers, or need not be asked: load_dataset says what is wrong with the name
    except Exception:  # whatever the Hub's client raises without a connection
        library.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        library.config.HF_HUB_OFFLINE = before


def _pick(parts: Any, split: str, name: str) -> Any:
    if split not in parts:
        raise ValueError(f"expected one of the splits {', '.join(parts)} of {name}, got '{split}'")
    return parts[split]


def _need(module: str, purpose: str, package: str = '"robust-hub[data]"') -> Any:
    try:
        return import_module(module)
    except ImportError:
        raise ImportError(f"{purpose} needs {module.split('.')[0]}: pip install {package}") from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _digits(split: str) -> Source:
    bunch = _need("sklearn.datasets", "the data set 'digits'", "scikit-learn").load_digits()
    labels = torch.from_numpy(bunch.target).long()
    held = stratified(labels, 500 / 1797, seed=0)
    chosen = _pick({"train": ~held, "test": held}, split, "digits")
    small = torch.from_numpy(bunch.images).float()[:, None] / 16
    large = torch.nn.functional.interpolate(small, scale_factor=4, mode="bilinear", align_corners=False)
    names = [str(name) for name in bunch.target_names]
    return Source("digits", large.clamp(0, 1)[chosen], labels[chosen], names, encoded=False)


def _timm(name: str, split: str) -> Any:
    from timm.data.dataset_factory import create_dataset

    if name.removeprefix("torch/") in ("cifar10", "cifar100", "mnist", "kmnist", "fashion_mnist"):
        _pick({"train": 0, "test": 0}, split, name)  # timm reads any other word as the test split
    try:
        return create_dataset(name, root=f"{torch.hub.get_dir()}/datasets", split=split, download=True)
    except (AssertionError, OSError, RuntimeError) as error:
        got = f"'{name}', split '{split}': {_first_line(error)}"
        raise ValueError(f"expected a data set that timm can read, got {got}") from error


def _folder(root: Path, split: str) -> Source:
    from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

    name = root.resolve().name
    parts = {p.name: p for p in sorted(root.iterdir()) if p.is_dir() and p.name in {*SPLIT_FOLDERS, split}}
    # A folder without split folders is its own split: "train", or whatever the folder is called.
    parts = parts or {"train": root, name: root}
    classes = sorted({p.name for part in parts.values() for p in part.iterdir() if p.is_dir() and p.name[0] != "."})
    if not classes:
        raise ValueError(f"expected images in one subfolder a class, got a folder without images: {root}")
    chosen = _pick(parts, split, str(root))
    present = {label: k for k, label in enumerate(classes) if (chosen / label).is_dir()}
    files = make_dataset(str(chosen), present, extensions=IMG_EXTENSIONS, allow_empty=True) if present else []
    if not files:
        raise ValueError(f"expected images in one subfolder a class, got a folder without images: {chosen}")
    return Source(name, [path for path, _ in files], [label for _, label in files], classes)


def _parquet_files(root: Path) -> dict[str, list[str]]:
    """Find <split>-*.parquet in a folder, its data/ folder, or a folder named like the split."""
    by_name: dict[str, list[str]] = {}
    for path in sorted([*root.glob("*.parquet"), *root.glob("*/*.parquet")]):
        inside = path.parent != root and path.parent.name != "data"
        name = path.parent.name if inside else re.sub(r"-\d.*$", "", path.stem)
        by_name.setdefault(name, []).append(str(path))
    return by_name


def _parquet(files: list[str], name: str) -> Any:
    """Open parquet files as a datasets.Dataset, which stays on disk, or without that package as a pyarrow.Table."""
    try:
        read = partial(import_module("datasets").load_dataset, "parquet", data_files={"part": files}, split="part")
    except ImportError:
        pyarrow = _need("pyarrow.parquet", f"reading the parquet files of {name}")
        read = partial(pyarrow.read_table, files, partitioning=None)
    try:
        return read()
    except Exception as error:
        got = f"{files[0]}: {error.__cause__ or error}"
        raise ValueError(f"expected parquet files that can be read, got {got}") from error


def _table(table: Any, columns: tuple[str | None, str | None], name: str) -> Source:
    """Choose the columns of a datasets.Dataset or a pyarrow.Table; the images stay encoded."""
    if not hasattr(table, "__len__"):
        raise TypeError("expected a Dataset with a length, got an IterableDataset: load it without streaming=True")
    features = getattr(table, "features", None)
    schema = table.schema if features is None else features.arrow_schema
    images = [field.name for field in schema if re.match(r"struct<.*bytes: binary", str(field.type))]
    image = _column("image", columns[0], images, schema.names, name)
    written = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    kinds = {column: kind for column, kind in written.items() if isinstance(kind, dict)}
    classes = {column: kind["names"] for column, kind in kinds.items() if kind.get("_type") == "ClassLabel"}
    integers = [field.name for field in schema if re.fullmatch(r"u?int\d+", str(field.type))]
    labels = list(classes) or [column for column in integers if column in USUAL["label"]]
    label = _column("label", columns[1], labels, schema.names, name)
    if features is None:
        return Source(name, table.column(image), table.column(label).to_pylist(), classes.get(label))
    table = table.with_format(None)
    rows = table.select_columns([image])
    if type(features[image]).__name__ == "Image":
        rows = rows.cast_column(image, import_module("datasets").Image(decode=False))
    return Source(name, rows, list(table[label]), classes.get(label), key=image)


def _column(word: str, given: str | None, fitting: list[str], columns: list[str], name: str) -> str:
    """Choose a column: the given one, else the first usual one among those of the right type, else their only one."""
    if given is not None:
        if given not in columns:
            raise ValueError(f"expected one of the columns {', '.join(columns)} of {name}, got {word}_column='{given}'")
        return given
    best = [column for column in USUAL[word] if column in fitting][:1] or fitting
    if len(best) != 1:
        got = f"{', '.join(best) or 'none'}: pass {word}_column=, one of {', '.join(columns)}"
        raise ValueError(f"expected one {word} column in {name}, got {got}")
    return best[0]


def _items(dataset: Any, name: str) -> Source:
    """Read the labels of a torch Dataset, from its `targets` if it has them, else from its items."""
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
    return Source(name, dataset, labels, [str(c) for c in classes] if classes else None, key=0, encoded=False)
