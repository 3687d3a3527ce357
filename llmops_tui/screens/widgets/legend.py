"""The lines above a plot: each curve with its value, then what the reader must know about how it is drawn. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from llmops_tui.screens.widgets.axes import value_text

Run = tuple[str, str]

GLYPHS = "*+o#x@%="
"""A curve's character in ASCII, and beside its name."""
SERIES = 8
_NAME_CELLS = (60, 36, 24, 60, 36, 24, 18, 13, 9, 6, 4)
"""What is tried one after the other until the rows suffice: the first three with what is extra, then without."""
_WITH_EXTRA = 3
_FEW_CELLS = 5


@dataclass(frozen=True)
class Entry:
    """One curve's part of the legend; `extra` is told where there is room."""

    sample: str
    role: str
    name: str
    value: str
    extra: str = ""


def range_text(low: float, high: float, ascii_only: bool = False) -> str:
    """The range that a value stands for, where that differs visibly."""
    return f" ({_short(low)}{'..' if ascii_only else '…'}{_short(high)})" if _short(low) != _short(high) else ""


def _short(value: float) -> str:
    return f"{value:.4g}" if value == 0 or 1e-3 <= abs(value) < 1e4 else value_text(value)


def legend_rows(
    entries: Sequence[Entry], notes: Sequence[str], width: int, most: int, needed: int = 0, ascii_only: bool = False
) -> list[list[Run]]:
    """One to `most` rows of exactly `width` cells. Names give way first, then the later notes, then the later curves (told as `+2`).

    The first `needed` notes get a row of their own where there is one, the others only what is left: the plot keeps its height while
    the crosshair moves.
    """
    every = entries
    for attempt, cells in enumerate(_NAME_CELLS):
        entries = [replace(e, value=e.value + e.extra) for e in every] if attempt < _WITH_EXTRA else every
        rows = _rows(entries, width, cells)
        if len(rows) <= most:
            break
    hidden = 0
    if len(rows) > most:
        shown = sum(map(len, rows[:most]))
        while shown > 1 and (len(fewer := _rows(entries[:shown], width, cells)) > most or _used(fewer[-1], cells) + 4 > width):
            shown -= 1
        rows, hidden = _rows(entries[:shown], width, cells)[:most], len(entries) - shown
    lines: list[list[Run]] = []
    for row in rows:
        line: list[Run] = [(" ", "text")]
        for entry in row:
            line += [(f"{entry.sample} {_cut(entry.name, cells)} ", entry.role), (f"{entry.value}  ", "text")]
        lines.append(line)
    if hidden:
        lines[-1].append((f"+{hidden}", "axis"))
    joint = ", " if ascii_only else " · "
    used = sum(len(text) for text, _ in lines[-1])
    kept = list(notes)
    while kept and used + len(joint.join(kept)) + 1 > width:
        if len(lines) < most and len(kept) <= needed and len(joint.join(kept)) + 2 <= width and used > 1:
            lines.append([(" ", "text")])
            used = 1
        else:
            kept.pop()
    lines[-1] += [(" " * max(0, width - used - len(joint.join(kept))), "text"), (joint.join(kept), "axis")]
    return [_exact(line, width) for line in lines]


def _rows(entries: Sequence[Entry], width: int, cells: int) -> list[list[Entry]]:
    rows: list[list[Entry]] = [[]]
    for entry in entries:
        if rows[-1] and _used(rows[-1], cells) + _length(entry, cells) - 2 > width:
            rows.append([])
        rows[-1].append(entry)
    return rows


def _used(row: Sequence[Entry], cells: int) -> int:
    return 1 + sum(_length(entry, cells) for entry in row)


def _length(entry: Entry, cells: int) -> int:
    return len(entry.sample) + 1 + min(len(entry.name), cells) + 1 + len(entry.value) + 2


def _cut(name: str, cells: int) -> str:
    """The beginning and the end of a name: runs differ in their number, metrics in their last word."""
    if len(name) <= cells:
        return name
    if cells <= _FEW_CELLS and len(word := name.rsplit("/", 1)[-1]) <= cells:
        return word
    tail = min(5, cells - 2) if cells > _FEW_CELLS else cells - 1
    return name[: cells - tail - 1] + "~" + name[len(name) - tail :]


def _exact(line: list[Run], width: int) -> list[Run]:
    shown: list[Run] = []
    room = width
    for text, role in line:
        if text and room > 0:
            shown.append((text[:room], role))
            room -= len(text)
    if room > 0:
        shown.append((" " * room, "text"))
    return shown
