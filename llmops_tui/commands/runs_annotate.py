"""`runs tag|note|baseline`: what a person writes to a run, whatever its state."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from llmops_tui.commands.connect import connect
from llmops_tui.commands.output import one_line, print_json, say
from llmops_tui.errors import LlmopsError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmops_tui.specs.answers import RunSummary


def tag(args: argparse.Namespace) -> int:
    """Add and take away tags; without any, print those there are."""
    client = connect(args)
    if not args.change:
        detail = client.run(args.run)
        return _print(args, detail["tags"], "\n".join(map(one_line, detail["tags"])))
    add, take = changes(args.change)
    tags = [tag for tag in client.run(args.run)["tags"] if tag not in take]
    changed = client.annotate(args.run, tags=[*tags, *(tag for tag in add if tag not in tags)])
    return _print(args, changed, f"{changed['id']}: {one_line(', '.join(changed['tags'])) or 'no tags'}")


def changes(words: Sequence[str]) -> tuple[list[str], set[str]]:
    """`+x`, or just `x`, adds; `-x` takes away. Raises UsageError for a sign without a tag."""
    add = [word.removeprefix("+") for word in words if not word.startswith("-")]
    take = {word.removeprefix("-") for word in words if word.startswith("-")}
    if "" in add or "" in take:
        raise UsageError("there is no tag after the sign", "write it right after it: +good -old")
    return list(dict.fromkeys(add)), take


def note(args: argparse.Namespace) -> int:
    """Replace the note (`-`: by what stdin says, empty: by none); without a text, print it."""
    client = connect(args)
    if args.text is None:
        text = client.run(args.run)["note"]
        return _print(args, text, text)
    text = sys.stdin.read().rstrip("\n") if args.text == "-" else args.text
    changed = client.annotate(args.run, note=text)
    return _print(args, changed, f"{changed['id']}: {'noted' if text else 'no note'}")


def baseline(args: argparse.Namespace) -> int:
    """Pin each, or with `--off` unpin it; the others are still pinned when one cannot be."""
    client = connect(args)
    code = 0
    answers: list[RunSummary] = []
    for run in dict.fromkeys(args.run):
        try:
            answers.append(client.annotate(run, baseline=not args.off))
        except LlmopsError as error:
            say(f"llmops-tui: {one_line(str(error))}")
            code = code or error.exit_code
            continue
        if not args.json:
            print(f"{answers[-1]['id']}: {'no baseline any more' if args.off else 'a baseline'}")
    if args.json:
        print_json(answers)
    return code


def _print(args: argparse.Namespace, value: object, text: str) -> int:
    if args.json:
        print_json(value)
    elif text:
        print(text)
    return 0
