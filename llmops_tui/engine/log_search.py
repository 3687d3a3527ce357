"""Searching and filtering a run's output: bounded pieces of work, so that the face shows progress and can stop asking."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from llmops_tui.engine.log_rotation import kept_ranges
from llmops_tui.engine.log_scan import Bounds, Hit, Needle, Range, Scanned, scan, scan_apart
from llmops_tui.errors import NotFoundError
from llmops_tui.specs.answers import FilteredLine, LogFilter, LogHit, LogSearch
from llmops_tui.specs.log_text import compiled

_PAGE_BYTES = 8 << 20


def search_log(path: Path, needle: Needle, bounds: Bounds) -> LogSearch:
    """Hits of the needle; a missing log has none. Raises UsageError for a pattern that is no regular expression or takes too long."""
    compiled(*needle)
    ranges = kept_ranges(path)
    if not ranges:
        return LogSearch(hits=[], count=0, scanned_to=0, more=False, size=0)
    size = ranges[-1][1]
    found = _scan(path, ranges, needle, _within(bounds, size))
    hits = [LogHit(offset=hit.offset, hit_start=hit.hit_start, hit_end=hit.hit_end) for hit in found.hits]
    return LogSearch(hits=hits, count=found.total, scanned_to=found.scanned_to, more=found.more, size=size)


def filter_log(path: Path, needle: Needle, bounds: Bounds, context: int) -> LogFilter:
    """The lines that hold a hit, with `context` lines before and after each, in the file's order; of long lines the pieces with hits.

    Pages meet without a gap, and a line of context may come in both: lines are known by their offsets.
    """
    compiled(*needle)
    ranges = kept_ranges(path)
    if not ranges:
        return LogFilter(lines=[], scanned_to=0, more=False, size=0)
    size = ranges[-1][1]
    bounds = _within(bounds, size)
    found = _scan(path, ranges, needle, bounds)
    lines: dict[int, FilteredLine] = {}
    scanned_to, more, taken = found.scanned_to, found.more, 0
    with _opened(path) as descriptor:
        for number, hit in enumerate(found.hits, 1):
            reader = _Lines(descriptor, next(kept for kept in ranges if kept[0] <= hit.hit_start < kept[1]), bounds.line_bytes)
            begin, end = reader.around(hit)
            lines[begin] = reader.line(begin, end, hit)
            for neighbour in (*reader.before(begin, context), *reader.after(end, context)):
                lines.setdefault(neighbour[0], reader.line(*neighbour))
                taken += neighbour[1] - neighbour[0]
            taken += end - begin
            if number == bounds.most or taken >= _PAGE_BYTES:
                scanned_to, more = (begin, begin > bounds.offset) if bounds.backward else (end, end < bounds.until)
                break
    return LogFilter(lines=[lines[at] for at in sorted(lines)], scanned_to=scanned_to, more=more, size=size)


def _within(bounds: Bounds, size: int) -> Bounds:
    until = min(size, bounds.until) if bounds.until >= 0 else size
    return bounds._replace(until=until, offset=min(bounds.offset, until))


def _scan(path: Path, ranges: list[Range], needle: Needle, bounds: Bounds) -> Scanned:
    if needle.regex:
        return scan_apart(str(path), ranges, needle, bounds)
    with _opened(path) as descriptor:
        return scan(descriptor, ranges, needle, bounds)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:  # it was there a moment ago
        raise NotFoundError(f"{path} is gone", "the run was removed; see `llmops-tui runs list`") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


class _Lines:
    """The lines of one kept range, the long ones in pieces."""

    def __init__(self, descriptor: int, kept: Range, line_bytes: int) -> None:
        self._descriptor = descriptor
        self._begin, self._end = kept
        self._longest = line_bytes

    def around(self, hit: Hit) -> Range:
        """The line of a hit, or the piece of it."""
        begin = hit.hit_start - (hit.hit_start - hit.offset) % self._longest
        return begin, self._line_end(begin)

    def before(self, begin: int, count: int) -> list[Range]:
        """The lines that end at `begin`."""
        found: list[Range] = []
        while len(found) < count and begin > self._begin:
            floor = max(self._begin, begin - self._longest)
            data = os.pread(self._descriptor, begin - floor, floor)
            start = floor + data.rfind(b"\n", 0, len(data) - 1) + 1
            found.append((start, begin))
            begin = start
        return found

    def after(self, end: int, count: int) -> list[Range]:
        """The lines that begin at `end`."""
        found: list[Range] = []
        while len(found) < count and end < self._end:
            found.append((end, self._line_end(end)))
            end = found[-1][1]
        return found

    def line(self, begin: int, end: int, hit: Hit | None = None) -> FilteredLine:
        """What the answer tells of a line."""
        data = os.pread(self._descriptor, end - begin, begin)
        span = [_characters(data[: at - begin]) for at in (hit.hit_start, hit.hit_end)] if hit else []
        return FilteredLine(offset=begin, bytes=end - begin, text=data.decode("utf-8", "replace"), matched=hit is not None, span=span)

    def _line_end(self, begin: int) -> int:
        limit = min(self._end, begin + self._longest)
        newline = os.pread(self._descriptor, limit - begin, begin).find(b"\n")
        return begin + newline + 1 if newline >= 0 else limit


def _characters(data: bytes) -> int:
    return len(data.decode("utf-8", "replace"))
