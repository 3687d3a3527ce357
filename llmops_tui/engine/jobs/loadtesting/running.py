"""Carrying out a stage: requests sent when they are due or as soon as a worker is free, each outcome handed on as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

from llmops_tui.engine.jobs.loadtesting.asking import Asker, Outcome
from llmops_tui.engine.jobs.loadtesting.prompts import Payloads
from llmops_tui.engine.jobs.loadtesting.schedule import Stage, worker_starts
from llmops_tui.specs.loadtest import LoadtestSpec


class StageRun:
    """One stage. `first_number` counts requests over all stages; `heard` gets each outcome once; `stopped` ends the stage early."""

    def __init__(
        self,
        spec: LoadtestSpec,
        stage: Stage,
        asker: Asker,
        payloads: Payloads,
        first_number: int,
        heard: Callable[[Outcome], None],
        stopped: Callable[[], bool],
    ) -> None:
        self._spec = spec
        self._stage = stage
        self._asker = asker
        self._payloads = payloads
        self._number = first_number
        self._end_number = first_number + stage.requests
        self._heard = heard
        self._stopped = stopped
        self._tasks: set[asyncio.Task[None]] = set()
        self.outstanding = 0
        self.most_outstanding = 0
        self.began = 0.0
        self.ended = 0.0
        self.latest_send = 0.0  # the worst delay between when a request was due and when this program sent it

    async def carry_out(self) -> None:
        """Returns when all is answered, time is up, or the test is stopped; what is under way then is given up and counted so."""
        self.began = monotonic()
        deadline = self.began + self._spec.seconds
        work = self._closed() if self._stage.workers else self._open()
        task = asyncio.ensure_future(work)
        try:
            while not task.done() and monotonic() < deadline and not self._stopped():
                await asyncio.wait({task}, timeout=min(0.2, max(0.0, deadline - monotonic())))
                self._asker.sweep()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            for each in self._tasks:
                each.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self.ended = monotonic()
        if task.done() and not task.cancelled() and (problem := task.exception()) is not None:
            raise problem

    async def _closed(self) -> None:
        starts = worker_starts(self._stage.workers, self._spec.ramp_seconds)
        workers = [asyncio.ensure_future(self._worker(self.began + start)) for start in starts]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _worker(self, start: float) -> None:
        await _until(start)
        while self._number < self._end_number:
            number, self._number = self._number, self._number + 1
            await self._ask(number, monotonic())

    async def _open(self) -> None:
        for due in self._stage.due:
            at = self.began + due
            await _until(at)
            while len(self._tasks) >= self._spec.most_outstanding:
                await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
            number, self._number = self._number, self._number + 1
            self.latest_send = max(self.latest_send, monotonic() - at)
            task = asyncio.ensure_future(self._ask(number, at))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _ask(self, number: int, due: float) -> None:
        self.outstanding += 1
        self.most_outstanding = max(self.most_outstanding, self.outstanding)
        outcome = Outcome(number, due)
        try:
            await self._asker.ask(outcome, self._payloads.body(number))
        finally:
            self.outstanding -= 1
            self._heard(outcome)


async def _until(moment: float) -> None:
    if (left := moment - monotonic()) > 0:
        await asyncio.sleep(left)
