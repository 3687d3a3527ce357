"""Events reach the database once, in order, whatever the file looks like."""

from __future__ import annotations

import asyncio
import json
import math
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from llmops_tui.data import queries
from llmops_tui.data.compact import live_points
from llmops_tui.data.rundir import RunDir, create_run
from llmops_tui.data.store import Store
from llmops_tui.engine.ingest import Ingest
from llmops_tui.engine.jobs.event_writer import EventWriter
from llmops_tui.specs.settings import EngineSettings
from tests.waiting import wait_for

PLENTY = 1 << 40


class Seen:
    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.latest: dict[str, float] = {}

    def __call__(self, run_id: str, events: list[dict[str, Any]], latest: dict[str, float]) -> None:
        self.events += events
        self.latest = latest


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "llmops.duckdb", EngineSettings())
    yield store
    store.close()


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return create_run(tmp_path / "runs", "command", "test", {"spec": {}})


def ingest_of(store: Store, seen: Seen | None = None) -> Ingest:
    return Ingest(store, EngineSettings(), seen or Seen(), lambda: PLENTY)


def append(run: RunDir, *lines: object, end: str = "\n") -> None:
    with open(run.events, "ab") as file:
        file.write(("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + end).encode())


def metric(step: int, value: object = 1.5, name: str = "train/loss", **fields: object) -> dict[str, object]:
    return {"t": 1000.0 + step, "seq": step, "attempt": 1, "type": "metric", "step": step, "values": {name: value}, **fields}


def stored(store: Store) -> list[tuple[Any, ...]]:
    return store.read(lambda con: con.execute("SELECT step, value FROM metrics_long ORDER BY metric, step, attempt").fetchall())


async def test_what_a_job_writes_is_stored_and_told(store: Store, run: RunDir) -> None:
    seen = Seen()
    writer = EventWriter(run.path)
    writer.phase("training", total=10)
    writer.metrics(1, {"train/loss": 2.0, "train/grad_norm": 0.5})
    writer.metrics(2, {"train/loss": 1.0})
    writer.heartbeat("training", 2, 10, eta_seconds=4.0)
    writer.write("end", status="succeeded", summary={}, error="")
    writer.close()
    ingest = ingest_of(store, seen)
    assert await ingest.drain(run)
    assert stored(store) == [(1, 0.5), (1, 2.0), (2, 1.0)]
    assert [event["type"] for event in seen.events] == ["phase", "heartbeat", "end"]
    assert seen.latest == {"train/loss": 1.0, "train/grad_norm": 0.5} == ingest.latest(run.id)
    assert ingest.progress(run.id) == {"phase": "training", "done": 2.0, "total": 10.0, "unit": "steps", "eta_seconds": 4.0}
    assert [event["type"] for event in store.read(lambda con: queries.run_events(con, run.id))] == ["phase", "end"]


async def test_a_second_drain_stores_nothing_again(store: Store, run: RunDir) -> None:
    append(run, metric(1), metric(2))
    await ingest_of(store).drain(run)
    await ingest_of(store).drain(run)
    append(run, metric(3))
    await ingest_of(store).drain(run)
    assert [step for step, _ in stored(store)] == [1, 2, 3]


async def test_latest_values_and_progress_come_back_after_a_restart(store: Store, run: RunDir) -> None:
    append(run, metric(1, "NaN"), metric(2, 3, "eval/loss"), {"t": 1, "type": "phase", "phase": "evaluating", "done": 0, "total": None})
    await ingest_of(store).drain(run)
    fresh = ingest_of(store)
    assert math.isnan(fresh.latest(run.id)["train/loss"])
    assert fresh.latest(run.id)["eval/loss"] == 3.0
    progress = fresh.progress(run.id)
    assert progress is not None
    assert progress["phase"] == "evaluating"


async def test_a_torn_last_line_waits_for_its_newline(store: Store, run: RunDir) -> None:
    line = json.dumps(metric(2))
    append(run, metric(1))
    append(run, line[:20], end="")
    ingest = ingest_of(store)
    await ingest.drain(run)
    assert len(stored(store)) == 1
    append(run, line[20:])
    await ingest.drain(run)
    assert [step for step, _ in stored(store)] == [1, 2]
    assert ingest.problem(run.id) == ""


async def test_a_torn_last_line_of_an_ended_run_is_counted_and_its_next_attempt_goes_on(store: Store, run: RunDir) -> None:
    append(run, metric(1))
    append(run, '{"type":"metric","st', end="")
    ingest = ingest_of(store)
    await ingest.drain(run, ended=True)
    assert "1 unusable" in ingest.problem(run.id)
    writer = EventWriter(run.path)  # closes the torn line first
    writer.metrics(2, {"train/loss": 0.5})
    writer.close()
    await ingest.drain(run)
    assert stored(store) == [(1, 1.5), (2, 0.5)]
    assert "1 unusable" in ingest.problem(run.id)


async def test_a_whole_last_line_without_newline_counts_once_the_run_is_over(store: Store, run: RunDir) -> None:
    append(run, metric(1), end="")
    ingest = ingest_of(store)
    await ingest.drain(run)
    assert stored(store) == []
    await ingest.drain(run, ended=True)
    await ingest.drain(run, ended=True)
    assert stored(store) == [(1, 1.5)]


@pytest.mark.parametrize(
    "line",
    [
        "{", "null", "[1]", "\x00\x00", '{"type":"metric"}', '{"type":"metric","step":1.5,"values":{"a":1}}',
        '{"type":"metric","step":true,"values":{"a":1}}', '{"type":"metric","step":1,"values":[1]}', "[" * 100_000,
        '{"type":"metric","step":1,"values":{"a":"high"}}', '{"type":"metric","step":99999999999999999999999,"values":{"a":1}}',
        '{"type":"metric","step":1,"values":{"a":null}}', '{"type":"log","message":"\\ud800"}', '{"a":' * 5000,
        '{"type":"metric","step":1,"values":{"' + "n" * 300 + '":1}}', '{"type":"metric","step":1,"values":{"a":1' + "0" * 400 + "}}",
    ],
)  # fmt: skip
async def test_a_broken_line_is_counted_and_the_lines_around_it_are_stored(store: Store, run: RunDir, line: str) -> None:
    append(run, metric(1), line, metric(2))
    ingest = ingest_of(store)
    await ingest.drain(run)
    assert [step for step, _ in stored(store)] == [1, 2]
    assert "1 unusable" in ingest.problem(run.id)


async def test_bytes_that_are_no_text_are_counted(store: Store, run: RunDir) -> None:
    run.events.write_bytes(b'{"type":"log","message":"\xff\xfe"}\n' + os.urandom(200).replace(b"\n", b" ") + b"\n")
    append(run, metric(1))
    ingest = ingest_of(store)
    await ingest.drain(run)
    assert len(stored(store)) == 1
    assert "2 unusable" in ingest.problem(run.id)


async def test_not_finite_values_are_kept_as_they_are(store: Store, run: RunDir) -> None:
    append(run, metric(1, "NaN"), metric(2, "Infinity"), metric(3, "-Infinity"), '{"type":"metric","step":4,"values":{"train/loss":NaN}}')
    await ingest_of(store).drain(run)
    values = [value for _, value in stored(store)]
    assert math.isnan(values[0])
    assert values[1:3] == [math.inf, -math.inf]
    assert math.isnan(values[3])


async def test_a_foreign_program_needs_neither_seq_nor_attempt_nor_known_types(store: Store, run: RunDir) -> None:
    run.attempt(1).mkdir()
    run.attempt(2).mkdir()
    (run.attempt(2) / "launch.json").write_text('{"events_bytes": 0}')
    append(run, '{"type":"metric","step":1,"values":{"a":1,"b":true}}', '{"type":"weather","sun":1}', '{"no":"type"}')
    await ingest_of(store).drain(run)
    rows = store.read(lambda con: con.execute("SELECT metric, value, attempt FROM metrics_long ORDER BY metric").fetchall())
    assert rows == [("a", 1.0, 2), ("b", 1.0, 2)]
    events = store.read(lambda con: queries.run_events(con, run.id))
    assert [(event["type"], event.get("sun"), event.get("no")) for event in events] == [("weather", 1, None), ("unknown", None, "type")]


async def test_a_line_that_names_no_attempt_belongs_to_the_one_that_wrote_it_whenever_it_is_read(store: Store, run: RunDir) -> None:
    for attempt, step in ((1, 1), (1, 2), (2, 2), (2, 3)):
        if not run.attempt(attempt).exists():
            run.attempt(attempt).mkdir()
            begin = run.events.stat().st_size if run.events.exists() else 0
            (run.attempt(attempt) / "launch.json").write_text(json.dumps({"attempt": attempt, "events_bytes": begin}))
        append(run, {"type": "metric", "step": step, "values": {"a": float(attempt)}})
    await ingest_of(store).drain(run)
    curve = store.read(lambda con: queries.series(con, run.id, "a"))["buckets"]
    assert [(bucket[0], bucket[6]) for bucket in curve] == [(1, 1.0), (2, 2.0), (3, 2.0)]


async def test_a_file_that_shrank_is_reported_and_not_read_again(store: Store, run: RunDir) -> None:
    append(run, metric(1), metric(2))
    ingest = ingest_of(store)
    ingest.track(run)
    await ingest.drain(run)
    os.truncate(run.events, 10)
    await ingest.drain(run)
    assert "rewritten" in ingest.problem(run.id)
    append(run, *[metric(step) for step in range(10, 20)])
    await ingest.drain(run)
    assert "rewritten" in ingest.problem(run.id)
    assert [step for step, _ in stored(store)] == [1, 2]


async def test_a_file_that_cannot_be_read_keeps_no_other_run_waiting(store: Store, run: RunDir, tmp_path: Path) -> None:
    other = create_run(tmp_path / "runs", "command", "other", {"spec": {}})
    run.events.mkdir()
    append(other, metric(1))
    ingest = ingest_of(store)
    ingest.track(run)
    ingest.track(other)
    stop = asyncio.Event()
    follows = asyncio.create_task(ingest.run(stop))
    await asyncio.to_thread(wait_for, lambda: ingest.problem(run.id) != "")
    stop.set()
    await follows
    assert (ingest.state, stored(store)) == ("ok", [(1, 1.5)])
    assert "cannot be read" in ingest.problem(run.id)
    run.events.rmdir()
    append(run, metric(2))
    assert await ingest.drain(run)
    assert stored(store) == [(1, 1.5), (2, 1.5)]
    assert ingest.problem(run.id) == ""


async def test_a_line_of_twenty_megabytes_is_let_go(store: Store, run: RunDir) -> None:
    append(run, metric(1), '{"type":"log","message":"' + "x" * (20 << 20) + '"}', metric(2))
    ingest = ingest_of(store)
    await ingest.drain(run)
    assert [step for step, _ in stored(store)] == [1, 2]
    assert "1 unusable" in ingest.problem(run.id)


async def test_a_file_larger_than_one_read_arrives_whole(store: Store, run: RunDir) -> None:
    append(run, *[metric(step) for step in range(60_000)])
    await ingest_of(store).drain(run)
    assert store.read(lambda con: con.execute("SELECT count(*), sum(step) FROM points").fetchone()) == (60_000, 60_000 * 59_999 // 2)


async def test_more_names_than_a_run_may_have_do_not_hurt_the_known_ones(store: Store, run: RunDir) -> None:
    for start in (0, 6000):
        append(run, {"type": "metric", "step": start, "values": {f"m/{number}": 1.0 for number in range(start, start + 6000)}})
        await ingest_of(store).drain(run)
    append(run, {"type": "metric", "step": 9, "values": {"m/0": 2.0, "m/new": 1.0}})
    ingest = ingest_of(store)
    await ingest.drain(run)
    assert len(ingest.latest(run.id)) == 10_000
    assert ingest.latest(run.id)["m/0"] == 2.0


async def test_the_loop_follows_files_until_it_is_stopped(store: Store, run: RunDir) -> None:
    seen = Seen()
    ingest = ingest_of(store, seen)
    ingest.track(run)

    def reached(step: int) -> bool:
        return ingest.latest(run.id).get("train/loss") == step

    stop = asyncio.Event()
    task = asyncio.create_task(ingest.run(stop))
    try:
        for step in range(3):
            append(run, metric(step, float(step)))
            await asyncio.to_thread(wait_for, partial(reached, step))
        append(run, metric(3, 3.0))
    finally:
        stop.set()
        await task
    assert [step for step, _ in stored(store)] == [0, 1, 2, 3]


async def test_ingest_pauses_on_a_full_disk_says_so_and_goes_on(store: Store, run: RunDir) -> None:
    free = [PLENTY]
    states: list[str] = []
    ingest = Ingest(store, EngineSettings(), Seen(), lambda: free[0], states.append)
    append(run, metric(1))
    assert await ingest.drain(run)
    free[0] = (1 << 30) - 1
    append(run, metric(2))
    assert not await ingest.drain(run)
    assert ingest.state.startswith("paused: 1.07 GB free")
    assert len(stored(store)) == 1
    free[0] = (1 << 30) - 50_000_000
    assert not await ingest.drain(run)
    free[0] = (1 << 30) + 1
    assert not await ingest.drain(run), "a disk at the edge would switch at every pass"
    free[0] = PLENTY
    assert await ingest.drain(run)
    assert len(stored(store)) == 2
    assert [state.split(":")[0] for state in states] == ["paused", "ok"]


async def test_a_failed_write_is_repeated_from_what_the_database_says(store: Store, run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    append(run, metric(1))
    ingest = ingest_of(store)
    ingest.track(run)
    await ingest.drain(run)
    append(run, metric(2, 1.0, "new/name"))
    original = ingest._events._write_points

    def fail(con: Any, stretches: Any) -> None:
        original(con, stretches)
        raise OSError("no")

    monkeypatch.setattr(ingest._events, "_write_points", fail)
    assert not await ingest.drain(run)
    assert ingest.state == "paused: the database did not take the events: no"
    monkeypatch.undo()
    assert await ingest.drain(run)
    assert [step for step, _ in stored(store)] == [2, 1]


async def test_points_of_an_untracked_run_settle_and_stay_the_same(store: Store, run: RunDir) -> None:
    append(run, *[metric(step, float(step)) for step in range(100)])
    ingest = ingest_of(store)
    ingest.track(run)
    await ingest.drain(run)
    before = stored(store)
    ingest.untrack(run.id)
    stop = asyncio.Event()
    task = asyncio.create_task(ingest.run(stop))
    try:
        await asyncio.to_thread(wait_for, lambda: store.read(live_points) == {})
    finally:
        stop.set()
        await task
    assert stored(store) == before
    assert ingest.latest(run.id) == {"train/loss": 99.0}
