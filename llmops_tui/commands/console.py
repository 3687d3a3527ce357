"""No command: the console on a terminal, one plain frame without one."""

from __future__ import annotations

import argparse
import sys

from llmops_tui.commands.connect import connect
from llmops_tui.commands.status import print_frame


def open_console(args: argparse.Namespace) -> int:
    """Open the TUI; where there is no terminal (or JSON was asked for), print what its first screen would show."""
    # Textual draws on stderr: a console with that redirected would be a blank screen.
    if args.json or not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        return print_frame(connect(args), args.json)
    from llmops_tui.app import run_app
    from llmops_tui.client import Client
    from llmops_tui.paths import find_home

    home = find_home(args.home)
    # The app paints first and connects in a worker; it also starts the engine.
    return run_app(Client(home), config=home.config, view=home.view)
