"""Who carries out sweeps and cross-validations: their parents have no process, the engine itself is their job.

Belongs to the event loop's thread. Nothing is remembered that does not stand in a run directory: a parent's journal holds its states
and the trials that could not be queued, a trial's spec.json its number and settings, its events.jsonl what it told, its journal why
it was ended. So an engine that was killed takes up where it was: no trial twice, none lost.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.live_run import LiveRun
from llmops_tui.engine.queue_rules import obstacle
from llmops_tui.engine.run_table import RunTable
from llmops_tui.engine.sweeps.decide import Next, ParentSpec, decide
from llmops_tui.engine.sweeps.family import REFUSED, Family, Mark
from llmops_tui.engine.sweeps.plan import fold_settings, trial_spec
from llmops_tui.engine.sweeps.showing import describe, fold_rows_of
from llmops_tui.engine.sweeps.suggest import suggest
from llmops_tui.engine.sweeps.telling import Telling
from llmops_tui.engine.sweeps.trials import Trial
from llmops_tui.engine.verdict import Verdict
from llmops_tui.errors import ConflictError, InsufficientResourcesError, LlmopsError, NotFoundError, UsageError
from llmops_tui.specs.answers import RunSummary
from llmops_tui.specs.answers_sweep import SweepAnswer
from llmops_tui.specs.common import RunSpec
from llmops_tui.specs.crossval import CrossvalSpec
from llmops_tui.specs.states import ACTIVE, CONDUCTED, QUEUED
from llmops_tui.specs.sweep import SweepSpec

_TICK_SECONDS = 2.0
_IDLE_SECONDS = 60.0
_RETRY_SECONDS = 10.0
log = logging.getLogger(__name__)


class Queue(Protocol):
    """What is asked of the scheduler."""

    @property
    def table(self) -> RunTable: ...

    def runs(self) -> Collection[LiveRun]: ...
    def has_room(self, spec: RunSpec) -> bool: ...

    async def submit(
        self,
        spec: RunSpec,
        *,
        owner: str,
        uid: int,
        cwd: str,
        prepared: dict[str, Any],
        parent: str = "",
        trial: dict[str, Any] | None = None,
    ) -> RunSummary: ...
    async def stop(self, run_id: str, mode: str, why: str = "") -> RunSummary: ...


class Events(Protocol):
    """What is asked of the ingest."""

    def track(self, run: RunDir) -> None: ...
    def untrack(self, run_id: str) -> None: ...
    async def drain(self, run: RunDir, *, ended: bool = False) -> bool: ...


class Conductor:
    """One pass over all parents whenever something of them changed. `prepare(uid, spec, cwd)` is the preflight; it blocks."""

    def __init__(self, queue: Queue, ingest: Events, prepare: Callable[[int, RunSpec, Path], dict[str, Any]]) -> None:
        self._queue = queue
        self._ingest = ingest
        self._prepare = prepare
        self._families: dict[str, Family] = {}
        self._tellings: dict[str, Telling] = {}
        self._not_before: dict[str, float] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Conduct until `stop` is set; the trials go on after that."""
        changed = self._queue.table.changed
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                changed.clear()
                busy = False
                self._families = {run_id: known for run_id, known in self._families.items() if run_id in self._queue.table.by_id}
                for parent in [run for run in self._queue.runs() if run.kind in CONDUCTED]:
                    if parent.state in ACTIVE or parent.state in QUEUED:
                        busy = True
                        await self._step(parent)
                    else:
                        self._forget(parent)
                woken = asyncio.create_task(changed.wait())
                await asyncio.wait({woken, stopping}, timeout=_TICK_SECONDS if busy else _IDLE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                woken.cancel()
        finally:
            stopping.cancel()

    async def trials(self, parent: LiveRun) -> list[Trial]:
        """The trials of any parent, also of one that is over, as its screen shows them. Raises OSError."""
        return await self._family(parent).trials(self._queue.runs())

    async def describe(self, run_id: str) -> SweepAnswer:
        """A sweep or cross-validation with its trials. Raises NotFoundError, UsageError (the run is of another kind), OSError."""
        parent = self._queue.table.get(run_id)
        spec = parent.spec
        if not isinstance(spec, SweepSpec | CrossvalSpec):
            raise UsageError(f"{run_id} is a {parent.kind} run, not a sweep", "see `llmops-tui runs list --kind sweep`")
        trials = await self.trials(parent)
        rows = fold_rows_of({run.id: run.record for run in self._queue.runs() if run.parent == run_id}) if spec.kind == "crossval" else {}
        return await asyncio.to_thread(describe, parent, spec, trials, rows)

    async def _step(self, parent: LiveRun) -> None:
        """What one parent needs now; a fault in one keeps no other from going on."""
        if self._not_before.get(parent.id, 0.0) > time.monotonic():
            return
        spec = parent.spec
        try:
            if not isinstance(spec, SweepSpec | CrossvalSpec):  # written by another version; its trials go on as runs of their own
                async with parent.lock:
                    await self._queue.table.end(parent, Verdict("failed", "its spec is not valid for this version: submit it again"))
                return
            if parent.state in QUEUED:
                if obstacle(parent, self._queue.table.by_id) == "":
                    await self._begin(parent)
                return
            self._ingest.track(parent.dir)
            await self._conduct(parent, spec)
        except (LlmopsError, OSError) as error:
            log.warning("%s waits: %s", parent.id, error)
            self._not_before[parent.id] = time.monotonic() + _RETRY_SECONDS
            if parent.state == "running":
                parent.reason = f"waits, tried again soon: {error}"
        except Exception:
            log.exception("%s: a step of it failed and is tried again", parent.id)
            self._not_before[parent.id] = time.monotonic() + _RETRY_SECONDS

    async def _begin(self, parent: LiveRun) -> None:
        async with parent.lock:
            if parent.state not in QUEUED:
                return
            now = time.time()
            await self._queue.table.journal(parent, "running", "", {"started_at": now})
            parent.state, parent.reason, parent.started_at, parent.ended_at, parent.stop = "running", "", now, None, ""
        self._queue.table.tell_state(parent)

    async def _conduct(self, parent: LiveRun, spec: ParentSpec) -> None:
        trials = await self.trials(parent)
        telling = self._telling(parent, spec)
        await asyncio.to_thread(telling.tell, trials)
        room = self._queue.has_room(spec.base)
        stopping = parent.state == "stopping"
        since = parent.started_at or parent.submitted_at
        # In a thread: a thousand trials are compared with each other.
        now = await asyncio.to_thread(decide, spec, trials, since=since, now=time.time(), stopping=stopping, room=room)
        await self._end_trials(parent, now)
        if now.begin is not None and not (stopping or parent.state != "running"):
            await self._begin_trial(parent, spec, trials, now.begin)
        if now.end is not None:
            await self._end(parent, telling, Verdict(now.end.state, now.end.reason, again=False))

    async def _end_trials(self, parent: LiveRun, now: Next) -> None:
        mode = "checkpoint" if parent.stop == "checkpoint" else "now"
        wanted = [(run_id, mode, now.why) for run_id in now.stop] + [(run_id, "now", why) for run_id, why in (now.prune or {}).items()]
        for run_id, how, why in wanted:
            run = self._queue.table.by_id.get(run_id)
            if run is None or run.stop in ("now", "hang", how):
                continue
            with suppress(NotFoundError, ConflictError):  # it came to its end meanwhile
                log.info("%s: %s is stopped: %s", parent.id, run_id, why)
                await self._queue.stop(run_id, how, why)

    async def _begin_trial(self, parent: LiveRun, spec: ParentSpec, trials: list[Trial], number: int) -> None:
        """Suggest, check and queue one trial. Whatever this is cut off by: either its spec.json stands, or there is no such trial."""
        if isinstance(spec, CrossvalSpec):
            params = fold_settings(spec, number)
        else:
            params = await asyncio.to_thread(suggest, spec, trials, number)
        mark = Mark(number, dict(params))
        cwd = str(parent.record.get("cwd") or "/")
        try:
            wish = trial_spec(spec, parent.id, parent.name, parent.priority, number, params)
            prepared = await asyncio.to_thread(self._prepare, parent.uid, wish, Path(cwd))
            if parent.state != "running":  # it was stopped meanwhile
                return
            await self._queue.submit(
                wish, owner=parent.owner, uid=parent.uid, cwd=cwd, prepared=prepared, parent=parent.id, trial=mark._asdict()
            )
        except InsufficientResourcesError:
            raise  # room comes back
        except (UsageError, NotFoundError) as error:
            t = time.time()
            await self._queue.table.journal_entry(parent, REFUSED, None, str(error), {**mark._asdict()})
            self._family(parent).refuse(number, params, str(error), t)
            log.warning("%s: trial %d was not queued: %s", parent.id, number, error)
        if parent.reason:
            parent.reason = ""
        self._queue.table.changed.set()

    async def _end(self, parent: LiveRun, telling: Telling, verdict: Verdict) -> None:
        await asyncio.to_thread(telling.end, verdict)
        await self._ingest.drain(parent.dir, ended=True)
        async with parent.lock:
            await self._queue.table.end(parent, verdict)
        self._ingest.untrack(parent.id)
        self._forget(parent)

    def _family(self, parent: LiveRun) -> Family:
        known = self._families.get(parent.id)
        if known is None or known.parent is not parent:
            spec = parent.spec
            metric = spec.metric if isinstance(spec, SweepSpec | CrossvalSpec) else "eval/loss"
            known = self._families[parent.id] = Family(parent, metric)
        return known

    def _telling(self, parent: LiveRun, spec: ParentSpec) -> Telling:
        known = self._tellings.get(parent.id)
        if known is None:
            known = self._tellings[parent.id] = Telling(parent.dir, spec)
        return known

    def _forget(self, parent: LiveRun) -> None:
        """What is over keeps no file open."""
        telling = self._tellings.pop(parent.id, None)
        if telling is not None:
            telling.close()
        self._not_before.pop(parent.id, None)
