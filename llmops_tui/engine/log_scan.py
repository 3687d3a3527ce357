"""Finding text in a log file, chunk by chunk, in both directions with the same hits.

Plain text is found by `bytes.find` at the speed of memory. A regular expression may backtrack for ever, and Python's `re` holds the
interpreter's lock while it does: those run in a process of their own (`scan_apart`), which its CPU limit ends.
The file is read, never mapped: a log that shrinks under a mapping would kill the engine.
"""

from __future__ import annotations

import bisect
import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from llmops_tui.errors import LlmopsError, UsageError
from llmops_tui.specs.log_text import ESCAPE_BYTES, compiled

CHUNK_BYTES = 1 << 20
REGEX_CPU_SECONDS = 3
_APART_SECONDS = 20.0  # of a box so busy that the CPU limit does not bite
_LOOK_BYTES = 1 << 16
_REGEX_OVERLAP_BYTES = 1 << 12
# What may match a line's end, or says so little that it has to be taken for such: these expressions see one line at a time.
_CROSSES_LINES = re.compile(r"\[\^|\\[sSWDnrxuUN0]|\(\?")

Range = tuple[int, int]
Spans = Callable[[bytes], Iterator[Range]]


class Hit(NamedTuple):
    """Byte offsets in the file. `offset` is its line's beginning; of a line longer than a chunk a place at most one chunk before it."""

    offset: int
    hit_start: int
    hit_end: int


class Scanned(NamedTuple):
    """`total` hits were seen, the first of them are told. Go on at `scanned_to` where there is `more`."""

    hits: list[Hit]
    total: int
    scanned_to: int
    more: bool


class Needle(NamedTuple):
    """What to look for. Case is ignored of every letter that has one; an empty match is no hit."""

    pattern: str
    regex: bool = False
    ignore_case: bool = False

    @property
    def plain(self) -> bool:
        """Whether it is found without `re`."""
        return not self.regex and (self.pattern.isascii() or not self.ignore_case)


class Bounds(NamedTuple):
    """Hits that begin in [offset, until), at most `most` of them, each in a line of its own (or piece of `line_bytes`) where that is not 0.

    Backward the last ones come first. It ends early after `most_bytes` or `seconds`, whichever comes first.
    """

    offset: int
    until: int
    backward: bool = False
    most: int = 100
    line_bytes: int = 0
    most_bytes: int = 256 << 20
    seconds: float = 0.25


def scan(descriptor: int, ranges: list[Range], needle: Needle, bounds: Bounds, progress: Callable[[int], None] | None = None) -> Scanned:
    """Look through the ranges of a file (each begins with a line) for the needle."""
    spans, overlap = _finder(needle)
    lowest, highest = bounds.offset, bounds.until
    hits: list[Hit] = []
    count = seen = 0
    reached = highest if bounds.backward else lowest
    deadline = time.monotonic() + bounds.seconds
    for begin, end in _chunks(descriptor, ranges, lowest, highest, bounds.backward):
        if seen and (seen >= bounds.most_bytes or time.monotonic() > deadline):
            return Scanned(hits, count, reached, True)
        if progress is not None:
            progress(begin)
        data = os.pread(descriptor, end - begin + overlap, begin)
        seen += end - begin
        found = _hits(data, begin, end - begin, spans, bounds.line_bytes)
        if bounds.most == 0:
            count += sum(lowest <= hit.hit_start < highest for hit in found)
        else:
            for hit in reversed(list(found)) if bounds.backward else found:
                if lowest <= hit.hit_start < highest:
                    count += 1
                    hits.append(hit)
                    if len(hits) == bounds.most:
                        return Scanned(hits, count, hit.hit_start + (0 if bounds.backward else 1), True)
        reached = max(lowest, begin) if bounds.backward else min(highest, end)
    return Scanned(hits, count, lowest if bounds.backward else highest, False)


