"""Reads our docstrings' `Example:` as the section of examples that the site's API pages set as code."""

from __future__ import annotations

import re
from typing import Any

import griffe

HEADING = re.compile(r"^(\s*)Example:\s*$", flags=re.MULTILINE)


class Examples(griffe.Extension):
    """Names the section as griffe's reader of Google style knows it."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rename a docstring's section, once its object is read."""
        if obj.docstring:
            obj.docstring.value = HEADING.sub(r"\1Examples:", obj.docstring.value)
