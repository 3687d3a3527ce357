"""The engine is killed around a pause, a resume and the attempts after running out of memory: nothing is lost, nothing done twice."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.recovery import load_run
from tests.waiting import wait_for

ROOT = Path(__file__).parents[2]


def until_killed(home: Path, *wish: str, when: Callable[[], bool] = lambda: True) -> str:
    """Start an engine, kill it -9 once its wish is answered and `when` holds; what it answered."""
    command = [sys.executable, "-m", "tests.faults.steered_engine", str(home), *wish]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert process.stdout is not None
        answer = process.stdout.readline().strip() if wish else ""
        wait_for(when, 30)
    finally:
        process.kill()
        process.communicate()
    return answer


def states(run: RunDir) -> list[str]:
    """Its states as journaled."""
    return [entry["state"] for entry in run.read_journal() if entry["entry"] == "state"]


def steps(run: RunDir) -> list[int]:
    """Every step its jobs counted, in order."""
    events = (json.loads(line) for line in run.events.read_text().splitlines())
    return [event["step"] for event in events if event["type"] == "metric"]


def test_an_engine_killed_around_a_pause_and_a_resume_finds_the_run_where_it_was(tmp_path: Path) -> None:
    name = until_killed(tmp_path, "submit", "600", when=lambda: bool(list((tmp_path / "runs").glob("*/attempt-1/started.json"))))
    run = RunDir(tmp_path / "runs" / name)
    wait_for(lambda: run.events.exists() and len(steps(run)) > 3, 20)
    assert until_killed(tmp_path, "pause", name) == "stopping"  # at once: the job saves while no engine looks
    wait_for(lambda: (run.attempt(1) / "exit.json").exists(), 20)
    assert load_run(run, json.loads(run.spec.read_bytes())).stop == "pause"
    until_killed(tmp_path, when=lambda: states(run)[-1] == "paused")
    stopped = steps(run)[-1]
    assert stopped < 600
    until_killed(tmp_path)  # one that starts, and has nothing to do
    assert until_killed(tmp_path, "resume", name) == "queued"
    until_killed(tmp_path, when=lambda: (run.attempt(2) / "started.json").exists())
    until_killed(tmp_path, when=lambda: states(run)[-1] == "succeeded")
    assert steps(run) == list(range(1, 601)), "each step once, over two attempts and six engines"
    assert states(run).count("paused") == 1


def test_an_engine_killed_at_each_decision_after_running_out_of_memory_makes_each_attempt_once(tmp_path: Path) -> None:
    name = until_killed(tmp_path, "submit", "5 memory")
    run = RunDir(tmp_path / "runs" / name)
    for _ in range(30):
        if states(run)[-1:] == ["succeeded"]:
            break
        length = len(run.read_journal())
        until_killed(tmp_path, when=lambda length=length: len(run.read_journal()) > length + 1 or states(run)[-1:] == ["succeeded"])  # type: ignore[misc]
    journal = run.read_journal()
    attempts = {entry["attempt"]: entry["data"]["to"] for entry in journal if entry["entry"] == "adjusted"}
    assert attempts == {2: {"micro_batch": 2, "accumulation": 2}, 3: {"gradient_checkpointing": True}}
    assert (states(run)[-1], journal[-1]["attempt"]) == ("succeeded", 3)
    assert steps(run) == [1, 2, 3, 4, 5]
