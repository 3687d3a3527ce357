"""From the bytes of an events.jsonl to columns: pure, and as fast as Python gets. What is broken is counted, never fatal.

Every engine-side reader of events uses this, so that a rebuild stores exactly what the live ingest stored.
"""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import orjson

from llmops_tui.data.whole_lines import LineBatch, begin
from llmops_tui.specs.answers import Progress

Record = dict[str, Any]

LONGEST_LINE_BYTES = 16 << 20
_LONGEST_NAME = 200
_MOST_METRICS = 10_000
_LARGEST_STEP = 2**62
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


@dataclass
class Event:
    """One line that is no metric. `line_end` is the byte offset after it, `body` the line as JSON text."""

    line_end: int
    attempt: int
    t: float
    type: str
    body: str
    record: Record


@dataclass
class Batch(LineBatch):
    """The arrays run in parallel, one entry a point; `metric` indexes `names`."""

    names: list[str] = field(default_factory=list)
    metric: array[int] = field(default_factory=lambda: array("i"))
    attempt: array[int] = field(default_factory=lambda: array("h"))
    step: array[int] = field(default_factory=lambda: array("q"))
    t_ms: array[int] = field(default_factory=lambda: array("q"))
    value: array[float] = field(default_factory=lambda: array("d"))
    events: list[Event] = field(default_factory=list)
    latest: dict[str, float] = field(default_factory=dict)
    progress: Progress | None = None


def parse(
    data: bytes,
    offset: int,
    *,
    now: float,
    final: bool = False,
    skipping: bool = False,
    attempt_starts: Callable[[], list[tuple[int, int]]] = lambda: [(0, 1)],
    known: Collection[str] = (),
) -> Batch:
    """Read the whole lines of `data`, which begins at byte `offset` of the file.

    A last line without its newline is left for the next call, unless `final` (the run is over): then it counts if it is JSON.
    `skipping` says that `data` begins inside a line longer than LONGEST_LINE_BYTES. `attempt_starts` (as of RunDir) is asked
    for lines of programs that do not know about attempts; `now` stands in for a missing time (Unix seconds); `known` are the
    metric names the run has already, since a run may have 10,000.
    """
    batch, lines, position = begin(Batch, data, offset, longest=LONGEST_LINE_BYTES, final=final, skipping=skipping)
    _Reader(batch, now, attempt_starts, known).read(lines, position)
    return batch


class _Reader:
    def __init__(self, batch: Batch, now: float, attempt_starts: Callable[[], list[tuple[int, int]]], known: Collection[str]) -> None:
        self.batch = batch
        self.now = now
        self.ask_starts = attempt_starts
        self.starts: list[tuple[int, int]] = []
        self.known = known
        self.room = _MOST_METRICS - len(known)
        self.index: dict[str, int] = {}

    def read(self, lines: list[bytes], position: int) -> None:
        loads = orjson.loads
        for line in lines:
            position += len(line) + 1
            if not line or line.isspace():
                continue
            self.batch.lines += 1
            plain = True
            try:
                record = loads(line)
            except ValueError:
                plain = False
                try:
                    record = _lenient(line)
                except (ValueError, RecursionError):
                    self.batch.reject("not JSON", position)
                    continue
            if type(record) is not dict:
                self.batch.reject("not a JSON object", position)
            elif record.get("type") == "metric":
                self._metric(record, position)
            else:
                self._event(record, line.decode() if plain else json.dumps(record), position)

    def _metric(self, record: Record, position: int) -> None:
        batch, index = self.batch, self.index
        step, values = record.get("step"), record.get("values")
        if type(step) is float and step.is_integer():
            step = int(step)
        if type(step) is not int or not -_LARGEST_STEP < step < _LARGEST_STEP or type(values) is not dict:
            batch.reject("a metric needs a whole `step` and `values`", position)
            return
        attempt, t_ms = self._attempt(record, position), int(self._time(record) * 1000)
        unusable = ""
        for name, value in values.items():
            if type(value) is not float:
                number = _number(value)
                if number is None:
                    unusable = f"the value of {name[:80]!r} is no number"
                    continue
                value = number
            key = index.get(name)
            if key is None:
                key = self._new_name(name)
                if key is None:
                    unusable = f"the name {name[:80]!r} is too long or one too many"
                    continue
            batch.metric.append(key)
            batch.attempt.append(attempt)
            batch.step.append(step)
            batch.t_ms.append(t_ms)
            batch.value.append(value)
            batch.latest[name] = value
        if unusable:
            batch.reject(unusable, position)

    def _new_name(self, name: str) -> int | None:
        if not name or len(name) > _LONGEST_NAME:
            return None
        if name not in self.known:
            if self.room <= 0:
                return None
            self.room -= 1
        key = self.index[name] = len(self.batch.names)
        self.batch.names.append(name)
        return key

    def _event(self, record: Record, body: str, position: int) -> None:
        kind = record.get("type")
        if kind in ("phase", "heartbeat"):
            self.batch.progress = _progress(record)
        event_type = kind if isinstance(kind, str) and kind else "unknown"
        self.batch.events.append(Event(position, self._attempt(record, position), self._time(record), event_type[:100], body, record))

    def _attempt(self, record: Record, line_end: int) -> int:
        attempt = record.get("attempt")
        if type(attempt) is int and 0 < attempt < 32768:
            return attempt
        self.starts = self.starts or self.ask_starts()
        return next((number for begin, number in self.starts if begin < line_end), 1)

    def _time(self, record: Record) -> float:
        t = record.get("t")
        # 1e11 is the year 5138; milliseconds given by mistake lie above it.
        return float(t) if isinstance(t, int | float) and 0 <= t < 1e11 else self.now


def _number(value: object) -> float | None:
    if isinstance(value, int):
        return float(value) if abs(value) < 2**1023 else None
    return _NOT_FINITE.get(value) if isinstance(value, str) else None


def _lenient(line: bytes) -> object:
    """What Python's own writer emits but JSON forbids (NaN). Raises ValueError, also for text that is not UTF-8."""
    value = _spell_non_finite(json.loads(line.decode()))
    json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate is no text any database or socket takes
    return value


def _spell_non_finite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, dict):
        return {key: _spell_non_finite(item) for key, item in value.items()}
    return [_spell_non_finite(item) for item in value] if isinstance(value, list) else value


def _progress(record: Record) -> Progress:
    def number(key: str) -> float | None:
        value = record.get(key)
        number = _number(value) if type(value) is int else value
        return number if isinstance(number, float) and math.isfinite(number) else None

    return Progress(
        phase=str(record.get("phase", ""))[:200],
        done=number("done") or 0.0,
        total=number("total"),
        unit=str(record.get("unit", "steps"))[:40],
        eta_seconds=number("eta_seconds"),
    )
