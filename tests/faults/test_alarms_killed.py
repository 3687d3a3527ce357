"""The engine dies while a run goes wrong again and again: each alarm is there once, for the list, the inbox and the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from llmops_tui.cli import run_cli
from llmops_tui.client import Client
from llmops_tui.data.rundir import RunDir, read_lines
from llmops_tui.specs.notable import TYPES
from tests.running_engine import kill_engine, running_engine
from tests.waiting import wait_for

_WRONG_AT = (40, 100, 160, 220, 280)
_JOB = f"""
import os, pathlib, time
from llmops_tui.engine.jobs.event_writer import EventWriter
events = EventWriter(pathlib.Path(os.environ["LLMOPS_RUN_DIR"]))
for step in range(300):
    events.metrics(step, {{"train/loss": float("nan") if step in {_WRONG_AT} else 2.0 + 0.01 * (step % 5)}})
    time.sleep(0.01)
events.write("end", status="succeeded", summary={{}}, error="")
events.close()
"""


def test_killed_again_and_again_the_engine_loses_and_doubles_no_alarm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running_engine(tmp_path) as client:
        run_id = client.submit({"kind": "command", "name": "wrong", "argv": [sys.executable, "-c", _JOB]})["id"]
        for count in (1, 2, 4):
            wait_for(lambda count=count: _steps_told(client, run_id) >= _WRONG_AT[count - 1], 30)  # type: ignore[misc]
            kill_engine(client.home)
            client.ensure_engine()
        wait_for(lambda: client.run(run_id)["state"] == "succeeded", 30)
        expected = [f"{run_id}.1.not_finite.{step}" for step in _WRONG_AT]
        assert [alarm["id"] for alarm in client.alarms(run=run_id)] == expected
        kept = read_lines(RunDir(client.home.runs / run_id).path / "alarms.jsonl")
        assert [line["id"] for line in kept if line["entry"] == "alarm"] == expected
        told = client.events(types=TYPES, run=run_id)["events"]
        assert [event["data"]["id"] for event in told if event["type"] == "alarm.not_finite"] == expected
        assert client.watchers(run_id)["rules"], "the rules of a run that is over are told too"

        home = ["--home", str(tmp_path)]
        assert run_cli(["alarms", "ack", expected[0], *home, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)[0]["acked_by"]
        assert run_cli(["alarms", "list", run_id, "--open", "--rows", "--json", *home]) == 0
        listed = json.loads(capsys.readouterr().out)
        assert [alarm["id"] for alarm in listed] == expected[1:]
        assert "only a train run notes them" in listed[0]["rows"]["problem"]
        assert run_cli(["alarms", "list", *home]) == 0
        assert "the loss is NaN at step 40" in capsys.readouterr().out
        assert run_cli(["alarms", "rules", run_id, *home]) == 0
        assert "never wrong" in capsys.readouterr().out
        assert run_cli(["alarms", "ack", f"{run_id}.1.spike.7", *home]) == 4
        assert run_cli(["alarms", "ack", *home]) == 2
        assert run_cli(["alarms", "list", "train-nobody-0099", *home]) == 4
        assert run_cli(["alarms", "ack", "--run", run_id, *home]) == 0
        assert client.alarms(acked=False) == []


def _steps_told(client: Client, run_id: str) -> int:
    try:
        return len((client.home.runs / run_id / "events.jsonl").read_bytes().splitlines())
    except FileNotFoundError:
        return 0
