"""What an endpoint takes of energy and money, from its runs' meters and the gateway's counters as the engine holds them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llmops_tui.data.rundir import create_run
from llmops_tui.data.store import Store
from llmops_tui.engine.endpoints.book import EndpointBook
from llmops_tui.engine.endpoints.entry import Entry, checked
from llmops_tui.engine.endpoints.planning import Server
from llmops_tui.engine.live_run import LiveRun
from llmops_tui.engine.recorded.facade import Recorded
from llmops_tui.errors import NotFoundError
from llmops_tui.paths import Home
from llmops_tui.specs.settings import EngineSettings, MoneySettings, Settings
from tests.spool_lines import T0, append, feedback, request

SPEC = {"name": "support", "aliases": ["help"], "versions": [{"name": "v1", "model": "m", "weight": 1}]}


class Keeping:
    """An endpoint with one server, and what the gateway says of it."""

    def __init__(self, home: Home) -> None:
        self.book = EndpointBook(home.endpoints)
        self.book.entries["support"] = Entry(checked(SPEC), "me", 0, "/", T0)
        self.keys = SimpleNamespace(records=[{"id": "key_1", "name": "ci"}, {"id": "key_2", "name": "ci"}])
        self.servers: dict[str, list[Server]] = {"support": []}
        self.gateway = SimpleNamespace(status={"spool": {"lost": 2}}, alive=lambda: True)
        self.tokens: dict[str, Any] = {}

    def told(self, name: str) -> dict[str, Any]:
        return {"versions": {"v1": self.tokens}} if self.tokens else {}


@pytest.fixture
def keeping(tmp_path: Path) -> Keeping:
    return Keeping(Home(tmp_path))


@pytest.fixture
def run(tmp_path: Path, keeping: Keeping) -> LiveRun:
    """The server, which holds one GPU since T0."""
    record = {"spec": {"kind": "serve", "endpoint": "support", "version": "v1"}}
    run = LiveRun(create_run(tmp_path / "runs", "serve", "support", record), record, None, state="running", started_at=T0)
    run.usage.held_since, run.usage.gpus = T0, 1
    keeping.servers["support"] = [Server(run.id, "v1", "ready", T0)]
    return run


@pytest.fixture
def told() -> list[tuple[str, dict[str, Any]]]:
    return []


@pytest.fixture
def recorded(tmp_path: Path, keeping: Keeping, run: LiveRun, told: list[Any]) -> Iterator[Recorded]:
    settings = Settings(money=MoneySettings(per_kwh=0.36, per_gpu_hour=3.6, currency="CHF"))
    store = Store.open(tmp_path / "llmops.duckdb", EngineSettings())
    scheduler = SimpleNamespace(runs=lambda: [run])
    yield Recorded(
        Home(tmp_path), settings, store, keeping, scheduler,  # type: ignore[arg-type]
        lambda: 1 << 50, lambda: 1, lambda kind, data: told.append((kind, data)),
    )  # fmt: skip
    store.close()


def test_energy_and_money_of_the_last_minutes(recorded: Recorded, keeping: Keeping, run: LiveRun) -> None:
    recorded.look(T0 + 5)  # the gateway has said nothing yet: what it answered before is not counted from here
    for seconds, tokens, joules in ((10, 5000, 100.0), (70, 6000, 1100.0), (110, 7000, 3100.0)):
        keeping.tokens = {"completion_tokens": tokens, "prompt_tokens": 9, "cost": 0.0}
        run.usage.open_joules = joules
        recorded.look(T0 + seconds)
    live = recorded.live("help")
    version = live["versions"]["v1"]
    assert version["joules_per_1k_tokens"] == pytest.approx(1500)
    assert version["cost_per_1k_tokens"] == pytest.approx((3000 / 3.6e6 * 0.36 + 100 / 3600 * 3.6) / 2)
    assert live["currency"] == "CHF"


def test_a_server_that_ended_counts_for_what_it_drew_and_one_of_another_endpoint_never(
    recorded: Recorded, keeping: Keeping, run: LiveRun
) -> None:
    keeping.tokens = {"completion_tokens": 0, "prompt_tokens": 100}
    run.usage.open_joules = 0.0
    recorded.look(T0)
    run.usage.open_joules = 500.0
    run.usage.close(T0 + 60)
    run.state, run.ended_at = "cancelled", T0 + 60
    keeping.servers["support"] = [Server(run.id, "v1", "ended", T0)]
    keeping.tokens = {"completion_tokens": 0, "prompt_tokens": 1100}  # embeddings answer no tokens: what they read is counted
    recorded.look(T0 + 70)
    assert recorded.live("support")["versions"]["v1"]["joules_per_1k_tokens"] == pytest.approx(500)
    run.spec_values["endpoint"] = "other"
    recorded.look(T0 + 80)
    with pytest.raises(NotFoundError):
        recorded.live("other")


def test_an_endpoint_that_is_gone_is_forgotten_and_names_stand_for_what_they_are(recorded: Recorded, keeping: Keeping) -> None:
    keeping.tokens = {"completion_tokens": 1}
    recorded.look(T0)
    assert recorded.name_of("help") == "support"
    keeping.book.entries.clear()
    recorded.look(T0 + 10)
    assert recorded.name_of("help") == "help"
    assert recorded.keys_of("ci") == ("key_1", "key_2")
    assert recorded.keys_of("key_2") == ("key_2",)
    assert recorded.keys_of("long gone") == ("long gone",)
    assert [line.split(":")[0] for line in recorded.warnings] == ["2 records of requests are lost"]


async def test_feedback_is_told_with_its_endpoint_and_a_flood_of_it_in_part(recorded: Recorded, told: list[Any]) -> None:
    spool = recorded.ingest.reader.directory
    append(spool, "requests-000001.jsonl", request(1, version="v2"), feedback(1, "down", comment="secret words"), feedback(9, 3))
    await recorded.ingest.take()
    await recorded.settle()
    assert told == [
        ("feedback.given", {"request": "req_00000001", "endpoint": "support", "version": "v2", "rating": "down"}),
        ("feedback.given", {"request": "req_00000009", "endpoint": "", "version": "", "rating": "3"}),
    ]
    told.clear()
    append(spool, "requests-000001.jsonl", *(feedback(number) for number in range(100)))
    await recorded.ingest.take()
    await recorded.settle()
    assert [data["request"] for _, data in told] == [f"req_{number:08d}" for number in range(80, 100)]
