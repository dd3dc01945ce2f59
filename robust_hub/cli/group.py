"""The groups of commands: their help as a newcomer reads it, their failures as one sentence of one process."""

from __future__ import annotations

import errno
import sys
import time
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from robust_hub.cli.output import is_main, note, process_index
from robust_hub.cli.stopping import WORK, Terminated, end, heard, stopped, terminations
from robust_hub.errors import CheckpointError
from robust_hub.memory import ran_out
from robust_hub.parsing import shown

_EXPECTED = (ValueError, TypeError, ImportError, OSError, CheckpointError, FloatingPointError)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_LONGEST = 4000
_PATIENCE = 5.0  # seconds in which another process than the main one, which failed, waits for its fate
WIDTH = 100  # columns of help at most


class Commands(click.Group):
    """A group whose help shows each command's whole first sentence, under the headings that it is given.

    Args:
        sections: Names of commands by heading, in the order in which they are shown; the rest follow.
        settings: As of `click.Group`.
    """

    def __init__(self, *args: Any, sections: dict[str, Sequence[str]] | None = None, **settings: Any) -> None:
        settings.setdefault("context_settings", {"help_option_names": ["-h", "--help"], "max_content_width": WIDTH})
        super().__init__(*args, **settings)
        self.sections = sections or {}

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands with a sentence each, which click would cut."""
        named = [name for names in self.sections.values() for name in names]
        others = [name for name in self.list_commands(ctx) if name not in named]
        longest = max(map(len, self.commands))
        for heading, names in {**self.sections, "Others" if named else "Commands": others}.items():
            found = [(name, self.commands[name]) for name in names if name in self.commands]
            rows = [(name.ljust(longest), one.get_short_help_str(limit=1000)) for name, one in found if not one.hidden]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)


class MainGroup(Commands):
    """A group whose expected errors are one sentence and exit code 2, and whose stops are one and 130 or 143.

    Of several processes the main one says it. Another one that fails waits a while first: where all fail alike, the
    main one's end ends them all; where it alone fails, it says so with its number.
    """

    def invoke(self, ctx: click.Context) -> Any:
        """Invoke the command, and end the process in words where that fails or is stopped."""
        warnings.showwarning = _warn

        def work() -> str | None:
            return ctx.meta.get(WORK, ctx.invoked_subcommand)

        try:
            with terminations(), heard(work):
                return super().invoke(ctx)
        except (KeyboardInterrupt, Terminated) as stop:
            said, code = stopped(work(), stop)
            note(f"robust-hub: {said}")
            end(code)
        except click.ClickException:
            _wait_for_the_main_one()
            raise
        except BrokenPipeError:  # a reader such as head has seen enough: click ends without a word
            raise
        except _EXPECTED as error:
            _fail(_no_room(error) if isinstance(error, OSError) and error.errno in _NO_ROOM else str(error))
        except (MemoryError, RuntimeError) as error:
            if not ran_out(error):
                raise
            ours = str(error).startswith("expected")
            _fail(str(error) if ours else f"memory ran out ({error}): try a smaller --batch-size")


def _no_room(error: OSError) -> str:
    where = error.filename or "standard output, or a file"
    return f"expected a file or folder that can be written, got {where} ({error.strerror}): make room or name another"


def _fail(said: str) -> NoReturn:
    _wait_for_the_main_one()
    which = "" if is_main() else f" (process {process_index()})"
    click.echo(f"robust-hub{which}: {_line(said)}", err=True)
    sys.exit(2)


def _wait_for_the_main_one() -> None:
    if not is_main():
        time.sleep(_PATIENCE)


def _warn(message: object, *_: object, **__: object) -> None:
    note(f"warning: {_line(message)}")


def _line(said: object) -> str:
    """Give an error or a warning on one line, without what moves a terminal's cursor."""
    return shown(" ".join(str(said).split()), _LONGEST)
