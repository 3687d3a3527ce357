"""`events`: what happened to runs, GPUs and the engine, from the stored events and as it goes on."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llmops_tui.commands.connect import connect
from llmops_tui.commands.moment import clock
from llmops_tui.commands.output import number, one_line, print_json, print_json_line, print_table
from llmops_tui.errors import UsageError

if TYPE_CHECKING:
    from llmops_tui.specs.answers import EngineEvent

# Progress is told every second by every run: it is shown only to those who ask for it.
_WITHOUT_PROGRESS = ("-run.progress",)
_WIDEST = 100


def list_events(args: argparse.Namespace) -> int:
    """Print the newest stored events that were asked for, oldest first; with --follow go on until interrupted."""
    client = connect(args)
    if args.since is not None and args.until is not None and args.until < args.since:
        raise UsageError("--until lies before --since", "swap them")
    if args.follow and args.until is not None:
        raise UsageError("--follow has no end, --until is one", "leave one of them out")
    # Asked first: what happens after this answer is in the pages below, or comes with the stream.
    newest = client.events(limit=1, newest=True)["events"]
    types, run = tuple(args.type or _WITHOUT_PROGRESS), args.run or ""
    asked = client.events(limit=args.limit, newest=True, types=types, run=run, since=args.since, until=args.until)
    events = asked["events"]
    if not args.follow:
        if args.json:
            print_json(events)
        elif not events:
            print("no events" + (" of that kind" if args.type or run or args.since is not None or args.until is not None else " yet"))
        else:
            now = time.time()
            rows = [[clock(event["t"], now), event["type"], event["run"] or "-", event_text(event)] for event in events]
            print_table(["TIME", "EVENT", "RUN", "WHAT"], rows)
        return 0
    for event in events:
        _print_one(event, args.json)
    for event in client.stream_events(after=max([event["seq"] for event in [*events, *newest]], default=0)):
        if is_wanted(event["type"], types) and (not run or event["run"] == run):
            _print_one(event, args.json)
    return 0


def is_wanted(kind: str, types: Sequence[str]) -> bool:
    """Whether the stream's event is one that was asked for; a type with a leading - is left out, as the engine has it."""
    chosen = [name for name in types if not name.startswith("-")]
    return f"-{kind}" not in types and (not chosen or kind in chosen)


def event_text(event: EngineEvent) -> str:
    """What an event carries, in a few words: its state and reason first, then the rest as `key=value`."""
    data: dict[str, Any] = event["data"]
    words = [str(data[key]) for key in ("state", "command", "outcome", "reason", "message", "text") if data.get(key)]
    words += [
        f"{key}={_value(value)}"
        for key, value in data.items()
        if key in ("attempt", "exit_code", "gpu", "xid", "step", "pid") and value is not None
    ]
    text = one_line(" ".join(words))
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"


def _value(value: object) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return number(value).replace(",", "")
    return value if isinstance(value, str) else json.dumps(value)


def _print_one(event: EngineEvent, as_json: bool) -> None:
    if as_json:
        print_json_line(event)
        return
    print(f"{clock(event['t'], time.time())}  {event['type']}  {event['run'] or '-'}  {event_text(event)}", flush=True)
