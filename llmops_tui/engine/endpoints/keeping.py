"""Who keeps the endpoints as they are wished: starts and replaces servers, lets others go, tells the gateway, and looks at both.

Belongs to the event loop's thread. What is wished stands in the book before it is acted upon, and what there is stands in the runs'
directories: an engine that was killed goes on from there. Nothing here is on a request's way; the gateway answers without it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from llmops_tui.engine.endpoints.adapter_wishes import AdapterWishes
from llmops_tui.engine.endpoints.book import EndpointBook
from llmops_tui.engine.endpoints.changes import give_up, settle
from llmops_tui.engine.endpoints.compile import compile_config
from llmops_tui.engine.endpoints.entry import Asleep, Entry
from llmops_tui.engine.endpoints.gateway_control import GatewayGoneError
from llmops_tui.engine.endpoints.gateway_process import GatewayProcess
from llmops_tui.engine.endpoints.idling import asleep, awake, sleepy, wakes
from llmops_tui.engine.endpoints.keys import KeyBook, KeyRecord
from llmops_tui.engine.endpoints.planning import Server, Steps, ready_versions, steps
from llmops_tui.engine.endpoints.room_making import RoomMaking
from llmops_tui.engine.endpoints.server_starts import PrepareNow, Queue, ServerStarts
from llmops_tui.engine.endpoints.servers import read_servers
from llmops_tui.engine.endpoints.showing import detailed, summarise
from llmops_tui.errors import ConflictError, LlmopsError, NotFoundError
from llmops_tui.paths import Home
from llmops_tui.specs.answers import GpuSample, ServingOverview
from llmops_tui.specs.answers_serving import EndpointDetail, EndpointSummary
from llmops_tui.specs.settings_serving import ServingSettings
from llmops_tui.specs.states import ACTIVE, QUEUED

_CHANGING_SECONDS = 0.25
_STEADY_SECONDS = 1.0
_NOTHING_SECONDS = 60.0
# A new server beside the old ones that waits so long for room does not get it while they are there.
_ROOM_SECONDS = 3.0
log = logging.getLogger(__name__)


class Keeping:
    """One pass over all endpoints a second, or at once when something was wished. `prepare(uid, spec, cwd)` is the preflight; it blocks.

    `check` is its part that asks for no memory.
    """

    def __init__(
        self,
        home: Home,
        settings: ServingSettings,
        queue: Queue,
        check: PrepareNow,
        prepare: PrepareNow,
        tell: Callable[[str, dict[str, Any]], object],
        engine_key: KeyRecord,
        gpus: Callable[[], Sequence[GpuSample]],
    ) -> None:
        self.settings = settings
        self.book = EndpointBook(home.endpoints)
        self.keys = KeyBook(home.serving_keys)
        self.gateway = GatewayProcess(home)
        self.lock = asyncio.Lock()
        self.changed = asyncio.Event()
        self.servers: dict[str, list[Server]] = {}
        # As the gateway knows them: a server counts as ready for whoever asks once a request would reach it.
        self._known_servers: dict[str, list[Server]] = {}
        self.plans: dict[str, Steps] = {}
        self.reasons: dict[str, str] = {}
        self._queue = queue
        self._tell = tell
        self._engine_key = engine_key
        self._room = RoomMaking(gpus)
        self._riding = AdapterWishes(queue, check, self.book)
        self.starts = ServerStarts(queue, prepare, self.book, self._take_their_place, self.changed.set)
        self._draining: dict[str, asyncio.Task[None]] = {}
        self._told_states: dict[str, str] = {}

    async def load(self) -> None:
        """Read what is at rest. Raises LlmopsError for damaged keys."""
        await asyncio.to_thread(self.book.load)
        await asyncio.to_thread(self.keys.load)

    async def run(self, stop: asyncio.Event) -> None:
        """Keep until `stop` is set; gateway and servers go on after that."""
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                self.changed.clear()
                await self.tend()
                woken = asyncio.create_task(self.changed.wait())
                await asyncio.wait({woken, stopping}, timeout=self._pause(), return_when=asyncio.FIRST_COMPLETED)
                woken.cancel()
        finally:
            stopping.cancel()
            self.starts.cancel()
            self._riding.cancel()
            for task in self._draining.values():
                task.cancel()
            self._draining = {}  # where this is started again after a failure, they are let go again

    async def tend(self) -> None:
        """One pass: see what there is, let pending changes become true, start and let go what the wish says, tell the gateway."""
        await self.look()
        if not self.book.entries:
            await self._close_down()
            return
        yielding = self._who_yields()
        for name in list(self.book.entries):
            await self._tend_one(name, yielding)
        now = time.time()
        self.plans = {name: steps(entry, self._with_unborn(name), now) for name, entry in self.book.entries.items()}
        going = [run for plan in self.plans.values() for run in plan.drain] + self._orphans()
        for run in going:
            self._let_go(run)
        await self.publish()
        for name, plan in self.plans.items():
            for version in plan.start:
                self.starts.begin(name, version)
            for load, pairs in ((True, plan.load), (False, plan.unload)):
                for run, adapter in pairs:
                    self._riding.wish(name, run, adapter, load=load)
        await self.gateway.keep()
        await self.gateway.look()
        self._tell_states()

    async def look(self) -> None:
        """Read anew which servers there are."""
        runs = [run for run in self._queue.runs() if run.kind == "serve"]
        owners = {name: entry.uid for name, entry in self.book.entries.items()}
        self.servers = await asyncio.to_thread(read_servers, runs, set(self._draining), owners) if runs else {}

    async def publish(self) -> None:
        """Tell the gateway what is so now. Raises OSError."""
        entries, servers = list(self.book.entries.values()), self.servers
        await self.gateway.publish(compile_config(entries, servers, [*self.keys.records, self._engine_key], self.settings))
        self._known_servers = servers

    async def commit(self, entry: Entry) -> None:
        """Make a changed entry the one that holds, durably. Hold `lock`. Raises LlmopsError (a full disk)."""
        try:
            await asyncio.to_thread(self.book.write, entry)
        except OSError as error:
            raise LlmopsError(f"{entry.name} was not changed: {error.strerror or error}", "make room in the state directory") from error
        self.book.entries[entry.name] = entry
        self.changed.set()

    async def forget(self, name: str) -> None:
        """Take an endpoint out of the book, durably; its servers are let go by the next pass. Hold `lock`."""
        await asyncio.to_thread(self.book.remove, name)
        self.book.entries.pop(name, None)
        for kept in (self.plans, self.reasons, self._told_states):
            kept.pop(name, None)
        self.starts.forget(name)
        self.changed.set()

    def told(self, name: str) -> Mapping[str, Any]:
        """What the gateway said of an endpoint when it was last asked."""
        endpoints = self.gateway.status.get("endpoints")
        found = endpoints.get(name) if isinstance(endpoints, dict) else None
        return found if isinstance(found, dict) else {}

    def ready(self, entry: Entry) -> set[str]:
        """The versions that could answer now."""
        return ready_versions(entry, self.servers.get(entry.name, ()), self._unhealthy())

    def summary(self, name: str) -> EndpointSummary:
        """One endpoint as it is told; from memory. Raises NotFoundError."""
        entry = self.book.get(name)
        reason = self.reasons.get(entry.name) or self.gateway.problem
        plan = self.plans.get(entry.name) or Steps()
        return summarise(
            entry,
            [*self._known_servers.get(entry.name, ()), *self.starts.refused(entry.name)],
            plan,
            self.gateway.status,
            self.settings,
            time.time(),
            reason,
        )

    def detail(self, name: str) -> EndpointDetail:
        """The same with spec and history."""
        return detailed(self.summary(name), self.book.get(name))

    def overview(self) -> ServingOverview:
        """In numbers."""
        states = [self.summary(name)["state"] for name in self.book.entries]
        return ServingOverview(
            endpoints=len(states), unhealthy=sum(state in ("broken", "degraded") for state in states), asleep=states.count("asleep")
        )

    # --- one endpoint ---

    async def _tend_one(self, name: str, yielding: Mapping[str, str]) -> None:
        async with self.lock:
            entry = self.book.entries.get(name)
            if entry is None:
                return
            changed = self._next(entry)
            if changed == entry and (run := yielding.get(name)):
                log.info("%s makes room for %s", name, run)
                changed = asleep(entry, Asleep(time.time(), f"made room for {run}; comes back after it", room_for=run))
            if changed != entry:
                try:
                    await self.commit(changed)
                except LlmopsError as error:  # tried again by the next pass
                    log.warning("%s", error)

    def _next(self, entry: Entry) -> Entry:
        """What becomes of it by itself."""
        now, servers = time.time(), self._with_unborn(entry.name)
        told = self.told(entry.name)
        if entry.asleep is not None:
            busy_runs = (
                {run.id for run in self._queue.runs() if run.state in ACTIVE or run.state in QUEUED} if entry.asleep.room_for else set()
            )
            return awake(entry, now) if wakes(entry, told, busy_runs) else self._room.watched(entry, servers, self._queue.runs(), now)
        pending = entry.pending
        if pending is None:
            return sleepy(entry, servers, told, now)
        settled = settle(entry, self.ready(entry), now)
        if settled is not entry:
            return settled
        broken = steps(entry, servers, now).broken
        homes = {version.adapter_of or version.name for version in entry.spec.versions if version.name in pending.weights}
        if failed := next((version for version in broken if version in homes), ""):
            return give_up(entry, broken[failed], "the engine", now)
        if pending.mode == "beside" and entry.spec.swap == "auto" and self._no_room_beside(entry, servers, homes, now):
            log.info("%s: there is no room for the new servers beside the old ones: they take their place", entry.name)
            return replace(entry, pending=replace(pending, mode="instead"), revision=entry.revision + 1)
        return entry

    def _no_room_beside(self, entry: Entry, servers: list[Server], homes: set[str], now: float) -> bool:
        """Whether what comes waits for room that what is there takes."""
        coming = [server for server in servers if server.version in homes and server.run and server.phase != "ended"]
        others = [server for server in servers if server.version not in homes and server.phase in ("starting", "ready")]
        stuck = [server for server in coming if server.phase == "waiting" and now - server.since > _ROOM_SECONDS]
        return bool(coming and others) and len(stuck) == len(coming)

    def _who_yields(self) -> dict[str, str]:
        """The endpoints to unload, each with the run that is to have their memory."""
        told = {name: self.told(name) for name in self.book.entries}
        return self._room.wanted(
            list(self.book.entries.values()), self.servers, told, self._queue.runs(), self._queue.cpu_slots, time.time()
        )

    # --- servers ---

    async def _take_their_place(self, name: str, version: str) -> bool:
        """There is no room for new servers beside the old ones: whether they take their place instead."""
        async with self.lock:
            entry = self.book.entries.get(name)
            pending = entry.pending if entry else None
            if entry is None or pending is None or version not in pending.weights or pending.mode != "beside" or entry.spec.swap != "auto":
                return False
            await self.commit(replace(entry, pending=replace(pending, mode="instead"), revision=entry.revision + 1))
            return True

    def _let_go(self, run: str) -> None:
        if run and run not in self._draining:
            self._draining[run] = asyncio.create_task(self._drain(run), name=f"drain {run}")

    async def _drain(self, run: str) -> None:
        """No new requests, those under way to their end, then the server is stopped."""
        asked = False
        try:
            asked = await self._drain_and_stop(run)
        finally:
            if not asked:  # whatever it was: the next pass lets it go again
                self._draining.pop(run, None)
            self.changed.set()
            asyncio.get_running_loop().call_soon(self._forget_drained)

    async def _drain_and_stop(self, run: str) -> bool:
        """Whether it was asked to stop, or is over."""
        try:
            await self.look()
            await self.publish()
            serving = any(server.run == run and server.port for servers in self.servers.values() for server in servers)
            if serving and self.gateway.alive():
                left = await self.gateway.drain(run, self.settings.limits.request_seconds)
                if left:
                    log.warning("%s still answers %d requests after %g s and is stopped", run, left, self.settings.limits.request_seconds)
        except (GatewayGoneError, OSError) as error:
            log.warning("%s is stopped without a drain: %s", run, error)
        try:
            await self._queue.stop(run, "now", "its endpoint needs it no longer")
        except (NotFoundError, ConflictError):
            pass  # it came to its end meanwhile
        except (LlmopsError, OSError) as error:
            log.warning("%s was not stopped and is asked again: %s", run, error)
            await asyncio.sleep(_STEADY_SECONDS)
            return False
        return True

    def _forget_drained(self) -> None:
        over = {server.run for servers in self.servers.values() for server in servers if server.phase == "ended"}
        self._draining = {run: task for run, task in self._draining.items() if not task.done() or run not in over}

    def _orphans(self) -> list[str]:
        """Servers of endpoints that are gone."""
        known = {*self.book.entries, *self.book.unreadable}
        return [server.run for name, servers in self.servers.items() if name not in known for server in servers if server.phase != "ended"]

    def _with_unborn(self, name: str) -> list[Server]:
        """The servers there are, those that were refused, and those that are on their way to become a run."""
        return [*self.servers.get(name, ()), *self.starts.refused(name), *self.starts.coming(name)]

    def _unhealthy(self) -> set[str]:
        replicas = self.gateway.status.get("replicas")
        if not isinstance(replicas, dict):
            return set()
        return {run for run, told in replicas.items() if isinstance(told, dict) and told.get("healthy") is False}

    # --- the rest ---

    async def _close_down(self) -> None:
        """No endpoint is left: once its last server is gone the gateway goes too."""
        self.plans = {}
        orphans = self._orphans()
        for run in orphans:
            self._let_go(run)
        self._forget_drained()
        if orphans or self._draining or not self.gateway.alive():
            return
        await self.publish()
        await self.gateway.stop()

    def _pause(self) -> float:
        if not self.book.entries:
            return _STEADY_SECONDS if self._draining or self._orphans() else _NOTHING_SECONDS
        moving = (
            self.starts.busy
            or self._draining
            or any(
                entry.pending or any(server.phase in ("waiting", "starting") for server in self.servers.get(name, ()))
                for name, entry in self.book.entries.items()
            )
        )
        return _CHANGING_SECONDS if moving else _STEADY_SECONDS

    def _tell_states(self) -> None:
        self._forget_drained()
        for name in self.book.entries:
            found = self.summary(name)
            if self._told_states.get(name) != found["state"]:
                self._told_states[name] = found["state"]
                self._tell("endpoint.state", {"endpoint": name, "state": found["state"], "reason": found["reason"]})
