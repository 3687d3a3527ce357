"""What a running job hears of its user."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmops_tui.data.rundir import append_line
from llmops_tui.engine.jobs.control import ControlChannel

LONG_AGO = 1000.0


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def ask(run: Path, command: str) -> None:
    append_line(run / "control.jsonl", {"t": LONG_AGO, "command": command})


def test_a_stop_is_heard_although_the_clock_was_set_back_after_the_job_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMOPS_ATTEMPT", "2")
    ask(tmp_path, "checkpoint")
    (tmp_path / "attempt-2").mkdir()
    begin = (tmp_path / "control.jsonl").stat().st_size
    (tmp_path / "attempt-2" / "launch.json").write_text(json.dumps({"control_bytes": begin}))
    channel = ControlChannel(tmp_path)
    channel.poll()
    assert (channel.stop, channel.take()) == (False, []), "that was for the first attempt"
    ask(tmp_path, "stop")
    channel.poll()
    assert channel.stop


def test_a_job_that_nobody_launched_goes_by_the_time_of_its_birth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLMOPS_ATTEMPT", raising=False)
    ask(tmp_path, "stop")
    channel = ControlChannel(tmp_path)
    channel.poll()
    assert not channel.stop
