"""Put what was made from records between the marks of a page, or compare it with what stands there."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path


def write_or_check(page: Path, parts: Mapping[str, str], maker: str) -> None:
    """Write a page's parts, or with --check on the command line end with an error if the page differs.

    Args:
        page: A Markdown file.
        parts: By name, the text that belongs between `<!-- name -->` and `<!-- end of name -->`.
        maker: The command that writes the page, for the error.
    """
    old = new = page.read_text()
    for name, text in parts.items():
        start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        before, rest = new.split(start)
        new = before + start + "\n" + text.strip() + "\n" + end + rest.split(end)[1]
    if "--check" not in sys.argv[1:]:
        page.write_text(new)
    elif new != old:
        raise SystemExit(f"{page.name} is not what its records say: run {maker}")
