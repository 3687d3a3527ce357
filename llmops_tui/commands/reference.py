"""Walks the grammar for docs/cli.md and the man page, so that neither can drift from `--help`.

`python -m llmops_tui.commands.reference > docs/cli.md`
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import NamedTuple

from llmops_tui.commands.grammar import EXIT_CODES, build_parser
from llmops_tui.commands.parser import Parser

_HEAD = """# The command line

Made from the program's own grammar by `make docs`. stdout is for data, stderr for people. Options of every command: `--home DIR`
(state directory), `--json` (data as JSON, streams as JSON lines), `--host BOX` (the same on another box over ssh),
`--debug` (the traceback of an error). They may stand anywhere on the line, before `--`.
"""


class Command(NamedTuple):
    """One command as a reader meets it. `options` are (how it is written, what it does)."""

    name: str
    usage: str
    summary: str
    options: list[tuple[str, str]]
    epilog: str


def commands() -> Iterator[Command]:
    """Every command that can be run, in the grammar's order."""
    yield from _walk(build_parser())


def page() -> str:
    """docs/cli.md"""
    parts = [_HEAD, "\n```\n", EXIT_CODES, "\n```\n"]
    for command in commands():
        parts.append(f"\n## {command.name}\n\n{command.summary}\n\n```\n{command.usage}\n```\n")
        if command.options:
            rows = "".join(f"| `{name}` | {text.replace('|', '/')} |\n" for name, text in command.options)
            parts.append(f"\n| | |\n|---|---|\n{rows}")
        if command.epilog:
            parts.append(f"\n```sh\n{_without_head(command.epilog)}\n```\n")
    return "".join(parts)


def _walk(parser: Parser) -> Iterator[Command]:
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups or parser.get_default("handler"):  # `gpus` is a command and has verbs
        options = [(_written(action), action.help or "") for action in _own_actions(parser)]
        yield Command(parser.prog, _usage(parser), parser.description or "", options, parser.epilog or "")
    for group in groups:
        for child in group.choices.values():
            yield from _walk(child)


def _own_actions(parser: Parser) -> list[argparse.Action]:
    common = {"home", "json", "host", "debug", "help"}
    return [action for action in parser._actions if action.dest not in common and not isinstance(action, argparse._SubParsersAction)]


def _written(action: argparse.Action) -> str:
    metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    if not action.option_strings:
        return metavar
    value = "" if action.nargs == 0 else f" {metavar}"
    return ", ".join(f"{option}{value}" for option in action.option_strings)


def _usage(parser: Parser) -> str:
    if parser.usage:
        return parser.usage
    words = [parser.prog]
    actions = _own_actions(parser)
    for action in (action for action in actions if action.option_strings):
        words.append(f"[{_written(action).split(', ')[0]}]" + (" …" if isinstance(action, argparse._AppendAction) else ""))
    for action in (action for action in actions if not action.option_strings):
        name = _written(action)
        words.append(f"{name} …" if action.nargs == "+" else f"[{name} …]" if action.nargs == "*" else name)
    return " ".join(words)


def _without_head(epilog: str) -> str:
    return "\n".join(line.removeprefix("  ") for line in epilog.removeprefix("examples:\n").splitlines())


if __name__ == "__main__":
    sys.stdout.write(page())
