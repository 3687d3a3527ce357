"""The history of the GPUs and the box: samples kept in batches, forgotten by age, given back as aligned curves."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, wait
from typing import TypedDict

import duckdb

from llmops_tui.data.store import Store, first_line
from llmops_tui.engine.sample_codes import slow_values
from llmops_tui.errors import LlmopsError
from llmops_tui.specs.answers import GpuSample, HostSample
from llmops_tui.specs.settings import EngineSettings

_BATCH_SECONDS = 10.0
_RETENTION_SECONDS = 3600.0
_MOST_BUFFERED = 600
_COMMIT_SECONDS = 5.0
_DAY_SECONDS = 86_400.0

# Slow series are noted at least this often, so that what held at a moment is found close before it.
_KEYFRAME_SECONDS = 60.0
_STALE_TICKS = 3
_LOOK_BACKS_MS = (600_000, 86_400_000)

_HOST = ("cpu", "load_1m", "memory_used_bytes", "disk_free_bytes", "cpu_slots_free")
_GPU = ("utilisation", "memory_used_bytes", "power_watts", "temperature_celsius", "sm_clock_mhz")

_log = logging.getLogger(__name__)


class History(TypedDict):
    """Curves over one time axis (Unix seconds); None where a series has no sample."""

    t: list[float]
    series: dict[str, list[float | None]]


class Samples:
    """Takes one sample a tick, from any thread; a commit every ten seconds is enough for a history."""

    def __init__(self, store: Store, settings: EngineSettings) -> None:
        self._store = store
        self._settings = settings
        self._lock = threading.Lock()
        self._buffer: list[tuple[int, dict[str, float]]] = []
        self._handed_over: Future[None] | None = None
        self._flushed = time.monotonic()
        self._pruned = -_RETENTION_SECONDS
        self._slow: dict[str, float] = {}
        self._keyframe = -_KEYFRAME_SECONDS
        self._first_ms: int | None = None

    def add(self, host: HostSample, gpus: Sequence[GpuSample], log_sizes: Mapping[str, float] | None = None) -> None:
        """Remember one tick; every ten seconds the batch is handed to the writer thread. Blocks for nothing.

        `log_sizes` are series of log_sizes.py, noted as they come.
        """
        values = {**_numbers("host", host, _HOST), **(log_sizes or {})}
        for gpu in gpus:
            values.update(_numbers(f"gpu/{gpu['index']}", gpu, _GPU))
        slow, now = slow_values(host, gpus), time.monotonic()
        if now - self._keyframe >= _KEYFRAME_SECONDS:
            self._keyframe, self._slow = now, {}
        values.update({name: value for name, value in slow.items() if self._slow.get(name) != value})
        self._slow = slow
        with self._lock:
            self._buffer.append((int(host["t"] * 1000), values))
            # Where the database takes nothing (full disk) the oldest minutes go, not the engine's memory.
            del self._buffer[:-_MOST_BUFFERED]
            due = time.monotonic() - self._flushed >= _BATCH_SECONDS
        if due:
            self.flush()

    def flush(self) -> None:
        """Hand what is buffered to the writer thread; samples that cannot be stored are dropped with a line in the log."""
        with self._lock:
            batch, self._buffer = self._buffer, []
            self._flushed = now = time.monotonic()
            prune = now - self._pruned >= _RETENTION_SECONDS
            if prune:
                self._pruned = now
        if not batch:
            return
        oldest_ms = int((time.time() - self._settings.keep_sample_days * _DAY_SECONDS) * 1000)

        def store(con: duckdb.DuckDBPyConnection) -> None:
            _insert(con, batch)
            if prune:
                con.execute("DELETE FROM samples WHERE t_ms < ?", [oldest_ms])
                self._first_ms = None

        try:
            future = self._store.write(store)
        except LlmopsError as error:
            _log.warning("%d samples dropped: %s", len(batch), error)
            return
        with self._lock:
            self._handed_over = future
        future.add_done_callback(lambda done: _tell_loss(len(batch), done.exception()))

    def history(self, seconds: float, now: float | None = None, points: int = 600) -> History:
        """The last `seconds` as at most `points` means a series, what is still buffered included. Reads; call it off the loop."""
        end_ms = int((time.time() if now is None else now) * 1000)
        start_ms = end_ms - int(max(1.0, seconds) * 1000)
        width_ms = max(int(self._settings.sample_seconds * 1000), -(-(end_ms - start_ms) // max(1, points)))
        sums: dict[int, dict[str, tuple[float, int]]] = {}

        def put(t_ms: int, name: str, total: float, count: int) -> None:
            slot = sums.setdefault((t_ms - start_ms) // width_ms, {})
            before = slot.get(name, (0.0, 0))
            slot[name] = (before[0] + total, before[1] + count)

        buffered, stored_until_ms = self._buffered(end_ms)
        rows = self._store.read(
            lambda con: con.execute(
                "SELECT (t_ms - $start) // $width, name, sum(value), count(*) FROM samples JOIN sample_series USING (series_key) "
                "WHERE t_ms >= $start AND t_ms <= $end AND (starts_with(name, 'host/') OR starts_with(name, 'gpu/')) GROUP BY ALL",
                {"start": start_ms, "end": stored_until_ms, "width": width_ms},
            ).fetchall()
        )
        for bucket, name, total, count in rows:
            put(start_ms + bucket * width_ms, name, total, count)
        for t_ms, values in buffered:
            if start_ms <= t_ms <= end_ms:
                for name, value in values.items():
                    if name.startswith(("host/", "gpu/")):
                        put(t_ms, name, value, 1)
        order = sorted(sums)
        names = sorted({name for slot in sums.values() for name in slot})
        return History(
            t=[(start_ms + bucket * width_ms) / 1000 for bucket in order],
            series={name: [_mean(sums[bucket].get(name)) for bucket in order] for name in names},
        )

    def at(self, t: float) -> dict[str, float]:
        """By series what held at `t` (Unix seconds), oldest first. A reading counts for a few ticks, a slow series for a minute.

        Empty for a time without samples. Reads; call it off the loop.
        """
        t_ms = int(t * 1000)
        fresh_ms = t_ms - int(max(5.0, _STALE_TICKS * self._settings.sample_seconds) * 1000)
        slow_ms = t_ms - int((_KEYFRAME_SECONDS + _STALE_TICKS * self._settings.sample_seconds) * 1000)
        buffered, stored_until_ms = self._buffered(t_ms)
        rows = self._store.read(
            lambda con: con.execute(
                "SELECT max(t_ms), name, arg_max(value, t_ms) FROM samples JOIN sample_series USING (series_key) "
                "WHERE t_ms > ? AND t_ms <= ? AND NOT starts_with(name, 'run/') GROUP BY name ORDER BY 1",
                [slow_ms, stored_until_ms],
            ).fetchall()
        )
        told = [(told_ms, {name: value}) for told_ms, name, value in rows]
        found: dict[str, float] = {}
        for told_ms, values in [*told, *buffered]:
            for name, value in values.items():
                if fresh_ms < told_ms <= t_ms or (name.startswith("box/") and slow_ms < told_ms <= t_ms):
                    found.pop(name, None)  # its place is that of its newest value
                    found[name] = value
        return found

    def newest(self, name: str, since: float, t: float) -> float | None:
        """The last value of one series noted from `since` until `t`; None where none was. Reads; call it off the loop."""
        t_ms, since_ms = int(t * 1000), int(since * 1000)
        buffered, stored_until_ms = self._buffered(t_ms)
        for told_ms, values in reversed(buffered):
            if since_ms <= told_ms <= t_ms and name in values:
                return values[name]
        for window in _LOOK_BACKS_MS:
            if t_ms - window > since_ms and (value := self._newest_stored(name, t_ms - window, stored_until_ms)) is not None:
                return value
        return self._newest_stored(name, since_ms, stored_until_ms)

    def first(self) -> float | None:
        """When the oldest sample was taken; None without one. Reads; call it off the loop."""
        if self._first_ms is None:
            row = self._store.read(lambda con: con.execute("SELECT min(t_ms) FROM samples").fetchone())
            with self._lock:
                oldest = min((t_ms for t_ms, _ in self._buffer), default=None)
            times = [t_ms for t_ms in (row[0] if row else None, oldest) if t_ms is not None]
            if not times:
                return None
            self._first_ms = int(min(times))
        return self._first_ms / 1000

    def _newest_stored(self, name: str, from_ms: int, until_ms: int) -> float | None:
        row = self._store.read(
            lambda con: con.execute(
                "SELECT arg_max(value, t_ms) FROM samples WHERE t_ms >= ? AND t_ms <= ? "
                "AND series_key = (SELECT series_key FROM sample_series WHERE name = ?)",
                [from_ms, until_ms, name],
            ).fetchone()
        )
        return float(row[0]) if row and row[0] is not None else None

    def _buffered(self, end_ms: int) -> tuple[list[tuple[int, dict[str, float]]], int]:
        """What is not stored yet, and until when the database answers: what is buffered now may be committed meanwhile."""
        with self._lock:
            buffered, handed_over = list(self._buffer), self._handed_over
        if handed_over:
            wait([handed_over], _COMMIT_SECONDS)
        return buffered, min([end_ms, *(t_ms - 1 for t_ms, _ in buffered)])


def _tell_loss(count: int, error: BaseException | None) -> None:
    if error:
        _log.warning("%d samples dropped: %s", count, first_line(error))


def _insert(con: duckdb.DuckDBPyConnection, batch: list[tuple[int, dict[str, float]]]) -> None:
    names = sorted({name for _, values in batch for name in values})
    known = con.execute("SELECT series_key, name FROM sample_series WHERE list_contains(?, name)", [names]).fetchall()
    keys = {str(name): int(key) for key, name in known}
    highest = con.execute("SELECT coalesce(max(series_key), 0) FROM sample_series").fetchall()[0][0]
    for number, name in enumerate((name for name in names if name not in keys), int(highest) + 1):
        keys[name] = number
        con.execute("INSERT INTO sample_series VALUES (?, ?)", [number, name])
    # A series at a time: its times then differ by little and its values by less, which is what the column packing likes.
    rows = sorted((keys[name], t_ms, value) for t_ms, values in batch for name, value in values.items())
    appender = con.appender("samples")
    appender.append_rows((t_ms, key, value) for key, t_ms, value in rows)
    appender.flush()


def _numbers(family: str, sample: Mapping[str, object], fields: Iterable[str]) -> dict[str, float]:
    return {f"{family}/{field}": float(value) for field in fields if isinstance(value := sample.get(field), int | float)}


def _mean(cell: tuple[float, int] | None) -> float | None:
    return cell[0] / cell[1] if cell else None
