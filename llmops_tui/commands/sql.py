"""`sql QUERY`: read the engine's database."""

from __future__ import annotations

import argparse
import re
import sys

from llmops_tui.commands.connect import connect
from llmops_tui.commands.output import print_json, print_table, say
from llmops_tui.errors import UsageError

_NUMERIC = re.compile(r"U?(TINY|SMALL|BIG|HUGE)?INT|DOUBLE|FLOAT|DECIMAL")


def sql(args: argparse.Namespace) -> int:
    """Print the answer as a table; with `--json` as one object of columns, types and rows."""
    query = sys.stdin.read() if args.query == "-" else args.query
    if not query.strip():
        raise UsageError("the query is empty", 'for example: llmops-tui sql "SELECT * FROM runs"')
    answer = connect(args).sql(query, args.limit)
    if args.json:
        print_json(answer)
        return 0
    numeric = [column for column, kind in enumerate(answer["types"]) if _NUMERIC.match(kind.upper())]
    print_table(answer["columns"], [["NULL" if cell is None else str(cell) for cell in row] for row in answer["rows"]], right=numeric)
    if answer["truncated"]:
        say(f"only the first {len(answer['rows'])} rows; more with --limit")
    return 0
