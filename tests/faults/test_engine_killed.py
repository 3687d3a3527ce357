"""The engine dies, sleeps or is replaced under a running job: the job notices nothing and its reader misses nothing."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmops_tui.client import Client
from llmops_tui.errors import EngineUnavailableError
from tests.running_engine import engine_pid, kill_engine, running_engine
from tests.waiting import wait_for

_POINTS = 600
_JOB = f"""
import os, pathlib, time
from llmops_tui.engine.jobs.event_writer import EventWriter
events = EventWriter(pathlib.Path(os.environ["LLMOPS_RUN_DIR"]))
for step in range({_POINTS}):
    events.metrics(step, {{"train/loss": 1.0 / (step + 1)}})
    time.sleep(0.01)
events.write("end", status="succeeded", summary={{}}, error="")
events.close()
"""


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with running_engine(tmp_path) as running:
        yield running


def _submit(client: Client) -> str:
    return client.submit({"kind": "command", "name": "steps", "argv": [sys.executable, "-c", _JOB]})["id"]


class Reader:
    """Follows a run in a thread of its own and keeps the steps it saw."""

    def __init__(self, client: Client, run_id: str) -> None:
        self.steps: list[int] = []
        self.connections: list[bool] = []
        self.stream = client.stream_run(run_id, on_connection=self.connections.append)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for line in self.stream:
            if line.event["type"] == "metric":
                self.steps.append(line.event["step"])

    def wait(self) -> str:
        """The state the run ended in, once everything was read."""
        self._thread.join(90)
        assert not self._thread.is_alive(), f"the stream did not end; {len(self.steps)} steps, connections {self.connections}"
        return self.stream.final_state


def _stored_steps(client: Client, run_id: str) -> list[int]:
    rows = client.sql(f"SELECT step FROM metrics_long WHERE run = '{run_id}' AND metric = 'train/loss' ORDER BY step", 10_000)["rows"]
    return [row[0] for row in rows]


def test_killed_again_and_again_the_engine_loses_and_doubles_nothing(client: Client) -> None:
    run_id = _submit(client)
    reader = Reader(client, run_id)
    for steps in (20, 180, 340):
        wait_for(lambda steps=steps: len(reader.steps) >= steps, 30)  # type: ignore[misc]
        kill_engine(client.home)
        client.ensure_engine()
    assert reader.wait() == "succeeded"
    assert reader.steps == list(range(_POINTS))
    assert reader.connections.count(False) >= 3
    assert _stored_steps(client, run_id) == list(range(_POINTS))
    assert client.run(run_id)["exit_code"] == 0
    assert client.run(run_id)["attempt"] == 1


def test_a_job_that_ends_while_no_engine_runs_is_judged_by_the_next(client: Client) -> None:
    run_id = _submit(client)
    wait_for(lambda: client.run(run_id)["state"] == "running")
    kill_engine(client.home)
    run_directory = client.home.runs / run_id
    wait_for(lambda: (run_directory / "attempt-1" / "exit.json").exists(), 60)
    client.ensure_engine()
    assert wait_for(lambda: client.run(run_id)["state"] in ("succeeded", "failed", "lost") and client.run(run_id)["state"]) == "succeeded"
    assert _stored_steps(client, run_id) == list(range(_POINTS))


def test_a_clean_stop_leaves_the_job_running(client: Client) -> None:
    run_id = _submit(client)
    reader = Reader(client, run_id)
    wait_for(lambda: len(reader.steps) > 10)
    first = engine_pid(client.home)
    kill_engine(client.home, signal.SIGTERM)
    assert not client.home.socket.exists()
    assert not client.home.engine_json.exists()
    assert client.ensure_engine()["pid"] != first
    assert reader.wait() == "succeeded"
    assert reader.steps == list(range(_POINTS))


def test_an_engine_that_was_stopped_and_goes_on_has_lost_nothing(client: Client) -> None:
    run_id = _submit(client)
    reader = Reader(client, run_id)
    wait_for(lambda: len(reader.steps) > 10)
    pid = engine_pid(client.home)
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(EngineUnavailableError, match="did not answer within 1 s"):
            client.ensure_engine(1.0)
        wait_for(lambda: (client.home.runs / run_id / "attempt-1" / "exit.json").exists(), 60)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert reader.wait() == "succeeded"
    assert reader.steps == list(range(_POINTS))
    assert _stored_steps(client, run_id) == list(range(_POINTS))
    assert engine_pid(client.home) == pid


def test_the_engines_own_events_go_on_over_a_kill(client: Client) -> None:
    seen: list[str] = []
    stream = client.stream_events(after=0)

    def read() -> None:
        for event in stream:
            seen.append(f"{event['seq']} {event['type']}")

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    wait_for(lambda: any("engine.started" in entry for entry in seen))
    kill_engine(client.home)
    client.ensure_engine()
    wait_for(lambda: sum("engine.started" in entry for entry in seen) == 2, 30)
    stream.close()
    reader.join(10)
    numbers = [int(entry.split()[0]) for entry in seen]
    assert numbers == sorted(set(numbers))
