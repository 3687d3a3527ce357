"""Servers that nobody needs are stopped, however often that fails, and whatever fails beside it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.endpoints import keeping as module
from llmops_tui.engine.endpoints.keeping import Keeping
from llmops_tui.engine.endpoints.keys import KeyRecord, digest
from llmops_tui.engine.endpoints.server_starts import Queue
from llmops_tui.engine.live_run import LiveRun
from llmops_tui.paths import Home
from llmops_tui.specs.parse import parse_spec
from llmops_tui.specs.settings_serving import ServingSettings


class Scheduler:
    """One server of an endpoint that is gone; `on_stop` is what comes of a wish to stop it."""

    cpu_slots = 1

    def __init__(self, directory: Path) -> None:
        spec = {"kind": "serve", "model": "m", "endpoint": "gone", "version": "v1"}
        self.run = LiveRun(RunDir(directory), {"id": "r", "spec": spec, "uid": os.geteuid()}, parse_spec(spec), priority=0, order=1.0)
        self.run.state = "running"
        self.asked = 0
        self.broken = False
        self.on_stop: Callable[[], Awaitable[None]]

    def runs(self) -> list[LiveRun]:
        if self.broken:
            raise RuntimeError("played")
        return [self.run]

    async def stop(self, run_id: str, mode: str, why: str = "") -> None:
        self.asked += 1
        await self.on_stop()


@pytest.fixture
def scheduler(tmp_path: Path) -> Scheduler:
    return Scheduler(tmp_path / "r")


@pytest.fixture
def keeping(tmp_path: Path, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> Keeping:
    monkeypatch.setattr(module, "_STEADY_SECONDS", 0.01)
    monkeypatch.setattr(module, "_NOTHING_SECONDS", 0.01)
    key = KeyRecord(
        id="k", name="k", sha256=digest("x"), created=0.0, owner="", uid=0, endpoints=["*"], requests_per_minute=0.0,
        tokens_per_minute=0.0, tokens_per_day=0, concurrent=0, revoked=False,
    )  # fmt: skip

    def prepare(*_: Any) -> dict[str, Any]:
        raise AssertionError("nothing is to be started")

    return Keeping(Home(tmp_path / "home"), ServingSettings(), cast(Queue, scheduler), prepare, prepare, lambda *_: None, key, lambda: ())


def test_a_stop_that_the_disk_refuses_is_wished_again(keeping: Keeping, scheduler: Scheduler) -> None:
    async def play() -> None:
        stop = asyncio.Event()

        async def refused_twice() -> None:
            if scheduler.asked <= 2:
                raise OSError(28, "No space left on device")
            scheduler.run.state = "cancelled"
            stop.set()

        scheduler.on_stop = refused_twice
        await asyncio.wait_for(keeping.run(stop), 20)

    asyncio.run(play())
    assert scheduler.asked == 3


def test_a_keeper_that_fails_and_starts_again_forgets_no_server_that_is_to_go(keeping: Keeping, scheduler: Scheduler) -> None:
    async def play() -> None:
        stop, asked = asyncio.Event(), asyncio.Event()

        async def never() -> None:
            asked.set()
            await asyncio.Event().wait()

        async def done() -> None:
            scheduler.run.state = "cancelled"
            stop.set()

        scheduler.on_stop = never
        first = asyncio.create_task(keeping.run(stop))
        await asyncio.wait_for(asked.wait(), 20)
        scheduler.broken = True
        with pytest.raises(RuntimeError, match="played"):
            await asyncio.wait_for(first, 20)
        scheduler.broken, scheduler.on_stop = False, done
        await asyncio.wait_for(keeping.run(stop), 20)

    asyncio.run(play())
    assert scheduler.asked == 2
