"""A part of a run's output by offset, stepping over the hole that rotation left."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from llmops_tui.engine.log_rotation import kept_ranges


class LogPart(NamedTuple):
    """`first_kept` is where the output goes on after the hole, 0 where there is none."""

    data: bytes
    offset: int
    next_offset: int
    size: int
    first_kept: int


def read_log(path: Path, offset: int, limit: int) -> LogPart:
    """At most `limit` bytes from `offset` (negative: from the end), never across a hole. A missing log is empty."""
    ranges = kept_ranges(path)
    size = ranges[-1][1] if ranges else 0
    after_hole = ranges[-1][0] if len(ranges) > 1 else 0
    start = max(0, size + offset) if offset < 0 else offset
    for number, (begin, end) in enumerate(ranges):
        if start >= end:
            continue
        start = max(start, begin)
        with open(path, "rb") as file:
            file.seek(start)
            data = file.read(min(limit, end - start))
        following = start + len(data)
        if following == end and number + 1 < len(ranges):
            following = ranges[number + 1][0]
        return LogPart(data, start, following, size, after_hole)
    return LogPart(b"", size, size, size, after_hole)
