"""Hooks of the site's build (mkdocs.yml): links that leave docs/ lead to the repository, or become words.

A page links to files beside docs/, such as a model card, for readers of the repository. The site has no such files:
with the repository's address (`ROBUST_HUB_REPOSITORY`) the link leads there, without one its words stand alone. A link
to a file that is not there stays as it is, so that a strict build ends.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<!!)\[(?P<words>(?:[^\]`]|`[^`]*`)+)\]\((?P<target>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")
FENCE = re.compile(r"^```.*?^```$", flags=re.DOTALL | re.MULTILINE)


class Placed(Protocol):
    """A file of the site."""

    src_uri: str


class Page(Protocol):
    """A page of the site."""

    file: Placed


def on_page_markdown(markdown: str, *, page: Page, config: Any, **_: Any) -> str:
    """Turn a page's links that leave the site, all but those in blocks of code."""
    folder = (ROOT / "docs" / page.file.src_uri).parent
    address = config.extra["repository"].rstrip("/")
    parts, end = [], 0
    for fence in FENCE.finditer(markdown):
        parts += [turn(markdown[end : fence.start()], folder, address), fence[0]]
        end = fence.end()
    return "".join([*parts, turn(markdown[end:], folder, address)])


def turn(text: str, folder: Path, address: str = "") -> str:
    """Lead links that leave the site to the repository, or leave their words alone.

    Args:
        text: Markdown.
        folder: Where its page lies, within docs/.
        address: The repository's, "" without one.
    """

    def one(link: re.Match[str]) -> str:
        target = folder.joinpath(link["target"]).resolve()
        if not (target.is_relative_to(ROOT) and target.exists() and _leaves(target)):
            return link[0]
        if not address:
            return link["words"]
        kind = "tree" if target.is_dir() else "blob"
        return f"[{link['words']}]({address}/{kind}/main/{target.relative_to(ROOT).as_posix()}{link['anchor'] or ''})"

    return LINK.sub(one, text)


def _leaves(target: Path) -> bool:
    docs = ROOT / "docs"
    return not target.is_relative_to(docs) or target.is_relative_to(docs / "evidence")
