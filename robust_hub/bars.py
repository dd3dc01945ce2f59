"""Progress bars: a notebook's own where it can show them, else a terminal's."""

import warnings

from tqdm import TqdmWarning

with warnings.catch_warnings():
    warnings.simplefilter("ignore", TqdmWarning)  # a notebook without ipywidgets gets a terminal's bar, and no advice
    from tqdm.auto import tqdm

__all__ = ["tqdm"]
