"""Checkpoints on the Hugging Face Hub, and how they come into the cache.

What comes is checked, and leaves the cache if it fails. The token is the Hub's own login's; nothing here reads it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub import constants, get_session, scan_cache_dir, snapshot_download
from huggingface_hub.errors import (
    CacheNotFound,
    CorruptedCacheException,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from robust_hub.errors import CheckpointError
from robust_hub.layout import FETCHED

WORLD = (OSError, HFValidationError, httpx2.HTTPError)  # what the Hub, the network and the disk do to us
_PATIENCE = 5.0  # seconds in which the Hub has to answer before it counts as out of reach


def fetch(repo_id: str, revision: str, *, check: Callable[[Path], object], cache_dir: str | Path | None = None) -> Path:
    """Bring a checkpoint from the Hub, or from the cache without a request where the revision is a commit.

    Args:
        repo_id: Repository, "owner/name".
        revision: Branch, tag or commit.
        check: Looks at the folder and raises CheckpointError if something is wrong; the cache is then rid of it.
        cache_dir: The Hub's cache; by default the user's.

    Returns:
        The folder, in the cache.

    Raises:
        CheckpointError: If it cannot be had, or fails the check.
    """
    options: dict[str, Any] = {"revision": revision, "cache_dir": cache_dir, "allow_patterns": list(FETCHED)}
    folder = None
    if len(revision) == 40:
        with suppress(LocalEntryNotFoundError):
            folder = Path(snapshot_download(repo_id, local_files_only=True, **options))
    if folder is None:
        reach(repo_id)
        try:
            folder = Path(snapshot_download(repo_id, **options))
        except RepositoryNotFoundError:
            raise CheckpointError(
                f"the Hub has no repository {repo_id}, or it is private: check the name or log in"
            ) from None
        except RevisionNotFoundError:
            raise CheckpointError(f"{repo_id} has no revision {revision}") from None
        except (*WORLD, RuntimeError) as error:  # Xet's own errors are RuntimeErrors
            raise CheckpointError(f"{repo_id} could not be fetched ({short(error)}): try again") from None
    try:
        check(folder)
    except (CheckpointError, ValueError):
        forget(folder)
        raise
    return folder


def forget(folder: Path) -> None:
    """Take a revision out of the cache, so that the next try fetches it anew.

    Args:
        folder: What `fetch` gave.
    """
    with suppress(CacheNotFound, CorruptedCacheException, OSError, KeyError):
        scan_cache_dir(folder.parents[2]).delete_revisions(folder.name).execute()


def reach(repo_id: str, address: str | None = None) -> None:
    """Say at once that the Hub is out of reach, which its client finds out after a minute of retries.

    Args:
        repo_id: What is wanted of it, for the error.
        address: What is asked for; by default the repository.

    Raises:
        CheckpointError: If it is out of reach.
    """
    words = f"{repo_id} is not here and the Hub cannot be reached"
    if constants.HF_HUB_OFFLINE:
        raise CheckpointError(f"{words} (HF_HUB_OFFLINE is set): unset it, or use a local folder")
    try:
        get_session().head(address or f"{constants.ENDPOINT}/api/models/{repo_id}", timeout=_PATIENCE)
    except OfflineModeIsEnabled:
        raise CheckpointError(f"{words} (offline mode): use a local folder") from None
    except WORLD as error:
        raise CheckpointError(
            f"{words} ({short(error)}): check the network or HF_ENDPOINT, or use a local folder"
        ) from None


def reach_file(source: str, repo_id: str, pattern: str) -> None:
    """Say at once that a model of timm is not here and the Hub is out of reach, before timm asks it for a minute.

    Args:
        source: The model's name, for the error.
        repo_id: The repository that timm would ask.
        pattern: The file that it would ask for; one in the Hub's cache is enough.

    Raises:
        CheckpointError: If the file is neither in the cache nor to be had.
    """
    cached = Path(constants.HF_HUB_CACHE) / f"models--{repo_id.replace('/', '--')}" / "snapshots"
    if any(cached.glob(f"*/{pattern}")):
        return
    try:
        reach(repo_id)
    except CheckpointError as error:
        raise CheckpointError(f"{source} comes from the Hub: {error}") from None


def short(error: BaseException) -> str:
    """Give the first line of an error."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
