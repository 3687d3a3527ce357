"""What the gateway recorded, as the rest of the engine sees it: what takes it in, what lets go of it, and what is told of it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

import duckdb

from llmops_tui.data.request_queries import who_answered
from llmops_tui.data.store import Store
from llmops_tui.engine.endpoints.keeping import Keeping
from llmops_tui.engine.live_run import LiveRun
from llmops_tui.engine.recorded.live import endpoint_live, spool_warnings
from llmops_tui.engine.recorded.retention import Retention
from llmops_tui.engine.recorded.spending import EVERY_SECONDS, WINDOW_SECONDS, Counters, Spending
from llmops_tui.engine.recorded.spool_ingest import SpoolIngest
from llmops_tui.engine.tariff import Tariff
from llmops_tui.errors import LlmopsError, NotFoundError
from llmops_tui.paths import Home
from llmops_tui.specs.answers_requests import EndpointLive
from llmops_tui.specs.settings import Settings
from llmops_tui.specs.states import ENDED

# More at once are stored like the others and not told one by one.
_MOST_TOLD = 20


class Runs(Protocol):
    """What is asked of the scheduler."""

    def runs(self) -> Collection[LiveRun]: ...


class Recorded:
    """One per engine; belongs to the event loop's thread. `gpus` counts the box's GPUs, `tell` publishes an event."""

    def __init__(
        self,
        home: Home,
        settings: Settings,
        store: Store,
        keeping: Keeping,
        runs: Runs,
        free_bytes: Callable[[], int],
        gpus: Callable[[], int],
        tell: Callable[[str, dict[str, Any]], object],
    ) -> None:
        self.ingest = SpoolIngest(store, home.gateway / "spool", settings.engine, free_bytes, self._heard)
        self.retention = Retention(store, lambda: [entry.spec for entry in keeping.book.entries.values()])
        self._store = store
        self._keeping = keeping
        self._runs = runs
        self._gpus = gpus
        self._tell = tell
        self._tariff = Tariff(settings.money.per_kwh, settings.money.per_gpu_hour)
        self._currency = settings.money.currency
        self._spending: dict[str, Spending] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def warnings(self) -> list[str]:
        """What is wrong with what is recorded, a line each."""
        return [*spool_warnings(self._keeping.gateway.status), *self.ingest.problems]

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set; what the spool holds by then is committed."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.ingest.run(stop))
            group.create_task(self.retention.run(stop))
            group.create_task(self._watch_spending(stop))
        await self.settle()

    async def settle(self) -> None:
        """Until everything that was heard is told."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def name_of(self, name: str) -> str:
        """The endpoint that a name or an alias stands for; the name itself of one that is gone."""
        with contextlib.suppress(NotFoundError):
            return self._keeping.book.get(name).name
        return name

    def keys_of(self, key: str) -> tuple[str, ...]:
        """The ids of a key by id or name; what is neither may be a key of long ago."""
        return tuple(each["id"] for each in self._keeping.keys.records if key in (each["id"], each["name"])) or (key,)

    def live(self, name: str) -> EndpointLive:
        """An endpoint's panel, from memory. Raises NotFoundError."""
        entry = self._keeping.book.get(name)
        return endpoint_live(
            entry,
            self._keeping.servers.get(entry.name, ()),
            self._keeping.gateway.status if self._keeping.gateway.alive() else {},
            {run.id: run.latest for run in self._runs.runs() if run.kind == "serve"},
            self._spending.get(entry.name) or Spending(),
            self._tariff,
            self._currency,
            self._gpus(),
            time.time(),
        )

    async def _watch_spending(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self.look(time.time())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), EVERY_SECONDS)

    def look(self, now: float) -> None:
        """Note how far everybody's counters are. An endpoint that the gateway says nothing of is left out: its tokens are not known."""
        entries = self._keeping.book.entries
        self._spending = {name: spending for name, spending in self._spending.items() if name in entries}
        for name in entries:
            told = self._keeping.told(name).get("versions")
            if isinstance(told, dict):
                runs = [run for run in self._runs.runs() if _serves(run, name, now)]
                self._spending.setdefault(name, Spending()).note(
                    Counters(
                        now,
                        tokens={version: _tokens(counts) for version, counts in told.items()},
                        paid={version: _number(counts, "cost") for version, counts in told.items()},
                        joules={run.id: run.usage.joules for run in runs},
                        gpu_seconds={run.id: run.usage.gpu_seconds_at(now) for run in runs},
                    )
                )

    def _heard(self, said: list[tuple[str, str]]) -> None:
        task = asyncio.get_running_loop().create_task(self._tell_feedback(said[-_MOST_TOLD:]), name="feedback")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell_feedback(self, said: list[tuple[str, str]]) -> None:
        """The words themselves are not in the event: those stand with the request, redacted as it is."""
        known: dict[str, tuple[str, str]] = {}
        with contextlib.suppress(LlmopsError, duckdb.Error):
            known = await asyncio.to_thread(self._store.read, lambda con: who_answered(con, [request for request, _ in said]))
        for request, rating in said:
            endpoint, version = known.get(request, ("", ""))
            self._tell("feedback.given", {"request": request, "endpoint": endpoint, "version": version, "rating": rating})


def _serves(run: LiveRun, endpoint: str, now: float) -> bool:
    """Whether it is a server of this endpoint, or was one in the last hour."""
    if run.kind != "serve" or run.spec_values.get("endpoint") != endpoint:
        return False
    return run.state not in ENDED or (run.ended_at or 0.0) > now - WINDOW_SECONDS


def _tokens(counts: Mapping[str, Any]) -> int:
    """Tokens answered; of embeddings, which answer none, tokens read."""
    return int(_number(counts, "completion_tokens") or _number(counts, "prompt_tokens"))


def _number(counts: Mapping[str, Any], name: str) -> float:
    value = counts.get(name) if isinstance(counts, Mapping) else None
    return float(value) if isinstance(value, int | float) else 0.0
