"""Ctrl-C while the command line is still being imported: the process ends without a word, not with a traceback."""

from __future__ import annotations

import signal
import sys
from pathlib import PurePath

_MODULE, _SCRIPT = ("robust_hub", "-mrobust_hub"), "robust-hub"  # python -m robust_hub, and what pip installs


def hush() -> None:
    """Have Ctrl-C end the process at once, if it is the command's own; another program's stays as it is.

    The package is imported before its `__main__`, and takes a moment.
    """
    first, *_ = getattr(sys, "argv", None) or [""]
    script = PurePath(first).stem == _SCRIPT and first in sys.orig_argv  # a worker has the argv of its parent
    command = not set(_MODULE).isdisjoint(sys.orig_argv) if first == "-m" else script
    if command and signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # in the background it may be ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def hear() -> None:
    """Have Ctrl-C raise KeyboardInterrupt again, where `hush` ended that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
