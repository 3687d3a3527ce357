"""Many clients that find no engine, and state directories in which none can start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmops_tui.client import Client
from llmops_tui.errors import EngineUnavailableError
from llmops_tui.paths import Home
from tests.running_engine import engine_pid, kill_engine, make_home

_START = """
import sys
from pathlib import Path
from llmops_tui.client import Client
from llmops_tui.paths import Home
client = Client(Home(Path(sys.argv[1]), explicit=True))
sys.stdin.readline()
print(client.ensure_engine(60)["pid"], client.status()["engine"]["pid"])
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = make_home(tmp_path / "home")
    yield made
    kill_engine(made)


def test_ten_clients_that_start_the_engine_at_once_get_one_engine_and_all_its_answers(home: Home) -> None:
    clients = [
        subprocess.Popen(
            [sys.executable, "-c", _START, str(home.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(10)
    ]
    for client in clients:
        assert client.stdin
        client.stdin.write("go\n")
        client.stdin.flush()
    answers = [client.communicate(timeout=90) for client in clients]
    assert [client.returncode for client in clients] == [0] * 10, answers
    assert {said for said, _ in answers} == {f"{engine_pid(home)} {engine_pid(home)}\n"}
    assert home.engine_log.read_text().count(" serves ") == 1


def test_a_state_directory_below_a_file_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    home = Home(tmp_path / "file" / "home", explicit=True)
    with pytest.raises(EngineUnavailableError, match="cannot be written: Not a directory; choose another with --home"):
        Client(home).ensure_engine()
    command = [sys.executable, "-m", "llmops_tui.engine.daemon", "--home", str(home.root)]
    daemon = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert daemon.returncode == 1
    assert daemon.stderr.count("\n") == 1
    assert "cannot be written" in daemon.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="root is not bound by permissions, so it becomes nobody; others are bound as they are")
def test_a_read_only_state_directory_is_told_in_one_line(tmp_path: Path) -> None:
    for directory in (tmp_path, *tmp_path.parents):
        if directory not in (Path("/"), Path("/tmp")):
            directory.chmod(0o755)
    script = """
import json, os, sys
from pathlib import Path
import llmops_tui.engine_start, subprocess
from llmops_tui.client import Client
from llmops_tui.errors import LlmopsError
from llmops_tui.paths import Home
os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    Client(Home(Path(sys.argv[1]), explicit=True)).ensure_engine()
except LlmopsError as error:
    print(json.dumps([str(error), error.exit_code]))
"""
    root = tmp_path / "home"
    root.mkdir(mode=0o555)
    os.chown(root, 65534, 65534)
    said = subprocess.run([sys.executable, "-c", script, str(root)], capture_output=True, text=True, timeout=60, check=False)
    message, code = json.loads(said.stdout)
    assert code == 1
    assert "cannot be written: Permission denied; choose another with --home DIR" in message
    assert list(root.iterdir()) == []