def _chunks(descriptor: int, ranges: list[Range], lowest: int, highest: int, backward: bool) -> Iterator[Range]:
    """Stretches of about a chunk that begin with a line, always the same ones wherever the search began.

    Hits do not overlap, so which ones there are depends on where looking began: forward and backward have to agree.
    """
    for range_begin, range_end in reversed(ranges) if backward else ranges:
        if range_end <= lowest or range_begin >= highest:
            continue
        # A chunk's beginning lies up to a chunk behind its place on the grid.
        first = max(range_begin // CHUNK_BYTES, lowest // CHUNK_BYTES - 1)
        last = min(-(-range_end // CHUNK_BYTES), -(-highest // CHUNK_BYTES))
        for number in range(last - 1, first - 1, -1) if backward else range(first, last):
            begin = _edge(descriptor, number * CHUNK_BYTES, range_begin, range_end)
            end = _edge(descriptor, (number + 1) * CHUNK_BYTES, range_begin, range_end)
            if begin < end and begin < highest and end > lowest:
                yield begin, end


def _edge(descriptor: int, place: int, range_begin: int, range_end: int) -> int:
    """The first line's beginning at or after a place of the grid; the place itself inside of a line longer than a chunk."""
    if place <= range_begin:
        return range_begin
    at = place - 1
    limit = min(range_end, place + CHUNK_BYTES)
    while at < limit:
        data = os.pread(descriptor, min(_LOOK_BYTES, limit - at), at)
        newline = data.find(b"\n")
        if newline >= 0:
            return at + newline + 1
        if not data:
            break
        at += len(data)
    return place if place + CHUNK_BYTES <= range_end else range_end


def _hits(data: bytes, base: int, own: int, spans: Spans, line_bytes: int) -> Iterator[Hit]:
    """The hits that begin in the first `own` bytes of a chunk, in order."""
    plain, places = _without_escapes(data) if b"\x1b" in data else (data, None)
    line_start = looked = skip_to = 0
    for begin, end in spans(plain):
        if places is not None:
            begin, end = places.raw(begin), places.raw(end - 1) + 1
        if begin >= own:
            return
        if begin < skip_to:
            continue
        newline = data.rfind(b"\n", looked, begin)
        line_start, looked = newline + 1 if newline >= 0 else line_start, begin
        yield Hit(base + line_start, base + begin, base + end)
        if line_bytes:
            piece_end = begin + line_bytes - (begin - line_start) % line_bytes
            newline = data.find(b"\n", begin, piece_end)
            skip_to = newline + 1 if newline >= 0 else piece_end


class _Places:
    """From bytes without escapes to the bytes they were taken from."""

    def __init__(self) -> None:
        self.plain = [0]
        self.taken = [0]

    def raw(self, at: int) -> int:
        return at + self.taken[bisect.bisect_right(self.plain, at) - 1]


def _without_escapes(data: bytes) -> tuple[bytes, _Places]:
    places = _Places()
    parts = []
    at = taken = 0
    for escape in ESCAPE_BYTES.finditer(data):
        begin, end = escape.span()
        parts.append(data[at:begin])
        taken += end - begin
        places.plain.append(end - taken)
        places.taken.append(taken)
        at = end
    parts.append(data[at:])
    return b"".join(parts), places


def _finder(needle: Needle) -> tuple[Spans, int]:
    """How to find the needle in bytes, and how far a hit may reach over a chunk's end."""
    if needle.plain:
        word = needle.pattern.encode("utf-8", "surrogateescape")
        return _literal(word.lower() if needle.ignore_case else word, needle.ignore_case), len(word) - 1
    expression = compiled(needle.pattern, needle.regex, needle.ignore_case)
    linewise = bool(needle.regex and _CROSSES_LINES.search(needle.pattern))
    return _expression(expression, linewise), _REGEX_OVERLAP_BYTES


def _literal(word: bytes, ignore_case: bool) -> Spans:
    def spans(data: bytes) -> Iterator[Range]:
        haystack = data.lower() if ignore_case else data
        at = haystack.find(word)
        while at >= 0:
            yield at, at + len(word)
            at = haystack.find(word, at + len(word))

    return spans


def _expression(expression: re.Pattern[str], linewise: bool) -> Spans:
    def spans(data: bytes) -> Iterator[Range]:
        # A carriage return ends what one line showed: ^ and $ mean that.
        text = data.decode("utf-8", "surrogateescape").replace("\r", "\n")
        found = _by_lines(expression, text) if linewise else (match.span() for match in expression.finditer(text))
        pairs = (pair for pair in found if pair[0] < pair[1])
        return pairs if len(text) == len(data) else _in_bytes(text, pairs)

    return spans


def _by_lines(expression: re.Pattern[str], text: str) -> Iterator[Range]:
    at, size = 0, len(text)
    while at < size:
        end = text.find("\n", at)
        end = size if end < 0 else end
        if end > at:
            yield from (match.span() for match in expression.finditer(text, at, end))
        at = end + 1


def _in_bytes(text: str, pairs: Iterator[Range]) -> Iterator[Range]:
    known = known_bytes = 0
    for begin, end in pairs:
        first = known_bytes + len(text[known:begin].encode("utf-8", "surrogateescape"))
        known, known_bytes = end, first + len(text[begin:end].encode("utf-8", "surrogateescape"))
        yield first, known_bytes


def answer_requests() -> None:
    """The process of its own: one request on stdin; on stdout where each chunk begins, then the answer."""
    resource.setrlimit(resource.RLIMIT_CPU, (REGEX_CPU_SECONDS, REGEX_CPU_SECONDS + 1))
    path, ranges, needle, bounds = json.load(sys.stdin)

    def progress(offset: int) -> None:
        print(offset, flush=True)

    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    print(json.dumps(scan(descriptor, ranges, Needle(*needle), Bounds(*bounds), progress)))


def scan_apart(path: str, ranges: list[Range], needle: Needle, bounds: Bounds) -> Scanned:
    """`scan` in a process of its own. Raises UsageError for an expression that takes too long."""
    root = str(Path(__file__).parents[2])
    code = f"import sys; sys.path.append({root!r}); from llmops_tui.engine.log_scan import answer_requests; answer_requests()"
    request = json.dumps([path, ranges, needle, bounds])
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            told, wrong = process.communicate(request, timeout=_APART_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            told, wrong = process.communicate()
    if process.returncode == 0:
        hits, count, scanned_to, more = json.loads(told.splitlines()[-1])
        return Scanned([Hit(*hit) for hit in hits], count, scanned_to, more)
    if process.returncode > 0:
        raise LlmopsError(f"the search of {path} ended: {wrong.strip().rsplit(chr(10), 1)[-1]}", "see engine.log in the state directory")
    where = told.split()[-1] if told.split() else "0"
    message = f"pattern: {needle.pattern!r} goes back and forth without end in the lines after byte {where}"
    raise UsageError(message, "use fewer repeats inside of repeats", [{"field": "pattern", "message": message}])
