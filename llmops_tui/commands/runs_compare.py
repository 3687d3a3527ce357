"""`runs compare|diff`: runs side by side."""

from __future__ import annotations

import argparse
import sys

from llmops_tui.commands.comparison_text import csv_text, markdown, table_lines
from llmops_tui.commands.connect import connect
from llmops_tui.commands.grouped_text import footnote, grouped_csv, grouped_markdown, heads, rows
from llmops_tui.commands.output import coloured, print_json, print_table, say
from llmops_tui.specs.run_groups import Grouped, group


def compare(args: argparse.Namespace) -> int:
    """What the runs differ in; `--all` also what they agree in. Raises NotFoundError, UsageError (fewer than 2, more than 16)."""
    comparison = connect(args).compare(args.run)
    if args.group_by:
        return _print_groups(args, group(comparison, args.group_by))
    form = "json" if args.json else args.format
    if form == "json":
        print_json(comparison)
    elif form == "csv":
        sys.stdout.write(csv_text(comparison))
    elif form == "markdown":
        sys.stdout.write(markdown(comparison, args.all))
    else:
        ids = [run["id"] for run in comparison["runs"]]
        for place, (title, rows) in enumerate(table_lines(comparison, args.all)):
            if place:
                print()
            if rows:
                print_table([title.upper(), *ids], rows, right=range(1, len(ids) + 1))
            else:
                print(coloured(title.upper(), "1"))
    return 0


def _print_groups(args: argparse.Namespace, grouped: Grouped) -> int:
    form = "json" if args.json else args.format
    if form == "json":
        groups = [{"value": one.value, "runs": [args.run[place] for place in one.runs]} for one in grouped.groups]
        means = {metric: [None if mean is None else mean._asdict() for mean in told] for metric, told in grouped.means.items()}
        print_json({"key": grouped.key, "groups": groups, "metrics": means, "differ_within": grouped.loose})
    elif form == "csv":
        sys.stdout.write(grouped_csv(grouped))
    elif form == "markdown":
        sys.stdout.write(grouped_markdown(grouped))
    else:
        table = [
            [metric, *(f"*{cell}" if place == best else cell for place, cell in enumerate(cells))] for metric, cells, best in rows(grouped)
        ]
        print_table([grouped.key.upper(), *heads(grouped)], table, right=range(1, len(grouped.groups) + 1))
        say(f"{footnote(grouped)}; * is better than every other group beyond it")
    return 0
