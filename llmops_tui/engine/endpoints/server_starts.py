"""Starting an endpoint's servers: each checked, then queued as a run; a refusal counts like an end. Belongs to the event loop's thread."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from llmops_tui.engine.endpoints.book import EndpointBook
from llmops_tui.engine.endpoints.entry import Entry
from llmops_tui.engine.endpoints.planning import Server, wished
from llmops_tui.engine.endpoints.replica_spec import replica_spec
from llmops_tui.engine.live_run import LiveRun
from llmops_tui.errors import InsufficientResourcesError, LlmopsError
from llmops_tui.specs.answers import RunSummary
from llmops_tui.specs.common import RunSpec
from llmops_tui.specs.endpoint import EndpointVersion

_PREPARED_SECONDS = 60.0
_MOST_REFUSED = 20
# The preflight with its submitter's eyes; it blocks.
PrepareNow = Callable[[int, RunSpec, Path], dict[str, Any]]
log = logging.getLogger(__name__)


class Queue(Protocol):
    """What is asked of the scheduler."""

    def runs(self) -> Collection[LiveRun]: ...

    @property
    def cpu_slots(self) -> int: ...

    async def submit(self, spec: RunSpec, *, owner: str, uid: int, cwd: str, prepared: dict[str, Any]) -> RunSummary: ...

    async def stop(self, run_id: str, mode: str, why: str = "") -> RunSummary: ...


@dataclass(frozen=True)
class _Prepared:
    """What the preflight of a spec found for whom. Another wish may have been the one that came true since."""

    at: float
    spec: RunSpec
    uid: int
    cwd: str
    found: dict[str, Any]

    def holds_for(self, spec: RunSpec, entry: Entry) -> bool:
        fresh = time.monotonic() - self.at <= _PREPARED_SECONDS
        return fresh and (self.spec, self.uid, self.cwd) == (spec, entry.uid, entry.cwd)


class ServerStarts:
    """`roomless` is asked where a server has no room beside others (True: it will take their place); `over` is told of each start's end."""

    def __init__(
        self,
        queue: Queue,
        prepare: PrepareNow,
        book: EndpointBook,
        roomless: Callable[[str, str], Awaitable[bool]],
        over: Callable[[], None],
    ) -> None:
        self._queue = queue
        self._prepare = prepare
        self._book = book
        self._roomless = roomless
        self._over = over
        self._under_way: Counter[tuple[str, str]] = Counter()
        self._refused: dict[str, list[Server]] = {}
        self._prepared: dict[tuple[str, str], _Prepared] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def busy(self) -> bool:
        return any(self._under_way.values())

    def offer(self, entry: Entry, version: EndpointVersion, prepared: dict[str, Any]) -> None:
        """What a check of the request has found out need not be found out again by the first server, if that is to be the very same."""
        spec = replica_spec(entry, version)
        self._prepared[entry.name, version.name] = _Prepared(time.monotonic(), spec, entry.uid, entry.cwd, prepared)

    def begin(self, name: str, version: str) -> None:
        """One more server of a version."""
        self._under_way[name, version] += 1
        task = asyncio.create_task(self._start(name, version), name=f"{name}:{version}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def coming(self, name: str) -> list[Server]:
        """Those on their way to become a run."""
        now = time.time()
        return [Server("", version, "waiting", now) for (of, version), count in self._under_way.items() if of == name for _ in range(count)]

    def refused(self, name: str) -> list[Server]:
        """Those that never became a run."""
        return self._refused.get(name, [])

    def forget(self, name: str) -> None:
        self._refused.pop(name, None)

    def cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _start(self, name: str, version_name: str) -> None:
        entry = self._book.entries.get(name)
        version = entry.spec.version(version_name) if entry else None
        try:
            if entry is None or version is None:
                return
            spec = replica_spec(entry, version)
            offered = self._prepared.pop((name, version_name), None)
            if offered is not None and offered.holds_for(spec, entry):
                prepared = offered.found
            else:
                prepared = await asyncio.to_thread(self._prepare, entry.uid, spec, Path(entry.cwd))
            current = self._book.entries.get(name)
            if current is None or wished(current, time.time()).get(version_name, 0) == 0:
                return
            summary = await self._queue.submit(spec, owner=entry.owner, uid=entry.uid, cwd=entry.cwd, prepared=prepared)
            log.info("%s: %s is to serve %s", name, summary["id"], version_name)
        except (LlmopsError, OSError) as error:
            await self._refuse(name, version_name, error)
        except Exception as error:
            log.exception("%s: a server of %s was not started", name, version_name)
            await self._refuse(name, version_name, error)
        finally:
            self._under_way[name, version_name] -= 1
            self._over()

    async def _refuse(self, name: str, version: str, error: Exception) -> None:
        """It is tried again later, and not for ever."""
        log.warning("%s: a server of %s was refused: %s", name, version, error)
        if isinstance(error, InsufficientResourcesError) and await self._roomless(name, version):
            return
        now = time.time()
        refused = self._refused.setdefault(name, [])
        refused.append(Server("", version, "ended", now, ended_at=now, failed=True, reason=str(error)))
        del refused[:-_MOST_REFUSED]
