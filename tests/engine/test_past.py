"""What a real engine tells of past moments is what it told then: over retries, its own death, and a database made anew."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmops_tui.client import Client
from llmops_tui.data.rebuild import rebuild
from llmops_tui.errors import NotFoundError, UsageError
from llmops_tui.specs.answers import RunSummary, Status
from llmops_tui.specs.settings import EngineSettings
from tests.running_engine import kill_engine, running_engine
from tests.waiting import wait_for

# Goes on when a file with the next word's name lies in its working directory; fails in its first attempt.
_JOB = """
import os, pathlib, sys, time
from llmops_tui.engine.jobs.event_writer import EventWriter
events = EventWriter(pathlib.Path(os.environ["LLMOPS_RUN_DIR"]))
def until(word):
    while not pathlib.Path(word).exists():
        time.sleep(0.02)
if os.environ["LLMOPS_ATTEMPT"] == "1":
    events.phase("training", total=4)
    events.metrics(1, {"train/loss": 3.0, "eval/loss": 4.0})
    print("first", flush=True)
    until("go-on")
    events.heartbeat("training", 2, 4)
    events.metrics(2, {"train/loss": 2.0})
    until("fail")
    sys.exit(3)
events.metrics(3, {"train/loss": 1.0})
until("succeed")
"""


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with running_engine(tmp_path / "home") as running:
        yield running


def told(status: Status, run_id: str) -> dict[str, Any] | None:
    """What matters of a run in a status; None where it is not in it."""
    for run in [*status["running"], *status["waiting"], *status["recent"]]:
        if run["id"] == run_id:
            return essence(run)
    return None


def essence(run: RunSummary) -> dict[str, Any]:
    keys = ("state", "attempt", "latest", "progress", "started_at", "ended_at", "exit_code", "queue_position", "reason")
    return {key: run[key] for key in keys}  # type: ignore[literal-required]


def moment_of(client: Client, run_id: str, what: str, **expected: Any) -> tuple[float, dict[str, Any]]:
    """Wait until the run is told so now; a moment at which it was, and what was told."""

    def seen() -> tuple[float, dict[str, Any]] | None:
        before = told(client.status(), run_id)
        at = time.time()
        if before is None or before != told(client.status(), run_id):  # changing while we look
            return None
        return (at, before) if all(before[key] == value for key, value in expected.items()) else None

    return wait_for(seen, what=what)


def test_a_run_is_told_as_it_was_at_every_moment_of_its_life(client: Client, tmp_path: Path) -> None:
    blocker = client.submit(
        {"kind": "command", "name": "first", "argv": ["sh", "-c", "until [ -e begin ]; do sleep 0.02; done"]}, str(tmp_path)
    )
    spec = {"kind": "command", "name": "job", "argv": [sys.executable, "-c", _JOB], "after_any": [blocker["id"]]}
    before = time.time()
    run_id = client.submit(spec, str(tmp_path))["id"]
    moments = [moment_of(client, run_id, "it waits", state="blocked")]
    (tmp_path / "begin").touch()
    moments.append(moment_of(client, run_id, "its first point", state="running", latest={"train/loss": 3.0, "eval/loss": 4.0}))

    kill_engine(client.home)
    away = time.time()
    client.ensure_engine()
    (tmp_path / "go-on").touch()
    moments.append(moment_of(client, run_id, "its second point", state="running", latest={"train/loss": 2.0, "eval/loss": 4.0}))
    (tmp_path / "fail").touch()
    moments.append(moment_of(client, run_id, "its failure", state="failed", attempt=1, exit_code=3))
    client.retry(run_id)
    moments.append(
        moment_of(client, run_id, "its second attempt", state="running", attempt=2, latest={"train/loss": 1.0, "eval/loss": 4.0})
    )
    (tmp_path / "succeed").touch()
    moments.append(moment_of(client, run_id, "its end", state="succeeded", attempt=2))

    def check() -> None:
        assert told(client.at(before), run_id) is None
        for at, then in moments:
            assert told(client.at(at), run_id) == then
        without_engine = told(client.at(away), run_id)
        assert without_engine is not None
        assert (without_engine["state"], without_engine["latest"]["train/loss"]) == ("running", 3.0)

    check()
    at_failure = client.at(moments[3][0])
    assert at_failure["counts"] == {"succeeded": 1, "failed": 1}
    assert [run["id"] for run in at_failure["recent"]] == [run_id, blocker["id"]]
    assert (moments[1][1]["progress"]["done"], moments[2][1]["progress"]["done"]) == (0, 2)

    client.stop_engine()
    client.ensure_engine()
    check()
    client.stop_engine()
    rebuild(client.home, EngineSettings())
    client.ensure_engine()
    check()


def test_a_curve_of_a_moment_has_no_later_point_and_the_log_no_later_byte(client: Client, tmp_path: Path) -> None:
    run_id = client.submit({"kind": "command", "name": "job", "argv": [sys.executable, "-c", _JOB]}, str(tmp_path))["id"]
    early, _ = moment_of(client, run_id, "its first point", latest={"train/loss": 3.0, "eval/loss": 4.0})
    wait_for(lambda: client.log_bytes_at(run_id, time.time()), what="its log to be looked at")
    (tmp_path / "go-on").touch()
    moment_of(client, run_id, "its second point", latest={"train/loss": 2.0, "eval/loss": 4.0})
    now, then = (client.series(run_id, ["train/loss"], until=until)[0] for until in (None, early))
    assert [bucket[6] for bucket in now["buckets"]] == [3.0, 2.0]
    assert [bucket[6] for bucket in then["buckets"]] == [3.0]
    assert client.log_bytes_at(run_id, time.time()) == len("first\n")
    assert client.log_bytes_at(run_id, client.run(run_id)["submitted_at"] - 1) is None
    with pytest.raises(NotFoundError):
        client.log_bytes_at("command-none-0009", early)
    client.stop_run(run_id, "now")
    wait_for(lambda: client.run(run_id)["state"] == "cancelled", what="the run to end")


def test_a_moment_outside_of_the_history_is_refused_with_its_span(client: Client) -> None:
    span = client.span()
    assert span["first"] <= span["last"] <= time.time()
    with pytest.raises(UsageError, match="nothing is known of it; the history goes from"):
        client.at(span["first"] - 1)
    with pytest.raises(UsageError, match="has not come yet"):
        client.at(time.time() + 3600)
    for nonsense in (float("nan"), float("inf"), -1.0, 1e12):
        with pytest.raises(UsageError):
            client.at(nonsense)
    assert client.at(time.time() + 1)["host"]["t"] <= time.time()


def test_a_moment_of_now_is_the_status(client: Client) -> None:
    wait_for(lambda: client.host_history(60)["t"], what="a sample")
    now, status = client.at(time.time()), client.status()
    assert now.keys() == status.keys()
    assert now["host"].keys() == status["host"].keys()
    for size in ("cpu_cores", "memory_total_bytes", "disk_total_bytes", "cpu_slots", "cpu_slots_free"):
        assert now["host"][size] == status["host"][size]  # type: ignore[literal-required]
    assert now["host"]["cpu"] is not None


def test_events_are_chosen_by_type_run_and_time_and_the_newest_come_oldest_first(client: Client, tmp_path: Path) -> None:
    ids = []
    for name in ("one", "two"):
        argv = ["sh", "-c", f"until [ -e {name} ]; do sleep 0.02; done"]
        ids.append(client.submit({"kind": "command", "name": name, "argv": argv}, str(tmp_path))["id"])
        moment_of(client, ids[-1], f"{name} to run", state="running")
        (tmp_path / name).touch()
        moment_of(client, ids[-1], f"{name} to end", state="succeeded")
    wait_for(lambda: len(client.events(types=["run.state"])["events"]) == 6, what="their events to be stored")
    every = client.events()["events"]
    states = client.events(types=["run.state"], run=ids[1])["events"]
    assert [event["data"]["state"] for event in states] == ["starting", "running", "succeeded"]
    assert client.events(newest=True, limit=2)["events"] == every[-2:]
    assert client.events(newest=True, limit=2, before=every[-2]["seq"])["events"] == every[-4:-2]
    assert client.events(types=["-run.state"])["events"] == [event for event in every if event["type"] != "run.state"]
    middle = states[1]["t"]
    assert client.events(since=middle)["events"] == [event for event in every if event["t"] >= middle]
    assert client.events(until=middle, types=["run.state", "engine.started"])["events"] == [
        event for event in every if event["t"] <= middle and event["type"] in ("run.state", "engine.started")
    ]
    history = client.host_history(start=time.time() - 5, end=time.time(), points=3)
    assert len(history["t"]) <= 4
    with pytest.raises(UsageError, match="is not before end"):
        client.host_history(start=20.0, end=10.0)
