"""Files found: what lies in a folder, its links followed, and what systems leave behind passed over."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from PIL import Image, features

from robust_hub.images.seen import first_line

# Still pictures. Pillow opens more by their endings: documents, films and containers of several pictures.
STILLS = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".webp", ".avif", ".tga"),
    *(".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c", ".ppm", ".pgm", ".pbm", ".pnm", ".qoi"),
}
OPTIONAL = {"WEBP": "webp", "AVIF": "avif", "JPEG2000": "jpg_2000"}  # what a Pillow may be built without
LEFT_BEHIND = {
    *("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "@eadir", "$recycle.bin", "lost+found"),
    *("__pycache__", "system volume information"),
}
NOTES = {  # words about images, not images that were missed
    *(".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".md", ".rst", ".html", ".htm", ".yaml", ".yml", ".log"),
    *(".ini", ".lock", ".url", ".sh", ".py", ".ipynb"),
}
NOTE_NAMES = {"license", "licence", "readme", "makefile"}


@dataclass(frozen=True)
class Folder:
    """Hold what lies in a folder, in the order of names.

    Attributes:
        path: The folder.
        images: Names of the images directly in it.
        others: Names of the other files directly in it.
        folders: The folders in it.
    """

    path: Path
    images: tuple[str, ...]
    others: tuple[str, ...]
    folders: tuple[Folder, ...]

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.name

    @cached_property
    def count(self) -> int:
        """Number of images in it, at any depth."""
        return len(self.images) + sum(folder.count for folder in self.folders)

    @cached_property
    def filled(self) -> tuple[Folder, ...]:
        """The folders in it that hold images, at any depth."""
        return tuple(folder for folder in self.folders if folder.count)

    def walk(self) -> Iterator[Folder]:
        """Yield this folder and all in it."""
        yield self
        for folder in self.folders:
            yield from folder.walk()

    def paths(self) -> list[str]:
        """Give the images at any depth, in the order of torchvision's ImageFolder."""
        folders = sorted(self.walk(), key=lambda folder: str(folder.path))
        return [os.path.join(folder.path, name) for folder in folders for name in folder.images]

    def files(self, *endings: str) -> list[Path]:
        """Give the other files at any depth that end so, in the order of their paths."""
        found = (folder.path / name for folder in self.walk() for name in folder.others)
        return sorted(path for path in found if path.name.lower().endswith(endings))

    def missed(self) -> Counter[str]:
        """Count the files at any depth, by their endings, that are neither images nor words about them."""
        names = [name for folder in self.walk() for name in folder.others]
        endings = [(Path(name).suffix.lower(), name.lower()) for name in names]
        return Counter(
            ending or "without an ending" for ending, name in endings if ending not in NOTES and name not in NOTE_NAMES
        )


@cache
def image_endings() -> frozenset[str]:
    """Give the endings of the still pictures that this machine's Pillow opens."""
    registered = Image.registered_extensions()
    return frozenset(
        ending
        for ending in STILLS & registered.keys()
        if registered[ending] in Image.OPEN
        and (registered[ending] not in OPTIONAL or features.check(OPTIONAL[registered[ending]]))
    )


def look_into(path: Path) -> Folder:
    """Find what lies in a folder at any depth, but for hidden files and what systems leave behind.

    Raises:
        ValueError: If a folder cannot be read, or a link leads back to a folder that it lies in, or nowhere.
    """
    return _look(path, {_place(path): path})


def _look(path: Path, above: dict[tuple[int, int], Path]) -> Folder:
    with _readable(path), os.scandir(path) as entries:
        found = sorted((entry for entry in entries if not _passed_over(entry.name)), key=lambda entry: entry.name)
    for entry in found:
        if entry.is_symlink() and not os.path.exists(entry.path):
            got = f"the link {entry.path}, which leads nowhere"
            raise ValueError(f"expected files that are there, got {got}: remove it, or bring what it leads to")
    folders = tuple(_below(path / entry.name, above) for entry in found if entry.is_dir())
    files = [entry.name for entry in found if not entry.is_dir()]
    endings = image_endings()
    images = {name for name in files if os.path.splitext(name)[1].lower() in endings}
    others = tuple(name for name in files if name not in images)
    return Folder(path, tuple(name for name in files if name in images), others, folders)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Say of which folder it is that the system does not let it be read."""
    try:
        yield
    except OSError as error:
        got = f"{path} ({error.strerror or first_line(error)})"
        raise ValueError(f"expected a folder that can be read, got {got}: give yourself the right to read it") from None


def _below(path: Path, above: dict[tuple[int, int], Path]) -> Folder:
    with _readable(path):
        place = _place(path)
    if place in above:
        got = f"the link {path}, which leads back to {above[place]}"
        raise ValueError(f"expected folders without a loop, got {got}: remove it")
    return _look(path, {**above, place: path})


def _place(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _passed_over(name: str) -> bool:
    return name.startswith(".") or name.lower() in LEFT_BEHIND
