"""Progress bars: a notebook's own where it can show them, else a terminal's; and those of datasets, hidden."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from tqdm import TqdmWarning

with warnings.catch_warnings():
    warnings.simplefilter("ignore", TqdmWarning)  # a notebook without ipywidgets gets a terminal's bar, and no advice
    from tqdm.auto import tqdm

__all__ = ["hiding_bars", "quiet", "tqdm"]

_hidden: ContextVar[bool] = ContextVar("hidden", default=False)


@contextmanager
def hiding_bars(hidden: bool) -> Iterator[None]:
    """Have `quiet` hide bars within, or not."""
    before = _hidden.set(hidden)
    try:
        yield
    finally:
        _hidden.reset(before)


@contextmanager
def quiet(datasets: Any) -> Iterator[None]:
    """Hide the bars of the library datasets within, where that was asked for; afterwards they are as they were.

    Args:
        datasets: The library, which is imported late.
    """
    if not _hidden.get() or datasets.are_progress_bars_disabled():
        yield
        return
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.enable_progress_bars()
