"""How a job tells what happens: one line appended to `events.jsonl` a record. Standard library only.

A record is one `write` to a file opened O_APPEND, so a kill -9 of the job loses nothing that was logged and readers never
see a torn line in the middle. `fdatasync` runs at most once a second: a power cut costs at most the last second.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Names the descriptor where one of several ranks leaves its `end` event for jobs/ranks.py, which tells one end for all.
END_DESCRIPTOR = "LLMOPS_END_DESCRIPTOR"
_SYNC_SECONDS = 1.0
_TAIL_BYTES = 1 << 20
# Made once: json.dumps with these options builds an encoder at every call, a fifth of what a log call may cost.
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class EventWriter:
    """Appends events with a sequence number that goes on over attempts."""

    def __init__(self, run_dir: Path) -> None:
        path = run_dir / "events.jsonl"
        self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._seq = _heal_and_last_seq(self._descriptor)
        self._attempt = int(os.environ.get("LLMOPS_ATTEMPT", "1"))
        self._synced = time.monotonic()

    def write(self, event_type: str, **fields: Any) -> None:
        """Append one event. Non-finite numbers are written as the strings "NaN", "Infinity", "-Infinity"."""
        self._seq += 1
        record = {"t": round(time.time(), 6), "seq": self._seq, "attempt": self._attempt, "type": event_type, **fields}
        try:
            line = _encode(record)
        except ValueError:
            line = _encode(_finite(record))
        data = line.encode() + b"\n"
        written = os.write(self._descriptor, data)
        while written < len(data):  # a full disk can take a part; the rest follows or raises
            written += os.write(self._descriptor, data[written:])
        now = time.monotonic()
        if now - self._synced >= _SYNC_SECONDS or event_type == "end":
            os.fdatasync(self._descriptor)
            self._synced = now

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Log many metrics of one step as one record."""
        self.write("metric", step=step, values={name: float(value) for name, value in values.items()})

    def phase(self, name: str, *, done: float = 0, total: float | None = None, unit: str = "steps") -> None:
        """Say that a new part of the work begins."""
        self.write("phase", phase=name, done=done, total=total, unit=unit, eta_seconds=None)

    def heartbeat(self, phase: str, done: float, total: float | None, unit: str = "steps", eta_seconds: float | None = None) -> None:
        """Say that work goes on; call it from the working thread, so that a hang is silent."""
        self.write("heartbeat", phase=phase, done=done, total=total, unit=unit, eta_seconds=eta_seconds)

    def close(self) -> None:
        os.fdatasync(self._descriptor)
        os.close(self._descriptor)


class RankEvents(EventWriter):
    """Of one rank among several: the first one tells what happens, each leaves its `end` for jobs/ranks.py."""

    def __init__(self, run_dir: Path, rank: int, end_descriptor: int) -> None:
        self._rank = rank
        self._end_descriptor = end_descriptor
        if rank == 0:  # the others may be on another box, where an append to this file would not be one
            super().__init__(run_dir)

    def write(self, event_type: str, **fields: Any) -> None:
        """Append the event where this is the first rank; an end goes to whoever started the ranks."""
        if event_type == "end":
            end = {"t": time.time(), **fields}
            os.pwrite(self._end_descriptor, json.dumps(_finite(end)).encode(), 0)
        elif self._rank == 0:
            super().write(event_type, **fields)

    def close(self) -> None:
        if self._rank == 0:
            super().close()


def open_events(run_dir: Path) -> EventWriter:
    """The writer of this process, whether it works alone or as one of several ranks."""
    descriptor = os.environ.get(END_DESCRIPTOR)
    return EventWriter(run_dir) if descriptor is None else RankEvents(run_dir, int(os.environ["RANK"]), int(descriptor))


def _heal_and_last_seq(descriptor: int) -> int:
    """The last whole record's number; a torn last line (power cut, full disk) is closed by a newline first."""
    size = os.fstat(descriptor).st_size
    if size == 0:
        return 0
    tail = os.pread(descriptor, _TAIL_BYTES, max(0, size - _TAIL_BYTES))
    if not tail.endswith(b"\n"):
        os.write(descriptor, b"\n")
    for line in reversed(tail.split(b"\n")):
        if line.startswith(b"{"):
            try:
                return int(json.loads(line)["seq"])
            except (ValueError, KeyError, TypeError):
                continue
    return 0


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
