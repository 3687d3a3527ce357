"""What users wish of the queue: submit, stop, retry, priority, move, annotate, remove. Durable when a wish was answered.

What is asked of a run while it goes on is in steering.py.
Belongs to the event loop's thread. A wish only says what shall be; scheduler.py makes it so.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import shutil
import time
from collections.abc import Sequence
from typing import Any, Protocol

from llmops_tui.data.annotation import ANNOTATE, Annotation
from llmops_tui.data.models import list_models
from llmops_tui.data.rundir import create_run, number_of, remove_run
from llmops_tui.engine.ledger import Never, place
from llmops_tui.engine.live_run import LiveRun, StopMode
from llmops_tui.engine.people import who_asks
from llmops_tui.engine.queue_rules import Doomed, dependents, obstacle, place_between
from llmops_tui.engine.run_table import RunTable
from llmops_tui.engine.same_data import changed_data
from llmops_tui.engine.steering import asker_of
from llmops_tui.engine.supervisor import Supervisor
from llmops_tui.engine.sweeps.family import ties
from llmops_tui.engine.verdict import Verdict
from llmops_tui.errors import ConflictError, InsufficientResourcesError, LlmopsError, NotFoundError, UsageError
from llmops_tui.paths import Home
from llmops_tui.specs.answers import GpuSample, RunSummary
from llmops_tui.specs.common import Resources, RunSpec
from llmops_tui.specs.crossval import CrossvalSpec
from llmops_tui.specs.states import CONDUCTED, ENDED, QUEUED, WAITING
from llmops_tui.specs.sweep import SweepSpec

log = logging.getLogger(__name__)


class Gpus(Protocol):
    """What is asked of the GPU monitor."""

    @property
    def ready(self) -> bool: ...

    def snapshot(self) -> Sequence[GpuSample]: ...


class Events(Protocol):
    """What is asked of the ingest."""

    def untrack(self, run_id: str) -> None: ...


class Wishes:
    """One at a time for each run: every wish holds that run's lock while it is journaled."""

    def __init__(self, home: Home, table: RunTable, supervisor: Supervisor, ingest: Events, gpus: Gpus, cpu_slots: int) -> None:
        self._home = home
        self._table = table
        self._supervisor = supervisor
        self._ingest = ingest
        self._gpus = gpus
        self._cpu_slots = cpu_slots
        self._allocation = asyncio.Lock()

    def check(self, spec: RunSpec) -> None:
        """Could it ever start here, after the runs it names?

        Raises NotFoundError (a dependency that does not exist), ConflictError (one that already failed),
        InsufficientResourcesError (more than this box has).
        """
        self._check_dependencies(spec)
        if self._gpus.ready:
            verdict = place(_resources_of(spec), self._gpus.snapshot(), [], self._cpu_slots)
            if isinstance(verdict, Never):
                raise InsufficientResourcesError(verdict.reason, "ask for less, or run it on another box")

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
    ) -> RunSummary:
        """Queue a run. Once this returned it is never lost. `parent` is the run it is a part of, `trial` its place there.

        Raises what `check` raises, InsufficientResourcesError (the disk is full), LlmopsError (the state directory cannot be
        written).
        """
        self.check(spec)
        values = spec.model_dump(mode="json")
        name = spec.name or spec.default_name()
        record = {
            "schema": 1,
            "spec": {**values, "name": name},
            "submitted_at": time.time(),
            "owner": owner,
            "uid": uid,
            "host": os.uname().nodename,
            "cwd": cwd,
            "prepared": prepared,
            **({"parent": parent, "trial": trial} if parent else {}),
        }
        try:
            async with self._allocation:
                directory = await asyncio.to_thread(create_run, self._home.runs, spec.kind, name, record)
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            problem = InsufficientResourcesError if full else LlmopsError
            raise problem(f"the run was not queued: {error.strerror}", f"look at {self._home.root}: its free space, its owner") from error
        run = LiveRun(directory, {"id": directory.id, **record}, spec, priority=spec.priority, order=float(number_of(directory.id)))
        self._table.add(run)
        return self._table.summary(run)

    async def stop(self, run_id: str, mode: str, why: str = "") -> RunSummary:
        """End a run: `now` (TERM, grace, KILL), or `checkpoint` (the job saves and ends by itself). A waiting run is cancelled.

        A sweep ends once its trials have, which are ended so. `why`: the engine's own reason, which the run keeps.

        Raises NotFoundError, ConflictError (it is over already), UsageError (no such mode), LlmopsError (the disk is full and
        the job cannot be told to save a checkpoint; `now` works even then).
        """
        run = self._table.get(run_id)
        wish = _stop_mode(mode)
        async with run.lock:
            if run.state in ENDED:
                raise ConflictError(f"{run.id} is over: {run.state}", "see `llmops-tui runs list`")
            if run.state in WAITING:
                by = "" if who_asks().uid == run.uid else f" by {who_asks().user}"
                was = "was paused" if run.state == "paused" else "waited"
                await self._table.end(run, Verdict("cancelled", why or f"cancelled while it {was}{by}"))
                return self._table.summary(run)
            if run.stop not in ("now", "hang") and run.stop != wish:
                reason = f"{asker_of(run)} asked it to " + ("stop" if wish == "now" else "save a checkpoint and stop")
                reason = why or reason
                try:
                    await self._table.journal(run, "stopping", reason, {"mode": wish, **({"why": why} if why else {})})
                except OSError as error:
                    if wish == "checkpoint":
                        raise LlmopsError(f"{run.id} was not asked: {error}", "make room, or stop it now") from error
                    # Ending the job that fills the disk is how room is made.
                    log.warning("%s: its stop is not in the journal: %s", run.id, error)
                run.stop, run.stop_told, run.stop_why = wish, False, why
                run.state, run.reason = "stopping", reason
                self._table.tell_state(run)
            run.stop_told = False  # asking again tells the shim again
            if run.kind in CONDUCTED:
                return self._table.summary(run)
        try:
            await self._supervisor.request_stop(run, who_asks().uid, asker_of(run))
        except OSError as error:
            raise LlmopsError(f"{run.id} was not told: {error}", "make room and stop it again") from error
        return self._table.summary(run)

    async def retry(self, run_id: str) -> RunSummary:
        """Queue an ended run again as a further attempt, from its newest whole checkpoint. Raises ConflictError."""
        run = self._table.get(run_id)
        async with run.lock:
            if run.state not in ENDED:
                raise ConflictError(f"{run.id} is not over: {run.state}", "resume it" if run.state == "paused" else "stop it first")
            if run.state == "succeeded":
                raise ConflictError(f"{run.id} has succeeded", "submit it again as a new run")
            if run.spec is None:
                raise ConflictError(f"{run.id} has a spec this version does not understand", "submit it again as a new run")
            blocked = obstacle(run, self._table.by_id)
            if isinstance(blocked, Doomed):
                raise ConflictError(f"{run.id} cannot start: {blocked.reason}", "retry that run first")
            if problem := await asyncio.to_thread(changed_data, run.record, self._home):
                raise ConflictError(f"{run.id} would go on with other rows: {problem}", "put the file back, or submit it as a new run")
            await self._table.queue_again(run, f"{asker_of(run)} asked for another attempt", retries_used=0, requeues=0)
        return self._table.summary(run)

    async def set_priority(self, run_id: str, priority: int) -> RunSummary:
        """Change a waiting run's priority (-100 to 100). Raises ConflictError when it does not wait any more."""
        run = self._table.get(run_id)
        async with run.lock:
            _must_wait(run)
            await self._table.journal_entry(run, "priority", None, "", {"priority": priority})
            run.priority = priority
        self._table.tell_state(run)
        return self._table.summary(run)

    async def move(self, run_id: str, position: int) -> RunSummary:
        """Put a waiting run at a place in the queue, 1 is first. Raises ConflictError when it does not wait any more."""
        run = self._table.get(run_id)
        async with run.lock:
            _must_wait(run)
            others = [other for other in self._table.waiting() if other is not run]
            chosen = place_between(run, others, position)
            if chosen is None:
                for number, other in enumerate(others):
                    await self._table.journal_entry(other, "move", None, "", {"order": float(number), "priority": other.priority})
                    other.order = float(number)
                chosen = place_between(run, others, position)
            assert chosen is not None  # whole numbers always leave room between them
            priority, order = chosen
            await self._table.journal_entry(run, "move", None, "", {"order": order, "priority": priority})
            run.priority, run.order = priority, order
        self._table.tell_state(run)
        return self._table.summary(run)

    async def annotate(self, run_id: str, annotation: Annotation) -> RunSummary:
        """Tags, note or baseline of a run in any state; what is None stays. Raises UsageError (nothing is said), LlmopsError."""
        run = self._table.get(run_id)
        if annotation == Annotation():
            raise UsageError("nothing is said about the run", "give tags, a note or baseline")
        async with run.lock:
            said = annotation.to_json()
            try:
                await self._table.journal_entry(run, ANNOTATE, None, f"the user set its {', '.join(said)}", said)
            except OSError as error:
                raise LlmopsError(f"{run.id} was not annotated: {error.strerror or error}", "make room in the state directory") from error
            run.written = annotation.over(run.written)
        self._table.tell_annotated(run)
        return self._table.summary(run)

    async def remove(self, run_id: str) -> None:
        """Delete an ended run with all its files. Raises ConflictError while something needs it."""
        run = self._table.get(run_id)
        async with run.lock:
            if run.state not in ENDED:
                raise ConflictError(f"{run.id} is not over: {run.state}", "stop it first")
            if needing := dependents(run.id, self._table.by_id.values()):
                raise ConflictError(f"{', '.join(needing)} waits for {run.id}", "cancel that first")
            if tied := ties(run, self._table.by_id.values()):
                raise ConflictError(tied, "stop that first")
            models = await asyncio.to_thread(_models_of, self._home, run.id)
            if models:
                raise ConflictError(f"the files of {', '.join(models)} lie in {run.id}", "remove those models first")
            try:
                grave = await asyncio.to_thread(remove_run, run.dir)
            except OSError as error:
                raise LlmopsError(f"{run.id} was not removed: {error}", "see the directory's permissions") from error
            del self._table.by_id[run.id]
        self._ingest.untrack(run.id)
        await self._table.forget(run)
        await asyncio.to_thread(shutil.rmtree, grave, True)

    def _check_dependencies(self, spec: RunSpec) -> None:
        for key, names in (("after_ok", spec.after_ok), ("after_any", spec.after_any)):
            for name in names:
                other = self._table.by_id.get(name)
                if other is None:
                    fields = [{"field": key, "message": f"no run {name!r}"}]
                    raise NotFoundError(f"{key}: no run {name!r}", "see `llmops-tui runs list`", fields)
                if key == "after_ok" and other.state in ENDED and other.state != "succeeded":
                    raise ConflictError(f"after_ok: {name} ended as {other.state}, so this would never start", "retry that run first")


def _resources_of(spec: RunSpec) -> Resources:
    """What must be on the box: of a sweep it is what each trial needs."""
    return spec.base.resources if isinstance(spec, SweepSpec | CrossvalSpec) else spec.resources


def _must_wait(run: LiveRun) -> None:
    if run.state not in QUEUED:
        raise ConflictError(f"{run.id} does not wait in the queue: {run.state}", "only waiting runs have a place in it")


def _stop_mode(mode: str) -> StopMode:
    if mode == "now":
        return "now"
    if mode == "checkpoint":
        return "checkpoint"
    raise UsageError(f"unknown way to stop {mode!r}", "use now or checkpoint")


def _models_of(home: Home, run_id: str) -> list[str]:
    return [
        f"{model['name']}@v{model['version']}" for model in list_models(home) if model["run"] == run_id and model["version"] is not None
    ]
