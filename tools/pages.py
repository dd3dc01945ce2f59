"""Put what was made from records between the marks of a page, or compare it with what stands there."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
EVIDENCE = DOCS / "evidence"


def write_or_check(page: Path, parts: Mapping[str, str], maker: str) -> None:
    """Write a page's parts, or with --check on the command line end with an error if the page differs.

    Args:
        page: A Markdown file.
        parts: By name, the text that belongs between `<!-- name -->` and `<!-- end of name -->`.
        maker: The command that writes the page, for the error.

    Raises:
        SystemExit: With --check, if the page is not what the parts make of it.
    """
    put_or_check(page, fill(page.read_text(), parts), maker)


def put_or_check(page: Path, text: str, maker: str) -> None:
    """Write a page, or with --check on the command line end with an error if it is another one.

    Args:
        page: A Markdown file.
        text: What its records make of it.
        maker: The command that writes the page, for the error.

    Raises:
        SystemExit: With --check, if the page is not this text.
    """
    if "--check" not in sys.argv[1:]:
        page.write_text(text)
    elif text != page.read_text():
        raise SystemExit(f"{page.name} is not what its records say: run {maker}")


def fill(text: str, parts: Mapping[str, str]) -> str:
    """Put each part between its marks."""
    for name, part in parts.items():
        start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        before, rest = text.split(start)
        text = before + start + "\n" + part.strip() + "\n" + end + rest.split(end)[1]
    return text


def down(value: float, digits: int) -> str:
    """Write a number that is promised, such as a radius: rounded down, never up."""
    return f"{math.floor(value * 10**digits) / 10**digits:.{digits}f}"
