"""The engine's events: numbered, stored, then told to whoever listens. Nobody sees an event that a crash could take back."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any

import duckdb

from llmops_tui.data import queries
from llmops_tui.data.store import Store
from llmops_tui.errors import LlmopsError
from llmops_tui.specs.answers import EngineEvent

_QUEUE_EVENTS = 256
_PAGE_EVENTS = 500
_MOST_PENDING = 10_000
_RETRY_SECONDS = 1.0
_PATIENCE_SECONDS = 5.0
_PRUNE_EVERY = 10_000
_log = logging.getLogger(__name__)


class _Subscriber:
    """A bounded queue. When it is full the subscriber lags: it reads what it missed from the store, at its own pace."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[EngineEvent] = asyncio.Queue(_QUEUE_EVENTS)
        self.lagging = True

    def offer(self, event: EngineEvent) -> None:
        if self.lagging:
            return  # it stands in the store, where this subscriber reads next
        try:
            self.queue.put_nowait(event)
        except asyncio.QueueFull:
            self.lagging = True


class Hub:
    """Belongs to the event loop's thread. `last_seq` is the newest number that is stored."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.last_seq = store.read(queries.last_engine_event)
        self._given = self.last_seq
        self._pending: deque[EngineEvent] = deque()
        self._subscribers: set[_Subscriber] = set()
        self._flusher: asyncio.Task[None] | None = None
        self._since_prune = 0

    def publish_soon(self, type: str, run_id: str | None, data: dict[str, Any]) -> int:
        """Number an event and store it with the next batch; returns its number at once. Never blocks, never raises."""
        self._given += 1
        self._pending.append(EngineEvent(seq=self._given, t=time.time(), type=type, run=run_id, data=data))
        if len(self._pending) > _MOST_PENDING:
            self._pending.popleft()
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.get_running_loop().create_task(self._flush(), name="hub")
        return self._given

    async def publish(self, type: str, run_id: str | None, data: dict[str, Any]) -> int:
        """As `publish_soon`, and wait until it is stored; no longer than five seconds, should the disk be full."""
        seq = self.publish_soon(type, run_id, data)
        if self._flusher is not None:
            await asyncio.wait([self._flusher], timeout=_PATIENCE_SECONDS)
        return seq

    async def subscribe(self, after_seq: int) -> AsyncGenerator[EngineEvent, None]:
        """Every event after `after_seq`, in order and without a gap, however slowly it is read. Ends with the store."""
        subscriber = _Subscriber()
        self._subscribers.add(subscriber)
        seen = after_seq
        try:
            while True:
                if subscriber.lagging and subscriber.queue.empty():
                    subscriber.lagging = False
                    while page := await asyncio.to_thread(self._page, seen):
                        for event in page:
                            yield event
                            seen = event["seq"]
                event = await subscriber.queue.get()
                if event["seq"] <= seen:
                    continue
                yield event
                seen = event["seq"]
        except LlmopsError as error:
            _log.debug("a subscriber ends: %s", error)
        finally:
            self._subscribers.discard(subscriber)

    def _page(self, after: int) -> list[EngineEvent]:
        return self._store.read(lambda con: queries.engine_events(con, after, _PAGE_EVENTS))

    async def _flush(self) -> None:
        while self._pending:
            batch = list(self._pending)
            try:
                await asyncio.wrap_future(self._store.write(lambda con, b=batch: self._append(con, b)))  # type: ignore[misc]
            except (duckdb.Error, LlmopsError) as error:
                _log.warning("the engine's events wait, the database does not take them: %s", error)
                if "closed" in str(error):
                    return
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            newest = batch[-1]["seq"]
            self.last_seq = newest
            while self._pending and self._pending[0]["seq"] <= newest:
                self._pending.popleft()
            for event in batch:
                for subscriber in self._subscribers:
                    subscriber.offer(event)

    def _append(self, con: duckdb.DuckDBPyConnection, events: list[EngineEvent]) -> None:
        # A commit whose answer was lost is tried again: what is stored already is left out.
        stored = queries.last_engine_event(con)
        queries.append_engine_events(con, [event for event in events if event["seq"] > stored])
        self._since_prune += len(events)
        if self._since_prune >= _PRUNE_EVERY:
            self._since_prune = 0
            queries.prune_engine_events(con)
