"""The newest values and the progress of a past moment, found in long files and many points."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmops_tui.data.compact import settle
from llmops_tui.data.event_lines import parse
from llmops_tui.data.event_store import EventStore, open_position
from llmops_tui.data.points_at import latest_at
from llmops_tui.data.progress_at import progress_at
from llmops_tui.data.store import Store
from llmops_tui.specs.settings import EngineSettings

RUN, OTHER = "train-a-0001", "train-b-0002"
DAY = 86_400.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "llmops.duckdb", EngineSettings())
    yield store
    store.close()


def put(store: Store, run: str, points: list[tuple[float, int, str, float]]) -> None:
    """Store `(t, step, metric, value)` as the ingest does."""
    lines = b"".join(
        json.dumps({"type": "metric", "t": t, "step": step, "values": {metric: value}}).encode() + b"\n"
        for t, step, metric, value in points
    )

    def write(con: object) -> None:
        position = open_position(con, run)  # type: ignore[arg-type]
        EventStore().write(con, [(position, parse(lines, position.offset, now=0.0))])  # type: ignore[arg-type]

    store.write(write).result()


def latest(store: Store, t: float, *runs: str) -> dict[str, dict[str, float]]:
    return store.read(lambda con: latest_at(con, runs or (RUN,), t))


def settle_all(store: Store) -> None:
    while store.write(lambda con: settle(con, 1)).result():
        pass


@pytest.mark.parametrize("settled", [False, True])
def test_each_metric_has_the_newest_value_told_until_the_moment(store: Store, settled: bool) -> None:
    put(store, RUN, [(1000.0 + step, step, "train/loss", 10.0 - step) for step in range(8)])
    put(store, RUN, [(1002.5, 2, "eval/loss", 5.0), (1006.5, 6, "eval/loss", 4.0)])
    if settled:
        settle_all(store)
    assert latest(store, 999.9) == {}
    assert latest(store, 1000.0) == {RUN: {"train/loss": 10.0}}
    assert latest(store, 1003.2) == {RUN: {"train/loss": 7.0, "eval/loss": 5.0}}
    assert latest(store, 2000.0) == {RUN: {"train/loss": 3.0, "eval/loss": 4.0}}


def test_a_value_from_days_before_is_found_and_other_runs_are_not(store: Store) -> None:
    put(store, RUN, [(1000.0, 1, "eval/loss", 5.0), (1000.0 + 3 * DAY, 2, "train/loss", 1.0)])
    put(store, OTHER, [(1000.0 + 2 * DAY, 1, "train/loss", 8.0), (1000.0 + 2 * DAY, 1, "only/here", 1.0)])
    assert latest(store, 1000.0 + 3 * DAY) == {RUN: {"eval/loss": 5.0, "train/loss": 1.0}}
    assert latest(store, 1000.0 + 2 * DAY, RUN, OTHER, "train-none-0003") == {
        RUN: {"eval/loss": 5.0},
        OTHER: {"train/loss": 8.0, "only/here": 1.0},
    }


def test_of_points_of_one_millisecond_the_highest_step_counts(store: Store) -> None:
    put(store, RUN, [(1000.0, step, "train/loss", float(step)) for step in (3, 9, 6)])
    assert latest(store, 1000.0) == {RUN: {"train/loss": 9.0}}


def test_progress_is_found_in_a_long_file_at_any_moment(tmp_path: Path) -> None:
    events = tmp_path / "events.jsonl"
    assert progress_at(events, 1.0) is None
    with open(events, "w") as file:
        for second in range(3000):
            for part in range(10):
                line = {"t": second + part / 10, "type": "metric", "step": second, "values": {"train/loss": 1.0, "note/phase": 2.0}}
                file.write(json.dumps(line) + "\n")
            file.write(json.dumps({"t": second + 0.95, "type": "heartbeat", "phase": "training", "done": second, "total": 3000}) + "\n")
        file.write("torn {")
    assert progress_at(events, 0.5) is None
    for second in (0, 1, 777, 1500, 2998, 2999):
        progress = progress_at(events, second + 0.96)
        assert progress is not None
        assert (progress["done"], progress["total"]) == (second, 3000)
    late = progress_at(events, 1e9)
    assert late is not None
    assert late["done"] == 2999


def test_progress_before_a_long_silence_of_other_lines_is_still_found(tmp_path: Path) -> None:
    events = tmp_path / "events.jsonl"
    with open(events, "w") as file:
        file.write(json.dumps({"t": 1.0, "type": "phase", "phase": "loading", "done": 0, "total": None}) + "\n")
        for second in range(2, 3000):
            file.write(json.dumps({"t": second, "type": "metric", "step": second, "values": {"train/loss": 1.0}}) + "\n")
    progress = progress_at(events, 2500.0)
    assert progress is not None
    assert progress["phase"] == "loading"
