"""The command line: thin doors to public functions. Its commands stand in the files beside this one."""

from __future__ import annotations

import gc
import sys
import warnings
from typing import Any

import click

from robust_hub.cli.certify import bench, certify, report
from robust_hub.cli.paper import demo, reproduce
from robust_hub.cli.publish import adopt, card, models, name_classes, publish, shelve, verify
from robust_hub.cli.stopping import Terminated, stopped, terminations
from robust_hub.cli.train import finetune, pretrain
from robust_hub.cli.verify import verify_certificate
from robust_hub.errors import CheckpointError
from robust_hub.memory import ran_out
from robust_hub.parsing import shown

_EXPECTED = (ValueError, TypeError, ImportError, OSError, CheckpointError, FloatingPointError)
_LONGEST = 4000


class _Group(click.Group):
    """A group whose expected errors are one sentence and exit code 2, and whose stops are one and 130 or 143."""

    def invoke(self, ctx: click.Context) -> Any:
        warnings.showwarning = lambda message, *_: click.echo(f"warning: {_line(message)}", err=True)
        code = 2
        try:
            with terminations():
                return super().invoke(ctx)
        except (KeyboardInterrupt, Terminated) as stop:
            said, code = stopped(ctx.invoked_subcommand, stop)
            gc.freeze()  # the interpreter's last look through all that torch has made would take seconds
        except _EXPECTED as error:
            said = str(error)
        except (MemoryError, RuntimeError) as error:
            if not ran_out(error):
                raise
            ours = str(error).startswith("expected")
            said = str(error) if ours else f"memory ran out ({error}): try a smaller --batch-size"
        click.echo(f"robust-hub: {_line(said)}", err=True)
        sys.exit(code)


def _line(said: object) -> str:
    """Give an error or a warning on one line, without what moves a terminal's cursor."""
    return shown(" ".join(str(said).split()), _LONGEST)


@click.group(cls=_Group)
@click.version_option(package_name="robust-hub")
def main() -> None:
    """Certifiably robust pretrained vision models: pretrain on mixed noise, fine-tune clean, certify."""


for _command in (
    *(models, shelve, pretrain, finetune, certify, report, bench),
    *(card, publish, verify, verify_certificate, adopt, name_classes, reproduce, demo),
):
    main.add_command(_command)
