"""Looking at one run's events.jsonl: has it grown, what are the next whole lines, is it still the file that was stored?"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass

from llmops_tui.data.event_lines import LONGEST_LINE_BYTES, Batch, parse
from llmops_tui.data.event_store import Position
from llmops_tui.data.rundir import RunDir

# (quiet for at least this long, look this often): a run that says nothing costs nothing.
_BACK_OFF = ((60.0, 2.0), (10.0, 1.0))
_READ_BYTES = 2 << 20

_log = logging.getLogger(__name__)


@dataclass
class Tail:
    """One tracked file. `position` is what is committed, None until it was loaded; `seen` the size last looked at."""

    run: RunDir
    position: Position | None = None
    seen: int = -1
    changed: float = 0.0
    due: float = 0.0
    problem: str = ""


def read_tail(tail: Tail, ended: bool, now: float) -> tuple[Batch | None, bool]:
    """The next stretch of one file, and whether more stands behind it. Sets when to look again."""
    position = tail.position
    assert position is not None
    try:
        size = os.stat(tail.run.events).st_size
    except FileNotFoundError:
        size = 0
    except OSError as error:
        return _unreadable(tail, error, now)
    if size == tail.seen and not ended:
        quiet = now - tail.changed
        tail.due = now + next((every for after, every in _BACK_OFF if quiet >= after), 0.0)
        return None, False
    tail.seen, tail.changed, tail.due = size, now, now
    if size == position.offset:
        return None, False
    try:
        data = _read_bytes(tail, position, size) if size > position.offset else None
    except OSError as error:  # this one alone: the other runs' events do not wait for it
        return _unreadable(tail, error, now)
    if data is None:
        tail.problem = (
            f"events.jsonl was rewritten ({size} bytes, {position.offset} are stored); what is stored stays, the file is not read again"
        )
        _log.error("%s: %s", tail.run.id, tail.problem)
        return None, False
    tail.problem = ""
    at_end = position.offset + len(data) >= size
    batch = parse(
        data,
        position.offset,
        now=time.time(),
        final=ended and at_end,
        skipping=position.skipping,
        attempt_starts=tail.run.attempt_starts,
        known=position.latest,
    )
    if at_end:
        return batch, False
    tail.seen = -1  # there is more, however the size looks
    return batch, True


def _unreadable(tail: Tail, error: OSError, now: float) -> tuple[None, bool]:
    problem = f"events.jsonl cannot be read: {error.strerror}"
    if tail.problem != problem:
        _log.error("%s: %s", tail.run.id, problem)
    tail.problem, tail.seen, tail.due = problem, -1, now + _BACK_OFF[0][1]
    return None, False


def _read_bytes(tail: Tail, position: Position, size: int) -> bytes | None:
    """The bytes after the offset, up to a read's size or one whole line; None when the file is not the one that was stored."""
    start = max(0, position.offset - 1)
    with open(tail.run.events, "rb", buffering=0) as file:
        for length in (_READ_BYTES, LONGEST_LINE_BYTES):
            data = os.pread(file.fileno(), length + position.offset - start, start)
            if position.offset:
                # Offsets lie after a newline; the byte before costs nothing to check.
                if not position.skipping and data[:1] != b"\n":
                    return None
                data = data[1:]
            if b"\n" in data or len(data) < length or position.offset + len(data) >= size:
                break
    return data
