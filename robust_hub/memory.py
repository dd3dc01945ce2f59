"""Memory: how running out is told from other errors, how much is left, which batch to take; no search for garbage."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator

import psutil

_WORDS = ("not enough memory", "can't allocate memory", "out of memory", "CUDNN_STATUS_NOT_SUPPORTED")


def ran_out(error: BaseException) -> bool:
    """Tell whether memory ran out: by an error's type, or by the words of torch's allocators, which raise others.

    Args:
        error: The error.
    """
    ours = any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__)
    return isinstance(error, MemoryError) or ours or any(words in str(error) for words in _WORDS)


def free() -> int:
    """Give the bytes of main memory that a process may take without swapping."""
    return int(psutil.virtual_memory().available)


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Look for no garbage meanwhile: where many values are made that all stay, and none of them in a circle.

    What counts its references goes as ever. The search goes through all that is there again and again, which takes
    longer than to read a run.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextlib.contextmanager
def batch_in_memory(images: int, suited: Callable[[], int] | None = None) -> Iterator[None]:
    """Say which batch size to take where memory does not hold what is done with a batch.

    Args:
        images: Images in it.
        suited: Gives the batch size that suits the network; half of what did not fit where it is None.

    Raises:
        MemoryError: In one sentence, for an error that says that memory ran out; a sentence of our own is kept.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not ran_out(error) or str(error).startswith("expected"):
            raise
        take = images // 2
        if suited is not None:
            with contextlib.suppress(MemoryError, RuntimeError):
                take = min(take, suited())
        advice = f"take batch_size={take} (on the command line --batch-size {take})"
        if take < 1:
            advice = "end what else takes it, or use smaller images, a smaller network or another device"
        got = str(error).splitlines()[0] if str(error) else "none"
        raise MemoryError(
            f"expected memory for a batch of {images:,} images, got too little ({got}): {advice}"
        ) from error
