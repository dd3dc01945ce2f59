"""A folder that one process writes at a time, and that only the same work resumes: trainings and certifications.

What the work is stands in a JSON file of the folder; `difference` says in words in what two such files differ.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

LOCK = ".lock"
_ABSENT = object()
_HASH = re.compile("[0-9a-f]{64}")


class ClaimedFolder:
    """The lock on a folder of one training or certification.

    Args:
        folder: The folder, made if absent.
        file: Name of the JSON file that says what is done in it.
        work: What it is, for errors: "training" or "certification".
    """

    def __init__(self, folder: Path, file: str, work: str) -> None:
        self.folder, self.file, self.work = folder, file, work
        self._lock = FileLock(folder / LOCK, timeout=0, thread_local=False)

    def claim(self) -> bool:
        """Take the lock, and tell whether there is work to resume; without, the folder is empty.

        Raises:
            ValueError: If another process has the lock, or the folder holds something else.
            OSError: If the folder cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout:
            raise ValueError(
                f"expected a folder where no other {self.work} is at work, got {self.folder}, which another process is "
                "writing: wait for it or choose another folder"
            ) from None
        if (self.folder / self.file).exists():
            return True
        others = sorted(p.name for p in self.folder.iterdir() if p.name not in (LOCK, self.file + ".new"))
        if others:
            self.release()
            raise ValueError(
                f"expected a new or empty folder or a {self.work} with {self.file}, got {self.folder} with "
                f"{', '.join(others[:3])}: choose another folder"
            )
        return False

    def check_same(self, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
        """Refuse to resume other work than what is in the folder.

        Raises:
            ValueError: With every value that differs.
        """
        differing = list(difference(there, here))
        if differing:
            raise ValueError(
                f"expected the {self.work} that is in {self.folder}, got another one ({'; '.join(differing)}): repeat "
                "the same settings to resume it, or choose a new folder"
            )

    def release(self) -> None:
        """Give the lock back, if it was taken."""
        self._lock.release()


def difference(there: Mapping[str, Any], here: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Say what differs between JSON values that are there and those that are asked for, a clause each."""
    for key in sorted(there.keys() | here.keys()):
        left, right = there.get(key, _ABSENT), here.get(key, _ABSENT)
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            yield from difference(left, right, f"{prefix}{key}.")
        elif left is _ABSENT or right is _ABSENT or left != right:
            yield f"{prefix}{key} is {_short(left)} there and {_short(right)} here"


def _short(value: object) -> str:
    if isinstance(value, str) and _HASH.fullmatch(value):
        return f"{value[:12]}..."
    text = "absent" if value is _ABSENT else json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
