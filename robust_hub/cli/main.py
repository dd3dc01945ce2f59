"""The command line: thin doors to public functions. Its commands stand in the files cli_*.py."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import click

from robust_hub.cli.certify import bench, certify, report
from robust_hub.cli.paper import demo, reproduce
from robust_hub.cli.publish import card, models, publish, shelve, verify
from robust_hub.cli.train import finetune, pretrain
from robust_hub.cli.verify import verify_certificate
from robust_hub.errors import CheckpointError


class _Group(click.Group):
    """A group whose expected errors are one sentence and exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        warnings.showwarning = lambda message, *_: click.echo(f"warning: {message}", err=True)
        try:
            return super().invoke(ctx)
        except (ValueError, TypeError, ImportError, OSError, MemoryError, CheckpointError, FloatingPointError) as error:
            click.echo(f"robust-hub: {' '.join(str(error).split())}", err=True)
            sys.exit(2)


@click.group(cls=_Group)
@click.version_option(package_name="robust-hub")
def main() -> None:
    """Certifiably robust pretrained vision models: pretrain on mixed noise, fine-tune clean, certify."""


for _command in (
    *(models, shelve, pretrain, finetune, certify, report, bench),
    *(card, publish, verify, verify_certificate, reproduce, demo),
):
    main.add_command(_command)
