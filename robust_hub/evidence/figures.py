"""What all figures need: matplotlib where it is installed, a figure as bytes, a file written whole."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from robust_hub.files import replace_files


def new_figure(size: tuple[float, float], dpi: int = 150) -> Any:
    """Make an empty figure, its size in inches.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('expected matplotlib for figures; install it: pip install "robust-hub[plot]"') from error
    return Figure(figsize=size, dpi=dpi, layout="constrained")


def image_of(figure: Any, kind: str = "png") -> bytes:
    """Give a figure as the bytes of an image file."""
    content = io.BytesIO()
    figure.savefig(content, format=kind)
    return content.getvalue()


def is_figure(path: Path) -> bool:
    """Tell whether a file is a PNG that matplotlib drew, and not somebody's photograph: it says so in its first bytes.

    Raises:
        OSError: If it cannot be read.
    """
    if not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(1000)
    return start.startswith(b"\x89PNG") and b"Matplotlib" in start


def literal(text: str) -> str:
    """Give a text as matplotlib shows it unchanged: a dollar would begin a formula."""
    return text.replace("$", r"\$")


def save(figure: Any, out: str | Path) -> Path:
    """Write a figure whole or not at all; PNG unless the file's suffix names another format.

    Returns:
        The file written; its folder is made if absent.

    Raises:
        ValueError: If it cannot be written.
    """
    out = Path(out)
    out = out if out.suffix else out.with_suffix(".png")
    content = image_of(figure, out.suffix[1:])
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        replace_files({out: content})
    except OSError as error:
        raise ValueError(
            f"expected a file that can be written, got {out} ({error.strerror or error}); name another file"
        ) from error
    return out
