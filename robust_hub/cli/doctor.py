"""The command doctor: whether this installation is sound, fit to be pasted into a report of a fault."""

from __future__ import annotations

import shutil
import sys
from dataclasses import asdict
from itertools import zip_longest
from textwrap import wrap
from typing import TYPE_CHECKING

import click

from robust_hub.cli.output import emit, json_option, note, wants_json

if TYPE_CHECKING:
    from robust_hub.publishing.surroundings import Finding

_NAMES, _LEAST = 44, 20  # columns of a name at most, of what was found at least


@click.command()
@click.option("--deep", is_flag=True, help="Load every checkpoint and compare its logits and records, too: minutes.")
@json_option
def doctor(deep: bool) -> None:
    """Say what this installation has and whether all is well: versions, device, network, caches, checkpoints.

    Nothing is changed, and no name, home or token of yours is said: what it prints may stand in a public issue. Exit
    code 1 if something is wrong.

    Example: robust-hub doctor
    """
    if sys.stderr is not None and sys.stderr.isatty():
        note(f"looking at versions, device, network and every checkpoint: {'minutes' if deep else 'some seconds'}")
    from robust_hub.publishing.diagnosis import diagnose

    found = list(diagnose(deep=deep))
    wrong = [finding for finding in found if finding.wrong]
    if sys.stdout.isatty() and not wants_json():
        _print_table(found)
        click.echo(_last_line(wrong))
    else:
        values = {"well": not wrong, "findings": [asdict(finding) for finding in found]}
        emit(values, lambda: "\n".join([*_lines(found), _last_line(wrong)]))
    sys.exit(1 if wrong else 0)


def _last_line(wrong: list[Finding]) -> str:
    if not wrong:
        return "all is well"
    names = ", ".join(dict.fromkeys(f"{finding.part}: {finding.name}" for finding in wrong))
    return f"{len(wrong)} thing{' is' if len(wrong) == 1 else 's are'} wrong ({names}); what to do stands there"


def _lines(found: list[Finding]) -> list[str]:
    return [f"{one.part}: {one.name}: {'WRONG: ' if one.wrong else ''}{one.value}" for one in found]


def _print_table(found: list[Finding]) -> None:
    """Print the findings in three columns, of which a terminal's width folds the last two."""
    parts = max(len(finding.part) for finding in found)
    names = min(_NAMES, max(len(finding.name) for finding in found))
    rest = max(_LEAST, shutil.get_terminal_size().columns - parts - names - 4)
    before = ""
    for finding in found:
        words = f"{'WRONG: ' if finding.wrong else ''}{finding.value}"
        part = finding.part if finding.part != before else ""
        columns = [part], wrap(finding.name, names), wrap(words, rest)
        for first, name, said in zip_longest(*columns, fillvalue=""):
            said = click.style(said, fg="red", bold=True) if finding.wrong and said else said
            line = f"{click.style(first.ljust(parts), bold=True)}  {name.ljust(names)}  {said}"
            click.echo(line.rstrip())
        before = finding.part
