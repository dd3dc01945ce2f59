"""How a command is stopped: Ctrl-C and SIGTERM end it in one sentence that says how to go on."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

_KEPT = {
    "certify": "every record so far is kept: the same command goes on where it stopped",
    "reproduce": "what is done is kept: the same command goes on where it stopped",
    **dict.fromkeys(
        ("pretrain", "finetune", "demo"),
        "the last saved state is kept: the same command goes on from there",
    ),
}


class Terminated(BaseException):
    """SIGTERM, raised where the command was; what is open is closed on the way out."""


@contextmanager
def terminations() -> Iterator[None]:
    """Have SIGTERM raise `Terminated` for a while, as Ctrl-C raises KeyboardInterrupt.

    Where something else handles it, or in a thread, it stays as it is. Processes that the command starts are ended by
    it at once.
    """
    own = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() == own:
            raise Terminated
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def stopped(command: str | None, stop: BaseException) -> tuple[str, int]:
    """Word a stop, and give its exit code: 128 and the signal's number, as shells have it.

    Args:
        command: The command's name.
        stop: KeyboardInterrupt or Terminated.

    Example:
        >>> stopped("certify", KeyboardInterrupt())
        ('stopped; every record so far is kept: the same command goes on where it stopped', 130)
    """
    number = signal.SIGINT if isinstance(stop, KeyboardInterrupt) else signal.SIGTERM
    kept = _KEPT.get(str(command))
    return f"stopped; {kept}" if kept else "stopped", 128 + number


def end(code: int) -> NoReturn:
    """End a stopped process with an exit code, soon and without a word, whatever is pressed meanwhile.

    Args:
        code: The exit code.
    """
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_DFL)
    gc.freeze()  # the interpreter's last look through all that torch has made would take seconds
    sys.exit(code)
