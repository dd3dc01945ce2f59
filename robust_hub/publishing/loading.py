"""The line of Python that loads a checkpoint, for whoever reads its card: where that works from decides which."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

from robust_hub.models.shelves import SHELF, VARIABLE, holds, lasting_shelves
from robust_hub.parsing import shown


def load_line(name: str, folder: str | Path, repo_id: str | None = None) -> str:
    """Give the expression that loads a checkpoint from any working directory, after `import timm, robust_hub`.

    Args:
        name: Its name for timm.
        folder: Its folder.
        repo_id: Its repository on the Hub, once it is published: loads it there for everybody.

    Returns:
        A call of `timm.create_model` where the name or the Hub gives it, else of `robust_hub.load_model` with the
        folder, the user's own as "~".

    Example:
        >>> load_line("resnet18s_ln_mixednoise.mine", "runs/mine", repo_id="me/mine")
        'timm.create_model("hf-hub:me/mine", pretrained=True)'
        >>> from robust_hub.models.shelves import PACKAGED
        >>> load_line("resnet18s_ln_mixednoise", PACKAGED / "resnet18s_ln_mixednoise")
        'timm.create_model("resnet18s_ln_mixednoise", pretrained=True)'
    """
    if repo_id is not None:
        return f"timm.create_model({_quoted(f'hf-hub:{repo_id}')}, pretrained=True)"
    if is_found_anywhere(name, folder):
        return f"timm.create_model({_quoted(name)}, pretrained=True)"
    return f"robust_hub.load_model({_quoted(at_home(folder))})"


def script_name(name: str, folder: str | Path, repo_id: str | None = None) -> str:
    """Give what timm's scripts take for `--model`, as a shell reads it.

    Args:
        name: Its name for timm.
        folder: Its folder.
        repo_id: Its repository on the Hub, once it is published.
    """
    if repo_id is not None:
        return f"hf-hub:{repo_id}"
    if is_found_anywhere(name, folder):
        return name
    place = at_home(folder)
    if place.startswith("~/"):  # which a shell leaves as it is after a colon
        return f'"local-dir:$HOME"{_for_shell(place.removeprefix("~"))}'
    return _for_shell(f"local-dir:{place}")


def is_found_anywhere(name: str, folder: str | Path) -> bool:
    """Tell whether a name leads to a folder from any working directory: not so of `model_cards` in the current one.

    A folder that ROBUST_HUB_SHELF names is taken for one that its owner names for good.
    """
    found = next((shelf / name for shelf in lasting_shelves() if holds(shelf / name)), None)
    return found is not None and found.resolve() == Path(folder).resolve()


def by_name_words(name: str, folder: str | Path) -> str:
    """Say when a folder's name finds it, where it does not from everywhere."""
    shelf = Path(folder).resolve().parent
    place = at_home(shelf)
    home = "~/" if place.startswith("~/") else ""
    way = f"with {VARIABLE}={home}{_for_shell(place.removeprefix(home))} in the environment"
    return f"{way}, or from the folder {shown(at_home(shelf.parent))}" if shelf.name == SHELF else way


def at_home(path: str | Path) -> str:
    """Give a path as it may be shown: whole, and the user's own folder as "~"."""
    whole = Path(path).resolve()
    try:
        return Path("~", whole.relative_to(Path.home().resolve())).as_posix()
    except (ValueError, RuntimeError):  # not below it, or a user without one
        return whole.as_posix()


def _quoted(text: str) -> str:
    """Write a text as Python does, in double quotes: on one line, whatever is in it."""
    return shown(json.dumps(text, ensure_ascii=False), 10 * len(text) + 10)


def _for_shell(text: str) -> str:
    """Quote a text for a shell on one line, so that whatever is in it stays within a block of code."""
    if text.isprintable():
        return shlex.quote(text)
    plain = (c if c.isprintable() and c not in "\\'" else "".join(f"\\x{b:02x}" for b in os.fsencode(c)) for c in text)
    return f"$'{''.join(plain)}'"
