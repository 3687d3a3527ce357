"""`man`: a man page in roff (man 7 man) made from the grammar."""

from __future__ import annotations

import argparse

from llmops_tui import __version__
from llmops_tui.commands.grammar import build_parser
from llmops_tui.commands.reference import commands

_FILES = (
    (
        "$XDG_STATE_HOME/llmops-tui",
        "The state directory: run directories, the database, registered models and datasets. --home or $LLMOPS_HOME choose another.",
    ),
    (
        "$XDG_CONFIG_HOME/llmops-tui/config.toml",
        "The settings; config.toml in the state directory where --home or $LLMOPS_HOME is given.",
    ),
)
_ENVIRONMENT = (
    ("LLMOPS_HOME", "The state directory."),
    ("LLMOPS_CONFIG", "The settings file."),
    ("LLMOPS_DEBUG", "1 shows the traceback of an error, like --debug."),
    ("LLMOPS_DEMO_WHEELS", "A directory with the demo's wheels, for a box without a package index."),
    ("NO_COLOR", "No colours."),
)
_EXIT = (
    ("0", "Success."),
    ("1", "An error, or a run that failed."),
    ("2", "Wrong usage, an invalid spec or invalid data."),
    ("3", "A gate failed."),
    ("4", "No such run, model, dataset or file."),
    ("5", "Not enough resources: GPU memory or disk."),
    ("130", "Interrupted; a followed run was cancelled."),
)


def man(args: argparse.Namespace) -> int:
    """Print the page."""
    print(roff(), end="")
    return 0


def roff() -> str:
    """The whole page, section 1."""
    parser = build_parser()
    lines = [
        f'.TH LLMOPS-TUI 1 "" "llmops-tui {__version__}" "User Commands"',
        ".SH NAME",
        "llmops-tui \\- an ops console for LLMs in the terminal",
        ".SH SYNOPSIS",
        ".B llmops-tui",
        "[\\fICOMMAND\\fR] [\\fIOPTION\\fR ...]",
        ".SH DESCRIPTION",
        _text(parser.description or ""),
        "Runs go on when this program, the terminal or the engine ends.",
        ".SH OPTIONS OF EVERY COMMAND",
    ]
    common = ("home", "json", "host", "debug", "version")
    for action in parser._actions:
        if action.dest in common:
            metavar = f" {action.metavar}" if isinstance(action.metavar, str) else ""
            lines += _item(", ".join(action.option_strings) + metavar, action.help or "")
    lines.append(".SH COMMANDS")
    for command in commands():
        lines += [".SS " + _text(command.usage), _text(command.summary)]
        for name, text in command.options:
            lines += _item(name, text)
        if command.epilog:
            lines += [".PP", ".nf", ".RS", *(_text(line) for line in command.epilog.splitlines()), ".RE", ".fi"]
    for title, items in (("EXIT STATUS", _EXIT), ("ENVIRONMENT", _ENVIRONMENT), ("FILES", _FILES)):
        lines.append(f".SH {title}")
        for name, text in items:
            lines += _item(name, text)
    return "\n".join(lines) + "\n"


def _item(name: str, text: str) -> list[str]:
    return [".TP", f"\\fB{_text(name)}\\fR", _text(text)]


def _text(text: str) -> str:
    """Escape what roff would take for a request or an escape."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("…", "...")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped
