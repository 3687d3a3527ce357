"""A replica's run by itself: started on a port of its own, restarted with a bound, drained, asleep and awake."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmops_tui.data.rundir import append_line
from llmops_tui.errors import LlmopsError
from llmops_tui.specs.states import ENDED
from tests.serving.fake_runtime import FakeRuntime
from tests.serving.serving_engine import Serving, free_port
from tests.waiting import wait_for

QUICK = {"restart": {"limit": 2, "first_seconds": 0.05, "most_seconds": 0.1}, "ready_seconds": 30, "drain_seconds": 20}


@pytest.fixture
def moods(runtime: FakeRuntime) -> Iterator[FakeRuntime]:
    yield runtime
    for model in ("first", "second", "third"):
        runtime.mood(model)


def run_of(serving: Serving, models: Path, **spec: Any) -> str:
    wish = {"kind": "serve", "name": "alone", "model": str(models / "first.gguf"), **QUICK, **spec}
    return serving.client.submit(wish, str(serving.root))["id"]


def state_of(serving: Serving, run: str) -> str:
    path = serving.run_file(run, "events.jsonl")
    events = serving.events(run) if path.exists() else []
    return str(events[-1]["state"]) if events else ""


def ready(serving: Serving, run: str) -> dict[str, Any]:
    wait_for(lambda: state_of(serving, run) == "ready", 60, f"{run} to be ready")
    facts: dict[str, Any] = json.loads(serving.run_file(run, "artifacts/replica.json").read_bytes())
    return facts


def end(serving: Serving, *runs: str) -> None:
    for run in runs:
        if serving.client.run(run)["state"] not in ENDED:
            serving.client.stop_run(run)
    wait_for(lambda: all(serving.client.run(run)["state"] in ENDED for run in runs), 60)


def wish(serving: Serving, run: str, command: str, **arguments: Any) -> None:
    append_line(serving.run_file(run, "control.jsonl"), {"t": time.time(), "command": command, "who": "test", **arguments})


def outcome(serving: Serving, run: str, command: str) -> str:
    found = wait_for(lambda: [e for e in serving.events(run, "control") if e["command"] == command], 60, f"{command} to be answered")
    return str(found[-1]["outcome"])


def listening(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def test_two_that_start_at_once_get_a_port_each_and_free_it(serving: Serving, models: Path) -> None:
    runs = [run_of(serving, models) for _ in range(4)]
    ports = {ready(serving, run)["port"] for run in runs}
    assert len(ports) == 4
    assert not any(event["state"] == "restarting" for run in runs for event in serving.events(run))
    end(serving, *runs)
    assert not any(listening(port) for port in ports)


def test_a_port_that_is_taken_is_refused_before_it_starts(serving: Serving, models: Path) -> None:
    port = free_port()
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", port))
        holder.listen()
        with pytest.raises(LlmopsError, match=f"port: {port} is in use on 127.0.0.1"):
            run_of(serving, models, port=port)


def test_one_that_dies_at_every_start_ends_with_its_cause_after_its_bound(serving: Serving, models: Path, moods: FakeRuntime) -> None:
    moods.mood("first", exit=-9)
    before = len(moods.starts("first"))
    run = run_of(serving, models)
    wait_for(lambda: serving.client.run(run)["state"] in ENDED, 60)
    found = serving.client.run(run)
    assert (found["state"], "3 times" in found["reason"], "memory runs out" in found["reason"]) == ("failed", True, True), found["reason"]
    assert len(moods.starts("first")) - before == 3
    assert [event["state"] for event in serving.events(run)] == ["starting", "restarting"] * 2 + ["starting", "stopped"]


def test_what_would_end_the_same_way_is_not_started_again(serving: Serving, models: Path, moods: FakeRuntime) -> None:
    moods.mood("first", exit=1, say="ImportError: libcudart.so.12: cannot open shared object file: No such file or directory")
    before = len(moods.starts("first"))
    run = run_of(serving, models)
    wait_for(lambda: serving.client.run(run)["state"] in ENDED, 60)
    assert "the shared library libcudart.so.12 is missing" in serving.client.run(run)["reason"]
    assert len(moods.starts("first")) - before == 1


def test_one_that_dies_while_it_answers_is_back_on_its_port(serving: Serving, models: Path) -> None:
    run = run_of(serving, models)
    first = ready(serving, run)
    os.kill(first["pid"], signal.SIGKILL)
    wait_for(lambda: len([e for e in serving.events(run) if e["state"] == "ready"]) == 2, 60)
    second = ready(serving, run)
    assert (second["port"], second["pid"] != first["pid"]) == (first["port"], True)
    end(serving, run)


def test_a_server_that_listens_and_never_completes_is_not_ready_and_given_up_in_time(
    serving: Serving, models: Path, moods: FakeRuntime
) -> None:
    moods.mood("first", refuse=True)
    run = run_of(serving, models, restart={"limit": 0, "first_seconds": 0, "most_seconds": 0}, ready_seconds=2)
    wait_for(lambda: serving.client.run(run)["state"] in ENDED, 60)
    found = serving.client.run(run)
    assert (found["state"], "no answer within 2 s: {" in found["reason"]) == ("failed", True), found["reason"]
    assert not any(event["state"] == "ready" for event in serving.events(run))


def test_it_sleeps_without_memory_and_wakes_proven_by_an_answer(serving: Serving, models: Path) -> None:
    run = run_of(serving, models)
    facts = ready(serving, run)
    wish(serving, run, "sleep")
    assert outcome(serving, run, "sleep") == "sleeps"
    assert not listening(facts["port"])
    assert not serving.run_file(run, "artifacts/replica.json").exists()
    assert not Path(f"/proc/{facts['pid']}").exists()
    assert serving.client.run(run)["state"] == "running"
    wish(serving, run, "wake")
    assert outcome(serving, run, "wake").startswith("awake after")
    assert listening(ready(serving, run)["port"])
    end(serving, run)


def test_a_command_that_is_none_is_skipped_and_the_next_one_obeyed(serving: Serving, models: Path) -> None:
    run = run_of(serving, models)
    ready(serving, run)
    with open(serving.run_file(run, "control.jsonl"), "a") as file:
        file.write('not json\n{"command": "explode"}\n[]\n')
    wish(serving, run, "drain", seconds=5)
    assert outcome(serving, run, "drain") == "drained: it answers nobody"
    end(serving, run)


def test_a_keeper_that_was_killed_leaves_no_server(serving: Serving, models: Path) -> None:
    run = run_of(serving, models, on_lost="stay")
    pid = ready(serving, run)["pid"]
    with open(f"/proc/{pid}/stat") as file:
        keeper = int(file.read().rpartition(")")[2].split()[1])
    os.kill(keeper, signal.SIGKILL)
    wait_for(lambda: not Path(f"/proc/{pid}").exists(), 30, "the server to go with its keeper")
    wait_for(lambda: serving.client.run(run)["state"] in ENDED, 30)


def test_its_load_is_told_as_metrics(serving: Serving, models: Path) -> None:
    run = run_of(serving, models)
    ready(serving, run)
    found = wait_for(lambda: serving.client.run(run)["latest"], 60)
    assert found["serve/running"] == 0
    assert found["serve/rss_bytes"] > 1 << 20
    end(serving, run)
