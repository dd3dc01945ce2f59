"""Checkpoints on the Hugging Face Hub, and how they come into the cache.

What comes is checked; a damaged file leaves the cache. The token is the Hub's own login's; nothing here reads it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

import httpx2
from huggingface_hub import constants, get_session, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import (
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from robust_hub.errors import CheckpointError
from robust_hub.layout import CONFIG, FETCHED, INDEX
from robust_hub.models.config import read_config
from robust_hub.models.stored import sha256

WORLD = (OSError, HFValidationError, httpx2.HTTPError)  # what the Hub, the network and the disk do to us
_PATIENCE = 3.0  # seconds in which the Hub has to answer before it counts as out of reach


def fetch(repo_id: str, revision: str, *, check: Callable[[Path], object], cache_dir: str | Path | None = None) -> Path:
    """Bring a checkpoint from the Hub, or from the cache: a commit without a request, a branch or tag out of reach.

    Args:
        repo_id: Repository, "owner/name".
        revision: Branch, tag or commit.
        check: Looks at the folder and raises CheckpointError if something is wrong; the cache is then rid of those of
            its files whose hash is wrong. Sound files stay, whatever the check finds.
        cache_dir: The Hub's cache; by default the user's.

    Returns:
        The folder, in the cache.

    Raises:
        CheckpointError: If it cannot be had, or fails the check.
    """
    options: dict[str, Any] = {"revision": revision, "cache_dir": cache_dir, "allow_patterns": list(FETCHED)}
    folder = _cached(repo_id, options) if len(revision) == 40 else None
    if folder is None:
        try:
            reach(repo_id)
        except CheckpointError:
            folder = _cached(repo_id, options)
            if folder is None:
                raise
    if folder is None:
        folder = _download(repo_id, options)
    try:
        check(folder)
    except (CheckpointError, ValueError):
        for path in damaged(folder):
            _forget(path)
        raise
    return folder


def _download(repo_id: str, options: dict[str, Any]) -> Path:
    """Have the Hub's client fetch what the cache lacks."""
    try:
        return Path(snapshot_download(repo_id, **options))
    except RepositoryNotFoundError:
        raise CheckpointError(
            f"the Hub has no repository {repo_id}, or it is private: check the name or log in"
        ) from None
    except RevisionNotFoundError:
        raise CheckpointError(f"{repo_id} has no revision {options['revision']}") from None
    except (*WORLD, RuntimeError) as error:  # Xet's own errors are RuntimeErrors
        raise CheckpointError(f"{repo_id} could not be fetched ({short(error)}): try again") from None


def _cached(repo_id: str, options: dict[str, Any]) -> Path | None:
    """Find a revision in the cache as the Hub's client does; None where not all of its weights are there."""
    try:
        folder = Path(snapshot_download(repo_id, local_files_only=True, **options))
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return folder if all((folder / name).is_file() for name in (CONFIG, *_promised(folder))) else None


def damaged(folder: Path) -> list[Path]:
    """Find the files of a cached checkpoint that are not those that were fetched.

    The Hub's cache names each file by its hash: sha256 of a large one, git's sha1 of another.

    Args:
        folder: What `fetch` gave.
    """
    promised = _promised(folder)
    paths = {folder / name: promised.get(name) for name in (CONFIG, INDEX, *promised)}
    return [path for path, digest in paths.items() if path.is_file() and _is_damaged(path, digest)]


def _is_damaged(path: Path, promised: str | None) -> bool:
    blob = path.resolve()
    kind = {40: "sha1", 64: "sha256"}.get(len(blob.name)) if blob.parent.name == "blobs" else None
    if kind is None:  # a cache without links
        return not _promised(path.parent) if path.name == CONFIG else promised not in (None, sha256(path))
    if kind == "sha256":
        return sha256(path) != blob.name
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() != blob.name


def _forget(path: Path) -> None:
    """Take a file out of the cache, so that the next try fetches it anew, and no other."""
    blob = path.resolve()
    with suppress(OSError):
        path.unlink()
        if blob != path:
            blob.unlink()


def _promised(folder: Path) -> dict[str, str]:
    """Give the files of weights that a folder's config.json promises, with their sha256; none where it is damaged."""
    try:
        return dict(read_config(folder).sha256)
    except CheckpointError:
        return {}


def reach(repo_id: str, address: str | None = None) -> None:
    """Say at once that the Hub is out of reach, which its client finds out after a minute of retries.

    Args:
        repo_id: What is wanted of it, for the error.
        address: What is asked for; by default the repository.

    Raises:
        CheckpointError: If it is out of reach.
    """
    why = unreachable(address or f"{constants.ENDPOINT}/api/models/{repo_id}")
    if why is not None:
        advice = "unset it" if constants.HF_HUB_OFFLINE else "check the network or HF_ENDPOINT"
        raise CheckpointError(
            f"{repo_id} is not here and the Hub cannot be reached ({why}): {advice}, or use a local folder"
        )


def unreachable(address: str, patience: float = _PATIENCE) -> str | None:
    """Say why an address of the Hub does not answer; None where it does.

    Args:
        address: What is asked for.
        patience: Seconds after which it counts as out of reach, the look-up of its name included, which knows no limit
            of its own.
    """
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    ended: list[BaseException | None] = []

    def ask() -> None:
        try:
            get_session().head(address, timeout=patience)
        except BaseException as error:  # the caller's thread gives it on
            ended.append(error)
        else:
            ended.append(None)

    thread = Thread(target=ask, name="robust_hub asks the Hub", daemon=True)  # one that waits on holds no exit up
    thread.start()
    thread.join(patience)
    error = ended[0] if ended else TimeoutError(f"no answer within {patience:g} s")
    if error is None or isinstance(error, WORLD):
        return None if error is None else short(error)
    raise error


def reach_file(source: str, repo_id: str, pattern: str, revision: str | None = None) -> None:
    """Say at once that a model of timm is not here and the Hub is out of reach, before timm asks it for a minute.

    Args:
        source: The model's name, for the error.
        repo_id: The repository that timm would ask.
        pattern: The file that it would ask for; one in the Hub's cache is enough.
        revision: Branch, tag or commit, of which the file then has to be; None: of any.

    Raises:
        CheckpointError: If the file is neither in the cache nor to be had.
    """
    cached = Path(constants.HF_HUB_CACHE) / f"models--{repo_id.replace('/', '--')}" / "snapshots"
    if any(cached.glob(f"*/{pattern}")) if revision is None else _has(repo_id, pattern, revision):
        return
    try:
        reach(repo_id)
    except CheckpointError as error:
        raise CheckpointError(f"{source} comes from the Hub: {error}") from None


def _has(repo_id: str, name: str, revision: str) -> bool:
    try:
        return isinstance(try_to_load_from_cache(repo_id, name, revision=revision), str)
    except HFValidationError:  # no repository's name: the Hub's client says so
        return True


def short(error: BaseException) -> str:
    """Give the first line of an error."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
