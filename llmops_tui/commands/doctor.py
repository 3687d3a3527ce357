"""`doctor`: what on this box would stop or hurt a run, and how to repair it."""

from __future__ import annotations

import argparse
import subprocess
import sys

from llmops_tui.client import Client
from llmops_tui.commands.doctor_checks import Check, all_checks
from llmops_tui.commands.output import coloured, one_line, print_json
from llmops_tui.errors import ConflictError
from llmops_tui.paths import find_home

_MARKS = {"ok": ("ok     ", "32"), "warning": ("warning", "33"), "failed": ("failed ", "31")}


def doctor(args: argparse.Namespace) -> int:
    """Print every check; exit code 1 when one failed (a warning is no failure)."""
    home = find_home(args.home)
    client = Client(home)
    if args.rebuild:
        if client.answers():
            raise ConflictError("the engine runs and owns the database", "stop it first: `llmops-tui engine stop` (jobs go on)")
        # The rebuild imports the database, which no command may: it is a program of its own.
        command = [sys.executable, "-P", "-m", "llmops_tui.data.rebuild", "--home", str(home.root), "--config", str(home.config)]
        return subprocess.run(command, check=False).returncode
    checks: list[Check] = []
    for check in all_checks(client):
        checks.append(check)
        if not args.json:
            mark, colour = _MARKS[check.state]
            print(f"{coloured(mark, colour)}  {check.name}: {one_line(check.found)}", flush=True)
            if check.fix:
                print(f"         fix: {one_line(check.fix)}", flush=True)
    if args.json:
        print_json([check._asdict() for check in checks])
    return 1 if any(check.state == "failed" for check in checks) else 0
