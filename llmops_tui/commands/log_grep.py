"""`runs logs RUN --grep PATTERN`: the lines of a run's output that match, found by the engine where the file lies."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from llmops_tui.client import Client
from llmops_tui.commands.output import print_json_line, say
from llmops_tui.errors import EngineUnavailableError
from llmops_tui.specs.states import ENDED

if TYPE_CHECKING:
    from llmops_tui.specs.answers import FilteredLine

_LINES_AT_ONCE = 1000
_LINE_BYTES = 1 << 16
_POLL_SECONDS = 0.5


def grep(args: argparse.Namespace, client: Client, offset: int) -> int:
    """Print matching lines from an offset on, with context, as the run wrote them; with `--follow` also those that come."""
    printer = _Printer(args.json, bool(args.context))
    waiting: dict[int, FilteredLine] = {}
    while True:
        try:
            # Looked at before the search: what an ended run wrote is then complete.
            over = client.run(args.run)["state"] in ENDED
            until = None if over or not args.follow else _whole_lines(client, args.run)
            found = client.log_filter(
                args.run, args.grep, regex=args.regex, ignore_case=args.ignore_case, offset=offset, until=until,
                limit=_LINES_AT_ONCE, context=args.context, line_bytes=_LINE_BYTES,
            )  # fmt: skip
        except EngineUnavailableError:
            if not args.follow:
                raise
            client.ensure_engine()
            continue
        for line in found["lines"]:
            if line["matched"] or line["offset"] not in waiting:
                waiting[line["offset"]] = line
        offset = found["scanned_to"]
        last = not found["more"] and (over or not args.follow)
        # A line of context behind the part that was searched may turn out to match.
        printer.show([waiting.pop(at) for at in sorted(waiting) if last or at < offset])
        if last:
            if not printer.matches:
                say(f"no line of {args.run} matches {args.grep!r}")
            return 0
        if not found["more"]:
            time.sleep(_POLL_SECONDS)


def _whole_lines(client: Client, run: str) -> int:
    """Where the last line that is complete ends."""
    part = client.log(run, -_LINE_BYTES, _LINE_BYTES)
    newline = part.data.rfind(b"\n")
    return part.offset + newline + 1 if newline >= 0 else part.size


class _Printer:
    """Each line once, in order; groups that are apart have `--` between them."""

    def __init__(self, as_json: bool, groups: bool) -> None:
        self.matches = 0
        self._as_json = as_json
        self._groups = groups
        self._end = -1

    def show(self, lines: list[FilteredLine]) -> None:
        for line in lines:
            if line["offset"] < self._end:
                continue
            text = line["text"].rstrip("\n")
            self.matches += line["matched"]
            if self._as_json:
                print_json_line({"offset": line["offset"], "line": text, "matched": line["matched"]})
            else:
                if self._groups and 0 <= self._end != line["offset"]:
                    print("--")
                print(text)
            self._end = line["offset"] + line["bytes"]
        sys.stdout.flush()
