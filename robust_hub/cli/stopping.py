"""How a command is stopped: Ctrl-C and SIGTERM end it in one sentence that says how to go on."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from robust_hub.cli.output import is_launched, note

WORK = "robust_hub.work"  # in click's meta: what a command does, where its name does not say it
PATIENCE = 2.0  # seconds in which a command should hear of a signal
_KEPT = {
    "certify": "every record so far is kept: the same command goes on where it stopped",
    "certify IMAGE": "the files of images that were done are kept",
    "reproduce": "what is done is kept: the same command goes on where it stopped",
    **dict.fromkeys(
        ("pretrain", "finetune", "demo"),
        "what was saved is kept: the same command goes on from there, or begins again where nothing was",
    ),
}


class Terminated(BaseException):
    """SIGTERM, raised where the command was; what is open is closed on the way out."""


@contextmanager
def terminations() -> Iterator[None]:
    """Have SIGTERM raise `Terminated` for a while, as Ctrl-C raises KeyboardInterrupt.

    Where something else handles it, or in a thread, it stays as it is, and so it does under a launcher, which ends with
    it what may wait for another process. Processes that the command starts are ended by it at once.
    """
    own = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() == own:
            raise Terminated
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    ours = threading.current_thread() is threading.main_thread()
    if not ours or is_launched() or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def heard(command: Callable[[], str | None]) -> Iterator[None]:
    """End the process where a signal has come and Python, waiting for a library, does not hear of it for a while.

    Compilers, and processes that wait for one another, do so for minutes. What is on the disk is whole at any moment.

    Args:
        command: Gives the name of the command that runs.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    receiver, sender = os.pipe()
    os.set_blocking(sender, False)
    before = signal.set_wakeup_fd(sender, warn_on_full_buffer=False)
    left = threading.Event()

    def watch() -> None:
        numbers = os.read(receiver, 1)
        while numbers and numbers[0] not in (signal.SIGINT, signal.SIGTERM):
            numbers = os.read(receiver, 1)
        if numbers and not left.wait(PATIENCE):
            said, code = stopped(command(), KeyboardInterrupt() if numbers[0] == signal.SIGINT else Terminated())
            note(f"robust-hub: {said}")
            os._exit(code)
        os.close(receiver)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        left.set()
        signal.set_wakeup_fd(before)
        os.close(sender)


# A signal of a forked process, such as a worker's, is none of this one.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1) and None)


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
    exec("")  # without it, Python ends itself by SIGINT where Ctrl-C came within an exec, such as namedtuple's
    gc.freeze()  # the interpreter's last look through all that torch has made would take seconds
    sys.exit(code)
