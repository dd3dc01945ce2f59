"""Write a file, or a folder, whole or not at all, whatever happens in the middle; find a folder's files in it alone."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

_HERE, _SWAP = -100, 2  # AT_FDCWD; RENAME_EXCHANGE of Linux and RENAME_SWAP of macOS
_NO_SWAP = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP)  # of a system or a disk that has none


def replace_text(path: Path, text: str) -> None:
    """Put a text in the place of a file: a reader, and a machine that lost its power, finds the old or the new one.

    Args:
        path: The file, in a folder that exists.
        text: Its new content, written as UTF-8.

    Raises:
        OSError: If it cannot be written; the old file is kept.
    """
    replace_files({path: text.encode()})


def replace_files(contents: Mapping[Path, bytes]) -> None:
    """Put new contents in the place of files, each whole, and none before all of them are on the disk.

    Args:
        contents: New content by file, in folders that exist; put in place in this order.

    Raises:
        OSError: If one cannot be written, which it names; all old files are kept, and nothing else stays.
    """
    fresh = {path: path.with_name(path.name + ".new") for path in contents}
    path = Path()
    try:
        for path, content in contents.items():
            with open(fresh[path], "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for path, beside in fresh.items():
            os.replace(beside, path)
    except BaseException as error:
        for beside in fresh.values():
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            error.filename = str(path)  # a full disk names none, and nobody knows of ".new"
        raise
    for folder in {path.parent for path in contents}:
        sync_folder(folder)


def try_place(folder: Path) -> None:
    """Write a few bytes where a folder is, or will be, and take them away: now, not after hours of work.

    Args:
        folder: The folder, there or not yet.

    Raises:
        OSError: If it cannot be written or the disk is full.
    """
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(bytes(4096))
    except OSError as error:
        error.filename = str(folder)
        raise


@contextlib.contextmanager
def rebuilt(folder: Path, without: Collection[str] = ()) -> Iterator[Path]:
    """Change a folder as a whole: what is done to a copy beside it takes its place at the end, or nothing does.

    Where the system can exchange two folders, as Linux and macOS do on most disks, there is no moment without one;
    elsewhere there is one between two renames, and after a kill just then the next call puts the old one back.

    Args:
        folder: The folder, there or not yet.
        without: Names in it that the copy leaves out.

    Yields:
        The copy. Its files share their bytes with the old ones: put others in their place, do not write into them.

    Raises:
        OSError: If it cannot be written; the old folder is kept, and nothing else stays.
    """
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh, old = (folder.with_name(f".{folder.name}.{word}") for word in ("new", "old"))
    if old.exists() and not folder.exists():
        os.replace(old, folder)
    for left in (fresh, old):  # by a kill
        shutil.rmtree(left, ignore_errors=True)
    try:
        if folder.exists():
            shutil.copytree(folder, fresh, symlinks=True, ignore=_but(folder, without), copy_function=_link)
        else:
            fresh.mkdir()
        yield fresh
        _sync_tree(fresh)
        _put(fresh, folder, old)
        sync_folder(folder.parent)
    finally:
        for left in (fresh, old):
            if left is fresh or folder.exists():
                shutil.rmtree(left, ignore_errors=True)


def _but(folder: Path, without: Collection[str]) -> Any:
    """Give what copytree asks for to leave names of the folder itself out."""
    return lambda place, names: set(without) & set(names) if Path(place) == folder else set()


def _link(one: str, two: str) -> None:
    """Give a file a second name; a copy where the disk knows none."""
    try:
        os.link(one, two, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        shutil.copy2(one, two, follow_symlinks=False)


def _sync_tree(folder: Path) -> None:
    """Push all that is in a folder to the disk."""
    for place, _, names in os.walk(folder):
        for name in names:
            if (path := Path(place, name)).is_file() and not path.is_symlink():
                with open(path, "rb") as file:
                    os.fsync(file.fileno())
        sync_folder(Path(place))


def _put(fresh: Path, folder: Path, old: Path) -> None:
    """Put a folder in the place of another one; what was there is then one of the two others."""
    if not folder.exists():
        os.replace(fresh, folder)
    elif not _exchange(fresh, folder):
        os.replace(folder, old)
        try:
            os.replace(fresh, folder)
        except OSError:
            os.replace(old, folder)
            raise


def _exchange(one: Path, two: Path) -> bool:
    """Exchange two paths at once; False where the system or the disk cannot."""
    paths = os.fsencode(one), os.fsencode(two)
    try:
        library = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "darwin":  # pragma: no cover - another system's
            failed = library.renamex_np(*paths, _SWAP)
        else:
            failed = library.renameat2(_HERE, paths[0], _HERE, paths[1], _SWAP)
    except (AttributeError, TypeError, OSError):  # a C library without it; Windows has none of this kind
        return False
    if failed and (number := ctypes.get_errno()) not in _NO_SWAP:
        raise OSError(number, os.strerror(number), str(two))
    return not failed


def sync_folder(folder: Path) -> None:
    """Push a folder's list of files to the disk."""
    if os.name == "nt":  # pragma: no cover - Windows cannot open a folder
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def inside(folder: Path, name: str | Path) -> Path:
    """Give the path of a folder's own file, there or not yet; what leads out of the folder is refused.

    A link may lead to another file of the folder, and from a snapshot of the Hub's cache to the cache's own files.

    Args:
        folder: The folder.
        name: The file's path in it.

    Returns:
        The path, not resolved.

    Raises:
        ValueError: If the path or a link on it leads elsewhere, or to something that is no file, such as a device.
    """
    path = folder / name
    try:
        home, real = folder.resolve(), path.resolve()
    except (OSError, RuntimeError):  # a circle of links
        raise ValueError(f"expected a file in {folder}, got {path}, whose links lead nowhere") from None
    own = [home]
    if home.parent.name == "snapshots":  # of the Hub's cache: a repository's own files, and those that all share
        own += [home.parents[1] / "blobs", home.parents[2] / "blobs"]
    if not any(real.is_relative_to(place) for place in own):
        raise ValueError(f"expected a file in {folder}, got {path}, which leads to {real}: copy the file there")
    if real.exists() and not real.is_file():
        raise ValueError(f"expected a file, got {path}, which is none")
    return path
