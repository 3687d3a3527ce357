"""The user's own commands: a key of the settings that hands the selection to the shell, with the terminal while it runs."""

from __future__ import annotations

import contextlib
import re
import shlex
import subprocess
from typing import TYPE_CHECKING

from llmops_tui.screens.given_away import given_away

if TYPE_CHECKING:
    from llmops_tui.app import LlmopsApp
    from llmops_tui.screens.board import Board
    from llmops_tui.specs.console import CustomCommand

_FIELD = re.compile(r"\{([a-z_]+)\}")


def shell_line(template: str, fields: dict[str, str]) -> str:
    """The command with `{run}` and its like filled in, each quoted for the shell. Raises KeyError for a field the page has not."""
    return _FIELD.sub(lambda match: shlex.quote(fields[match.group(1)]), template)


def run_custom(app: LlmopsApp, board: Board, command: CustomCommand) -> None:
    """Leave the terminal to the command, then come back. What does not work is said at the foot."""
    if command.where not in ("everywhere", board.PAGE):
        app.tell(f"{command.title} belongs to the page {command.where}", "warn")
        return
    fields = board.fields()
    try:
        line = shell_line(command.run, fields)
    except KeyError as missing:
        app.tell(f"{command.title}: nothing is selected that has {{{missing.args[0]}}}; here are {', '.join(sorted(fields))}", "warn")
        return
    if not command.confirm:
        _run(app, command.title, line)
        return
    from llmops_tui.screens.confirm import ConfirmScreen

    question = ConfirmScreen(command.title, [[(f"  $ {line}", "text")]], "run it", "leave it")
    app.push_screen(question, lambda sure: _run(app, command.title, line) if sure else None)


def _run(app: LlmopsApp, title: str, line: str) -> None:
    with given_away(app):
        print(f"$ {line}", flush=True)
        code = subprocess.run(line, shell=True, check=False).returncode
        code = 128 - code if code < 0 else code  # ended by a signal: as a shell says it
        with contextlib.suppress(EOFError):
            input(f"[{title}: exit code {code}; Enter goes back to the console] ")
    app.refresh()
    app.tell(f"{title}: exit code {code}", "good" if code == 0 else "bad")
