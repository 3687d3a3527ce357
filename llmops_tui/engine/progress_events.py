"""`run.progress` at most once a second for each run, and never missing the last one."""

from __future__ import annotations

import asyncio
import time

from llmops_tui.data.queries import finite
from llmops_tui.engine.hub import Hub
from llmops_tui.engine.live_run import LiveRun

_SECONDS = 1.0


class ProgressEvents:
    """Belongs to the event loop's thread."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._told: dict[str, float] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def changed(self, run: LiveRun) -> None:
        """The run's newest values changed: tell now, or when a second has passed since the last time."""
        if run.id in self._timers:
            return
        wait = self._told.get(run.id, -_SECONDS) + _SECONDS - time.monotonic()
        if wait <= 0:
            self._tell(run)
        else:
            self._timers[run.id] = asyncio.get_running_loop().call_later(wait, self._tell, run)

    def forget(self, run_id: str) -> None:
        """The run is over: its last values travel with its final state."""
        self._told.pop(run_id, None)
        if timer := self._timers.pop(run_id, None):
            timer.cancel()

    def close(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _tell(self, run: LiveRun) -> None:
        self._timers.pop(run.id, None)
        self._told[run.id] = time.monotonic()
        latest = {name: finite(value) for name, value in run.latest.items()}
        self._hub.publish_soon("run.progress", run.id, {"progress": run.progress, "latest": latest})
