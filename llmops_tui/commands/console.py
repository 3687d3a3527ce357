"""No command: the console on a terminal, one plain frame without one."""

from __future__ import annotations

import argparse
import signal
import sys

from llmops_tui.commands.connect import connect
from llmops_tui.commands.output import say
from llmops_tui.commands.status import print_frame


def open_console(args: argparse.Namespace) -> int:
    """Open the TUI; where there is no terminal (or JSON was asked for), print what its first screen would show."""
    if not wants_console(args):
        return print_frame(connect(args), args.json)
    from llmops_tui.app import run_app
    from llmops_tui.client import Client
    from llmops_tui.paths import find_home

    home = find_home(args.home)
    _end_with_the_terminal()
    # The app paints first and connects in a worker; it also starts the engine.
    return run_app(Client(home), config=home.config, view=home.view)


def open_console_at(args: argparse.Namespace) -> int:
    """The TUI of here on the engine of another box (`--host`). Raises what keeps ssh or the engine there from it."""
    from llmops_tui.app import run_app
    from llmops_tui.paths import find_home
    from llmops_tui.reach import reach

    box = reach(args.host, args.home)  # --home is one of that box; how the viewer looks is told by the settings here
    _end_with_the_terminal()
    try:
        say(f"connecting to {args.host}…")
        box.connect(True)  # before the first frame: ssh may have to ask on the plain terminal
        return run_app(box.client, config=find_home().config, view=box.view, box=box)
    finally:
        box.close()


def _end_with_the_terminal() -> None:
    """Also below nohup, which has the hangup ignored: a console without its terminal would read the end of it for ever."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def wants_console(args: argparse.Namespace) -> bool:
    """Whether the command line means the TUI, and there is a terminal for it."""
    # Textual draws on stderr: a console with that redirected would be a blank screen.
    return args.noun is None and not args.json and all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))
