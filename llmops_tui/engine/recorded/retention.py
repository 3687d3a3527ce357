"""Keeping recorded requests no longer than wished: once an hour, in the store's own thread."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

from llmops_tui.data.request_retention import Expired, Keeping, expire, find_cuts, remember
from llmops_tui.data.store import Store, first_line
from llmops_tui.specs.endpoint import EndpointSpec, Record

_FIRST_SECONDS = 60.0
_EVERY_SECONDS = 3600.0
_DAY_SECONDS = 86_400.0
_log = logging.getLogger(__name__)


class Retention:
    """`specs` are the endpoints' as they are now."""

    def __init__(self, store: Store, specs: Callable[[], list[EndpointSpec]]) -> None:
        self._store = store
        self._specs = specs

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set."""
        pause = _FIRST_SECONDS
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), pause)
            if not stop.is_set():
                await self.once(time.time())
            pause = _EVERY_SECONDS

    async def once(self, now: float) -> Expired:
        """Let go of what is too old or too much at `now` (Unix seconds)."""
        rules = {spec.name: keeping_of(spec.record) for spec in self._specs()}
        usual = keeping_of(Record())
        try:
            return await asyncio.to_thread(self._once, rules, usual, now)
        except Exception as error:  # noqa: BLE001 - a full disk, a closing database: tried again in an hour
            _log.warning("old requests were not let go of: %s", first_line(error))
            return Expired()

    def _once(self, rules: dict[str, Keeping], usual: Keeping, now: float) -> Expired:
        everyone = self._store.write(lambda con: remember(con, rules)).result()
        cuts = self._store.read(lambda con: find_cuts(con, everyone, usual, now))
        oldest = now - max(rule.keep_days for rule in (*everyone.values(), usual)) * _DAY_SECONDS
        gone = self._store.write(lambda con: expire(con, cuts, oldest)).result()
        if gone.requests or gone.texts or gone.feedback:
            _log.info("let go of %d requests, %d texts and %d remarks", gone.requests, gone.texts, gone.feedback)
            self._store.checkpoint().result()  # the room is free from here on
        return gone


def keeping_of(record: Record) -> Keeping:
    """What a spec says."""
    return Keeping(record.keep_days, record.keep_bytes)
