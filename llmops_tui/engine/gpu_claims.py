"""Which GPUs are closed to a run for reasons other than the runs of this engine: reserved by somebody, or held by another engine."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from llmops_tui.engine.gpu_locks import GpuLocks, GpuTakenError
from llmops_tui.engine.live_run import LiveRun
from llmops_tui.engine.reservations import ReservationBook


class GpuClaims:
    """Belongs to the event loop's thread. `look` before `closed_to`: other engines are asked by reading files."""

    def __init__(self, book: ReservationBook, locks: GpuLocks) -> None:
        self._book = book
        self._locks = locks
        self._others: dict[str, str] = {}

    async def look(self, uuids: Sequence[str]) -> None:
        """See which GPUs other engines hold now."""
        self._others = await asyncio.to_thread(self._locks.held_by_others, uuids)

    def closed_to(self, run: LiveRun) -> dict[str, str]:
        """The GPUs this run may not have, and why."""
        return {**{uuid: f"held by {who}" for uuid, who in self._others.items()}, **self._book.closed_to(run.uid)}

    def kept_for(self, run: LiveRun) -> set[str]:
        """The GPUs reserved for the run's owner: these it may have although others wait before it."""
        return {uuid for kept in self._book.current() if kept["uid"] == run.uid for uuid in kept["gpus"]}

    async def hold(self, run: LiveRun) -> None:
        """Hold the run's GPUs against other engines, until its shim, which inherits the hold, is gone. Raises GpuTakenError."""
        if not run.gpu_uuids or run.gpu_locks:
            return
        run.gpu_locks = await asyncio.to_thread(self._locks.take, run.gpu_uuids, run.id, run.owner)


__all__ = ["GpuClaims", "GpuTakenError"]
