"""What a page shows to be typed: its blocks, read as a shell and as Python would read them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

SHELLS = ("sh", "bash", "console")
HEREDOC = re.compile(r"^(.*?) <<'(\w+)'\n(.*?)^\2$", flags=re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        line: Where its text begins, from 1.
        language: What its fence says.
        text: What stands in it.
    """

    line: int
    language: str
    text: str


@dataclass(frozen=True)
class Command:
    """A command of a shell block; what a heredoc gives it is its input."""

    line: int
    words: tuple[str, ...]
    given: str = ""

    def __str__(self) -> str:
        return shlex.join(self.words)


def blocks(text: str) -> list[Block]:
    """Read a page's fenced blocks, in order."""
    tokens = MarkdownIt().parse(text)
    return [Block(t.map[0] + 2, t.info.strip(), t.content) for t in tokens if t.type == "fence" and t.map]


def indented(text: str) -> list[str]:
    """Read the blocks that are marked by their indentation alone, and so say no language."""
    return [token.content for token in MarkdownIt().parse(text) if token.type == "code_block"]


def spans(text: str) -> list[str]:
    """Read the commands that stand in a page's sentences."""
    found = [child.content for token in MarkdownIt().parse(text) for child in token.children or ()]
    return [content for content in found if content.startswith("robust-hub ")]


def commands(block: Block) -> Iterator[Command]:
    """Read a shell block's commands: lines joined, comments left out, && taken apart."""
    text, given = block.text, {}
    for number, found in enumerate(HEREDOC.finditer(block.text)):
        given[f"<{number}>"] = found[3]
        filled = found[3].count("\n") + 1
        text = text.replace(found[0], f"{found[1]} '<{number}>'" + "\n" * filled)
    text = text.replace("\\\n", "\\ ")  # keeps neither line nor break
    for offset, line in enumerate(text.splitlines()):
        words: list[str] = []
        for word in [*shlex.split(line.removeprefix("$ ").replace("\\ ", " "), comments=True), "&&"]:
            if word != "&&":
                words.append(word)
            elif words:
                last = given.get(words[-1], "")
                yield Command(block.line + offset, tuple(words[:-1] if last else words), last)
                words = []


def expand(words: tuple[str, ...], folder: Path) -> list[str]:
    """Put the files in place of a pattern of names, as a shell does; one that no file fits stays."""
    out: list[str] = []
    for word in words:
        found = sorted(path.relative_to(folder).as_posix() for path in folder.glob(word)) if "*" in word else []
        out += found or [word]
    return out
