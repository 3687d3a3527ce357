"""One look at a program's own logs: what is new in them goes to the run's events.jsonl, each reading exactly once.

Every line says where it was read (`"from": [number of the log, place]`), so the events themselves are the memory: whoever looks next, after
whatever died, goes on behind the last whole line. A line that a kill tore in the middle does not count, and is written again. Blocking.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmops_tui.engine.foreign.names import name_in_folder
from llmops_tui.engine.foreign.reading import Reading, Stretch
from llmops_tui.engine.foreign.sources import KINDS, Source, SourceKind, find_sources
from llmops_tui.engine.foreign.tfevents import read_events
from llmops_tui.engine.foreign.trainer_state import read_trainer_state
from llmops_tui.engine.foreign.wandb_file import read_wandb

_SCAN_BYTES = 4 << 20
_WRITE_BYTES = 64 << 10
_SHORTEST_PAUSE_SECONDS = 5.0
# A log of a hundred megabytes that was there at once is read over several looks: the engine has other things to do.
_LONGEST_LOOK_SECONDS = 0.5
CROWDED = "another run works in the same directory: of the logs in it those count that this one's processes hold open; others by `logs`"
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


@dataclass(frozen=True)
class Wanted:
    """What to look at. `auto`: only where the program tells nothing itself, and only one kind of log; `since` in Unix seconds.

    `shared` are directories of others too: where another run worked in one at the same time (`crowded`, once and for all), only the
    files of `mine` in it (real paths) and those read before are the run's.
    """

    run_dir: Path
    attempt: int
    roots: tuple[Path, ...]
    since: float
    auto: bool = True
    shared: tuple[Path, ...] = ()
    crowded: bool = False
    mine: frozenset[str] = frozenset()


@dataclass
class Memory:
    """What earlier looks wrote; all of it stands in events.jsonl too."""

    scanned: int = 0
    own_metrics: bool = False
    kind: SourceKind | None = None
    numbers: dict[str, int] = field(default_factory=dict)
    places: dict[int, int] = field(default_factory=dict)
    entries: dict[str, set[str]] = field(default_factory=dict)
    said: set[str] = field(default_factory=set)
    unchanged: dict[str, tuple[int, int]] = field(default_factory=dict)
    progress: tuple[int, int] | None = None
    found: list[Source] = field(default_factory=list)
    find_again: float = 0.0


def look(wanted: Wanted, memory: Memory, *, final: bool = False) -> bool:
    """Read on in every log; whether anything was written. `final`: the program is gone, and what is broken now stays so.

    Raises OSError (a full disk, events.jsonl not readable): take a new Memory then.
    """
    events = wanted.run_dir / "events.jsonl"
    _scan(events, memory, wanted.auto)
    if wanted.auto and memory.own_metrics:
        return False
    now = time.monotonic()
    if final or now >= memory.find_again:
        memory.found = _find(wanted, memory)
        took = time.monotonic() - now
        memory.find_again = now + max(_SHORTEST_PAUSE_SECONDS, 50 * took)  # a tree of 20,000 files costs two per cent of a core at most
    out = _Out(events, wanted.attempt, memory)
    for source in memory.found:
        if wanted.auto and memory.kind not in (None, source.kind) and source.kind != "trainer":
            continue
        only_progress = wanted.auto and memory.kind not in (None, source.kind)
        try:
            if source.kind == "trainer":
                _read_trainer(source, wanted, memory, out, only_progress, final)
            else:
                _read_growing(source, wanted, memory, out, None if final else now + _LONGEST_LOOK_SECONDS)
        except OSError as error:
            if error.filename is None or os.fspath(error.filename) == os.fspath(events):
                raise
            if not isinstance(error, FileNotFoundError):  # trainers remove their old checkpoints
                out.say(source, f"cannot be read: {error.strerror}")
    if wanted.crowded:
        out.note(CROWDED)
    out.flush()
    return out.wrote


def _find(wanted: Wanted, memory: Memory) -> list[Source]:
    if not wanted.crowded and CROWDED not in memory.said:
        return find_sources([*wanted.roots, *wanted.shared], wanted.since)
    found = find_sources(wanted.roots, wanted.since)
    known = {source.path for source in found}
    there = (source for source in find_sources(wanted.shared, wanted.since) if source.path not in known)
    return [*found, *(source for source in there if str(source.path) in wanted.mine or source.group in memory.numbers)]


def _read_growing(source: Source, wanted: Wanted, memory: Memory, out: _Out, until: float | None) -> None:
    number = memory.numbers.get(source.group)
    offset = memory.places.get(number, 0) if number is not None else 0
    while True:
        stretch = read_events(source.path, offset) if source.kind == "tensorboard" else read_wandb(source.path, offset)
        _take(source, stretch, wanted, memory, out)
        offset = stretch.end
        if stretch.problem:
            out.say(source, stretch.problem)
        if not stretch.more or (until is not None and time.monotonic() > until):
            number = memory.numbers.get(source.group)
            if number is not None:  # what lies behind the last number needs no second look while this process lives
                memory.places[number] = max(memory.places.get(number, 0), offset)
            return


def _read_trainer(source: Source, wanted: Wanted, memory: Memory, out: _Out, only_progress: bool, final: bool) -> None:
    status = os.stat(source.path)
    mark = (status.st_mtime_ns, status.st_size)
    key = str(source.path)
    seen_before = memory.unchanged.get(key) == mark
    if seen_before and not final:
        return
    stretch = read_trainer_state(source.path)
    memory.unchanged[key] = mark
    if stretch.problem:
        if final:
            out.say(source, stretch.problem)
        return
    if not only_progress:
        _take(source, stretch, wanted, memory, out, status.st_mtime)
    if stretch.done is not None and stretch.total and (stretch.done, stretch.total) > (memory.progress or (0, 0)):
        memory.progress = (stretch.done, stretch.total)
        elapsed = max(0.0, status.st_mtime - wanted.since)
        eta = round(elapsed / stretch.done * max(0, stretch.total - stretch.done), 1) if stretch.done and wanted.attempt == 1 else None
        out.write(
            {
                "t": time.time(), "attempt": wanted.attempt, "type": "heartbeat", "phase": "train", "done": stretch.done,
                "total": stretch.total, "unit": "steps", "eta_seconds": eta, "from": [],
            }
        )  # fmt: skip


def _take(source: Source, stretch: Stretch, wanted: Wanted, memory: Memory, out: _Out, t: float | None = None) -> None:
    if not stretch.readings:
        return
    number = out.number_of(source)
    if wanted.auto and memory.kind is None:
        memory.kind = source.kind
    known = memory.entries.setdefault(source.group, set())
    for reading in stretch.readings:
        if isinstance(reading.at, str):
            if reading.at in known:
                continue
            known.add(reading.at)
        elif reading.at <= memory.places.get(number, 0):
            continue
        else:
            memory.places[number] = reading.at
        out.write(_line(source, reading, number, wanted.attempt, t))


def _line(source: Source, reading: Reading, number: int, attempt: int, t: float | None) -> dict[str, Any]:
    folder = source.path.parent.name
    values = reading.values if source.kind == "trainer" else {name_in_folder(name, folder): one for name, one in reading.values.items()}
    return {
        "t": reading.t or t or time.time(), "attempt": attempt, "type": "metric", "step": reading.step,
        "values": {name: value if math.isfinite(value) else _word(value) for name, value in values.items()},
        "from": [number, reading.at],
    }  # fmt: skip


def _word(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


class _Out:
    """Lines for events.jsonl, some kilobytes a write."""

    def __init__(self, events: Path, attempt: int, memory: Memory) -> None:
        self.wrote = False
        self._events = events
        self._attempt = attempt
        self._memory = memory
        self._lines: list[bytes] = []
        self._bytes = 0

    def number_of(self, source: Source) -> int:
        """The log's number in this run; the line that gives it also tells a person where the metrics come from."""
        number = self._memory.numbers.get(source.group)
        if number is None:
            number = len(self._memory.numbers) + 1
            self._memory.numbers[source.group] = number
            shown = source.path if source.kind != "trainer" else Path(source.group) / "…" / source.path.name
            self._log(f"metrics are read from {shown} ({KINDS[source.kind]})", [number, 0, source.kind, source.group])
        return number

    def say(self, source: Source, problem: str) -> None:
        """What is wrong with a log, once in the life of the run."""
        self.note(f"{source.path} {problem}; what was read of it before stays, the run goes on", level="warning")

    def note(self, message: str, level: str = "info") -> None:
        if message not in self._memory.said:
            self._memory.said.add(message)
            self._log(message, [], level)

    def write(self, record: dict[str, Any]) -> None:
        line = _encode(record).encode() + b"\n"
        self._lines.append(line)
        self._bytes += len(line)
        if self._bytes >= _WRITE_BYTES:
            self.flush()

    def flush(self) -> None:
        if not self._lines:
            return
        data = b"".join(self._lines)
        self._lines, self._bytes = [], 0
        # Read too, to see the last byte. A job that ended made the file; where it did not, it is made as a job makes it.
        descriptor = os.open(self._events, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                data = b"\n" + data  # a line that a kill tore: it must not become part of the next
            if size == self._memory.scanned:  # nobody wrote meanwhile, and what we write is in memory
                self._memory.scanned += len(data)
            while data:
                data = data[os.write(descriptor, data) :]
        finally:
            os.close(descriptor)
        self.wrote = True

    def _log(self, message: str, origin: Sequence[object], level: str = "info") -> None:
        record = {"t": time.time(), "attempt": self._attempt, "type": "log", "level": level, "message": message, "from": list(origin)}
        self.write(record)


def _scan(events: Path, memory: Memory, auto: bool) -> None:
    """Take up what the events say since the last look: our own lines, and whether the program tells metrics itself."""
    try:
        file = open(events, "rb")  # noqa: SIM115 - closed below; a file that is not there yet says nothing
    except FileNotFoundError:
        return
    with file:
        while not (auto and memory.own_metrics):  # then nothing here is of use any more
            file.seek(memory.scanned)
            data = file.read(_SCAN_BYTES)
            whole = data.rfind(b"\n") + 1
            if not whole:
                if len(data) == _SCAN_BYTES:  # a line that nobody would write
                    memory.scanned += len(data)
                    continue
                _recall(data, memory)  # a line that lacks its line feed alone will be one once the next is written
                return
            memory.scanned += whole
            for line in data[:whole].splitlines():
                if b'"metric"' in line or b'"from"' in line:
                    _recall(line, memory)


def _recall(line: bytes, memory: Memory) -> None:
    try:
        record = json.loads(line)
        origin = record.get("from")
        if not isinstance(origin, list):
            memory.own_metrics = memory.own_metrics or (record.get("type") == "metric" and origin is None)
            return
        if record.get("type") == "log":
            memory.said.add(str(record.get("message")))
            if len(origin) == 4:
                memory.numbers[str(origin[3])] = int(origin[0])
                memory.kind = origin[2] if origin[2] in KINDS else memory.kind
        elif record.get("type") == "heartbeat":
            memory.progress = (int(record["done"]), int(record["total"]))
        elif len(origin) == 2 and isinstance(origin[1], str):
            group = next((name for name, number in memory.numbers.items() if number == origin[0]), "")
            memory.entries.setdefault(group, set()).add(origin[1])
        elif len(origin) == 2:
            memory.places[int(origin[0])] = max(memory.places.get(int(origin[0]), 0), int(origin[1]))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return  # a torn line, or one that somebody else wrote: no memory of ours
