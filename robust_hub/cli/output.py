"""What a command says: words for people, or with --json one document for programs; of several processes one says it.

Results go to standard output, all else (progress, warnings, notes, errors) to standard error. With --json, standard
output holds one JSON document and nothing else, whatever a library prints on the way. A command that fails prints no
document: its exit code is 2, and one sentence on standard error says why.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import PurePath
from typing import Any, TextIO

import click

_STREAM = "robust_hub.json"  # in click's meta: where the document goes
_RANKS = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")  # of processes that MPI starts


def is_launched() -> bool:
    """Tell whether torchrun, accelerate or MPI started this process, maybe among others."""
    return "LOCAL_RANK" in os.environ or any(name in os.environ for name in _RANKS)


def process_index() -> int:
    """Give the number of this process among those that torchrun, accelerate or MPI started; 0 where it is alone."""
    if "LOCAL_RANK" in os.environ:  # a cluster may say RANK of machines, whose commands are each alone
        return int(os.environ.get("RANK", 0))
    return next((int(os.environ[name]) for name in _RANKS if name in os.environ), 0)


def is_main() -> bool:
    """Tell whether this process is the one that speaks."""
    return process_index() == 0


def _choose(context: click.Context, _: click.Parameter, chosen: bool) -> None:
    if chosen:
        context.meta[_STREAM] = context.with_resource(_apart())


json_option = click.option(
    "--json",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_choose,
    help="Print one JSON document, with numbers in full, and nothing else on standard output.",
)


def wants_json() -> bool:
    """Tell whether the command that runs was given --json."""
    context = click.get_current_context(silent=True)
    return context is not None and _STREAM in context.meta


def emit(value: Any, words: str | Callable[[], str]) -> None:
    """Print what a command found out, in words or with --json as JSON; other processes than the main one print nothing.

    Args:
        value: The result as JSON values; paths and dataclasses among them are written as texts and objects. No NaN.
        words: The same for people, or what gives it; not called with --json.
    """
    if not is_main():
        return
    if wants_json():
        stream: TextIO = click.get_current_context().meta[_STREAM]
        click.echo(json.dumps(value, indent=1, ensure_ascii=True, allow_nan=False, default=_plain), file=stream)
    else:
        click.echo(words if isinstance(words, str) else words())


def note(words: str) -> None:
    """Print a line beside the result, on standard error, in the main process."""
    if is_main():
        click.echo(words, err=True)


def in_columns(rows: Sequence[Sequence[str]], width: int | None) -> str:
    """Set rows of cells in columns, two spaces apart, the first row their headings.

    Args:
        rows: The cells, as many in each row; columns in the order of their weight.
        width: Characters of a line, such as a terminal's: from the first column that does not fit, columns are left
            out, and a line below says so. None, for a file or a pipe, leaves none out.

    Example:
        >>> print(in_columns([("model", "MB"), ("resnet18s_ln", "5.7")], None))
        model         MB
        resnet18s_ln  5.7
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    ends = [sum(widths[: k + 1]) + 2 * k for k in range(len(widths))]
    fitting = len(ends) if width is None else max(1, sum(end <= width for end in ends))
    lines = ["  ".join(map(str.ljust, row[:fitting], widths)).rstrip() for row in rows]
    if left_out := rows[0][fitting:]:
        lines += ["", f"Left out for want of width: {', '.join(left_out)}; see --json, or pipe it through less -S."]
    return "\n".join(lines)


def _plain(value: object) -> object:
    """Give a value that JSON has no word for as one that it has."""
    if isinstance(value, PurePath):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if hasattr(value, "tolist"):  # of numpy and torch
        return value.tolist()
    raise TypeError(f"expected a value that JSON can hold, got {type(value).__name__}: convert it")


@contextlib.contextmanager
def _apart() -> Iterator[TextIO]:
    """Give standard output, and send to standard error whatever else is written there, by libraries in C as well."""
    stream = sys.stdout
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, ValueError, AttributeError):  # a stream that is no file, as in a test
            if stream.fileno() == 1:
                stream.flush()
                kept = os.dup(1)
                stack.callback(_put_back, kept)
                stream = stack.enter_context(open(kept, "w", encoding="utf-8", closefd=False))
                os.dup2(2, 1)
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        yield stream


def _put_back(kept: int) -> None:
    os.dup2(kept, 1)
    os.close(kept)
