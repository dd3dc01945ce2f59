"""HTML for notebooks: small pieces without scripts, styles of the page, or anything that is fetched.

Colours are left to the page, so that light and dark ones both can be read. Every text is escaped here: names come from
folders and files of strangers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from robust_hub.parsing import shown

_MOST = 200  # characters of a text in a table


def words(value: object, most: int = _MOST) -> str:
    """Give a text as it may stand in HTML: control characters shown, markup escaped, cut where it is long.

    Example:
        >>> words("<script>alert(1)</script>")
        '&lt;script&gt;alert(1)&lt;/script&gt;'
    """
    return escape(shown(value, most))


def rows(header: Sequence[object], cells: Iterable[Sequence[object]]) -> str:
    """Make a table of texts, the first of each row its heading.

    Args:
        header: Headings of the columns; none makes a table without.
        cells: The texts of each row.

    Returns:
        HTML of one table.
    """
    top = f"<thead><tr>{''.join(f'<th>{words(cell)}</th>' for cell in header)}</tr></thead>" if header else ""
    lines = (
        f'<tr><th scope="row">{words(first)}</th>{"".join(f"<td>{words(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in cells
    )
    return f"<table>{top}<tbody>{''.join(lines)}</tbody></table>"


def block(heading: str, *parts: str) -> str:
    """Make a block of a heading, which is escaped here, and parts that are HTML already."""
    return f"<div><b>{words(heading)}</b>{''.join(parts)}</div>"


def note(text: str) -> str:
    """Make a paragraph of a text, which is escaped here."""
    return f"<p>{words(text, 4000)}</p>"


class Table(str):
    """A table in Markdown: a text everywhere, which a notebook shows as a table.

    Args:
        text: The Markdown.
        html: The same as HTML; without, a notebook shows the text.

    Example:
        >>> table = Table("| a |", rows(["a"], []))
        >>> table == "| a |", table._repr_html_()
        (True, '<table><thead><tr><th>a</th></tr></thead><tbody></tbody></table>')
    """

    def __new__(cls, text: str, html: str = "") -> Table:
        """Make the text and keep the HTML beside it."""
        made = super().__new__(cls, text)
        made.html = html
        return made

    html: str

    def _repr_html_(self) -> str:
        return self.html or f"<pre>{escape(self)}</pre>"
