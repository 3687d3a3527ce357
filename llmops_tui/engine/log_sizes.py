"""How long each run's output was, and when: so that a log can be shown as it stood at a past moment."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Collection
from pathlib import Path

from llmops_tui.data.rundir import RunDir

LOOK_SECONDS = 5.0
_SINGLE = struct.Struct("<f")


class LogSizes:
    """Looks at the logs of living runs every few seconds; a size is told when it changed. One thread at a time."""

    def __init__(self, runs: Path) -> None:
        self._runs = runs
        self._told: dict[str, int] = {}
        self._looked = -LOOK_SECONDS

    def look(self, living: Collection[str]) -> dict[str, float]:
        """New sizes by series name (`run/<id>/log_bytes`). A run that is new or has just ended is looked at at once."""
        now, alive = time.monotonic(), set(living)
        looked_at = alive ^ self._told.keys()
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            looked_at = alive | self._told.keys()
        news = {}
        for run_id in looked_at:
            size = _size(RunDir(self._runs / run_id).log)
            if size is not None and size != self._told.get(run_id):
                news[series_name(run_id)] = storable(size)
            if run_id in alive and size is not None:
                self._told[run_id] = size
            else:
                self._told.pop(run_id, None)
        return news


def series_name(run_id: str) -> str:
    """The sample series of a run's log."""
    return f"run/{run_id}/log_bytes"


def storable(size: int) -> float:
    """The largest number a sample can hold that is not above `size`: samples have 24 bits, and a log never shows a later line."""
    value = float(_SINGLE.unpack(_SINGLE.pack(size))[0])
    if value <= size:
        return value
    (bits,) = struct.unpack("<I", _SINGLE.pack(value))
    return float(_SINGLE.unpack(struct.pack("<I", bits - 1))[0])


def _size(path: Path) -> int | None:
    try:
        return os.stat(path).st_size
    except OSError:  # not begun, or its directory was removed meanwhile
        return None
