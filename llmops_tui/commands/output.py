"""What commands print: JSON for programs, aligned tables and plain words for people. Colour only on a terminal without NO_COLOR."""

from __future__ import annotations

import json
import os
import sys
import time
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TextIO

_COLOURS = {
    "running": "32", "starting": "36", "stopping": "33", "queued": "36", "blocked": "33", "paused": "33", "succeeded": "32",
    "failed": "31", "out_of_memory": "31", "hung": "31", "lost": "31", "cancelled": "33", "ok": "32", "warning": "33",
}  # fmt: skip
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
MISSING = "-"


def print_json(value: object) -> None:
    """One JSON document on stdout, indented on a terminal."""
    print(json.dumps(value, indent=2 if sys.stdout.isatty() else None, ensure_ascii=False))


def print_json_line(value: object) -> None:
    """One line of a JSON stream, flushed: the reader may be waiting for it."""
    print(json.dumps(value, separators=(",", ":"), ensure_ascii=False), flush=True)


def say(text: str) -> None:
    """A line for the person, on stderr."""
    print(text, file=sys.stderr, flush=True)


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[int] = ()) -> None:
    """Columns as wide as their widest cell; columns numbered in `right` are right-aligned. A cell that is a state is coloured."""
    lines = [list(head), *([one_line(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    flush_right = set(right)
    for number, line in enumerate(lines):
        cells = []
        for column, cell in enumerate(line):
            padded = cell.rjust(widths[column]) if column in flush_right else cell.ljust(widths[column])
            cells.append(coloured(padded, _COLOURS.get(cell, "")) if number else coloured(padded, "1"))
        print("  ".join(cells).rstrip())


def print_fields(fields: Iterable[tuple[str, str]]) -> None:
    """`name  value` lines, aligned; empty values are left out."""
    shown = [(name, value) for name, value in fields if value]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        print(f"{coloured(name.ljust(width), '1')}  {value}")


def coloured(text: str, code: str, stream: TextIO | None = None) -> str:
    """The text in an SGR colour where the stream is a terminal and NO_COLOR (no-color.org) is not set."""
    stream = stream or sys.stdout
    if not code or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not stream.isatty():
        return text
    return f"\x1b[{code}m{text}\x1b[0m"


def one_line(text: str) -> str:
    """Without control characters: a run's name or reason must not steer the terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


def cell_width(text: str) -> int:
    """How many columns of a terminal the text takes: Chinese characters two, combining ones none."""
    return sum(0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def size(count: float | None) -> str:
    """Bytes in binary units: `1.5 GiB`."""
    if count is None:
        return MISSING
    value = float(count)
    for unit in _UNITS:
        if abs(value) < 1024 or unit == _UNITS[-1]:
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def duration(seconds: float | None) -> str:
    """`42s`, `3m05s`, `2h07m`, `4d03h`."""
    if seconds is None:
        return MISSING
    total = max(0, round(seconds))
    for unit, below, smaller, name in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if total >= unit:
            return f"{total // unit}{below}{total % unit // smaller:02d}{name}"
    return f"{total}s"


def ago(t: float | None) -> str:
    """How long since the Unix time `t`: `3m05s ago`."""
    return MISSING if t is None else f"{duration(time.time() - t)} ago"


def number(value: float | None) -> str:
    """A metric: four significant digits, whole numbers whole."""
    if value is None:
        return MISSING
    if isinstance(value, int) or (value == value and abs(value) < 1e15 and value == int(value)):
        return f"{int(value):,}"
    return f"{value:.4g}"


def value_text(value: str | float | bool | None) -> str:
    """One cell: `yes`, four significant digits, a dash where the run has none."""
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return one_line(value)
    return str(value) if isinstance(value, int) else number(value)


def percent(fraction: float | None) -> str:
    return MISSING if fraction is None else f"{fraction:.0%}"
