"""The engine's events: no gap, no repetition, and nobody waits for a slow reader."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmops_tui.data.store import Store
from llmops_tui.engine.hub import Hub
from llmops_tui.specs.settings import EngineSettings


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "llmops.duckdb", EngineSettings())
    yield store
    store.close()


async def read(hub: Hub, after: int, count: int) -> list[int]:
    events = hub.subscribe(after)
    try:
        return [(await anext(events))["seq"] for _ in range(count)]
    finally:
        await events.aclose()


async def test_numbers_go_on_after_a_restart(store: Store) -> None:
    first = Hub(store)
    assert [await first.publish("engine.started", None, {}) for _ in range(3)] == [1, 2, 3]
    assert await Hub(store).publish("engine.started", None, {}) == 4


async def test_a_subscriber_gets_what_was_stored_before_and_what_comes(store: Store) -> None:
    hub = Hub(store)
    await hub.publish("run.state", "a", {})
    await hub.publish("run.state", "a", {})
    reading = asyncio.create_task(read(hub, 1, 3))
    await asyncio.sleep(0)
    await hub.publish("run.state", "a", {})
    await hub.publish("run.state", "a", {})
    assert await asyncio.wait_for(reading, 10) == [2, 3, 4]


async def test_a_slow_subscriber_misses_nothing_and_slows_nobody(store: Store) -> None:
    hub = Hub(store)
    slow = hub.subscribe(0)
    await hub.publish("run.state", None, {"n": 0})
    got = [(await anext(slow))["seq"]]
    quick = asyncio.create_task(read(hub, 0, 1501))
    for number in range(1500):
        hub.publish_soon("run.state", None, {"n": number})
        if number % 100 == 0:
            await asyncio.sleep(0)
    assert await asyncio.wait_for(quick, 20) == list(range(1, 1502))
    while len(got) < 1501:
        got.append((await asyncio.wait_for(anext(slow), 10))["seq"])
    await slow.aclose()
    assert got == list(range(1, 1502))
