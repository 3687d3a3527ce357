"""The past from a shell: `status --at`, `gpus --at` and `events list`."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.engine.test_commands import Shell
from tests.waiting import wait_for


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    shell = Shell(tmp_path_factory.mktemp("home"))
    shell("engine", "start")
    try:
        yield shell
    finally:
        for run in shell.json("status")["running"]:
            shell("runs", "stop", run["id"], "--now")
        shell("engine", "stop")


@pytest.fixture(scope="module")
def life(shell: Shell) -> tuple[str, float]:
    """A run that has failed, and a moment at which it still ran."""
    over = shell.home / "over"
    run = shell("run", "command", "--name", "short", "--", "sh", "-c", f"until [ -e {over} ]; do sleep 0.02; done; exit 4").strip()
    shell.wait(run, "running")
    then = time.time()
    over.touch()
    shell.wait(run, "failed")
    return run, then


def test_status_at_shows_the_moment_and_says_so(shell: Shell, life: tuple[str, float]) -> None:
    run, then = life
    frame = shell.json("status", "--at", f"{then:.3f}")
    assert frame.keys() == shell.json("status").keys()
    assert [entry["id"] for entry in frame["running"]] == [run]
    assert [entry["id"] for entry in shell.json("status", "--at", "now")["recent"]] == [run]
    page = shell("status", "--at", f"{then:.3f}")
    assert page.startswith("as of ")
    assert f"{run}  running" in page
    assert "no GPU found" in shell("gpus", "--at", "0s ago") or shell.json("gpus", "--at", "0s ago")


def test_a_moment_that_is_none_or_not_known_is_one_line(shell: Shell, life: tuple[str, float]) -> None:
    assert "'soonish' is no moment; write 14:30" in shell.error("status", "--at", "soonish", code=2)
    assert "the history goes from" in shell.error("status", "--at", "2001-01-01", code=2)
    assert "--until lies before --since" in shell.error("events", "list", "--since", "1h", "--until", "2h", code=2)


def test_events_are_listed_chosen_and_left_without_progress(shell: Shell, life: tuple[str, float]) -> None:
    run, then = life
    states = shell.json("events", "list", "--type", "run.state", "--run", run)
    assert [event["data"]["state"] for event in states] == ["starting", "running", "failed"]
    assert [event["data"]["state"] for event in shell.json("events", "list", "--run", run, "--since", f"{then:.3f}")] == ["failed"]
    assert shell.json("events", "list", "--limit", "1")[0]["data"]["state"] == "failed"
    table = shell("events", "list")
    assert "engine.started" in table
    assert "exit code 4" in table
    assert "run.progress" not in table
    assert "no events of that kind" in shell("events", "list", "--run", "command-none-0009")


def test_following_events_prints_the_past_then_what_happens_until_interrupted(shell: Shell, life: tuple[str, float]) -> None:
    command = shell.command("events", "list", "-f", "--json", "--type", "run.submitted")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=shell.environment) as follower:
        assert follower.stdout is not None
        try:
            assert json.loads(follower.stdout.readline())["run"] == life[0]
            later = shell("run", "command", "--name", "later", "--", "true").strip()
            assert json.loads(follower.stdout.readline())["run"] == later
            follower.send_signal(signal.SIGINT)
            assert follower.wait(20) == 130
        finally:
            follower.kill()
    wait_for(lambda: not shell.json("status")["running"], what="the later run to end")
