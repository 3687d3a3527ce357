"""`runs pause|resume|checkpoint|evaluate|sample|set|reproduce`."""

from __future__ import annotations

import argparse
from typing import Any

from llmops_tui.commands.connect import connect
from llmops_tui.commands.output import one_line, print_json, print_table, say
from llmops_tui.commands.runs import each, print_answer
from llmops_tui.specs.control import read_settings


def pause(args: argparse.Namespace) -> int:
    """Each; the others are still paused when one cannot be."""
    client = connect(args)
    wish = {"mode": args.mode} if args.mode else {}
    return each(args, lambda run: client.control(run, "pause", wish))


def resume(args: argparse.Namespace) -> int:
    """Each paused run."""
    client = connect(args)
    return each(args, lambda run: client.control(run, "resume"))


def checkpoint(args: argparse.Namespace) -> int:
    return _ask(args, "checkpoint")


def evaluate(args: argparse.Namespace) -> int:
    return _ask(args, "evaluate")


def sample(args: argparse.Namespace) -> int:
    return _ask(args, "sample")


def set_live(args: argparse.Namespace) -> int:
    """Other settings for a running job. Raises UsageError before anything is sent."""
    return _ask(args, "set", read_settings(args.setting))


def reproduce(args: argparse.Namespace) -> int:
    """The new run's id on stdout, and what differs on stderr; of a dry run that is the answer, on stdout."""
    answer = connect(args).reproduce(args.run, anyway=args.anyway, dry_run=args.dry_run)
    if args.json:
        print_json(answer)
        return 0
    rows = [[one["what"], one_line(one["then"])[:60], one_line(one["now"])[:60]] for one in answer["differences"]]
    if not rows:
        say(f"nothing differs from {args.run}: packages, driver, GPUs, code, data and model are the same")
    elif answer["run"] is None:
        print_table(["WHAT", "THEN", "NOW"], rows)
    for what, then, now in rows if answer["run"] is not None else []:
        say(f"{what}: {then or 'not there'} then, {now or 'not there'} now")
    if answer["run"] is not None:
        print(answer["run"]["id"])
    return 0


def _ask(args: argparse.Namespace, command: str, arguments: dict[str, Any] | None = None) -> int:
    summary = connect(args).control(args.run, command, arguments or {})
    if args.json:
        print_json(summary)
    else:
        print_answer(summary)
    return 0
