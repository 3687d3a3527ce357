"""A scheduler over a real store, for tests: what the daemon puts together, without its socket."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from llmops_tui.data.store import Store
from llmops_tui.engine.hub import Hub
from llmops_tui.engine.ingest import Ingest
from llmops_tui.engine.scheduler import Scheduler
from llmops_tui.paths import Home
from llmops_tui.specs.answers import GpuSample, RunSummary
from llmops_tui.specs.parse import parse_spec
from llmops_tui.specs.settings import EngineSettings, Settings


class NoGpus:
    """A box without a GPU."""

    ready = True
    driver: dict[str, str] = {}  # noqa: RUF012 - read only

    def snapshot(self) -> list[GpuSample]:
        return []


@asynccontextmanager
async def engine(home: Home, slots: int = 2, **engine_settings: Any) -> AsyncIterator[Scheduler]:
    """Running parts; leaving them stops the engine, not its jobs."""
    settings = Settings(engine=EngineSettings(cpu_slots=slots, pause_ingest_free_bytes=0, **engine_settings))
    home.runs.mkdir(parents=True, exist_ok=True)
    store = Store.open(home.database, settings.engine)
    hub = Hub(store)
    parts: list[Scheduler] = []
    ingest = Ingest(store, settings.engine, lambda *news: parts[0].on_events(*news), lambda: 1 << 40)
    scheduler = Scheduler(home, settings, store, hub, ingest, NoGpus())
    parts.append(scheduler)
    await scheduler.recover()
    stop = asyncio.Event()
    tasks = [asyncio.create_task(ingest.run(stop)), asyncio.create_task(scheduler.run(stop))]
    try:
        yield scheduler
    finally:
        stop.set()
        await asyncio.gather(*tasks)
        await hub.publish("engine.stopping", None, {})
        await asyncio.to_thread(store.close)


async def submit(scheduler: Scheduler, code: str, **spec: Any) -> str:
    """Queue a Python program; returns the run's id."""
    limits = {"grace_seconds": 5, **spec.pop("limits", {})}
    values = parse_spec({"kind": "command", "argv": [sys.executable, "-S", "-c", code], "limits": limits, **spec})
    return (await scheduler.submit(values, owner="me", uid=0, cwd="/", prepared={}))["id"]


def summary(scheduler: Scheduler, run_id: str) -> RunSummary:
    return next(run for run in scheduler.summaries() if run["id"] == run_id)


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Let the loop turn until the condition holds; AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.02)


async def reaches(scheduler: Scheduler, run_id: str, *states: str) -> RunSummary:
    """Wait until the run is in one of the states."""
    await until(lambda: summary(scheduler, run_id)["state"] in states)
    return summary(scheduler, run_id)
