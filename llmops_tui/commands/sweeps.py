"""`sweeps list|show|export`: a sweep's trials, a cross-validation's folds."""

from __future__ import annotations

import argparse
import csv
import io
import sys
from typing import TYPE_CHECKING

from llmops_tui.commands.connect import connect
from llmops_tui.commands.output import MISSING, ago, duration, number, one_line, print_fields, print_json, print_table, say, value_text
from llmops_tui.errors import LlmopsError

if TYPE_CHECKING:
    from llmops_tui.specs.answers_sweep import SweepAnswer


def list_sweeps(args: argparse.Namespace) -> int:
    """Every sweep and cross-validation, newest first."""
    runs = connect(args).runs(filter="kind:sweep,crossval", limit=1000)["runs"]
    if args.json:
        print_json(runs)
        return 0
    rows = []
    for run in runs:
        done = run["progress"]
        ended = MISSING if done is None else f"{done['done']:g}/{done['total']:g}" if done["total"] is not None else f"{done['done']:g}"
        rows.append((run["id"], run["state"], ended, number(run["latest"].get("sweep/best")), ago(run["submitted_at"]), run["reason"]))
    print_table(("ID", "STATE", "ENDED", "BEST", "SUBMITTED", "REASON"), rows, right=(2, 3))
    return 0


def show(args: argparse.Namespace) -> int:
    """Trials best first, importances, budget; of a cross-validation mean and interval. Raises NotFoundError, UsageError."""
    sweep = connect(args).sweep(args.run)
    if args.json:
        print_json(sweep)
        return 0
    print_fields(facts_of(sweep))
    print()
    print_table(*trial_table(sweep))
    return 0


def export(args: argparse.Namespace) -> int:
    """One line a trial. Raises LlmopsError where the file cannot be written."""
    sweep = connect(args).sweep(args.run)
    text = csv_text(sweep)
    if args.output in (None, "", "-"):
        sys.stdout.write(text)
        return 0
    try:
        with open(args.output, "w", encoding="utf-8", newline="") as file:
            file.write(text)
    except OSError as error:
        raise LlmopsError(f"{args.output}: cannot be written: {error.strerror}", "name another file with -o") from None
    say(f"{len(sweep['trials'])} trials written to {args.output}")
    return 0


def facts_of(sweep: SweepAnswer) -> list[tuple[str, str]]:
    """What stands above the table, as `(name, words)`."""
    budget, folds = sweep["budget"], sweep["folds"]
    used = [f"{budget['trials_used']} of {budget['trials']} {'folds' if sweep['kind'] == 'crossval' else 'trials'}"]
    if budget["hours"] is not None:
        used.append(f"{budget['hours_used']:.2g} of {budget['hours']:g} h")
    if budget["energy_kwh_used"] is not None or budget["energy_kwh"] is not None:
        most = "" if budget["energy_kwh"] is None else f" of {budget['energy_kwh']:g}"
        used.append(f"{budget['energy_kwh_used'] or 0:.3g}{most} kWh")
    used.append(f"{budget['tokens']:,} tokens")
    if budget["eta_seconds"]:
        used.append(f"about {duration(budget['eta_seconds'])} left")
    counts: dict[str, int] = {}
    for trial in sweep["trials"]:
        counts[trial["state"]] = counts.get(trial["state"], 0) + 1
    facts = [
        ("run", f"{sweep['id']}  {sweep['state']}{': ' + one_line(sweep['reason']) if sweep['reason'] else ''}"),
        ("metric", f"{sweep['metric']}, {'less' if sweep['least_wins'] else 'more'} is better"),
        ("method", ", ".join(word for word in (sweep["sampler"], sweep["pruner"]) if word)),
        ("used", ", ".join(used)),
        ("trials", ", ".join(f"{count} {state}" for state, count in counts.items())),
        ("importance", ", ".join(f"{key} {share:.0%}" for key, share in sweep["importances"].items())),
    ]
    if folds is not None:
        interval = MISSING if folds["low"] is None else f"{number(folds['low'])} to {number(folds['high'])}"
        facts.append(("mean", f"{number(folds['mean'])} (95 %, corrected for shared rows: {interval})"))
        facts.append(
            ("rows", "; ".join(f"fold {each['fold']}: {each['learnt']} learnt, {each['held_out']} scored" for each in folds["rows"]))
        )
    return facts


def trial_table(sweep: SweepAnswer) -> tuple[list[str], list[list[str]], range]:
    """Head, rows best first, and which columns are numbers."""
    keys = list(sweep["space"])
    head = ["#", "RUN", "STATE", sweep["metric"].upper(), *(key.upper() for key in keys), "TOKENS", "WHY"]
    rows = [
        [
            str(trial["number"]), trial["run"] or MISSING, trial["state"], number(trial["value"]),
            *(value_text(trial["params"].get(key)) for key in keys), f"{trial['tokens']:,}", trial["reason"],
        ]
        for trial in sweep["trials"]
    ]  # fmt: skip
    return head, rows, range(3, 5 + len(keys))


def csv_text(sweep: SweepAnswer) -> str:
    """CSV by trial number, every digit of a value; an empty cell where there is none."""
    keys = list(sweep["space"]) or sorted({key for trial in sweep["trials"] for key in trial["params"]})
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["trial", "run", "state", sweep["metric"], *keys, "tokens", "reason"])
    for trial in sorted(sweep["trials"], key=lambda trial: trial["number"]):
        value = "" if trial["value"] is None else repr(trial["value"])
        settings = ["" if trial["params"].get(key) is None else trial["params"][key] for key in keys]
        writer.writerow([trial["number"], trial["run"], trial["state"], value, *settings, trial["tokens"], trial["reason"]])
    return text.getvalue()
