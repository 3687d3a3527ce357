"""How far a run was at a past moment: the last phase or heartbeat its events.jsonl told until then.

Heartbeats stand in that file alone (the database keeps the newest). The file is in the order of time, so the place is found
by halving, whatever its length.
"""

from __future__ import annotations

import os
from pathlib import Path

import orjson

from llmops_tui.data.event_lines import parse
from llmops_tui.specs.answers import Progress

_PROBE_BYTES = 4 << 10
# A job tells its progress every second or so; the longest stretch is for one that tells much else meanwhile.
_LOOK_BACK_BYTES = (16 << 10, 1 << 20)


def progress_at(events: Path, t: float) -> Progress | None:
    """The newest progress told until `t` (Unix seconds); None where none is near. Raises OSError but for a missing file."""
    try:
        descriptor = os.open(events, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        end = _offset_after(descriptor, os.fstat(descriptor).st_size, t)
        for length in _LOOK_BACK_BYTES:
            begin = max(0, end - length)
            if progress := _last_progress(os.pread(descriptor, end - begin, begin), t, whole=begin == 0):
                return progress
            if begin == 0:
                return None
        return None
    finally:
        os.close(descriptor)


def _offset_after(descriptor: int, size: int, t: float) -> int:
    """A byte not before the end of the last line told until `t`, and little after it unless its lines are very long."""
    low, high = 0, size
    while high - low > _PROBE_BYTES:
        middle = (low + high) // 2
        told = _first_time(os.pread(descriptor, _PROBE_BYTES, middle))
        if told is not None and told <= t:
            low = middle
        else:  # also where no line of that stretch carries a time: what is looked through afterwards is only longer
            high = middle
    return min(size, high + _PROBE_BYTES)


def _first_time(data: bytes) -> float | None:
    for line in data.split(b"\n")[1:-1]:
        if (told := _time(line)) is not None:
            return told
    return None


def _last_progress(data: bytes, t: float, *, whole: bool) -> Progress | None:
    lines = data.split(b"\n")
    for line in reversed(lines if whole else lines[1:]):
        if (b"heartbeat" in line or b"phase" in line) and (told := _time(line)) is not None and told <= t:
            progress = parse(line + b"\n", 0, now=told).progress
            if progress is not None:
                return progress
    return None


def _time(line: bytes) -> float | None:
    try:
        record = orjson.loads(line)
    except ValueError:
        return None
    told = record.get("t") if isinstance(record, dict) else None
    return float(told) if isinstance(told, int | float) else None
