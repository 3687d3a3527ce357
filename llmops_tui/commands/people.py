"""`audit list|verify`, `gpus reserve|release|reservations` and `runs ask`: several people on one box."""

from __future__ import annotations

import argparse
import json
import time

from llmops_tui.commands.connect import connect
from llmops_tui.commands.moment import clock
from llmops_tui.commands.output import duration, one_line, print_json, print_table, say
from llmops_tui.errors import LlmopsError, UsageError


def list_audit(args: argparse.Namespace) -> int:
    """The newest changes of those asked for, oldest first."""
    entries = connect(args).audit(limit=args.limit, run=args.run or "", user=args.user or "", since=args.since, newest=True)
    if args.json:
        print_json(entries)
        return 0
    if not entries:
        say("nothing was changed" + (" that matches" if args.run or args.user or args.since is not None else " yet"))
        return 0
    now = time.time()
    rows = [
        [str(entry["n"]), clock(entry["t"], now), f"{entry['user']} ({entry['role']})", entry["action"], entry["target"],
         _detail(entry["detail"]), entry["outcome"] + (f": {entry['reason']}" if entry["reason"] else "")]
        for entry in entries
    ]  # fmt: skip
    print_table(["N", "WHEN", "WHO", "WHAT", "OF", "WITH", "OUTCOME"], rows, right=[0])
    return 0


def verify_audit(args: argparse.Namespace) -> int:
    """Walk the chain; exit code 1 where somebody changed, removed or moved a line."""
    verdict = connect(args).verify_audit()
    if args.json:
        print_json(verdict)
        return 0 if verdict["good"] else 1
    if not verdict["good"]:
        raise LlmopsError(f"audit.jsonl was tampered with: {verdict['problem']}", "compare it with a backup")
    print(f"{verdict['lines']} lines, each follows from the one before")
    return 0


def reserve(args: argparse.Namespace) -> int:
    """Keep GPUs for one's own runs."""
    made = connect(args).reserve(args.gpus, args.seconds, args.note)
    if args.json:
        print_json(made)
    else:
        print(made["id"])
        say(f"{', '.join(made['gpus'])}: kept for {made['owner']}'s runs until {clock(made['until'], time.time())}")
    return 0


def release(args: argparse.Namespace) -> int:
    """End a reservation before its time."""
    done = connect(args).release(args.id)
    if args.json:
        print_json(done)
    else:
        print(done["done"])
    return 0


def list_reservations(args: argparse.Namespace) -> int:
    """The reservations in force."""
    client = connect(args)
    kept = client.reservations()
    if args.json:
        print_json(kept)
        return 0
    if not kept:
        say("no GPU is reserved")
        return 0
    now = time.time()
    numbers = {gpu["uuid"]: str(gpu["index"]) for gpu in client.gpus()}
    rows = [
        [one["id"], one["owner"], ", ".join(numbers.get(uuid, uuid) for uuid in one["gpus"]), duration(one["until"] - now), one["note"]]
        for one in kept
    ]
    print_table(["ID", "OWNER", "GPUS", "FOR", "NOTE"], rows, right=[3])
    return 0


def ask(args: argparse.Namespace) -> int:
    """Leave a note in the inbox of a run's owner."""
    if not args.message.strip():
        raise UsageError("the message is empty", "say what you ask for")
    done = connect(args).ask(args.run, args.message)
    if args.json:
        print_json(done)
    else:
        print(done["done"])
    return 0


def _detail(detail: dict[str, object]) -> str:
    return one_line(", ".join(f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in detail.items())[:60])
