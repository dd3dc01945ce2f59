"""What a shell offers for a value: names of models and tables, folders; found without importing what computes."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable

import click
from click.shell_completion import CompletionItem

from robust_hub.layout import CONFIG, RUN
from robust_hub.models.family import NAMES, SUFFIX
from robust_hub.models.shelves import list_checkpoints

TABLES = (*(f"table{number}" for number in (1, *range(3, 12))), "figure2", "figure3")
SCALES = ("small", "small42", "h200", "paper")


def complete_model(ctx: click.Context, param: click.Parameter, begun: str) -> list[CompletionItem]:
    """Offer the checkpoints that are here, checkpoint folders and networks without weights; else folders."""
    bare = [name for name in NAMES if not name.endswith(SUFFIX)]
    return _offer(begun, [*list_checkpoints(), *_folders_with(CONFIG, begun), *bare], otherwise="dir")


def complete_checkpoint(ctx: click.Context, param: click.Parameter, begun: str) -> list[CompletionItem]:
    """Offer folders that hold a checkpoint; else folders, which may lead to one."""
    return _offer(begun, _folders_with(CONFIG, begun), otherwise="dir")


def complete_source(ctx: click.Context, param: click.Parameter, begun: str) -> list[CompletionItem]:
    """Offer the checkpoints that are here, and folders that hold one; else folders, which may lead to one."""
    return _offer(begun, [*list_checkpoints(), *_folders_with(CONFIG, begun)], otherwise="dir")


def complete_run(ctx: click.Context, param: click.Parameter, begun: str) -> list[CompletionItem]:
    """Offer folders that hold a run, and checkpoints; else folders, which may lead to one."""
    return _offer(begun, [*_folders_with(RUN, begun), *list_checkpoints()], otherwise="dir")


def complete_base(ctx: click.Context, param: click.Parameter, begun: str) -> list[CompletionItem]:
    """Offer the names of the checkpoints that are here."""
    return _offer(begun, list_checkpoints())


def complete_data(ctx: click.Context, param: click.Parameter, begun: str) -> list[CompletionItem]:
    """Offer the digits; else folders."""
    return _offer(begun, ["digits"], otherwise="dir")


def complete_table(ctx: click.Context, param: click.Parameter, begun: str) -> list[CompletionItem]:
    """Offer the names of the paper's tables and figures."""
    return _offer(begun, TABLES)


def complete_scale(ctx: click.Context, param: click.Parameter, begun: str) -> list[CompletionItem]:
    """Offer the names of the scales."""
    return _offer(begun, SCALES)


def _offer(begun: str, names: Iterable[str], otherwise: str = "") -> list[CompletionItem]:
    """Give the names that begin so, each once; where there is none, have the shell offer what it has of a kind."""
    found = [CompletionItem(name) for name in dict.fromkeys(names) if name.startswith(begun)]
    return found or ([CompletionItem(begun, type=otherwise)] if otherwise else [])


def _folders_with(file: str, begun: str) -> list[str]:
    """List folders that begin so and hold a file, one level below what is written."""
    found = glob.glob(f"{glob.escape(os.path.expanduser(begun))}*/{file}")
    return sorted(os.path.dirname(path) for path in found) if not begun.startswith("~") else []
