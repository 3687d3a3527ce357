"""The first screen as it was at a past moment: runs from their journals, metrics and samples from what was stored until then.

Only runs that were open at that moment are looked into; those that had ended for good are in memory as they ended.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import TypedDict

from llmops_tui.data.points_at import latest_at
from llmops_tui.data.progress_at import progress_at
from llmops_tui.data.store import Store
from llmops_tui.engine.box_past import gpus_at, host_at
from llmops_tui.engine.live_run import LiveRun
from llmops_tui.engine.log_sizes import LOOK_SECONDS, series_name
from llmops_tui.engine.run_past import Journals, Moment, runs_at, see_obstacles
from llmops_tui.engine.run_views import Overview, overview
from llmops_tui.engine.samples import Samples
from llmops_tui.errors import UsageError
from llmops_tui.specs.answers import GpuSample, HostSample, RunSummary, Span
from llmops_tui.specs.states import WAITING

_RECENT_RUNS = 20
# Clocks of two boxes may differ by this much: what is asked of that future is answered with now.
_CLOCK_SECONDS = 5.0
log = logging.getLogger(__name__)


class PastStatus(TypedDict):
    """What of a `Status` belongs to its moment; the rest (the engine itself, the currency) is always the present one."""

    host: HostSample
    gpus: list[GpuSample]
    running: list[RunSummary]
    waiting: list[RunSummary]
    recent: list[RunSummary]
    counts: dict[str, int]


class Past:
    """Answers about moments. Its methods belong to the event loop; what reads runs in threads."""

    def __init__(self, store: Store, samples: Samples, runs: Callable[[], Collection[LiveRun]], started_at: float) -> None:
        self._store = store
        self._samples = samples
        self._runs = runs
        self._started_at = started_at
        self._journals = Journals()
        self._lock = threading.Lock()

    async def span(self) -> Span:
        """From the oldest run or sample until now."""
        oldest = min((run.submitted_at for run in self._runs()), default=self._started_at)
        sampled = await asyncio.to_thread(self._samples.first)
        return Span(first=min(oldest, self._started_at, self._started_at if sampled is None else sampled), last=time.time())

    async def at(self, t: float, host: HostSample, gpus: Sequence[GpuSample]) -> PastStatus:
        """How everything stood at `t` (Unix seconds); `host` and `gpus` are the present ones. Raises UsageError outside of `span`."""
        t = await self._checked(t)
        runs = list(self._runs())
        moment = runs_at(runs, t)
        # Here and not in the thread: an ended run may be queued again meanwhile.
        over = overview(moment.ended, _RECENT_RUNS, now=t)
        return await asyncio.to_thread(self._tell_alone, t, host, gpus, runs, moment, over)

    async def log_bytes(self, run: LiveRun, t: float) -> int | None:
        """How long the run's output was at `t`, as the last look before it saw; None where nobody had looked."""
        return await asyncio.to_thread(self._log_bytes, run, t)

    async def _checked(self, t: float) -> float:
        span = await self.span()
        if span["first"] <= t <= span["last"] + _CLOCK_SECONDS:
            return min(t, span["last"])
        what = "nothing is known of it" if t < span["first"] else "it has not come yet"
        raise UsageError(
            f"{_clock(t)}: {what}; the history goes from {_clock(span['first'])} to {_clock(span['last'])}",
            "choose a moment in between",
            [{"field": "t", "message": what}],
        )

    def _tell_alone(
        self, t: float, host: HostSample, gpus: Sequence[GpuSample], runs: Sequence[LiveRun], moment: Moment, over: Overview
    ) -> PastStatus:
        with self._lock:
            return self._tell(t, host, gpus, runs, moment, over)

    def _tell(
        self, t: float, host: HostSample, gpus: Sequence[GpuSample], runs: Sequence[LiveRun], moment: Moment, over: Overview
    ) -> PastStatus:
        past: dict[str, LiveRun] = {}
        self._journals.forget_all_but({run.id for run in runs})
        for run in moment.open:
            try:
                past[run.id] = self._journals.fold(run, t)
            except OSError as error:
                log.warning("%s is left out of the past: its journal cannot be read: %s", run.id, error)
        see_obstacles(past, {run.id: run for run in moment.ended})
        begun = [run for run in past.values() if run.attempt > 1 or run.state not in WAITING]
        latest = self._store.read(lambda con: latest_at(con, [run.id for run in begun], t)) if begun else {}
        for run in begun:
            run.latest = latest.get(run.id, {})
            try:
                run.progress = progress_at(run.dir.events, t)
            except OSError as error:
                log.warning("%s: its progress at a past moment is not known: %s", run.id, error)
        open_then = overview(list(past.values()), _RECENT_RUNS, now=t)
        values = self._samples.at(t)
        return PastStatus(
            host=host_at(values, t, host, past.values()),
            gpus=gpus_at(values, gpus, past.values()),
            running=open_then.running,
            waiting=open_then.waiting,
            recent=heapq.nlargest(
                _RECENT_RUNS, [*over.recent, *open_then.recent], key=lambda run: (run["ended_at"] or 0.0, run["submitted_at"])
            ),
            counts=dict(Counter(over.counts) + Counter(open_then.counts)),
        )

    def _log_bytes(self, run: LiveRun, t: float) -> int | None:
        if run.ended_at is not None and t >= run.ended_at + LOOK_SECONDS:
            try:
                return run.dir.log.stat().st_size
            except OSError:
                return None
        found = self._samples.newest(series_name(run.id), run.submitted_at, t)
        return None if found is None else int(found)


def _clock(t: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(t))
