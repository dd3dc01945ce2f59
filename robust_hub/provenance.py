"""Which code made something: the versions of the packages, and the commit of this one."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import subprocess
from functools import cache
from pathlib import Path

PACKAGES = ("robust-hub", "torch", "timm", "numpy", "scipy", "accelerate")
_HERE = Path(__file__).resolve()


def versions() -> dict[str, str]:
    """Give the version of Python and of each package that results depend on, where it is installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@cache
def commit() -> str | None:
    """Give the commit of this package's code, with "-dirty" where tracked files differ from it.

    Returns:
        40 hex digits from the source tree that it runs in or the repository that it was installed from; None of a
        package from an index.
    """
    where = ["git", "-C", str(_HERE.parent)]
    try:  # a package in a virtual environment is not the repository that the environment lies in
        subprocess.run([*where, "ls-files", "--error-unmatch", _HERE.name], check=True, capture_output=True)
        told = subprocess.run(
            [*where, "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
            check=True,
            capture_output=True,
            text=True,
        )
        return told.stdout.strip() or None
    except (OSError, subprocess.CalledProcessError):
        return _installed_from()


def _installed_from() -> str | None:
    """Give the commit that pip noted when it installed from a repository."""
    try:
        note = importlib.metadata.distribution("robust-hub").read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        return None
    found = json.loads(note or "{}").get("vcs_info", {}).get("commit_id")
    return str(found) if found else None
