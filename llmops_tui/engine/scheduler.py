"""The queue: what waits, what may start, what became of it. Every decision is in the run's journal before it is acted upon.

Belongs to the event loop's thread. The run directories are the truth: `recover` folds them into memory, and everything
here can be cut off at any moment and taken up again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Protocol

import duckdb

from llmops_tui.data import queries
from llmops_tui.data.checkpoints import complete_checkpoints, newest_complete
from llmops_tui.data.durable import read_json, sync_directory, write_json
from llmops_tui.data.event_store import decode_latest
from llmops_tui.data.models import list_models, register_artifact
from llmops_tui.data.rundir import RunDir, append_line, create_run, number_of
from llmops_tui.data.store import Store
from llmops_tui.engine.attempt_files import artifact_events
from llmops_tui.engine.host import HostMonitor
from llmops_tui.engine.hub import Hub
from llmops_tui.engine.jobs.launch import describe_launch
from llmops_tui.engine.ledger import Holding, Never, Placement, Wait, place
from llmops_tui.engine.live_run import LiveRun, StopMode
from llmops_tui.engine.progress_events import ProgressEvents
from llmops_tui.engine.queue_rules import Doomed, dependents, obstacle, place_between, queue_key
from llmops_tui.engine.recovery import load_runs
from llmops_tui.engine.supervisor import Supervisor
from llmops_tui.engine.verdict import Verdict
from llmops_tui.errors import ConflictError, InsufficientResourcesError, LlmopsError, NotFoundError, UsageError
from llmops_tui.paths import Home
from llmops_tui.specs.answers import GpuSample, Progress, RunDetail, RunSummary
from llmops_tui.specs.common import RunSpec
from llmops_tui.specs.settings import Settings
from llmops_tui.specs.states import ACTIVE, ENDED, WAITING

_WAITING_TICK_SECONDS = 2.0
_IDLE_TICK_SECONDS = 30.0
_RETRY_START_SECONDS = 10.0
_MOST_REQUEUES = 5
_FAULT_PAUSE_SECONDS = 1.0
_CORES_PER_SLOT = 4
_PLAIN_EVENTS = {"checkpoint": "run.checkpoint", "artifact": "run.artifact", "sample": "run.sample"}
log = logging.getLogger(__name__)


class Gpus(Protocol):
    """What is asked of the GPU monitor."""

    @property
    def ready(self) -> bool: ...

    @property
    def driver(self) -> dict[str, str]: ...

    def snapshot(self) -> Sequence[GpuSample]: ...


class Events(Protocol):
    """What is asked of the ingest."""

    def track(self, run: RunDir) -> None: ...

    def untrack(self, run_id: str) -> None: ...

    def latest(self, run_id: str) -> dict[str, float]: ...

    def progress(self, run_id: str) -> Progress | None: ...

    async def drain(self, run: RunDir, *, ended: bool = False) -> bool: ...


class Scheduler:
    """All runs of one state directory."""

    def __init__(self, home: Home, settings: Settings, store: Store, hub: Hub, ingest: Events, gpus: Gpus, host: HostMonitor) -> None:
        self._home = home
        self._settings = settings
        self._store = store
        self._hub = hub
        self._ingest = ingest
        self._gpus = gpus
        self._host = host
        self._runs: dict[str, LiveRun] = {}
        self._lives: dict[str, asyncio.Task[None]] = {}
        self._later: set[asyncio.Task[None]] = set()
        self._not_before: dict[str, float] = {}
        self._pids: dict[int, str] = {}
        self._wake = asyncio.Event()
        self._allocation = asyncio.Lock()
        self._supervisor = Supervisor(gpus, settings.engine.log_keep_bytes, self._on_running)
        self._progress = ProgressEvents(hub)
        self._cores = len(os.sched_getaffinity(0))

    @property
    def cpu_slots(self) -> int:
        """How many CPU slots there are in all."""
        return self._settings.engine.cpu_slots or max(1, self._cores // _CORES_PER_SLOT)

    async def recover(self) -> None:
        """Read every run directory and take up what was under way. Call it once, before `run`."""
        runs = await asyncio.to_thread(load_runs, self._home)
        self._runs = {run.id: run for run in runs}
        known = await asyncio.to_thread(self._stored_progress)
        for run in runs:
            run.latest, run.progress = known.get(run.id, ({}, None))
        for run in runs:
            if run.state in ACTIVE:
                if run.stop == "checkpoint":
                    # Journaled, but perhaps not yet told to the job; telling it twice does no harm.
                    await self._supervisor.request_stop(run, os.getuid())
                self._begin_life(run)
        await self._store_runs(runs)
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Start what may start, until `stop` is set. Jobs go on after that."""
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                self._wake.clear()
                await self._start_what_fits()
                self._supervisor.reap_all()
                waiting = any(run.state in WAITING for run in self._runs.values())
                woken = asyncio.create_task(self._wake.wait())
                await asyncio.wait(
                    {woken, stopping},
                    timeout=_WAITING_TICK_SECONDS if waiting else _IDLE_TICK_SECONDS,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                woken.cancel()
        finally:
            stopping.cancel()
            if stop.is_set():
                await self._let_go()

    async def submit(self, spec: RunSpec, *, owner: str, uid: int, cwd: str, prepared: dict[str, Any]) -> RunSummary:
        """Queue a run. Once this returned it is never lost.

        Raises NotFoundError (a dependency that does not exist), ConflictError (one that already failed),
        InsufficientResourcesError (it could never start on this box), LlmopsError (the disk is full).
        """
        self._check_dependencies(spec)
        if self._gpus.ready:
            verdict = place(spec.resources, self._gpus.snapshot(), [], self.cpu_slots)
            if isinstance(verdict, Never):
                raise InsufficientResourcesError(verdict.reason, "ask for less, or run it on another box")
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
        }
        try:
            async with self._allocation:
                directory = await asyncio.to_thread(create_run, self._home.runs, spec.kind, name, record)
        except OSError as error:
            raise LlmopsError(f"the run was not queued: {error}", "make room, or make the state directory writable") from error
        run = LiveRun(directory, {"id": directory.id, **record}, spec, priority=spec.priority, order=float(number_of(directory.id)))
        self._runs[run.id] = run
        blocked = obstacle(run, self._runs)
        if isinstance(blocked, str) and blocked:
            run.state, run.reason = "blocked", blocked
        self._hub.publish_soon("run.submitted", run.id, {"state": run.state, "kind": spec.kind, "name": name})
        self._store_soon(run)
        self._wake.set()
        return self._summary(run)

    async def stop(self, run_id: str, mode: str) -> RunSummary:
        """End a run: `now` (TERM, grace, KILL), or `checkpoint` (the job saves and ends by itself). A waiting run is cancelled.

        Raises NotFoundError, ConflictError (it is over already), UsageError (no such mode).
        """
        run = self._get(run_id)
        wish = _stop_mode(mode)
        async with run.lock:
            if run.state in ENDED:
                raise ConflictError(f"{run.id} is over: {run.state}", "see `llmops-tui runs list`")
            if run.state in WAITING:
                await self._end(run, Verdict("cancelled", "cancelled while it waited"))
                return self._summary(run)
            if run.stop == "" or (run.stop == "checkpoint" and wish == "now"):
                reason = "the user asked it to stop" if wish == "now" else "the user asked it to save a checkpoint and stop"
                await self._journal(run, "stopping", reason, {"mode": wish})
                run.stop, run.stop_told = wish, False
                run.state, run.reason = "stopping", reason
                self._tell_state(run)
            run.stop_told = False  # asking again tells the shim again
        await self._supervisor.request_stop(run, os.getuid())
        return self._summary(run)

    async def control(self, run_id: str, command: str) -> RunSummary:
        """Ask the running job for something that does not end it: `checkpoint`. Raises ConflictError unless it runs."""
        run = self._get(run_id)
        if command != "checkpoint":
            raise UsageError(f"unknown command {command!r}", "use checkpoint")
        if run.state != "running":
            raise ConflictError(f"{run.id} does not run: {run.state}", "only a running job can save a checkpoint")
        line = {"t": time.time(), "command": command, "by": os.getuid()}
        await asyncio.to_thread(append_line, run.dir.control, line, durable=True)
        return self._summary(run)

    async def retry(self, run_id: str) -> RunSummary:
        """Queue an ended run again as a further attempt, from its newest whole checkpoint. Raises ConflictError."""
        run = self._get(run_id)
        async with run.lock:
            if run.state not in ENDED:
                raise ConflictError(f"{run.id} is not over: {run.state}", "stop it first")
            if run.state == "succeeded":
                raise ConflictError(f"{run.id} has succeeded", "submit it again as a new run")
            if run.spec is None:
                raise ConflictError(f"{run.id} has a spec this version does not understand", "submit it again as a new run")
            blocked = obstacle(run, self._runs)
            if isinstance(blocked, Doomed):
                raise ConflictError(f"{run.id} cannot start: {blocked.reason}", "retry that run first")
            await self._queue_again(run, "the user asked for another attempt", retries_used=0, requeues=0)
        return self._summary(run)

    async def set_priority(self, run_id: str, priority: int) -> RunSummary:
        """Change a waiting run's priority (-100 to 100). Raises ConflictError when it does not wait any more."""
        run = self._get(run_id)
        async with run.lock:
            self._must_wait(run)
            await self._journal_entry(run, "priority", None, "", {"priority": priority})
            run.priority = priority
        self._tell_state(run)
        return self._summary(run)

    async def move(self, run_id: str, position: int) -> RunSummary:
        """Put a waiting run at a place in the queue, 1 is first. Raises ConflictError when it does not wait any more."""
        run = self._get(run_id)
        async with run.lock:
            self._must_wait(run)
            others = [other for other in self._waiting() if other is not run]
            chosen = place_between(run, others, position)
            if chosen is None:
                for number, other in enumerate(others):
                    await self._journal_entry(other, "move", None, "", {"order": float(number), "priority": other.priority})
                    other.order = float(number)
                chosen = place_between(run, others, position)
            assert chosen is not None  # whole numbers always leave room between them
            priority, order = chosen
            await self._journal_entry(run, "move", None, "", {"order": order, "priority": priority})
            run.priority, run.order = priority, order
        self._tell_state(run)
        return self._summary(run)

    async def remove(self, run_id: str) -> None:
        """Delete an ended run with all its files. Raises ConflictError while something needs it."""
        run = self._get(run_id)
        async with run.lock:
            if run.state not in ENDED:
                raise ConflictError(f"{run.id} is not over: {run.state}", "stop it first")
            if needing := dependents(run.id, self._runs.values()):
                raise ConflictError(f"{', '.join(needing)} waits for {run.id}", "cancel that first")
            models = await asyncio.to_thread(_models_of, self._home, run.id)
            if models:
                raise ConflictError(f"the files of {', '.join(models)} lie in {run.id}", "remove those models first")
            # Renamed first: half a run directory must never look like a run.
            grave = run.dir.path.with_name(f".removed-{run.id}")
            try:
                await asyncio.to_thread(_bury, run.dir.path, grave)
            except OSError as error:
                raise LlmopsError(f"{run.id} was not removed: {error}", "see the directory's permissions") from error
            del self._runs[run.id]
        self._ingest.untrack(run.id)
        with contextlib.suppress(LlmopsError, duckdb.Error):  # `doctor --rebuild` forgets it too
            await asyncio.wrap_future(self._store.write(lambda con: queries.forget_run(con, run.id)))
        self._hub.publish_soon("run.state", run.id, {"state": "removed", "reason": "", "attempt": run.attempt})
        await asyncio.to_thread(shutil.rmtree, grave, True)

    def summaries(self) -> list[RunSummary]:
        """Every run, oldest first; from memory."""
        places = {run.id: number for number, run in enumerate(self._waiting(), 1)}
        return [run.summary(places.get(run.id)) for run in self._runs.values()]

    def runs(self) -> Collection[LiveRun]:
        """Every run, oldest first. To look at, on the event loop."""
        return self._runs.values()

    def summary(self, run_id: str) -> RunSummary:
        """One run; from memory. Raises NotFoundError."""
        return self._summary(self._get(run_id))

    def detail(self, run_id: str) -> RunDetail:
        """One run with what its directory holds. Reads the disk: call it in a thread. Raises NotFoundError."""
        run = self._get(run_id)
        capsule: Any = None
        for attempt in (run.attempt, run.attempt - 1):  # a run that waits for its next attempt shows the last one's
            with contextlib.suppress(OSError, ValueError):
                capsule = capsule or read_json(run.dir.attempt(attempt) / "capsule.json")
        return RunDetail(
            **self._summary(run),
            directory=str(run.dir.path),
            spec=run.spec_values,
            journal=[
                {
                    "t": float(entry.get("t") or 0.0),
                    "entry": str(entry.get("entry") or ""),
                    "state": entry.get("state"),
                    "attempt": int(entry.get("attempt") or 0),
                    "reason": str(entry.get("reason") or ""),
                    "data": entry.get("data") or {},
                }
                for entry in run.dir.read_journal()
            ],
            checkpoints=complete_checkpoints(run.dir),
            capsule=capsule,
            metrics=sorted(run.latest),
        )

    def holdings(self) -> list[Holding]:
        """What active runs hold of GPUs and CPU slots."""
        return [holding for run in self._runs.values() if (holding := run.holding()) is not None]

    def run_of_pid(self, pid: int) -> str | None:
        """The run whose main process this is. For any thread."""
        return self._pids.get(pid)

    def on_events(self, run_id: str, events: list[dict[str, Any]], latest: dict[str, float]) -> None:
        """The ingest has committed something of this run."""
        run = self._runs.get(run_id)
        if run is None:
            return
        run.latest = latest
        run.progress = self._ingest.progress(run_id)
        for event in events:
            if kind := _PLAIN_EVENTS.get(str(event.get("type"))):
                self._hub.publish_soon(kind, run_id, {key: value for key, value in event.items() if key not in ("type", "seq")})
        if run.state in ACTIVE:
            self._progress.changed(run)

    # --- starting ---

    async def _start_what_fits(self) -> None:
        """One pass over the queue in its order. A run that waits for a GPU is not overtaken by others that want one."""
        gpus = list(self._gpus.snapshot())
        gpu_queue_closed = cpu_queue_closed = ""
        for run in self._waiting():
            blocked = obstacle(run, self._runs)
            if isinstance(blocked, Doomed):
                async with run.lock:
                    if run.state in WAITING:
                        await self._end(run, Verdict("cancelled", blocked.reason))
                continue
            if blocked:
                self._wait(run, "blocked", blocked)
                continue
            if self._not_before.get(run.id, 0.0) > time.monotonic() or run.spec is None:
                continue
            wanted = run.spec.resources.gpus
            on_gpu = wanted != 0 and (wanted != "auto" or any(gpu["health"] != "lost" for gpu in gpus))
            if wanted != 0 and not self._gpus.ready:
                self._wait(run, "queued", "waits for the GPU driver's first answer")
                continue
            closed = gpu_queue_closed if on_gpu else cpu_queue_closed
            if closed:
                self._wait(run, "queued", f"waits behind {closed}")
                continue
            answer = place(run.spec.resources, gpus, self.holdings(), self.cpu_slots)
            if isinstance(answer, Placement):
                await self._start(run, answer)
                continue
            self._wait(run, "queued", answer.reason)
            if isinstance(answer, Wait):
                if on_gpu:
                    gpu_queue_closed = run.id
                else:
                    cpu_queue_closed = run.id

    async def _start(self, run: LiveRun, placement: Placement) -> None:
        """Decide, durably; then let the attempt live. On a full disk nothing has happened, and it is tried again."""
        async with run.lock:
            if run.state not in WAITING or run.spec is None:
                return
            run.gpu_uuids, run.cpu_slots = placement.gpu_uuids, placement.cpu_slots
            run.memory_bytes = run.spec.resources.gpu_memory_bytes
            run.state, run.reason = "starting", ""
            run.stop, run.stop_told, run.pid, run.started_at, run.ended_at, run.exit_code = "", False, None, None, None, None
            held = {"gpus": run.gpu_uuids, "cpu_slots": run.cpu_slots, "memory_bytes": run.memory_bytes}
            try:
                await self._journal(run, "starting", "", held)
                await asyncio.to_thread(self._write_launch, run, run.spec)
            except OSError as error:
                log.warning("%s could not be started: %s", run.id, error)
                run.state, run.reason = "queued", f"could not be started, tried again soon: {error}"
                run.gpu_uuids, run.cpu_slots = [], 0
                self._not_before[run.id] = time.monotonic() + _RETRY_START_SECONDS
                return
            self._begin_life(run)
            self._tell_state(run)

    def _write_launch(self, run: LiveRun, spec: RunSpec) -> None:
        directory = run.dir.attempt(run.attempt)
        directory.mkdir(exist_ok=True)
        run.dir.checkpoints.mkdir(exist_ok=True)
        run.dir.artifacts.mkdir(exist_ok=True)
        share = run.cpu_slots / self.cpu_slots if run.cpu_slots else 1.0
        launch = describe_launch(
            spec,
            run.dir,
            run.attempt,
            home=self._home.root,
            submitted_from=str(run.record.get("cwd") or "/"),
            gpu_uuids=run.gpu_uuids,
            threads=max(1, int(self._cores * share)),
            resume_from=newest_complete(run.dir) if run.attempt > 1 else None,
        )
        sync_directory(run.dir.path)
        write_json(directory / "launch.json", launch)

    def _wait(self, run: LiveRun, state: str, reason: str) -> None:
        """Why a run does not start yet; follows from the others, so it is not journaled."""
        if (run.state, run.reason) != (state, reason):
            told = run.state != state
            run.state, run.reason = state, reason
            if told:
                self._tell_state(run)

    # --- living and ending ---

    def _begin_life(self, run: LiveRun) -> None:
        self._ingest.track(run.dir)
        self._lives[run.id] = asyncio.create_task(self._live(run), name=run.id)

    async def _live(self, run: LiveRun) -> None:
        """See the attempt through. A fault of ours is logged and taken up again where the files say we are."""
        while True:
            try:
                verdict = await self._supervisor.live(run)
                await self._on_over(run, verdict)
                return
            except Exception:
                log.exception("%s: its supervision failed and goes on", run.id)
                await asyncio.sleep(_FAULT_PAUSE_SECONDS)

    async def _on_running(self, run: LiveRun) -> None:
        if run.pid:
            self._pids[run.pid] = run.id
        async with run.lock:
            if run.state == "starting":
                await self._journal(run, "running", "", {"pid": run.pid, "started_at": run.started_at})
                run.state, run.reason = "running", ""
                self._tell_state(run)

    async def _on_over(self, run: LiveRun, verdict: Verdict) -> None:
        """The tree is gone. Everything it told is stored before anybody hears that it is over."""
        if run.pid:
            self._pids.pop(run.pid, None)
        again, why = self._another_attempt(run, verdict)
        complete = await self._ingest.drain(run.dir, ended=not again)
        if verdict.state == "succeeded":
            verdict = await self._register_models(run, verdict)
        async with run.lock:
            self._progress.forget(run.id)
            run.latest, run.progress = self._ingest.latest(run.id), self._ingest.progress(run.id)
            self._lives.pop(run.id, None)
            if again and run.stop not in ("now", "checkpoint"):
                lost = verdict.state == "lost"
                await self._queue_again(
                    run, why, retries_used=run.retries_used + (0 if lost else 1), requeues=run.requeues + (1 if lost else 0)
                )
                return
            await self._end(run, verdict)
        if complete:
            self._ingest.untrack(run.id)
        else:
            self._run_later(self._untrack_when_stored(run))

    def _another_attempt(self, run: LiveRun, verdict: Verdict) -> tuple[bool, str]:
        """Whether the spec asks for one more attempt after this end, and how to say so."""
        spec = run.spec
        if spec is None or not verdict.again:
            return False, ""
        if verdict.state == "lost" and spec.on_lost == "requeue" and run.requeues < _MOST_REQUEUES:
            return True, f"queued again after it was lost: {verdict.reason}"
        if verdict.state in ("failed", "hung") and run.retries_used < spec.retries:
            return True, f"retry {run.retries_used + 1} of {spec.retries} after: {verdict.reason}"
        return False, ""

    async def _queue_again(self, run: LiveRun, reason: str, *, retries_used: int, requeues: int) -> None:
        """The run's lock is held. One entry says both that the attempt is over and that another follows."""
        attempt = run.attempt + 1 if await asyncio.to_thread(run.dir.attempt(run.attempt).exists) else run.attempt
        data = {"retries_used": retries_used, "requeues": requeues, "after": run.state}
        await self._journal_entry(run, "state", "queued", reason, data, attempt=attempt)
        run.attempt, run.state, run.reason = attempt, "queued", reason
        run.retries_used, run.requeues, run.stop = retries_used, requeues, ""
        run.gpu_uuids, run.cpu_slots, run.ended_at, run.exit_code, run.pid = [], 0, None, None, None
        self._tell_state(run)
        self._wake.set()

    async def _end(self, run: LiveRun, verdict: Verdict) -> None:
        """The run's lock is held. A final state follows from the attempt's files, so a full disk does not hold it up."""
        was_active = run.state in ACTIVE
        try:
            await self._journal(run, verdict.state, verdict.reason, {"exit": verdict.exit_code})
        except OSError as error:
            if not was_active:
                raise LlmopsError(f"{run.id} was not cancelled: {error}", "make room in the state directory") from error
            log.warning("%s: its end is not in the journal: %s", run.id, error)
        run.state, run.reason, run.exit_code, run.ended_at = verdict.state, verdict.reason, verdict.exit_code, time.time()
        run.gpu_uuids, run.cpu_slots = [], 0
        self._not_before.pop(run.id, None)
        self._tell_state(run)
        self._wake.set()

    async def _register_models(self, run: LiveRun, verdict: Verdict) -> Verdict:
        """The models it says it made get their names before the run counts as succeeded. Repeating this changes nothing."""
        problems = []
        for event in await asyncio.to_thread(artifact_events, run.dir, run.attempt):
            try:
                await asyncio.to_thread(register_artifact, self._home, run.dir, event)
            except (LlmopsError, OSError, ValueError) as error:
                log.warning("%s: a model was not registered: %s", run.id, error)
                problems.append(f"a model was not registered: {error}")
        return Verdict(verdict.state, "; ".join(problems), verdict.exit_code) if problems else verdict

    async def _untrack_when_stored(self, run: LiveRun) -> None:
        while not await self._ingest.drain(run.dir, ended=True):  # noqa: ASYNC110 - disk space comes back without an event
            await asyncio.sleep(_WAITING_TICK_SECONDS)
        run.latest, run.progress = self._ingest.latest(run.id), self._ingest.progress(run.id)
        self._ingest.untrack(run.id)

    # --- small things ---

    def _get(self, run_id: str) -> LiveRun:
        try:
            return self._runs[run_id]
        except KeyError:
            raise NotFoundError(f"no run {run_id!r}", "see `llmops-tui runs list`") from None

    def _must_wait(self, run: LiveRun) -> None:
        if run.state not in WAITING:
            raise ConflictError(f"{run.id} does not wait in the queue: {run.state}", "only waiting runs have a place in it")

    def _waiting(self) -> list[LiveRun]:
        return sorted((run for run in self._runs.values() if run.state in WAITING), key=queue_key)

    def _summary(self, run: LiveRun) -> RunSummary:
        place_in_queue = None
        if run.state in WAITING:
            place_in_queue = 1 + sum(other.state in WAITING and queue_key(other) < queue_key(run) for other in list(self._runs.values()))
        return run.summary(place_in_queue)

    def _check_dependencies(self, spec: RunSpec) -> None:
        for key, names in (("after_ok", spec.after_ok), ("after_any", spec.after_any)):
            for name in names:
                other = self._runs.get(name)
                if other is None:
                    fields = [{"field": key, "message": f"no run {name!r}"}]
                    raise NotFoundError(f"{key}: no run {name!r}", "see `llmops-tui runs list`", fields)
                if key == "after_ok" and other.state in ENDED and other.state != "succeeded":
                    raise ConflictError(f"after_ok: {name} ended as {other.state}, so this would never start", "retry that run first")

    async def _journal(self, run: LiveRun, state: str, reason: str, data: dict[str, Any]) -> None:
        await self._journal_entry(run, "state", state, reason, data)

    async def _journal_entry(
        self, run: LiveRun, entry: str, state: str | None, reason: str, data: dict[str, Any], attempt: int | None = None
    ) -> None:
        line = {"t": time.time(), "entry": entry, "state": state, "attempt": attempt or run.attempt, "reason": reason, "data": data}
        await asyncio.to_thread(run.dir.append_journal, line)

    def _tell_state(self, run: LiveRun) -> None:
        data = {
            "state": run.state, "reason": run.reason, "attempt": run.attempt, "exit_code": run.exit_code, "gpus": list(run.gpu_uuids),
            "priority": run.priority,
        }  # fmt: skip
        self._hub.publish_soon("run.state", run.id, data)
        self._store_soon(run)
        self._wake.set()

    def _store_soon(self, run: LiveRun) -> None:
        """The row SQL users see; the directory is the truth, so nobody waits for it."""
        summary, spec = self._summary(run), run.spec_values
        with contextlib.suppress(LlmopsError):  # the store closes before the last run's news
            self._store.write(lambda con: queries.upsert_run(con, summary, spec)).add_done_callback(_log_failure)

    async def _store_runs(self, runs: Sequence[LiveRun]) -> None:
        rows = [(self._summary(run), run.spec_values) for run in runs]

        def write(con: duckdb.DuckDBPyConnection) -> None:
            stored = {row[0]: row[1:] for row in con.execute("SELECT id, state, attempt, reason FROM runs").fetchall()}
            for summary, spec in rows:
                if stored.get(summary["id"]) != (summary["state"], summary["attempt"], summary["reason"]):
                    queries.upsert_run(con, summary, spec)

        with contextlib.suppress(LlmopsError):
            self._store.write(write).add_done_callback(_log_failure)

    def _stored_progress(self) -> dict[str, tuple[dict[str, float], Progress | None]]:
        rows = self._store.read(
            lambda con: con.execute("SELECT id, latest, progress FROM ingest_offsets JOIN runs USING (run_key)").fetchall()
        )
        return {str(row[0]): (decode_latest(row[1]), json.loads(row[2]) if row[2] else None) for row in rows}

    def _run_later(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    async def _let_go(self) -> None:
        """Stop watching; every job goes on under its shim."""
        tasks = [*self._lives.values(), *self._later]
        self._lives.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._progress.close()


def _stop_mode(mode: str) -> StopMode:
    if mode == "now":
        return "now"
    if mode == "checkpoint":
        return "checkpoint"
    raise UsageError(f"unknown way to stop {mode!r}", "use now or checkpoint")


def _bury(path: Path, grave: Path) -> None:
    if grave.exists():
        shutil.rmtree(grave)
    path.rename(grave)
    sync_directory(path.parent)


def _models_of(home: Home, run_id: str) -> list[str]:
    return [
        f"{model['name']}@v{model['version']}" for model in list_models(home) if model["run"] == run_id and model["version"] is not None
    ]


def _log_failure(future: Any) -> None:
    if not future.cancelled() and (error := future.exception()):
        log.warning("a run's row in the database is behind: %s", error)
