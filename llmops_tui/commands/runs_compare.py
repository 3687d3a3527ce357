"""`runs compare|diff`: runs side by side."""

from __future__ import annotations

import argparse
import sys

from llmops_tui.commands.comparison_text import csv_text, markdown, table_lines
from llmops_tui.commands.connect import connect
from llmops_tui.commands.output import coloured, print_json, print_table


def compare(args: argparse.Namespace) -> int:
    """What the runs differ in; `--all` also what they agree in. Raises NotFoundError, UsageError (fewer than 2, more than 16)."""
    comparison = connect(args).compare(args.run)
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
