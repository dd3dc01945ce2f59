"""Every command: its help, its --json or the reason for none, and what a person mistypes."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner, Result

from robust_hub.cli.group import WIDTH
from robust_hub.cli.main import SECTIONS, main

NO_JSON = {"app": "it serves a page until it is stopped"}


def leaves(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, (*path, name))
        else:
            yield (*path, name), command


LEAVES = {" ".join(path): command for path, command in leaves(main)}
GROUPS = ["", *(name for name, command in main.commands.items() if isinstance(command, click.Group))]


def run(*words: object, **environment: str) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], env=environment, prog_name="robust-hub")


def has_json(command: click.Command) -> bool:
    return any("--json" in one.opts for one in command.params)


@pytest.mark.parametrize("name", LEAVES)
def test_every_command_has_json_or_a_reason(name: str) -> None:
    assert has_json(LEAVES[name]) != (name in NO_JSON)


def test_a_command_without_json_would_be_seen() -> None:
    assert not has_json(click.Command("forgotten"))


@pytest.mark.parametrize("name", [*LEAVES, *GROUPS])
@pytest.mark.parametrize("columns", [60, 200])
def test_help_is_short_of_the_terminal_and_of_100_columns(name: str, columns: int) -> None:
    result = CliRunner().invoke(main, [*name.split(), "-h"], terminal_width=None, env={"COLUMNS": str(columns)})
    assert result.exit_code == 0, result.output
    assert result.output == run(*name.split(), "--help", COLUMNS=str(columns)).output.replace("robust-hub", "main", 1)
    longest = max(map(len, result.output.splitlines()))
    assert longest <= WIDTH and "..." not in re.sub(r"\.\.\.(?=[\], )]|$)", "", result.output, flags=re.MULTILINE)


@pytest.mark.parametrize("name", LEAVES)
def test_every_option_and_command_says_what_it_is(name: str) -> None:
    command = LEAVES[name]
    assert command.help and "Example: robust-hub" in command.help
    for one in command.params:
        if isinstance(one, click.Option):
            assert one.help and one.help[0].isalnum() and not one.help.endswith((" ", ",")), one.name


def test_every_command_stands_under_a_heading() -> None:
    named = [name for names in SECTIONS.values() for name in names]
    assert len(named) == len(set(named)) and set(main.commands) <= set(named)
    shown = run("-h").output
    for heading in SECTIONS:
        assert f"\n{heading}:\n" in shown
    assert "Others" not in shown and "_ROBUST_HUB_COMPLETE" in shown


def test_no_words_at_all_show_the_help() -> None:
    assert run().output == run("--help").output
    assert run("bench").output == run("bench", "--help").output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["certfy"], "No such command 'certfy'. (Did you mean one of: 'certify'"),
        (["bench", "certfy"], "Did you mean 'certify'?"),
        (["report", "x", "--radi", "1"], "Did you mean"),
        (["certify", "--n", "abc", "--model", "m", "--data", "digits", "--out", "x"], "'abc' is not a valid integer"),
    ],
)
def test_what_is_mistyped_is_answered_with_what_is_near(words: list[str], said: str) -> None:
    result = run(*words)
    assert result.exit_code == 2 and said in result.output and "Traceback" not in result.output


def test_zero_is_no_distance_between_images() -> None:
    words = ("--model", "resnet18s_ln_mixednoise", "--data", "digits", "--out", "x")
    result = run("certify", *words, "--every", 0)
    assert result.exit_code == 2 and "at least 1, got 0" in result.output and len(result.output.splitlines()) == 1


def test_samples_is_n() -> None:
    needed = ["--model", "m", "--data", "digits", "--out", "x"]
    for word in ("--n", "--samples"):
        assert main.commands["certify"].make_context("certify", [*needed, word, "10"]).params["n"] == 10
