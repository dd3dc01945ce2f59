"""The files of images that `certify` is given: their names, none of them another image's, and what is written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from robust_hub.images.photograph import Photograph

FOLDER = Path("certificates")
_PICTURES = (".jpg", ".jpeg", ".pdf", ".svg", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".json")


def stems_of(out: Path | None, images: Sequence[Path], seen: Sequence[Photograph]) -> list[Path]:
    """Give folder and first letters of each image's files, all different, and those of no other image before."""
    from robust_hub.certification.one import names_of_files
    from robust_hub.evidence.figures import is_figure
    from robust_hub.images.photograph import as_png

    def of_another(stem: Path, image: Photograph) -> bool:
        there = names_of_files(stem, ())["seen"]
        return there.is_file() and there.read_bytes() != as_png(image.pixels)

    out = FOLDER if out is None else out
    if out.suffix.lower() == ".png":
        if len(images) > 1:
            raise ValueError(f"expected a folder as --out of {len(images)} images, got {out}: name a folder")
        if out.exists() and not is_figure(out):
            raise ValueError(f"expected --out to name a new file or a picture that was drawn, got {out}: name another")
        return [out.with_suffix("")]
    if out.suffix.lower() in _PICTURES:
        raise ValueError(f"expected --out to be a folder or to end in .png, got {out}: name one of them")
    stems: list[Path] = []
    for path, image in zip(images, seen, strict=True):
        stem, k = out / path.stem, 2
        while stem in stems or of_another(stem, image):
            stem, k = out / f"{path.stem}-{k}", k + 1
        stems.append(stem)
    return stems


def names_of(out: Path | None, stem: Path, sigmas: Sequence[float]) -> dict[str, Path]:
    """Name an image's files, the picture as --out does where that names it."""
    from robust_hub.certification.one import names_of_files

    names = dict(names_of_files(stem, sigmas))
    return names | ({"picture": out} if out is not None and out.suffix.lower() == ".png" else {})


def keep_apart(files: Iterable[Path], images: Sequence[Path]) -> None:
    """Refuse to write over an image that is to be certified."""
    own = {path.resolve() for path in images}
    for file in files:
        if file.resolve() in own:
            raise ValueError(f"expected images that are not written over, got {file}: name another --out")


def write(files: dict[Path, bytes]) -> None:
    """Write files into one folder, all or none."""
    from robust_hub.files import replace_files

    folder = next(iter(files)).parent
    with _in_words(folder):
        folder.mkdir(parents=True, exist_ok=True)
        replace_files(files)


def check_writable(folder: Path) -> None:
    """Refuse a folder that cannot be written, before the first vote and not after the last."""
    from robust_hub.files import try_place

    with _in_words(folder):
        try_place(folder)


@contextmanager
def _in_words(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"expected a folder that can be written, got {folder} ({error.strerror or error}): name another --out"
        ) from error
