"""`runs pause|resume|checkpoint|evaluate|sample|set|reproduce`."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from llmops_tui.commands.connect import connect
from llmops_tui.commands.output import one_line, print_json, print_table, say
from llmops_tui.commands.runs import each, print_answer
from llmops_tui.errors import UsageError
from llmops_tui.specs.control import SETTABLE

if TYPE_CHECKING:
    from llmops_tui.specs.reproduction import Reproduction


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


def read_settings(words: list[str]) -> dict[str, Any]:
    """`KEY=VALUE` each; `none` is never. Raises UsageError naming the word."""
    settings: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or name not in SETTABLE:
            raise UsageError(f"{word!r} sets nothing that can be set while a run goes on", f"write KEY=VALUE with {', '.join(SETTABLE)}")
        if text in ("none", "null"):
            value: object = None
        else:
            try:
                value = json.loads(text)
            except ValueError:
                value = text
        if isinstance(value, bool) or not isinstance(value, int | float | None):
            raise UsageError(f"{name}: {text!r} is not {SETTABLE[name]}", f"for example {name}={'0.5' if 'scale' in name else '100'}")
        settings[name] = value
    return settings


def reproduce(args: argparse.Namespace) -> int:
    """What differs on stderr, the new run's id on stdout."""
    answer = connect(args).reproduce(args.run, anyway=args.anyway, dry_run=args.dry_run)
    if args.json:
        print_json(answer)
        return 0
    tell_differences(answer)
    if answer["run"] is not None:
        print(answer["run"]["id"])
    return 0


def tell_differences(answer: Reproduction) -> None:
    """A table for a person."""
    if not answer["differences"]:
        say(f"nothing differs from {answer['of']}: packages, driver, GPUs, code, data and model are the same")
        return
    rows = [[one["what"], one_line(one["then"])[:60], one_line(one["now"])[:60]] for one in answer["differences"]]
    print_table(["WHAT", "THEN", "NOW"], rows)


def _ask(args: argparse.Namespace, command: str, arguments: dict[str, Any] | None = None) -> int:
    summary = connect(args).control(args.run, command, arguments or {})
    if args.json:
        print_json(summary)
    else:
        print_answer(summary)
    return 0
