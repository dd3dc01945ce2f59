"""The shelves: folders of checkpoints on this machine, in the order in which a name is looked for.

1. The folder that the environment variable ROBUST_HUB_SHELF names.
2. `model_cards` in the current folder.
3. `model_cards` of the source tree that this package runs from, if it does (a clone that `pip install -e` installed).
4. `model_cards` in the user's own data folder, such as ~/.local/share/robust_hub.
5. The package's own data.

The Hub comes after them all, see `robust_hub.models.resnets`. A folder counts as a checkpoint if it holds
config.json; nothing else is opened here.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from platformdirs import user_data_path

from robust_hub.layout import CONFIG
from robust_hub.parsing import shown

VARIABLE = "ROBUST_HUB_SHELF"
SHELF = "model_cards"  # the name that a folder of checkpoints has
PACKAGED = Path(__file__).parents[1] / "weights"
SOURCE_TREE = Path(__file__).parents[2]
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9_-])?")
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE)  # no files of Windows


def is_name(name: str) -> bool:
    """Tell whether a name can be a checkpoint's, and so a folder's on any system: letters, digits, '.', '_' and '-'."""
    return _NAME.fullmatch(name) is not None and _DEVICE.fullmatch(name) is None


def check_name(name: str) -> str:
    """Take a checkpoint's name; one that leads out of its shelf is refused.

    Args:
        name: Such as "resnet18s_ln_mixednoise.cifar10".

    Returns:
        The name.

    Raises:
        ValueError: If it is no name.

    Example:
        >>> check_name("resnet18s_ln_mixednoise.cifar10")
        'resnet18s_ln_mixednoise.cifar10'
        >>> is_name("resnet18s_ln_mixednoise/../../other")
        False
    """
    if not is_name(name):
        raise ValueError(
            "expected a checkpoint's name of letters, digits, '.', '_' and '-', such as "
            f"resnet18s_ln_mixednoise.cifar10, got {shown(repr(name))}: name another"
        )
    return name


def shelves() -> list[Path]:
    """Give the folders in which checkpoints are looked for, the first one first, whether they are there or not."""
    return list(dict.fromkeys([*_named(), Path.cwd() / SHELF, *_installed()]))


def lasting_shelves() -> list[Path]:
    """Give those of the shelves that are the same from any working directory."""
    return [*(shelf for shelf in _named() if shelf.is_absolute()), *_installed()]


def _named() -> list[Path]:
    named = os.environ.get(VARIABLE)
    return [Path(named).expanduser()] if named else []


def _installed() -> list[Path]:
    clone = [SOURCE_TREE / SHELF] if (SOURCE_TREE / "pyproject.toml").is_file() else []  # site-packages has none
    return [*clone, user_data_path("robust_hub", appauthor=False) / SHELF, PACKAGED]


def checkpoint_folder(name: str) -> Path | None:
    """Find a checkpoint's folder by its name.

    Returns:
        The folder, of the first shelf that has it; None where none has, or the name is none.
    """
    if not is_name(name):
        return None
    return next((shelf / name for shelf in shelves() if holds(shelf / name)), None)


def list_checkpoints() -> list[str]:
    """Name the checkpoints whose weights are here."""
    return sorted({name for shelf in shelves() for name in names_on(shelf)})


def names_on(shelf: Path) -> list[str]:
    """Name the checkpoints of one shelf: none where it is not there, or may not be read."""
    try:
        return sorted(name for name in os.listdir(shelf) if is_name(name) and holds(shelf / name))
    except OSError:
        return []


def holds(folder: Path) -> bool:
    """Tell whether a folder holds a checkpoint; not one that may not be read, as another user's home may not."""
    return os.path.isfile(folder / CONFIG)


def not_here(name: str, *elsewhere: str) -> str:
    """Say that a checkpoint is nowhere, where it was looked for, and where its weights are to be had.

    Args:
        name: Its name.
        elsewhere: Where it was looked for beside the shelves, in words.
    """
    looked = [f"{shelf}{'' if os.path.isdir(shelf) else ' (no such folder)'}" for shelf in shelves()]
    return (
        f"{name} has no trained weights in {', '.join([*looked, *elsewhere])}: `robust-hub "
        f"models` lists what there is. Weights come with a clone of robust_hub (set {VARIABLE} to its {SHELF}), from "
        f"`robust-hub models --remote --namespace NAME`, or from `robust-hub pretrain`"
    )
