"""The queue: what waits, what may start, what became of it. Every decision is in the run's journal before it is acted upon.

Belongs to the event loop's thread. The run directories are the truth: `recover` folds them into memory, and everything
here can be cut off at any moment and taken up again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Collection, Coroutine, Sequence
from dataclasses import replace
from typing import Any, Protocol

from llmops_tui.data.rundir import RunDir, sweep_leftovers
from llmops_tui.data.store import Store
from llmops_tui.engine.attempt_end import settle
from llmops_tui.engine.attempt_files import end_time
from llmops_tui.engine.attempt_start import AttemptStart, DataChangedError
from llmops_tui.engine.foreign.follower import ForeignLogs
from llmops_tui.engine.gpu_claims import GpuClaims, GpuTakenError
from llmops_tui.engine.hub import Hub
from llmops_tui.engine.ledger import Placement, Wait, place
from llmops_tui.engine.live_run import LiveRun
from llmops_tui.engine.made_models import register_models
from llmops_tui.engine.metering import Meter
from llmops_tui.engine.on_behalf import OnBehalf
from llmops_tui.engine.preemption import victims
from llmops_tui.engine.progress_events import ProgressEvents
from llmops_tui.engine.queue_rules import Doomed, another_attempt, obstacle
from llmops_tui.engine.recovery import load_runs
from llmops_tui.engine.run_table import RunTable
from llmops_tui.engine.steering import Steering
from llmops_tui.engine.supervisor import GpuView, Supervisor
from llmops_tui.engine.tariff import Tariff
from llmops_tui.engine.verdict import Verdict
from llmops_tui.engine.wishes import Wishes
from llmops_tui.errors import LlmopsError
from llmops_tui.paths import Home
from llmops_tui.specs.answers import GpuSample, Progress, RunSummary
from llmops_tui.specs.common import RunSpec
from llmops_tui.specs.settings import Settings
from llmops_tui.specs.states import ACTIVE, CONDUCTED, QUEUED, WAITING

_WAITING_TICK_SECONDS = 2.0
_IDLE_TICK_SECONDS = 30.0
_RETRY_START_SECONDS = 10.0
_USAGE_SECONDS = 60.0
_FAULT_PAUSE_SECONDS = 1.0
_LONGEST_FAULT_PAUSE_SECONDS = 30.0
_CORES_PER_SLOT = 4
_PLAIN_EVENTS = {"checkpoint": "run.checkpoint", "artifact": "run.artifact", "sample": "run.sample", "control": "run.control"}
log = logging.getLogger(__name__)


class Gpus(GpuView, Protocol):
    """What is asked of the GPU monitor. `ready` once the driver has answered for the first time."""

    @property
    def ready(self) -> bool: ...


class Events(Protocol):
    """What is asked of the ingest."""

    def track(self, run: RunDir) -> None: ...

    def untrack(self, run_id: str) -> None: ...

    def latest(self, run_id: str) -> dict[str, float]: ...

    def progress(self, run_id: str) -> Progress | None: ...

    async def drain(self, run: RunDir, *, ended: bool = False) -> bool: ...


class Scheduler:
    """The queue's machine: it starts what fits and ends what is over. The users' wishes come in through wishes.py."""

    def __init__(
        self,
        home: Home,
        settings: Settings,
        store: Store,
        hub: Hub,
        ingest: Events,
        gpus: Gpus,
        claims: GpuClaims | None = None,
        on_behalf: OnBehalf | None = None,
    ) -> None:
        self._home = home
        self._claims = claims
        self._on_behalf = on_behalf or OnBehalf(home, settings)
        self._hub = hub
        self._ingest = ingest
        self._gpus = gpus
        cores = len(os.sched_getaffinity(0))
        self.cpu_slots = settings.engine.cpu_slots or max(1, cores // _CORES_PER_SLOT)
        self._attempts = AttemptStart(home, self.cpu_slots, cores, self._on_behalf.group)
        tariff = Tariff(settings.money.per_kwh, settings.money.per_gpu_hour)
        self._table = table = RunTable(store, hub, tariff)
        self._meter = Meter(gpus)
        self._usage_stored_at = time.monotonic()
        self._lives: dict[str, asyncio.Task[None]] = {}
        self._later: set[asyncio.Task[None]] = set()
        self._pids: dict[int, str] = {}
        self._supervisor = Supervisor(
            gpus, settings.engine.log_keep_bytes, self._on_running, claims.hold if claims else None, self._on_behalf.describe_tree
        )
        self._progress = ProgressEvents(hub)
        self._foreign = ForeignLogs(self._on_behalf)
        wishes = Wishes(home, table, self._supervisor, ingest, gpus, self.cpu_slots)
        self.check, self.submit, self.stop = wishes.check, wishes.submit, wishes.stop
        self._steering = Steering(home, table, self._supervisor)
        self.control, self.retry = self._steering.control, wishes.retry
        self.roll_back = self._steering.roll_back
        self.annotate = wishes.annotate
        self.set_priority, self.move, self.remove = wishes.set_priority, wishes.move, wishes.remove
        self.table = table
        self.summaries, self.detail, self.compare, self.holdings = table.summaries, table.detail, table.compare, table.holdings

    async def recover(self) -> None:
        """Read every run directory and take up what was under way. Call it once, before `run`."""
        await asyncio.to_thread(sweep_leftovers, self._home.runs)
        runs = await asyncio.to_thread(load_runs, self._home)
        self._table.by_id = {run.id: run for run in runs}
        known = await asyncio.to_thread(self._table.stored_progress)
        for run in runs:
            run.latest, run.progress = known.get(run.id, ({}, None))
            run.tariff = self._table.tariff
        active = [run for run in runs if run.state in ACTIVE and run.kind not in CONDUCTED]
        for run in active:  # all of them first: those who shared a GPU share what it drew while no engine looked
            await self._meter.adopt(run)
        for run in active:
            self._begin_life(run)
        await self._table.store_all(runs)
        self._table.wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Start what may start, until `stop` is set. Jobs go on after that."""
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                self._table.wake.clear()
                await self._start_what_fits()
                self._supervisor.reap_all()
                waiting = any(run.state in QUEUED for run in self._table.by_id.values())
                woken = asyncio.create_task(self._table.wake.wait())
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

    def runs(self) -> Collection[LiveRun]:
        """Every run, oldest first. To look at, on the event loop."""
        return self._table.by_id.values()

    def living(self) -> list[str]:
        """The runs that are under way."""
        return list(self._lives)

    def one(self, run_id: str) -> LiveRun:
        """One run, to look at on the event loop. Raises NotFoundError."""
        return self._table.get(run_id)

    def summary(self, run_id: str) -> RunSummary:
        """One run; from memory. Raises NotFoundError."""
        return self._table.summary(self._table.get(run_id))

    def owner(self, run_id: str) -> tuple[str, int] | None:
        """Name and uid of the run's submitter; None where there is no such run."""
        run = self._table.by_id.get(run_id)
        return None if run is None else (run.owner, run.uid)

    def has_room(self, spec: RunSpec) -> bool:
        """Whether a run like this would start at once: nobody waits, and the box has what it needs."""
        if any(run.kind not in CONDUCTED for run in self._table.waiting()):
            return False
        return isinstance(place(spec.resources, list(self._gpus.snapshot()), self._table.holdings(), self.cpu_slots), Placement)

    def look_again(self) -> None:
        """Something outside changed what may start: a reservation came or went."""
        self._table.wake.set()

    def run_of_pid(self, pid: int) -> str | None:
        """The run whose main process this is. For any thread."""
        return self._pids.get(pid)

    def on_events(self, run_id: str, events: list[dict[str, Any]], latest: dict[str, float]) -> None:
        """The ingest has committed something of this run."""
        run = self._table.by_id.get(run_id)
        if run is None:
            return
        run.latest = latest
        run.progress = self._ingest.progress(run_id)
        for event in events:
            if kind := _PLAIN_EVENTS.get(str(event.get("type"))):
                self._hub.publish_soon(kind, run_id, {key: value for key, value in event.items() if key not in ("type", "seq")})
        if run.state in ACTIVE:
            self._progress.changed(run)
        if run.parent:
            self._table.changed.set()

    async def meter(self, gpus: Sequence[GpuSample], t: float) -> None:
        """The GPUs as sampled at `t`: charge those who hold them, and note it from time to time."""
        self._meter.tick(gpus, t)
        noted = await self._meter.save()
        if noted and time.monotonic() - self._usage_stored_at >= _USAGE_SECONDS:
            self._usage_stored_at = time.monotonic()
            self._table.store_usage_soon(noted)

    # --- starting ---

    async def _start_what_fits(self) -> None:
        """One pass over the queue in its order. A run that waits for a GPU is not overtaken by others that want one."""
        gpus = list(self._gpus.snapshot())
        gpu_queue_closed = cpu_queue_closed = ""
        if self._claims and gpus and self._table.waiting():
            await self._claims.look([gpu["uuid"] for gpu in gpus])
        for run in self._table.waiting():
            blocked = obstacle(run, self._table.by_id)
            if isinstance(blocked, Doomed):
                await self._give_up(run, blocked)
                continue
            if blocked:
                self._wait(run, "blocked", blocked)
                continue
            if run.not_before > time.monotonic() or run.spec is None or run.kind in CONDUCTED:  # these begin in sweeps/conductor.py
                continue
            resources = run.resources(run.spec)
            wanted = resources.gpus
            on_gpu = wanted != 0 and (wanted != "auto" or any(gpu["health"] != "lost" for gpu in gpus))
            if wanted != 0 and not self._gpus.ready:
                self._wait(run, "queued", "waits for the GPU driver's first answer")
                continue
            behind = gpu_queue_closed if on_gpu else cpu_queue_closed
            kept = self._claims.kept_for(run) if self._claims and on_gpu else set()
            # What takes no place in the queue (a server on the CPU) need not wait for one.
            if behind and not kept and (on_gpu or resources.cpu_slots > 0):
                self._wait(run, "queued", f"waits behind {behind}")
                continue
            closed = self._claims.closed_to(run) if self._claims else {}
            if behind:  # of what others wait for it gets nothing; what is reserved for its owner they cannot have
                closed = {**{gpu["uuid"]: f"waited for by {behind}" for gpu in gpus if gpu["uuid"] not in kept}, **closed}
            answer = place(run.resources(run.spec), gpus, self._table.holdings(), self.cpu_slots, closed)
            if isinstance(answer, Placement):
                await self._start(run, answer)
                continue
            self._wait(run, "queued", answer.reason)
            if isinstance(answer, Wait):
                for other in victims(run, run.spec, self._table.by_id.values(), gpus, self.cpu_slots, closed):
                    await self._steering.preempt(other, run)
                if on_gpu:
                    gpu_queue_closed = gpu_queue_closed or run.id
                else:
                    cpu_queue_closed = run.id

    async def _give_up(self, run: LiveRun, doomed: Doomed) -> None:
        async with run.lock:
            if run.state in WAITING:
                try:
                    await self._table.end(run, Verdict("cancelled", doomed.reason))
                except LlmopsError as error:  # a full disk: the next pass comes to the same end
                    log.warning("%s", error)

    async def _refuse_other_rows(self, run: LiveRun, problem: str) -> None:
        """The run's lock is held, and its start is in the journal."""
        self._meter.forget(run)
        run.let_go_of_locks()
        await self._table.end(run, Verdict("failed", f"not started again: {problem}; put the file back and retry, or submit a new run"))

    async def _start(self, run: LiveRun, placement: Placement) -> None:
        """Decide, durably; then let the attempt live. On a full disk nothing has happened, and it is tried again."""
        async with run.lock:
            if run.state not in WAITING or run.spec is None:
                return
            run.gpu_uuids, run.cpu_slots = placement.gpu_uuids, placement.cpu_slots
            need = run.resources(run.spec).gpu_memory_bytes
            run.memory_bytes = need if isinstance(need, int) else None
            try:
                if self._claims:
                    await self._claims.hold(run)
            except GpuTakenError as error:  # between the look and now
                run.gpu_uuids, run.cpu_slots = [], 0
                self._wait(run, "queued", f"waits for a GPU: one was just taken, {error}")
                return
            run.state, run.reason = "starting", ""
            run.stop, run.stop_told, run.pid, run.started_at, run.ended_at, run.exit_code = "", False, None, None, None, None
            held = {"gpus": run.gpu_uuids, "cpu_slots": run.cpu_slots, "memory_bytes": run.memory_bytes, **self._meter.begin(run)}
            try:
                await self._table.journal(run, "starting", await asyncio.to_thread(self._attempts.goes_on_from, run), held)
                await asyncio.to_thread(self._attempts.write, run, run.spec, self._gpus.snapshot())
            except DataChangedError as error:
                await self._refuse_other_rows(run, str(error))
                return
            except OSError as error:
                log.warning("%s could not be started: %s", run.id, error)
                run.state, run.reason = "queued", f"could not be started, tried again soon: {error}"
                self._meter.forget(run)
                run.gpu_uuids, run.cpu_slots = [], 0
                run.let_go_of_locks()
                run.not_before = time.monotonic() + _RETRY_START_SECONDS
                return
            self._begin_life(run)
            self._table.tell_state(run)

    def _wait(self, run: LiveRun, state: str, reason: str) -> None:
        """Why a run does not start yet; follows from the others, so it is not journaled."""
        if (run.state, run.reason) != (state, reason):
            told = run.state != state
            run.state, run.reason = state, reason
            if told:
                self._table.tell_state(run)

    # --- living and ending ---

    def _begin_life(self, run: LiveRun) -> None:
        self._ingest.track(run.dir)
        self._foreign.begin(run)
        self._lives[run.id] = asyncio.create_task(self._live(run), name=run.id)

    async def _live(self, run: LiveRun) -> None:
        """See the attempt through. A fault of ours is logged and taken up again where the files say we are."""
        pause = _FAULT_PAUSE_SECONDS
        while True:
            try:
                verdict = await self._supervisor.live(run)
                await self._on_over(run, verdict)
                return
            except OSError as error:
                log.warning("%s: its supervision waits for its disk: %s", run.id, error)
            except Exception:
                log.exception("%s: its supervision failed and goes on", run.id)
            await asyncio.sleep(pause)
            pause = min(_LONGEST_FAULT_PAUSE_SECONDS, pause * 2)

    async def _on_running(self, run: LiveRun) -> None:
        if run.pid:
            self._pids[run.pid] = run.id
        async with run.lock:
            if run.state == "starting":
                try:
                    await self._table.journal(run, "running", "", {"pid": run.pid, "started_at": run.started_at})
                except OSError as error:  # a full disk: started.json says the same to the next engine
                    log.warning("%s: its start is not in the journal: %s", run.id, error)
                run.state, run.reason = "running", ""
                self._table.tell_state(run)

    async def _on_over(self, run: LiveRun, verdict: Verdict) -> None:
        """The tree is gone. Everything it told is stored before anybody hears that it is over."""
        if run.pid:
            self._pids.pop(run.pid, None)
        if verdict.state == "cancelled" and run.stop and run.stop_why:
            verdict = replace(verdict, reason=run.stop_why)
        again = verdict.state == "paused" or another_attempt(run, verdict)[0]
        await self._foreign.finish(run)
        complete = await self._ingest.drain(run.dir, ended=not again)
        if verdict.state == "succeeded":
            verdict = await register_models(self._on_behalf, run, verdict)
        ended_at = await asyncio.to_thread(end_time, run.dir, run.attempt, run.started_at)
        await self._meter.close(run, ended_at)
        async with run.lock:
            self._progress.forget(run.id)
            run.latest, run.progress = self._ingest.latest(run.id), self._ingest.progress(run.id)
            comes_again = await settle(self._table, run, verdict, ended_at)
            self._lives.pop(run.id, None)
        if comes_again:
            return
        if complete:
            self._ingest.untrack(run.id)
        else:
            self._run_later(self._untrack_when_stored(run))

    async def _untrack_when_stored(self, run: LiveRun) -> None:
        while not await self._ingest.drain(run.dir, ended=True):  # noqa: ASYNC110 - disk space comes back without an event
            await asyncio.sleep(_WAITING_TICK_SECONDS)
        run.latest, run.progress = self._ingest.latest(run.id), self._ingest.progress(run.id)
        self._ingest.untrack(run.id)

    def _run_later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    async def _let_go(self) -> None:
        """Stop watching; every job goes on under its shim."""
        self._foreign.close()
        tasks = [*self._lives.values(), *self._later]
        self._lives.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._progress.close()
