"""`alarms list|ack|rules`: what the watchers saw, who has seen it, and how the rules of a run stand."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from llmops_tui.commands.connect import connect
from llmops_tui.commands.moment import clock
from llmops_tui.commands.output import number, one_line, print_json, print_table, say
from llmops_tui.errors import UsageError

if TYPE_CHECKING:
    from llmops_tui.specs.answers_watch import AlarmRows


def list_alarms(args: argparse.Namespace) -> int:
    """The newest alarms of those asked for; with --rows the batch behind each."""
    client = connect(args)
    alarms = client.alarms(run=args.run, since=args.since, acked=False if args.open else None, limit=args.limit)
    rows = {alarm["id"]: client.alarm_rows(alarm["id"]) for alarm in alarms} if args.rows else {}
    if args.json:
        print_json([{**alarm, "rows": rows[alarm["id"]]} if args.rows else alarm for alarm in alarms])
        return 0
    if not alarms:
        say("no alarm" + (" that matches" if args.run or args.open or args.since is not None else " yet"))
        return 0
    now = time.time()
    if not args.rows:
        print_table(
            ["ID", "WHEN", "DID", "SEEN BY", "WHAT"],
            [
                [one["id"], clock(one["t"], now), one["acted"] or one["action"], one["acked_by"] or "-", one_line(one["words"])]
                for one in alarms
            ],
        )
        return 0
    for alarm in alarms:
        print(f"{alarm['id']}  {clock(alarm['t'], now)}  {one_line(alarm['words'])}")
        _print_rows(rows[alarm["id"]])
    return 0


def ack(args: argparse.Namespace) -> int:
    """Acknowledge by id, or all open alarms of a run."""
    if bool(args.id) == bool(args.run):
        raise UsageError("name alarms, or a run with --run", "see `llmops-tui alarms list --open`")
    client = connect(args)
    ids = args.id or [alarm["id"] for alarm in client.alarms(run=args.run, acked=False)]
    done = [client.ack_alarm(identity) for identity in ids]
    if args.json:
        print_json(done)
    else:
        for alarm in done:
            print(f"{alarm['id']}  seen by {alarm['acked_by']}")
        if not done:
            say(f"{args.run} has no open alarm")
    return 0


def rules(args: argparse.Namespace) -> int:
    """The rules of a run as they stand."""
    state = connect(args).watchers(args.run)
    if args.json:
        print_json(state)
        return 0
    if not state["rules"]:
        say(f"{args.run}: a run of this kind is not watched")
        return 0
    rows = [
        [
            rule["rule"],
            rule["action"],
            rule["state"],
            _number(rule["value"]),
            _number(rule["threshold"]),
            str(rule["alarms"]),
            rule["wrong"],
        ]
        for rule in state["rules"]
    ]
    print_table(["RULE", "ACTION", "STATE", "VALUE", "THRESHOLD", "ALARMS", "FALSE ALARMS"], rows, right=[3, 4, 5])
    return 0


def _number(value: float | None) -> str:
    return "-" if value is None else number(value)


def _print_rows(rows: AlarmRows) -> None:
    for row in rows["rows"]:
        print(f"  row {row['number']:>7}  {one_line(row['text'])}".rstrip())
    if rows["problem"]:
        print(f"  {rows['problem']}")
