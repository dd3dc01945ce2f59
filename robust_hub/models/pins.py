"""Pins: which commit of which repository on the Hub a name stands for.

Those that we ship are the package's own data and are never written. A user's are in pins.json of the user's
configuration folder, such as ~/.config/robust_hub, and win over ours.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from platformdirs import user_config_path

from robust_hub.files import replace_text
from robust_hub.models.shelves import check_name

SHIPPED = Path(__file__).parents[1] / "pins.json"


def user_pins() -> Path:
    """Give the file of the user's pins, whether it is there or not."""
    return user_config_path("robust_hub", appauthor=False) / "pins.json"


def read_pins() -> dict[str, dict[str, str]]:
    """Read which revision of which repository on the Hub belongs to a name: the user's pins, then ours.

    Returns:
        Name for timm -> "repo_id" and "revision".

    Raises:
        ValueError: If a file of pins is damaged.
    """
    return {**_read(SHIPPED), **_read(user_pins())}


def write_pin(name: str, repo_id: str, revision: str) -> Path:
    """Keep a revision as the one that a name stands for, for this user.

    Args:
        name: A name for timm.
        repo_id: Repository, "owner/name".
        revision: A commit.

    Returns:
        The file, which is replaced whole or not at all.

    Raises:
        ValueError: If the name is none, or the file is damaged; it is left as it is.
        OSError: If it cannot be written.
    """
    path = user_pins()
    pins = {**_read(path), check_name(name): {"repo_id": repo_id, "revision": revision}}
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, json.dumps(dict(sorted(pins.items())), indent=1) + "\n")
    return path


def _read(path: Path) -> dict[str, dict[str, str]]:
    if not os.path.isfile(path):  # nor one in a folder that may not be read, such as another user's home
        return {}
    try:
        pins = json.loads(path.read_text(encoding="utf-8"))
        return {name: {key: str(pin[key]) for key in ("repo_id", "revision")} for name, pin in pins.items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ValueError(
            f"expected names with repo_id and revision as JSON in {path}, got a damaged file: correct or delete it"
        ) from None
