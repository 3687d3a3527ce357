"""`runs list|show|watch|stop|retry|priority|move|rm`."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from llmops_tui.client import Client
from llmops_tui.commands.connect import connect
from llmops_tui.commands.money import spent
from llmops_tui.commands.output import ago, cell_width, duration, number, one_line, print_fields, print_json, print_table, say, size
from llmops_tui.commands.quantized import forms_table
from llmops_tui.commands.runs_estimate import kept
from llmops_tui.commands.status import print_runs, progress_text
from llmops_tui.errors import LlmopsError, UsageError
from llmops_tui.specs.outcome_text import outcome_lines
from llmops_tui.specs.run_sorts import descends

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from llmops_tui.specs.answers import Done, RunSummary


def list_runs(args: argparse.Namespace) -> int:
    """One page of runs, newest first unless sorted otherwise. Raises UsageError, with the filter and a caret told before it."""
    if args.filter:
        _check_filter(args.filter)
    client = connect(args)
    try:
        page = client.runs(
            state=",".join(args.state or []) or None, kind=args.kind, limit=args.limit, offset=args.offset, filter=args.filter,
            sort=args.sort, descending=not descends(args.sort) if args.reverse else None, columns=args.column,
        )  # fmt: skip
    except UsageError as error:  # what only the engine can know: which settings there are
        for field in error.fields:
            if field.get("field") == "filter" and field.get("position", "").isdecimal():
                point_at(args.filter, int(field["position"]))
        raise
    if args.json:
        print_json(page)
        return 0
    if page["runs"]:
        print_runs(page["runs"], currency=_currency(client, page["runs"]), columns=args.column, cells=page["columns"])
    else:
        say("no runs" + (" match" if args.state or args.kind or args.offset or args.filter else " yet"))
    left = page["total"] - args.offset - len(page["runs"])
    if left > 0 and page["runs"]:
        say(f"{left} more: --offset {args.offset + len(page['runs'])}")
    return 0


def _check_filter(text: str) -> None:
    """Before anything is asked: the wrong character is shown under the filter as it was written."""
    from llmops_tui.specs.run_filter import FilterError, parse

    try:
        parse(text)
    except FilterError as error:
        point_at(text, error.position)
        raise


def point_at(text: str, position: int) -> None:
    """The text on stderr, and a caret under one of its characters."""
    say(f"  {one_line(text)}")
    say("  " + " " * cell_width(text[:position]) + "^")


def show(args: argparse.Namespace) -> int:
    """Everything known about one run."""
    client = connect(args)
    detail = client.run(args.run)
    if args.json:
        print_json(detail)
        return 0
    started, ended = detail["started_at"], detail["ended_at"]
    took = duration(ended - started) if started is not None and ended is not None else ""
    print_fields(
        [
            ("run", detail["id"]),
            ("state", detail["state"] + (f": {one_line(detail['reason'])}" if detail["reason"] else "")),
            ("attempt", str(detail["attempt"])),
            ("progress", progress_text(detail["progress"])),
            ("submitted", f"{ago(detail['submitted_at'])} by {detail['owner']}"),
            ("started", ago(started) if started is not None else ""),
            ("ended", (ago(ended) if ended is not None else "") + (f", took {took}" if took else "")),
            ("exit code", "" if detail["exit_code"] is None else str(detail["exit_code"])),
            ("gpus", ", ".join(detail["gpus"])),
            *kept(detail),
            ("used", spent(detail, _currency(client, [detail]))),
            ("tags", one_line(", ".join(detail["tags"]))),
            ("note", one_line(detail["note"])),
            ("baseline", "yes" if detail["baseline"] else ""),
            ("directory", detail["directory"]),
            *(("checkpoint", f"step {point['step']}, {size(point['bytes'])}, {ago(point['t'])}") for point in detail["checkpoints"]),
        ]
    )
    if detail["latest"]:
        print("\nmetrics")
        print_table(["METRIC", "LAST"], [[name, number(value)] for name, value in sorted(detail["latest"].items())], right=[1])
    if detail["outcome"]:
        print("\noutcome")
        print_table(["WHAT", "CAME OUT"], [[name, one_line(text)] for name, text in outcome_lines(detail["outcome"])])
    head, forms = forms_table(detail)
    if forms:
        print("\nforms; * is beaten by no other in everything")
        print_table(head, forms, right=range(2, 10))
    print("\njournal")
    rows = [
        [ago(entry["t"]), str(entry["attempt"]), entry["state"] or entry["entry"], entry["reason"][:100]] for entry in detail["journal"]
    ]  # fmt: skip
    print_table(["WHEN", "ATTEMPT", "WHAT", "WHY"], rows)
    print("\nspec")
    print(json.dumps(detail["spec"], indent=2, ensure_ascii=False))
    return 0


def watch(args: argparse.Namespace) -> int:
    """Follow to the end; the exit code is the run's."""
    from llmops_tui.commands.follow import follow, follow_json

    client = connect(args)
    return follow_json(client, args.run) if args.json else follow(client, args.run)


def stop(args: argparse.Namespace) -> int:
    """Stop each; the others are still stopped when one cannot be."""
    client = connect(args)
    # Only training listens for a wish to stop; the kind is the first word of a run's id.
    return each(args, lambda run: client.stop_run(run, "checkpoint" if run.startswith("train-") and not args.now else "now"))


def retry(args: argparse.Namespace) -> int:
    return _answer(args, connect(args).retry(args.run))


def priority(args: argparse.Namespace) -> int:
    return _answer(args, connect(args).set_priority(args.run, args.priority))


def move(args: argparse.Namespace) -> int:
    return _answer(args, connect(args).move(args.run, args.position))


def remove(args: argparse.Namespace) -> int:
    """Delete each after one question; `--yes` answers it, and without a terminal it has to."""
    client = connect(args)
    if not args.yes:
        _confirm(client, args.run)
    return each(args, client.remove)


def _confirm(client: Client, runs: list[str]) -> None:
    found = [client.run(run)["id"] for run in runs]
    if not sys.stdin.isatty():
        raise UsageError("deleting needs an answer and there is no terminal", "use --yes")
    sys.stderr.write(f"delete {', '.join(found)} with logs, metrics and checkpoints? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise LlmopsError("nothing was deleted", "answer y, or use --yes")


def _currency(client: Client, runs: Sequence[RunSummary]) -> str:
    """What the costs of these runs are in; not asked for where there are none."""
    return str(client.settings()["money"]["currency"]) if any(run["cost"] is not None for run in runs) else ""


def each(args: argparse.Namespace, act: Callable[[str], RunSummary | Done]) -> int:
    """Do it to every run named; report each failure, return the first one's exit code."""
    code, answers = 0, []
    for run in dict.fromkeys(args.run):
        try:
            answers.append(act(run))
        except LlmopsError as error:
            say(f"llmops-tui: {one_line(str(error))}")
            code = code or error.exit_code
            continue
        if not args.json:
            print_answer(answers[-1])
    if args.json:
        print_json(answers)
    return code


def _answer(args: argparse.Namespace, summary: RunSummary) -> int:
    if args.json:
        print_json(summary)
    else:
        print_answer(summary)
    return 0


def print_answer(answer: RunSummary | Done) -> None:
    """In one line."""
    reason = answer.get("reason")
    print(one_line(str(answer.get("done") or f"{answer.get('id')} {answer.get('state')}" + (f": {reason}" if reason else ""))))
