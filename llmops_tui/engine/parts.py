"""The engine put together: every part it has, in the order they are opened, run and closed."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import llmops_tui
from llmops_tui.data.idle_history import idle_since
from llmops_tui.data.store import Store
from llmops_tui.engine.alarms import AlarmBook
from llmops_tui.engine.audit import AuditLog
from llmops_tui.engine.endpoints.facade import Endpoints
from llmops_tui.engine.endpoints.loadtest_target import baseline_of, target_of
from llmops_tui.engine.estimate.facts import Facts
from llmops_tui.engine.estimator import Estimator
from llmops_tui.engine.gpu_claims import GpuClaims
from llmops_tui.engine.gpu_locks import GpuLocks, lock_directory
from llmops_tui.engine.gpu_use import IDLE_BELOW, GpuUse
from llmops_tui.engine.gpus import GpuMonitor
from llmops_tui.engine.host import HostMonitor
from llmops_tui.engine.hub import Hub
from llmops_tui.engine.ingest import Ingest
from llmops_tui.engine.jobs.serving_process import memory_available_bytes
from llmops_tui.engine.log_sizes import LogSizes
from llmops_tui.engine.notifier import Notifier, channels_of
from llmops_tui.engine.on_behalf import OnBehalf
from llmops_tui.engine.past import Past
from llmops_tui.engine.people import People, describe_you, who_asks
from llmops_tui.engine.recorded.facade import Recorded
from llmops_tui.engine.reservations import ReservationBook
from llmops_tui.engine.run_views import overview
from llmops_tui.engine.samples import Samples
from llmops_tui.engine.scheduler import Scheduler
from llmops_tui.engine.serving.fitting import fit_replica
from llmops_tui.engine.serving.runtimes.abilities import Abilities
from llmops_tui.engine.serving.runtimes.find import find
from llmops_tui.engine.slow_work import SlowWork
from llmops_tui.engine.sweeps.conductor import Conductor
from llmops_tui.engine.tariff import Tariff
from llmops_tui.engine.watch import Watch
from llmops_tui.paths import Home
from llmops_tui.specs.answers import EngineInfo, EstimateAnswer, GpuSample, HostSample, Status
from llmops_tui.specs.common import RunSpec
from llmops_tui.specs.loadtest import LoadtestSpec
from llmops_tui.specs.serve import ServeSpec
from llmops_tui.specs.settings import Settings
from llmops_tui.specs.train import TrainSpec

_RECENT_RUNS = 20
_RESTART_SECONDS = 1.0
_GPU_READY_SECONDS = 1.0
T = TypeVar("T")
P = ParamSpec("P")
log = logging.getLogger(__name__)


@dataclass
class Parts:
    """What the routes work with. All attributes belong to the event loop's thread unless their class says otherwise.

    `stopping` asks the engine to end; `hanging_up` ends the streams, once they could tell of it.
    """

    home: Home
    settings: Settings
    store: Store
    hub: Hub
    ingest: Ingest
    gpus: GpuMonitor
    host: HostMonitor
    samples: Samples
    scheduler: Scheduler
    notifier: Notifier
    people: People
    audit: AuditLog
    reservations: ReservationBook
    gpu_locks: GpuLocks
    on_behalf: OnBehalf
    watch: Watch
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    hanging_up: asyncio.Event = field(default_factory=asyncio.Event)
    started_at: float = field(default_factory=time.time)
    host_sample: HostSample | None = None
    gpu_use: GpuUse = field(default_factory=GpuUse)
    abilities: Abilities = field(default_factory=Abilities)
    past: Past = field(init=False)
    estimator: Estimator = field(init=False)
    sweeps: Conductor = field(init=False)
    endpoints: Endpoints = field(init=False)
    recorded: Recorded = field(init=False)
    _log_sizes: LogSizes = field(init=False)
    _failures: dict[str, str] = field(default_factory=dict)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _slow: SlowWork = field(default_factory=SlowWork)

    def __post_init__(self) -> None:
        self.past = Past(self.store, self.samples, self.scheduler.runs, self.started_at)
        self.estimator = Estimator(self.scheduler.runs, Tariff(self.settings.money.per_kwh, self.settings.money.per_gpu_hour))
        self.sweeps = Conductor(self.scheduler, self.ingest, self._prepare_now)
        self.endpoints = Endpoints(
            self.home, self.settings.serving, self.scheduler, self.on_behalf, self.prepare, self._prepare_now,
            lambda kind, data: self.hub.publish_soon(kind, None, data), self.gpus.snapshot,
        )  # fmt: skip
        self.recorded = Recorded(
            self.home, self.settings, self.store, self.endpoints.keeping, self.scheduler,
            lambda: shutil.disk_usage(self.home.root).free, lambda: len(self.gpus.snapshot()),
            lambda kind, data: self.hub.publish_soon(kind, None, data),
        )  # fmt: skip
        self._log_sizes = LogSizes(self.home.runs)

    @classmethod
    def open(cls, home: Home, settings: Settings, people: People | None = None) -> Parts:
        """Open the database and make the parts; nothing runs yet. Hold the state directory's lock.

        Raises what `Store.open` raises: a newer program's database, a damaged one. Without `people` the engine is private.
        """
        people = people or People(settings.people)
        channels = channels_of(settings.notify)
        for directory in (home.runs, home.models, home.datasets, home.cache):
            directory.mkdir(parents=True, exist_ok=True)
        store = Store.open(home.database, settings.engine)
        if people.gid is not None:
            home.database.chmod(0o600)  # made before it was shared it may be readable
        hub = Hub(store)
        # The ingest tells the scheduler, which is made after it because it asks the ingest.
        ingest = Ingest(
            store,
            settings.engine,
            on_events=lambda run_id, events, latest: scheduler.on_events(run_id, events, latest),
            free_bytes=lambda: shutil.disk_usage(home.root).free,
            on_state=lambda state: _tell_ingest(hub, state),
        )
        gpus = GpuMonitor(settings, lambda pid: scheduler.run_of_pid(pid), home=home.root)
        host = HostMonitor(home.root)
        reservations = ReservationBook(home.root / "reservations.json")
        locks = GpuLocks(lock_directory(settings.gpus.lock_directory), home.root, people.group)
        on_behalf = OnBehalf(home, settings, people.gid)
        scheduler = Scheduler(home, settings, store, hub, ingest, gpus, GpuClaims(reservations, locks), on_behalf)
        audit = AuditLog(home.root / "audit.jsonl")
        ingest.watcher = watch = Watch(store, hub, AlarmBook(home.runs), audit, scheduler.one, scheduler.living, scheduler)
        return cls(
            home=home,
            settings=settings,
            store=store,
            hub=hub,
            ingest=ingest,
            gpus=gpus,
            host=host,
            samples=Samples(store, settings.engine),
            scheduler=scheduler,
            notifier=Notifier(settings.notify, hub, home, channels),
            people=people,
            audit=audit,
            reservations=reservations,
            gpu_locks=locks,
            on_behalf=on_behalf,
            watch=watch,
        )

    async def start(self) -> None:
        """Adopt what lives, then let everything run."""
        self.gpus.start()
        await asyncio.to_thread(self.gpus.wait_ready, _GPU_READY_SECONDS)
        await self.watch.book.load()
        await self.scheduler.recover()
        await self.endpoints.keeping.load()
        self.gpu_use.remember(await asyncio.to_thread(self._idle_gpus))
        await self._sample()
        await self.hub.publish("engine.started", None, {"pid": os.getpid(), "version": llmops_tui.__version__})
        parts = {
            "ingest": self.ingest.run, "scheduler": self.scheduler.run, "sweeps": self.sweeps.run,
            "sampling": self._keep_sampling, "notifications": self.notifier.run,
            "watchers": self.watch.run, "endpoints": self.endpoints.keeping.run, "requests": self.recorded.run,
        }  # fmt: skip
        for name, part in parts.items():
            self._tasks.append(asyncio.create_task(self._keep_running(name, part), name=name))

    async def serve_until_stopped(self) -> None:
        """Wait for `stopping`, tell the streams' readers, and end the streams."""
        await self.stopping.wait()
        await self.hub.publish("engine.stopping", None, {"pid": os.getpid()})
        self.hanging_up.set()

    async def stop(self) -> None:
        """End what runs here; jobs go on. Everything the jobs told so far is committed."""
        self.stopping.set()
        self.hanging_up.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.samples.flush()

    def close(self) -> None:
        """Let go of the GPUs and the database. Safe before `start` and after a failure."""
        self.gpus.stop()
        self.notifier.close()
        self._slow.close()
        self.store.close()

    async def slowly(self, work: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        """Run what may take minutes in threads of its own, so that quick requests never queue behind it."""
        return await self._slow.run(who_asks().uid, work, *args, **options)

    def info(self) -> EngineInfo:
        """The daemon itself, with what is wrong in `warnings`."""
        return EngineInfo(
            pid=os.getpid(),
            host=os.uname().nodename,
            version=llmops_tui.__version__,
            home=str(self.home.root),
            started_at=self.started_at,
            epoch=self.store.epoch,
            ingest=self.ingest.state,
            warnings=[
                *self._failures.values(),
                *self.gpus.warnings,
                *self.people.warnings,
                *self.endpoints.keeping.book.problems,
                *self.recorded.warnings,
                *(problem for problem in (self.store.failure, self.gpu_locks.problem) if problem),
            ],
            shared=self.people.gid is not None,
            group=self.people.group,
            you=describe_you(self.people),
        )

    def gpu_samples(self) -> list[GpuSample]:
        """The newest sample of each GPU, with the runs that hold it and what they make of it."""
        samples = self.gpus.snapshot()
        self.gpu_use.fill(samples, self.scheduler.runs(), time.time())
        for sample in samples:
            sample["reserved_by"] = self.reservations.on(sample["uuid"])
        return samples

    async def prepare(self, uid: int, spec: RunSpec, cwd: Path) -> dict[str, Any]:
        """Everything a run needs, checked with its submitter's eyes, and what it will take. Raises what both raise."""
        prepared = await self.slowly(self.on_behalf.prepare, uid, spec, cwd)
        if isinstance(spec, ServeSpec):
            return await self.slowly(self._fit_replica, spec, prepared)
        if isinstance(spec, LoadtestSpec):
            return await self._aim(uid, spec, prepared)
        return await self.estimator.complete(spec, prepared, self.gpus.snapshot(), self.host_sample or self._sample_host())

    async def _aim(self, uid: int, spec: LoadtestSpec, prepared: dict[str, Any]) -> dict[str, Any]:
        """Where a load test goes and what it is compared with, as things stand now."""
        runs = list(self.scheduler.runs())
        target, slo = target_of(uid, spec, self.endpoints.keeping, runs, self.gpus.snapshot())
        return {**prepared, "target": target, "slo": slo.model_dump(), "baseline": await self.slowly(baseline_of, spec, target, runs)}

    def _fit_replica(self, spec: ServeSpec, prepared: dict[str, Any]) -> dict[str, Any]:
        """The plan of a server on what is free now; for a thread, because runtimes are asked what they can."""
        gpus = self.gpus.snapshot()
        # Asked where the engine itself finds them: what a user's own process told is never run with the engine's rights.
        told = prepared["serving_facts"]["runtimes"]
        own = {name: place for name in told if (place := find(name, self.home, self.settings.runtimes)) is not None}
        places = {name: {"python": str(place.python), "version": place.version} for name, place in own.items()}
        can = {**dict.fromkeys(told, False), **self.abilities.use_gpu(places, box_has_gpu=bool(gpus))}
        return fit_replica(spec, prepared, gpus, memory_available_bytes(), can)

    def _prepare_now(self, uid: int, spec: RunSpec, cwd: Path) -> dict[str, Any]:
        """`prepare` for a thread."""
        prepared = self.on_behalf.prepare(uid, spec, cwd)
        if isinstance(spec, ServeSpec):
            return self._fit_replica(spec, prepared)
        return self.estimator.complete_now(spec, prepared, self.gpus.snapshot(), self.host_sample or self._sample_host())

    async def estimate(self, spec: TrainSpec, facts: Facts) -> EstimateAnswer:
        """What a training run would take on this box. Raises UsageError."""
        return await self.estimator.estimate(spec, facts, self.gpus.snapshot(), self.host_sample or self._sample_host())

    def status(self) -> Status:
        """Everything the first screen needs, from memory."""
        seen = overview(self.scheduler.runs(), _RECENT_RUNS)
        return Status(
            engine=self.info(),
            host=self.host_sample or self._sample_host(),
            gpus=self.gpu_samples(),
            running=seen.running,
            waiting=seen.waiting,
            recent=seen.recent,
            counts=seen.counts,
            currency=self.settings.money.currency,
            serving=self.endpoints.keeping.overview(),
        )

    async def at(self, t: float) -> Status:
        """The same as it was at `t` (Unix seconds). Raises UsageError for a moment nothing is known of."""
        told = await self.past.at(t, self.host_sample or self._sample_host(), self.gpu_samples())
        return Status(engine=self.info(), currency=self.settings.money.currency, serving=None, **told)

    async def _keep_running(self, name: str, part: Callable[[asyncio.Event], Awaitable[None]]) -> None:
        """A part that fails is logged, shown as a warning and started again: one fault must not stop the supervision of jobs."""
        while True:
            try:
                await part(self.stopping)
                return
            except Exception as error:
                log.exception("%s failed and is started again", name)
                self._failures[name] = f"{name} failed and was started again: {type(error).__name__}: {error}; see engine.log"
            if self.stopping.is_set():
                return
            await asyncio.sleep(_RESTART_SECONDS)

    async def _keep_sampling(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            found = await self._sample()
            for ended in self.reservations.take_ended():
                await self.hub.publish("gpu.released", None, {"id": ended["id"], "owner": ended["owner"], "gpus": ended["gpus"], "by": ""})
                self.scheduler.look_again()
            for event in [*self.gpus.drain_events(), *found]:
                data: dict[str, Any] = {key: value for key, value in event.items() if key != "type"}
                await self.hub.publish(event["type"], None, data)
            try:
                await asyncio.wait_for(stop.wait(), self.settings.engine.sample_seconds)
            except TimeoutError:
                continue

    async def _sample(self) -> list[dict[str, Any]]:
        """One look at the box, for everybody who wants to know; returns the events that follow from it."""
        # In a thread: asking a network file system for its free space can take long.
        living = self.scheduler.living()
        sample, log_sizes = await asyncio.to_thread(lambda: (self._sample_host(), self._log_sizes.look(living)))
        self.host_sample = sample
        gpus, now = self.gpu_samples(), time.time()
        self.samples.add(sample, gpus, log_sizes)
        await self.scheduler.meter(gpus, now)
        return self.gpu_use.look(gpus, now)

    def _idle_gpus(self) -> dict[str, float]:
        now, period = time.time(), self.settings.engine.sample_seconds
        found = {
            gpu["uuid"]: self.store.read(lambda con, index=gpu["index"]: idle_since(con, index, IDLE_BELOW, period, now))  # type: ignore[misc]
            for gpu in self.gpus.snapshot()
        }
        return {uuid: since for uuid, since in found.items() if since is not None}

    def _sample_host(self) -> HostSample:
        slots = self.scheduler.cpu_slots
        held = sum(holding.cpu_slots for holding in self.scheduler.holdings())
        return self.host.sample(slots, max(0, slots - held))


def _tell_ingest(hub: Hub, state: str) -> None:
    kind = "ingest.resumed" if state == "ok" else "ingest.paused"
    hub.publish_soon(kind, None, {"state": state})
