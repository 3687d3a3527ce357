"""From the runs' events.jsonl files into the database: tailed by offset, many files a transaction, each event exactly once.

The loop only looks at file sizes; reading and parsing happen in a thread, committing in the store's writer thread. A pass
that commits is what `latest` and `progress` show, so nothing is ever seen that a crash could take back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import duckdb

from llmops_tui.data.compact import live_points, settle
from llmops_tui.data.event_lines import Batch
from llmops_tui.data.event_store import EventStore, Position, open_position, read_position
from llmops_tui.data.rundir import RunDir
from llmops_tui.data.store import Store, first_line
from llmops_tui.engine.tails import Tail, read_tail
from llmops_tui.errors import LlmopsError
from llmops_tui.specs.answers import Progress
from llmops_tui.specs.settings import EngineSettings

OnEvents = Callable[[str, list[dict[str, Any]], dict[str, float]], None]

_TICK_SECONDS = 0.25
_TRANSACTION_BYTES = 8 << 20
_RETRY_SECONDS = 1.0
_RELEASE_SECONDS = 60.0
_SETTLE_POINTS = 500_000
_REMEMBERED_RUNS = 512

_log = logging.getLogger(__name__)


class PointWatcher(Protocol):
    """Who looks at every committed stretch of a run's events, in order, before anybody hears of it or of the run's end."""

    async def take(self, run: RunDir, batch: Batch) -> None: ...

    async def settle(self, run: RunDir, offset: int) -> None: ...


@dataclass
class _News:
    run: RunDir
    batch: Batch
    events: list[dict[str, Any]]
    latest: dict[str, float]


class Ingest:
    """Tails the tracked runs. All methods belong to the event loop's thread.

    `on_events(run_id, events, latest)` is called there after each commit that brought something: the records that are no
    metrics, in order, and every metric's newest value. A crash between commit and call loses the call, never the rows.
    `on_state(state)` is called when the ingest pauses or goes on.
    """

    def __init__(
        self,
        store: Store,
        settings: EngineSettings,
        on_events: OnEvents,
        free_bytes: Callable[[], int],
        on_state: Callable[[str], None] | None = None,
    ) -> None:
        self.state = "ok"
        self.watcher: PointWatcher | None = None
        self._store = store
        self._settings = settings
        self._on_events = on_events
        self._free_bytes = free_bytes
        self._on_state = on_state
        self._tails: dict[str, Tail] = {}
        self._ended: dict[str, Position] = {}
        self._live: dict[int, int] | None = None
        self._settle_whole: set[int] = set()
        self._events = EventStore()
        self._turn = asyncio.Lock()
        self._told = "ok"
        self._retry_at = 0.0

    def track(self, run: RunDir) -> None:
        """Follow this run's events from where the database stands."""
        if run.id not in self._tails:
            now = time.monotonic()
            self._tails[run.id] = Tail(run, changed=now, due=now)

    def untrack(self, run_id: str) -> None:
        """Stop following; `latest` and `progress` go on answering. Call `drain` first to have everything."""
        tail = self._tails.pop(run_id, None)
        if tail and tail.position:
            self._remember(run_id, tail.position)
            self._settle_whole.add(tail.position.run_key)

    def latest(self, run_id: str) -> dict[str, float]:
        """The newest committed value of each metric; NaN and infinities as they are. {} for an unknown run."""
        position = self._position(run_id)
        return dict(position.latest) if position else {}

    def progress(self, run_id: str) -> Progress | None:
        """The newest committed phase or heartbeat."""
        position = self._position(run_id)
        return position.progress if position else None

    def problem(self, run_id: str) -> str:
        """What is wrong with the run's events file, in one line; empty when nothing is."""
        tail = self._tails.get(run_id)
        if tail and tail.problem:
            return tail.problem
        position = self._position(run_id)
        return f"{position.broken} unusable lines in events.jsonl were skipped" if position and position.broken else ""

    async def run(self, stop: asyncio.Event) -> None:
        """Follow the tracked files until `stop` is set; what stands in them by then is still committed."""
        release_at = time.monotonic() + _RELEASE_SECONDS
        while not stop.is_set():
            more = await self._pass(list(self._tails.values()))
            if self.state == "ok":
                await self._settle_some()
            if more:
                continue
            if time.monotonic() >= release_at:
                release_at = time.monotonic() + _RELEASE_SECONDS
                with contextlib.suppress(LlmopsError, duckdb.Error):  # only a courtesy to the rest of the box
                    await asyncio.wrap_future(self._store.release_memory())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self._pause_seconds())
        while await self._pass(list(self._tails.values()), ignore_back_off=True):
            pass

    async def drain(self, run: RunDir, *, ended: bool = False) -> bool:
        """Commit everything that stands in the file now. With `ended` a last line without its newline counts too.

        False when ingest is paused: the rest follows by itself while the run is tracked, or at the next `drain`.
        """
        tail = self._tails.get(run.id) or Tail(run)
        while await self._pass([tail], ignore_back_off=True, ended=ended):
            pass
        if tail.position and run.id not in self._tails:
            self._remember(run.id, tail.position)
        if tail.position and self.watcher is not None:
            await self._let_watch(run, self.watcher.settle(run, tail.position.offset))
        return self.state == "ok"

    async def _pass(self, tails: Sequence[Tail], *, ignore_back_off: bool = False, ended: bool = False) -> bool:
        """One look at the files, at most one transaction. True when there is more to read at once."""
        async with self._turn:
            now = time.monotonic()
            due = [tail for tail in tails if ignore_back_off or tail.due <= now]
            if not due or (now < self._retry_at and not ignore_back_off):
                return False
            news, more = await asyncio.to_thread(self._read_and_commit, due, ended)
            if (self.state == "ok") != (self._told == "ok"):  # the free bytes in the text change at every look
                self._told = self.state
                _log.warning("ingest: %s", self.state)
                if self._on_state:
                    self._on_state(self.state)
            for item in news:
                if self.watcher is not None:
                    await self._let_watch(item.run, self.watcher.take(item.run, item.batch))
                try:
                    self._on_events(item.run.id, item.events, item.latest)
                except Exception:  # noqa: BLE001 - a receiver's fault must not stop the others' events
                    _log.exception("the receiver of %s's events failed", item.run.id)
            return more

    async def _let_watch(self, run: RunDir, look: Awaitable[None]) -> None:
        try:
            await look
        except Exception:  # noqa: BLE001 - a rule's fault must not stop anybody's events
            _log.exception("the watchers of %s failed", run.id)

    def _read_and_commit(self, tails: Sequence[Tail], ended: bool) -> tuple[list[_News], bool]:
        now = time.monotonic()
        if pause := self._pause_reason():
            self.state, self._retry_at = f"paused: {pause}", now + _RETRY_SECONDS
            return [], False
        try:
            self._load_positions([tail for tail in tails if tail.position is None])
            stretches, more = self._read(tails, ended, now)
            if stretches:
                self._commit(stretches)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told in `state` and tried again: ingest never ends by itself
            # Whether the transaction stands is unknown after a failed commit: ask the database, not memory.
            self._events.forget()
            for tail in tails:
                tail.position, tail.seen, tail.due = None, -1, 0.0
            _log.debug("the events were not taken", exc_info=True)
            self.state, self._retry_at = f"paused: the database did not take the events: {first_line(error)}", now + _RETRY_SECONDS
            return [], False
        self.state = "ok"
        return [
            _News(tail.run, batch, [event.record for event in batch.events], dict(tail.position.latest))
            for tail, batch in stretches
            if tail.position
        ], more

    def _pause_reason(self) -> str:
        wanted = self._settings.pause_ingest_free_bytes
        # Going on needs a little more than pausing, or a disk at the edge would switch at every pass.
        bar = wanted if self.state == "ok" else wanted + wanted // 20
        free = self._free_bytes()
        return f"{free / 1e9:.2f} GB free on the disk, {bar / 1e9:.2f} GB needed; the jobs' files keep everything" if free < bar else ""

    def _load_positions(self, tails: Sequence[Tail]) -> None:
        if tails:
            ids = [tail.run.id for tail in tails]
            for tail, position in zip(tails, self._store.write(lambda con: [open_position(con, i) for i in ids]).result(), strict=True):
                tail.position = position

    def _read(self, tails: Sequence[Tail], ended: bool, now: float) -> tuple[list[tuple[Tail, Batch]], bool]:
        stretches: list[tuple[Tail, Batch]] = []
        room, more = _TRANSACTION_BYTES, False
        for tail in tails:
            if room <= 0:
                more = True
                break
            batch, left = read_tail(tail, ended, now)
            more = more or left
            if batch and not batch.empty:
                room -= batch.end - batch.offset
                stretches.append((tail, batch))
                if batch.first_broken:
                    _log.warning("%s: events.jsonl: %d unusable lines, first %s", tail.run.id, batch.broken, batch.first_broken)
        return stretches, more

    def _commit(self, stretches: Sequence[tuple[Tail, Batch]]) -> None:
        work = [(tail.position, batch) for tail, batch in stretches if tail.position]
        moved = self._store.write(lambda con: self._events.write(con, work)).result()
        for (tail, batch), position in zip(stretches, moved, strict=True):
            tail.position = position
            if self._live is not None:
                self._live[position.run_key] = self._live.get(position.run_key, 0) + len(batch.value)

    async def _settle_some(self) -> None:
        """Move one slice of the points that wait: of a run that ended, or of one that wrote many."""
        if self._live is None:
            self._live = await asyncio.to_thread(self._store.read, live_points)
            active = {tail.position.run_key for tail in self._tails.values() if tail.position}
            self._settle_whole.update(self._live.keys() - active)
        for key in [key for key in self._settle_whole if not self._live.get(key)]:
            self._settle_whole.discard(key)
        full = (key for key, count in self._live.items() if count >= _SETTLE_POINTS)
        chosen = next(iter(self._settle_whole), next(full, None))
        if chosen is None:
            return
        key = chosen
        async with self._turn:
            try:
                moved = await asyncio.wrap_future(self._store.write(lambda con: settle(con, key)))
                if moved >= _SETTLE_POINTS:
                    # Only a checkpoint gives back the room the moved points took; without it the file grows twice as large.
                    await asyncio.wrap_future(self._store.checkpoint())
            except (duckdb.Error, LlmopsError) as error:
                _log.warning("points could not be moved, they stay readable where they are: %s", first_line(error))
                self._settle_whole.discard(key)
                self._live[key] = 0  # counted anew at the next start
                return
        self._live[key] = max(0, self._live.get(key, 0) - moved) if moved else 0

    def _pause_seconds(self) -> float:
        now = time.monotonic()
        return _TICK_SECONDS if any(tail.due <= now + _TICK_SECONDS for tail in self._tails.values()) else _RETRY_SECONDS

    def _position(self, run_id: str) -> Position | None:
        tail = self._tails.get(run_id)
        if tail and tail.position:
            return tail.position
        if run_id not in self._ended and (position := self._store.read(lambda con: read_position(con, run_id))):
            self._remember(run_id, position)
        return self._ended.get(run_id)

    def _remember(self, run_id: str, position: Position) -> None:
        self._ended.pop(run_id, None)
        self._ended[run_id] = position
        while len(self._ended) > _REMEMBERED_RUNS:
            del self._ended[next(iter(self._ended))]
