"""Curves, latest values and lists from the database."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from llmops_tui.data import queries
from llmops_tui.data.compact import live_points, settle
from llmops_tui.data.event_lines import parse
from llmops_tui.data.event_store import EventStore, open_position
from llmops_tui.data.store import Store
from llmops_tui.specs.answers import EngineEvent, RunSummary, Series
from llmops_tui.specs.settings import EngineSettings

RUN = "train-a-0001"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "llmops.duckdb", EngineSettings())
    yield store
    store.close()


def put(store: Store, points: Iterable[tuple[int, float]], run: str = RUN, metric: str = "train/loss", attempt: int = 1) -> None:
    """Store points as the ingest does, one a step and second."""

    def spell(value: float) -> float | str:
        return value if math.isfinite(value) else "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"

    lines = b"".join(
        json.dumps({"type": "metric", "t": 1000 + step, "attempt": attempt, "step": step, "values": {metric: spell(value)}}).encode()
        + b"\n"
        for step, value in points
    )
    events = EventStore()
    position = store.write(lambda con: open_position(con, run)).result()
    batch = parse(lines, position.offset, now=0.0)
    store.write(lambda con: events.write(con, [(position, batch)])).result()


def curve(store: Store, points: int = 1000, first: int | None = None, last: int | None = None, metric: str = "train/loss") -> Series:
    return store.read(lambda con: queries.series(con, RUN, metric, points, first, last))


def settle_all(store: Store) -> None:
    for key in store.read(live_points):
        while store.write(lambda con, k=key: settle(con, k)).result():  # type: ignore[misc]
            pass


def test_few_points_come_back_as_they_are(store: Store) -> None:
    put(store, [(1, 3.0), (5, 2.0), (9, 1.0)])
    answer = curve(store)
    assert answer["total_points"] == 3
    assert answer["buckets"] == [[1, 1, 1, 3, 3, 3, 3, 1001], [5, 5, 1, 2, 2, 2, 2, 1005], [9, 9, 1, 1, 1, 1, 1, 1009]]


@pytest.mark.parametrize("settled", [False, True])
def test_many_points_become_buckets_that_keep_every_spike(store: Store, settled: bool) -> None:
    put(store, [(step, 1000.0 if step == 777 else step % 7) for step in range(5000)])
    if settled:
        settle_all(store)
    answer = curve(store, 100)
    assert answer["total_points"] == 5000
    assert len(answer["buckets"]) == 100
    assert max(bucket[4] or 0 for bucket in answer["buckets"]) == 1000.0
    assert answer["buckets"][3] == [150, 199, 50, 0.0, 6.0, sum(s % 7 for s in range(150, 200)) / 50, 199 % 7, 1199.0]


@pytest.mark.parametrize("points", [1, 2, 7, 99, 1000])
def test_there_are_never_more_buckets_than_asked_and_no_point_is_lost(store: Store, points: int) -> None:
    steps = sorted({step * step for step in range(500)} | {10**15})
    put(store, [(step, 1.0) for step in steps])
    answer = curve(store, points)
    assert 1 <= len(answer["buckets"]) <= points
    assert sum(bucket[2] or 0 for bucket in answer["buckets"]) == len(steps) == answer["total_points"]


def test_the_newest_attempt_wins_where_a_step_was_done_again(store: Store) -> None:
    put(store, [(step, 1.0) for step in range(10)])
    put(store, [(step, 2.0) for step in range(6, 9)], attempt=2)
    put(store, [(step, 3.0) for step in range(8, 12)], attempt=3)
    values = [(bucket[0], bucket[6]) for bucket in curve(store)["buckets"]]
    assert values == [*[(s, 1.0) for s in range(6)], (6, 2.0), (7, 2.0), *[(s, 3.0) for s in range(8, 10)], (10, 3.0), (11, 3.0)]
    in_buckets = curve(store, 3)
    assert in_buckets["total_points"] == 12
    assert sum(bucket[2] or 0 for bucket in in_buckets["buckets"]) == 12


def test_what_is_not_finite_is_kept_apart(store: Store) -> None:
    put(store, [(0, 1.0), (1, math.nan), (2, math.inf), (3, 3.0), (4, math.nan), (5, -math.inf)])
    singles = curve(store)["buckets"]
    assert [bucket[6] for bucket in singles] == [1.0, None, None, 3.0, None, None]
    assert curve(store, 2)["buckets"] == [[0, 2, 3, 1.0, 1.0, 1.0, None, 1002.0], [3, 5, 3, 3.0, 3.0, 3.0, None, 1005.0]]
    json.dumps(curve(store, 2), allow_nan=False)


def test_a_part_of_the_steps_can_be_asked_for(store: Store) -> None:
    put(store, [(step, float(step)) for step in range(100)])
    assert [bucket[0] for bucket in curve(store, first=10, last=12)["buckets"]] == [10, 11, 12]
    assert curve(store, 5, first=50)["buckets"][0][:3] == [50, 59, 10]
    assert curve(store, first=1000)["buckets"] == []


def test_an_unknown_run_or_metric_is_empty(store: Store) -> None:
    assert curve(store) == {"metric": "train/loss", "total_points": 0, "buckets": []}
    put(store, [(1, 1.0)])
    assert curve(store, metric="eval/loss")["buckets"] == []
    assert store.read(lambda con: queries.metric_names(con, "train-b-0002")) == []
    assert store.read(lambda con: queries.latest_progress(con, "train-b-0002")) is None


def test_runs_do_not_see_each_others_points(store: Store) -> None:
    put(store, [(1, 1.0)])
    put(store, [(1, 2.0)], run="train-b-0002")
    assert [bucket[6] for bucket in curve(store)["buckets"]] == [1.0]
    store.write(lambda con: queries.forget_run(con, RUN)).result()
    assert curve(store)["buckets"] == []
    assert store.read(lambda con: con.execute("SELECT run, value FROM metrics_long").fetchall()) == [("train-b-0002", 2.0)]
    put(store, [(5, 5.0)], run="train-c-0003")
    assert store.read(lambda con: con.execute("SELECT count(DISTINCT run_key) FROM points").fetchone()) == (2,)


def test_settling_moves_each_point_once_and_sorts(store: Store) -> None:
    for metric in ("b", "a"):
        put(store, [(step, 1.0) for step in range(50)], metric=metric)
    put(store, [(step, 1.0) for step in range(50)], run="train-b-0002")
    before = store.read(lambda con: con.execute("SELECT * FROM metrics_long ORDER BY ALL").fetchall())
    settle_all(store)
    assert store.read(live_points) == {}
    assert store.read(lambda con: con.execute("SELECT * FROM metrics_long ORDER BY ALL").fetchall()) == before
    order = store.read(lambda con: con.execute("SELECT run_key, metric_key, step FROM points_settled WHERE run_key = 1").fetchall())
    assert order == sorted(order)


def test_engine_events_are_read_from_a_number_on_and_pruned(store: Store) -> None:
    events = [EngineEvent(seq=seq, t=float(seq), type="run.state", run=RUN, data={"state": "running"}) for seq in range(1, 11)]
    assert store.read(queries.last_engine_event) == 0
    store.write(lambda con: queries.append_engine_events(con, events)).result()
    assert store.read(lambda con: queries.engine_events(con, 7, 2)) == events[7:9]
    assert store.read(queries.last_engine_event) == 10
    store.write(lambda con: queries.prune_engine_events(con, keep=3)).result()
    assert [event["seq"] for event in store.read(lambda con: queries.engine_events(con, 0, 100))] == [8, 9, 10]


def test_steps_of_progress_are_forgotten_before_what_happened(store: Store) -> None:
    kinds = ["gpu.xid", *["run.progress"] * 6, "run.state", "run.progress", "run.progress"]
    events = [EngineEvent(seq=seq, t=float(seq), type=kind, run=RUN, data={}) for seq, kind in enumerate(kinds, 1)]
    store.write(lambda con: queries.append_engine_events(con, events)).result()
    store.write(lambda con: queries.prune_engine_events(con, keep=4, keep_progress=2)).result()
    assert [event["seq"] for event in store.read(lambda con: queries.engine_events(con, 0, 100))] == [1, 8, 9, 10]


def test_a_runs_row_is_made_once_and_then_changed(store: Store) -> None:
    summary = RunSummary(
        id=RUN, kind="train", name="a", state="queued", reason="", attempt=0, priority=0, queue_position=1, owner="me", tags=["x"],
        note="", baseline=False, submitted_at=1.0, started_at=None, ended_at=None, exit_code=None, gpus=[], progress=None, latest={},
        gpu_seconds=0.0, energy_joules=None, cost=None, parent="",
    )  # fmt: skip
    put(store, [(1, 1.0)])
    store.write(lambda con: queries.upsert_run(con, summary, {"model": "m"})).result()
    changed: RunSummary = {**summary, "state": "running", "gpus": ["GPU-1"]}
    store.write(lambda con: queries.upsert_run(con, changed, {"model": "m"})).result()
    query = "SELECT id, state, gpus, tags, spec->>'model', count(*) FROM runs JOIN points USING (run_key) GROUP BY ALL"
    assert store.read(lambda con: con.execute(query).fetchall()) == [(RUN, "running", ["GPU-1"], ["x"], "m", 1)]
