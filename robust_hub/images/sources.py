"""Sources: where labelled images are found.

`find` turns a name, a folder or a Dataset into a `Source`: its rows still as their owner keeps them (paths, encoded
bytes, items), the labels unchecked, and a name for records. robust_hub.images.data makes data of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch

from robust_hub.bars import quiet
from robust_hub.images.items import items_source
from robust_hub.images.layouts import read_folder
from robust_hub.images.seen import first_line
from robust_hub.images.set_aside import stratified
from robust_hub.images.source import Source, need
from robust_hub.images.splits import pick, split_roles
from robust_hub.images.table_files import parquet_source
from robust_hub.images.tables import cache_trouble, is_table, is_transformed, table_source


def find(
    source: Any,
    split: str,
    image_column: str | None = None,
    label_column: str | None = None,
    layout: str | None = None,
) -> Source:
    """Find the images and labels of one split; what a source may be, `robust_hub.images.data.load_data` says.

    Raises:
        ValueError: If there is no such source, split or column, or it cannot be read.
        TypeError: If the source is of an unknown type.
        ImportError: If an optional package is missing.
    """
    columns = (image_column, label_column)
    if isinstance(source, str | Path):
        return _named(source, split, columns, layout)
    if layout is not None:
        raise ValueError(f"expected a layout of a folder alone, got layout='{layout}' of a {type(source).__name__}")
    if isinstance(source, dict) and all(hasattr(part, "features") for part in source.values()):
        source = pick(source, split, "the DatasetDict")
    if is_table(source):
        name = Path(getattr(getattr(source, "info", None), "dataset_name", None) or "dataset").name
        return (items_source if is_transformed(source) else table_source)(source, columns=columns, name=name)
    return items_source(source, type(source).__name__, columns)


def _named(source: str | Path, split: str, columns: tuple[str | None, str | None], layout: str | None) -> Source:
    name, root = str(source), Path(source).expanduser()
    ours = isinstance(source, str) and (source == "digits" or source.startswith("torch/"))
    if root.is_dir() and not ours:
        return read_folder(root, split, layout, columns)
    if layout is not None:
        raise ValueError(f"expected a folder for layout='{layout}', got {name}, which is none")
    if source == "digits":
        return _digits(split)
    if ours:
        return items_source(_timm(name, split), name)
    if root.suffix.lower() == ".parquet" and root.is_file():
        return _one_table(root, split, columns)
    # A name of the Hub has one slash at most, and not at an end.
    path = isinstance(source, Path) or name.startswith((".", "/", "~")) or name.endswith(("/", "\\"))
    if path or root.exists() or name.count("/") > 1 or "\\" in name:
        got = f"{name}, which {'is a file' if root.is_file() else 'is no folder'}"
        advice = "give the folder that it is in" if root.is_file() else "look at its spelling"
        raise ValueError(f"expected a folder of images or parquet files, got {got}: {advice}")
    library = need("datasets", f"there is no folder {name}, and reading '{name}' from the Hub")
    try:
        with _offline_unless_reached(library, name), quiet(library):
            loaded = library.load_dataset(name)
    except Exception as error:
        if unwritable := cache_trouble(error, []):
            raise ValueError(unwritable) from error
        got = f"'{name}': {first_line(error)}"
        if "OfflineModeIsEnabled" in got or isinstance(error, ConnectionError):
            got = (
                f"'{name}', which is not in the cache, and the Hub cannot be reached: check the network, HF_ENDPOINT "
                "and HF_HUB_OFFLINE, or give a folder of images"
            )
        raise ValueError(f"expected 'digits', a folder, torch/<name> or a Hub id, got {got}") from error
    return table_source(pick(loaded, split, name), columns, name)


def _one_table(file: Path, split: str, columns: tuple[str | None, str | None]) -> Source:
    """Read a parquet file; it is named by itself, or by its folder where its own name is that of a split."""
    file = file.resolve()
    plain = split_roles([file.stem]) or file.stem == "data"
    return parquet_source([file], file.parent, split, columns, file.parent.name if plain else file.stem)


@contextmanager
def _offline_unless_reached(library: Any, name: str) -> Iterator[None]:
    """Look into the cache at once where the Hub does not answer, in place of half a minute of retries."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    before = library.config.HF_HUB_OFFLINE
    try:
        HfApi().dataset_info(name, timeout=3)
    except (HfHubHTTPError, HFValidationError):
        pass  # it answers, or need not be asked: load_dataset says what is wrong with the name
    except Exception:  # whatever the Hub's client raises without a connection
        library.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        library.config.HF_HUB_OFFLINE = before


def _digits(split: str) -> Source:
    bunch = need("sklearn.datasets", "the data set 'digits'", "scikit-learn").load_digits()
    labels = torch.from_numpy(bunch.target).long()
    held = stratified(labels, 500 / 1797, seed=0)
    chosen = pick({"train": ~held, "test": held}, split, "digits")
    small = torch.from_numpy(bunch.images).float()[:, None] / 16
    large = torch.nn.functional.interpolate(small, scale_factor=4, mode="bilinear", align_corners=False)
    names = [str(name) for name in bunch.target_names]
    return Source("digits", large.clamp(0, 1)[chosen], labels[chosen], names, encoded=False)


def _timm(name: str, split: str) -> Any:
    from timm.data.dataset_factory import create_dataset

    if name.removeprefix("torch/") in ("cifar10", "cifar100", "mnist", "kmnist", "fashion_mnist"):
        # timm reads any word that it does not know as the test split
        split = pick({"train": "train", "test": "test"}, split, name)
    try:
        return create_dataset(name, root=f"{torch.hub.get_dir()}/datasets", split=split, download=True)
    except (AssertionError, OSError, RuntimeError) as error:
        got = f"'{name}', split '{split}': {first_line(error)}"
        if isinstance(error, URLError):
            got += f": it is fetched into {torch.hub.get_dir()}/datasets, check the network or give a folder of images"
        raise ValueError(f"expected a data set that timm can read, got {got}") from error
