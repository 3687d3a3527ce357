"""One line of a log as it is shown: pure functions from what was written to characters, marks and rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len, get_character_cell_size

from llmops_tui.screens.widgets.lines import Run
from llmops_tui.specs.log_text import ESCAPES

Span = tuple[int, int]
"""From and to, the second not included."""
HIT, CURRENT_HIT = "badge-warn", "badge-good"


@dataclass(frozen=True)
class LogLine:
    """A line, or a piece of a long one: where it lies in the file and what was written; `note` stands where the file has a hole.

    `matched` and `span` (characters) are of filtered lines: whether it holds a hit, and the first one.
    """

    offset: int
    end: int
    text: str
    note: bool = False
    matched: bool = False
    span: Span | None = None


def shown(text: str, marks: Sequence[Span] = (), at: int = -1) -> tuple[str, list[Span]]:
    """A line as a terminal would leave it: after the last carriage return, without escapes and control characters.

    Its marks move along; one of what is not seen becomes empty. With `at`, the part of an overwritten line that holds that character is
    shown: what stood there when it was written.
    """
    text = text.rstrip("\r\n")
    begin, end = _part(text, at) if "\r" in text else (0, len(text))
    part = text[begin:end]
    if marks:
        return _moved(part, [(min(max(begin, a), end) - begin, min(max(begin, b), end) - begin) for a, b in marks])
    if "\x1b" in part:
        part = ESCAPES.sub("", part)
    if "\t" in part:
        part = part.expandtabs(8)
    return part if part.isprintable() else "".join(c for c in part if c.isprintable()), []


def _part(text: str, at: int) -> Span:
    """Which part between carriage returns is seen: the one around `at`, else the last that says something."""
    if 0 <= at < len(text):
        end = text.find("\r", at)
        return text.rfind("\r", 0, at) + 1, len(text) if end < 0 else end
    end = len(text)
    while end > 0:
        begin = text.rfind("\r", 0, end) + 1
        if begin < end:
            return begin, end
        end = begin - 1
    return 0, 0


def _moved(part: str, marks: Sequence[Span]) -> tuple[str, list[Span]]:
    places, kept, length, hidden_to = [], [], 0, 0
    escapes = {found.start(): found.end() for found in ESCAPES.finditer(part)}
    for index, character in enumerate(part):
        places.append(length)
        hidden_to = max(hidden_to, escapes.get(index, 0))
        if index < hidden_to:
            continue
        fresh = " " * (8 - length % 8) if character == "\t" else character if character.isprintable() else ""
        kept.append(fresh)
        length += len(fresh)
    places.append(length)
    return "".join(kept), [(places[a], places[b]) for a, b in marks]


def rows_of(text: str, width: int, wrap: bool, shift: int = 0) -> list[Span]:
    """The characters of each row of a line: several where lines are wrapped, else one that begins `shift` cells into it."""
    if not wrap:
        return [(_index_at(text, shift), len(text))]
    if text.isascii():
        return [(at, min(at + width, len(text))) for at in range(0, max(1, len(text)), width)]
    rows, begin, cells = [], 0, 0
    for index, character in enumerate(text):
        size = get_character_cell_size(character)
        if cells + size > width and index > begin:
            rows.append((begin, index))
            begin, cells = index, 0
        cells += size
    return [*rows, (begin, len(text))]


def _index_at(text: str, cells: int) -> int:
    if text.isascii():
        return min(cells, len(text))
    for index, character in enumerate(text):
        if cells <= 0:
            return index
        cells -= get_character_cell_size(character)
    return len(text)


def painted(text: str, row: Span, width: int, marks: Sequence[Span], current: int, role: str) -> list[Run]:
    """A row with its marks; `current` is the number of the mark that is the present hit, -1: none. Too long a row ends with an ellipsis."""
    begin, end = row
    more = (len(text) - begin if text.isascii() else cell_len(text[begin : begin + 2 * width])) > width and end == len(text)
    if more:
        end = begin + width - 1 if text.isascii() else _last_fitting(text, begin, width - 1)
    runs: list[Run] = []
    at = begin
    for number, (first, last) in enumerate(marks):
        first, last = max(at, first), min(end, last)
        if first < last:
            runs += [(text[at:first], role), (text[first:last], CURRENT_HIT if number == current else HIT)]
            at = last
    runs.append((text[at:end], role))
    return [*runs, ("…", "faint")] if more else runs


def _last_fitting(text: str, begin: int, width: int) -> int:
    cells = 0
    for index in range(begin, len(text)):
        cells += get_character_cell_size(text[index])
        if cells > width:
            return index
    return len(text)


def characters(data: bytes, count: int) -> int:
    """How many characters the first `count` bytes are."""
    return len(data[: max(0, count)].decode("utf-8", "replace"))
