"""What is shown of many runs."""

from __future__ import annotations

from pathlib import Path

from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.live_run import LiveRun
from llmops_tui.engine.run_views import overview


def _run(number: int, state: str, kind: str = "command", priority: int = 0, ended_at: float | None = None) -> LiveRun:
    record = {"submitted_at": float(number), "spec": {"kind": kind, "name": "x"}}
    directory = RunDir(Path(f"/nowhere/{kind}-x-{number:04d}"))
    return LiveRun(directory, record, None, state=state, priority=priority, order=float(number), ended_at=ended_at)


def test_the_queue_is_shown_in_the_order_it_will_start() -> None:
    seen = overview([_run(1, "queued"), _run(2, "blocked", priority=5), _run(3, "running"), _run(4, "queued")], 10)
    assert [(run["id"], run["queue_position"]) for run in seen.waiting] == [
        ("command-x-0002", 1), ("command-x-0001", 2), ("command-x-0004", 3),
    ]  # fmt: skip
    assert [(run["id"], run["queue_position"]) for run in seen.running] == [("command-x-0003", None)]
    assert seen.counts == {"queued": 2, "blocked": 1, "running": 1}


def test_the_runs_that_ended_last_are_shown_and_all_are_counted() -> None:
    seen = overview([_run(number, "succeeded", ended_at=100.0 - number) for number in range(1, 50)], 3)
    assert [run["id"] for run in seen.recent] == ["command-x-0001", "command-x-0002", "command-x-0003"]
    assert seen.counts == {"succeeded": 49}
