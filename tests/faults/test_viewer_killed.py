"""The console is only a view: it is killed in the middle of a run and nothing but the view is gone."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmops_tui.client import Client
from tests.running_engine import engine_pid, running_engine
from tests.waiting import wait_for

POINTS = 300
JOB = f"""
import json, os, pathlib, time
events = os.open(os.environ["LLMOPS_RUN_DIR"] + "/events.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
go = pathlib.Path(os.environ["LLMOPS_RUN_DIR"], "go")
for step in range({POINTS}):
    line = {{"t": time.time(), "type": "metric", "step": step, "values": {{"train/loss": 1.0 / (step + 1)}}}}
    os.write(events, json.dumps(line).encode() + b"\\n")
    while step == {POINTS // 2} and not go.exists():
        time.sleep(0.02)
"""


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with running_engine(tmp_path) as running:
        yield running


class Viewer:
    """A real `llmops-tui` on a terminal of its own, the leader of its session, as after a login."""

    def __init__(self, home: Path) -> None:
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup leaves it
            environment = {**os.environ, "LLMOPS_HOME": str(home), "TERM": "xterm-256color"}
            os.execve(sys.executable, [sys.executable, "-m", "llmops_tui"], environment)
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self._drawn = b""

    def has_drawn(self, text: str) -> bool:
        """Read what came; whether the text was among all that was drawn."""
        while select.select([self._terminal], [], [], 0)[0]:
            self._drawn += os.read(self._terminal, 65536)
        return text.encode() in self._drawn

    def close(self) -> None:
        """The terminal goes, as when SSH drops."""
        os.close(self._terminal)

    def wait(self) -> int:
        return os.waitpid(self.pid, 0)[1]


@pytest.mark.parametrize("way", ["kill -9", "the terminal is gone"])
def test_a_viewer_that_dies_changes_nothing_but_the_view(client: Client, way: str) -> None:
    run_id = client.submit({"kind": "command", "name": "watched", "argv": [sys.executable, "-c", JOB]})["id"]
    engine = engine_pid(client.home)
    viewer = Viewer(client.home.root)
    wait_for(lambda: viewer.has_drawn(run_id), 30, "the console's first frame with the run")
    if way == "kill -9":
        os.kill(viewer.pid, signal.SIGKILL)
        viewer.wait()
        viewer.close()
    else:
        viewer.close()
        viewer.wait()
    assert client.run(run_id)["state"] == "running"
    Path(client.run(run_id)["directory"], "go").touch()
    wait_for(lambda: client.run(run_id)["state"] == "succeeded", 30, "the end of the run")
    rows = client.sql(f"SELECT count(*), count(DISTINCT step) FROM metrics_long WHERE run = '{run_id}'")["rows"]
    assert rows == [[POINTS, POINTS]]
    assert engine_pid(client.home) == engine
