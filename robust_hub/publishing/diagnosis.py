"""Whether an installation is sound: what is around it, the shelves, each checkpoint's weights, and the pins."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

from robust_hub.errors import CheckpointError
from robust_hub.files import inside
from robust_hub.layout import CONFIG, DIFFERENCE
from robust_hub.models.config import read_config
from robust_hub.models.foreign import check_promised
from robust_hub.models.pins import read_pins
from robust_hub.models.shelves import checkpoint_folder, list_checkpoints, names_on, shelves
from robust_hub.models.stored import find_base, sha256
from robust_hub.publishing.hub import verify
from robust_hub.publishing.surroundings import Finding, public, surroundings


def diagnose(*, deep: bool = False) -> Iterator[Finding]:
    """Look at everything that certifying on this machine needs, without changing anything.

    Args:
        deep: Whether each checkpoint is loaded and its logits and records are compared, in place of its hashes alone.

    Yields:
        What was found, as it may be shown to anyone.

    Example:
        >>> [finding.name for finding in diagnose() if finding.wrong and finding.part == "checkpoints"]
        []
    """
    yield from surroundings()
    for finding in (*_shelves(), *_checkpoints(deep), *_pins()):
        yield public(finding)


def _shelves() -> Iterator[Finding]:
    for place, shelf in enumerate(shelves(), 1):
        yield Finding("shelves", str(place), f"{shelf}: {_stock(shelf)}")


def _stock(shelf: Path) -> str:
    """Say how many checkpoints a shelf has, or why none."""
    try:
        os.listdir(shelf)
    except (FileNotFoundError, NotADirectoryError):
        return "no such folder"
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    count = len(names_on(shelf))
    return f"{count} checkpoint{'' if count == 1 else 's'}"


def _checkpoints(deep: bool) -> Iterator[Finding]:
    for name in list_checkpoints():
        folder = checkpoint_folder(name)
        try:
            if folder is not None:
                yield Finding("checkpoints", name, _loaded(folder) if deep else _hashed(folder))
        except (CheckpointError, ValueError, OSError) as error:
            yield Finding("checkpoints", name, str(error), wrong=True)


def _loaded(folder: Path) -> str:
    verify(folder)
    return "weights, norm, logits and records are those of config.json"


def _hashed(folder: Path) -> str:
    """Compare the files of weights, or of a difference and its base, with the hashes in config.json."""
    config = read_config(folder)
    check_promised(config, folder)
    if config.difference is None:
        _check(folder, config.sha256)
        return "weights are those of config.json"
    _check(folder, {DIFFERENCE: config.difference.sha256})
    base = find_base(config.difference.base, folder)
    if read_config(base).sha256 != config.difference.base_sha256:
        raise CheckpointError(f"{folder} is a difference to other weights than those in {base}: fetch it again")
    _check(base, config.difference.base_sha256)
    return f"weights are those of config.json, with {config.difference.base}"


def _check(folder: Path, hashes: Mapping[str, str]) -> None:
    for name, promised in hashes.items():
        path = inside(folder, name)
        if not path.is_file():
            raise CheckpointError(f"expected weights in {path}, found none: fetch or train the checkpoint again")
        if sha256(path) != promised:
            raise CheckpointError(
                f"{path} is not what {CONFIG} promises, damaged or another one: fetch or train the checkpoint again"
            )


def _pins() -> Iterator[Finding]:
    try:
        pins = read_pins()
    except (ValueError, OSError) as error:
        yield Finding("pins", "pins.json", str(error), wrong=True)
        return
    for name, pin in sorted(pins.items()):
        try:
            cached = try_to_load_from_cache(pin["repo_id"], CONFIG, revision=pin["revision"])
        except HFValidationError as error:
            yield Finding("pins", name, f"{pin['repo_id']}: {error}: correct pins.json", wrong=True)
            continue
        here = "in the cache" if isinstance(cached, str) else "fetched when it is first loaded"
        yield Finding("pins", name, f"{pin['repo_id']} at {pin['revision'][:12]}, {here}")
