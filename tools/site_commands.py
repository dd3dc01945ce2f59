"""Hook of the site's build (mkdocs.yml): the page of commands, made from what the commands say of themselves."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

import click

MARK = "<!-- commands -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put all commands where a page asks for them."""
    if MARK not in markdown:
        return markdown
    from robust_hub.cli.main import main

    return markdown.replace(MARK, "\n\n".join(section(name, command) for name, command in leaves(main)))


def leaves(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    """Yield each command with its whole name, those of groups within the group too."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from leaves(command, f"{before}{name} ")
        elif command is not None and not command.hidden:
            yield before + name, command


def section(name: str, command: click.Command) -> str:
    """Set one command: what it does, how it is called, what it takes."""
    context = click.Context(command, info_name=f"robust-hub {name}")
    says = textwrap.dedent(command.help or "").replace("\b\n", "").strip()
    words, *examples = says.split("Example: ")
    rows = [_row(option, context) for option in command.params if isinstance(option, click.Option)]
    parts = [f"### robust-hub {name}", escaped(words)]
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    parts.append("\n".join(["```sh", usage, *(" ".join(example.split()) for example in examples), "```"]))
    return "\n\n".join([*parts, "\n".join(["| option | what it does |", "|---|---|", *rows])] if rows else parts)


def _row(option: click.Option, context: click.Context) -> str:
    said = option.get_help_record(context)
    names, words = said if said else (", ".join(option.opts), "")
    return f"| `{names.replace('|', '/')}` | {escaped(words)} |"


def escaped(words: str) -> str:
    """Write words so that Markdown leaves them alone, and a row of a table is one line."""
    for sign in "\\`*_<>[]|":
        words = words.replace(sign, f"\\{sign}")
    return words
