"""Train and serve on one card: who is asked to unload for the run that waits, and whether its memory came back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from llmops_tui.engine.endpoints.entry import Entry
from llmops_tui.engine.endpoints.planning import Server
from llmops_tui.engine.endpoints.yielding import who_yields
from llmops_tui.engine.live_run import LiveRun
from llmops_tui.engine.queue_rules import queue_key
from llmops_tui.specs.answers import GpuSample
from llmops_tui.specs.states import QUEUED

# A driver frees a process's memory within moments of its end.
_BACK_SECONDS = 10.0
log = logging.getLogger(__name__)


class RoomMaking:
    """`gpus` are the newest samples."""

    def __init__(self, gpus: Callable[[], Sequence[GpuSample]]) -> None:
        self._gpus = gpus

    def wanted(
        self,
        entries: Sequence[Entry],
        servers: Mapping[str, Sequence[Server]],
        told: Mapping[str, Mapping[str, Any]],
        runs: Collection[LiveRun],
        cpu_slots: int,
        now: float,
    ) -> dict[str, str]:
        """The endpoints to unload now, with the run that each makes room for: the first in the queue that could have it."""
        queued = [run for run in runs if run.state == "queued" and run.kind != "serve" and run.spec is not None]
        gpus = self._gpus() if entries and queued else []
        if not gpus:
            return {}
        by_id = {run.id: run for run in runs}
        for run in sorted(queued, key=queue_key):
            assert run.spec is not None
            if run.resources(run.spec).gpus != 0:  # those behind it wait for it
                return dict.fromkeys(who_yields(run, entries, servers, told, by_id, gpus, cpu_slots, now), run.id)
        return {}

    def watched(self, entry: Entry, servers: Sequence[Server], runs: Collection[LiveRun], now: float) -> Entry:
        """The entry that sleeps for a run, saying so where its memory did not come back: its servers ended and the run still waits."""
        state = entry.asleep
        if state is None or not state.room_for or any(server.phase != "ended" for server in servers):
            return entry
        run = next((run for run in runs if run.id == state.room_for), None)
        ended = max((server.ended_at for server in servers), default=0.0)
        if run is None or run.state not in QUEUED or now - max(ended, state.since) < _BACK_SECONDS:
            return entry
        cause = f"made room for {run.id}, which still waits: {run.reason}"
        if cause == state.cause:
            return entry
        log.warning("%s %s", entry.name, cause)
        return replace(entry, asleep=replace(state, cause=cause), revision=entry.revision + 1)
