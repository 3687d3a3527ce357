"""The engine as a process: its lock, its socket, its note, how it starts, how it ends."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import duckdb
import pytest

from llmops_tui.client import Client
from llmops_tui.engine_start import start_engine
from llmops_tui.errors import LlmopsError, PermissionDeniedError, UsageError
from llmops_tui.paths import Home
from tests.running_engine import engine_pid, kill_engine, make_home, running_engine
from tests.waiting import wait_for


def _daemon(home: Home, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the daemon in the foreground until it ends by itself."""
    command = [sys.executable, "-P", "-m", "llmops_tui.engine.daemon", "--home", str(home.root), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_second_engine_leaves_with_one_line_that_names_the_first(tmp_path: Path) -> None:
    with running_engine(tmp_path) as client:
        second = _daemon(client.home)
        assert second.returncode == 1
        assert second.stderr.count("\n") == 1
        assert f"pid {engine_pid(client.home)}" in second.stderr
        assert "engine stop" in second.stderr
        assert client.answers()


def test_an_engine_that_lost_the_race_of_clients_leaves_quietly(tmp_path: Path) -> None:
    with running_engine(tmp_path) as client:
        pid = engine_pid(client.home)
        second = _daemon(client.home, "--detach")
        assert (second.returncode, second.stderr) == (0, "")
        start_engine(client.home, 10, client.answers)
        assert engine_pid(client.home) == pid


def test_no_engine_is_started_inside_a_job_that_would_take_its_runs_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = make_home(tmp_path)
    monkeypatch.setenv("LLMOPS_RUN_DIR", str(home.runs / "command-x-0001"))
    with pytest.raises(LlmopsError, match="command-x-0001 would end with it"):
        Client(home).ensure_engine()
    assert _daemon(home).returncode == 1
    monkeypatch.setenv("LLMOPS_RUN_DIR", str(tmp_path / "elsewhere" / "runs" / "command-x-0001"))
    with running_engine(tmp_path) as client:
        monkeypatch.setenv("LLMOPS_RUN_DIR", str(home.runs / "command-x-0001"))
        assert client.ensure_engine()["pid"] == engine_pid(home), "one that runs is there for jobs too"


def test_the_socket_is_for_its_user_alone(tmp_path: Path) -> None:
    with running_engine(tmp_path) as client:
        path = client.home.socket
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(client.home.engine_log.stat().st_mode) == 0o600


def test_the_engine_is_no_child_of_the_client_and_has_a_session_of_its_own(tmp_path: Path) -> None:
    with running_engine(tmp_path) as client:
        fields = Path(f"/proc/{engine_pid(client.home)}/stat").read_text().rpartition(")")[2].split()
        parent, session = int(fields[1]), int(fields[3])
        assert parent != os.getpid()
        assert session != os.getsid(0)
        assert os.readlink(f"/proc/{engine_pid(client.home)}/fd/0") == "/dev/null"
        assert os.readlink(f"/proc/{engine_pid(client.home)}/fd/2") == str(client.home.engine_log)
        assert os.readlink(f"/proc/{engine_pid(client.home)}/cwd") == "/"


def test_the_note_tells_which_process_serves_where(tmp_path: Path) -> None:
    with running_engine(tmp_path) as client:
        note = json.loads(client.home.engine_json.read_bytes())
        assert note["pid"] == client.engine()["pid"]
        assert note["socket"] == str(client.home.socket)
        assert note["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def test_a_client_in_another_environment_finds_the_engine_by_its_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="rt") as runtime:
        monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
        with running_engine(tmp_path) as client:
            pid = client.engine()["pid"]
            monkeypatch.delenv("XDG_RUNTIME_DIR")
            assert Client(client.home).engine()["pid"] == pid


def test_a_stop_leaves_neither_socket_nor_note_and_the_next_start_begins_anew(tmp_path: Path) -> None:
    with running_engine(tmp_path) as client:
        first = engine_pid(client.home)
        assert client.stop_engine()["done"]
        assert not client.home.engine_json.exists()
        assert not client.home.socket.exists()
        assert not client.home.database.with_name("llmops.duckdb.wal").exists()
        assert client.ensure_engine()["pid"] != first


def test_a_client_that_comes_while_the_engine_stops_gets_the_next_one(tmp_path: Path) -> None:
    with running_engine(tmp_path) as client:
        first = engine_pid(client.home)
        held = os.open(client.home.engine_lock, os.O_RDWR)
        try:
            client.stop_engine()
            # As if the engine were still on its way out: its lock is held until the client has run into it.
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            release = threading.Timer(1.0, fcntl.flock, [held, fcntl.LOCK_UN])
            release.start()
            assert client.ensure_engine()["pid"] != first
            release.join()
        finally:
            os.close(held)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_foreground_engine_cleanly(tmp_path: Path, number: int) -> None:
    home = make_home(tmp_path)
    command = [sys.executable, "-P", "-m", "llmops_tui.engine.daemon", "--home", str(home.root), "--foreground"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(Client(home).answers)
            process.send_signal(number)
            assert process.wait(20) == 0
        finally:
            process.kill()
    assert not home.socket.exists()
    assert not home.engine_json.exists()


def test_a_socket_left_by_a_killed_engine_is_replaced(tmp_path: Path) -> None:
    with running_engine(tmp_path) as client:
        first = engine_pid(client.home)
        kill_engine(client.home)
        assert client.home.socket.exists()
        assert client.ensure_engine()["pid"] != first


def test_a_file_where_the_socket_belongs_is_replaced(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    home.socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    home.socket.write_text("not a socket")
    with running_engine(tmp_path) as client:
        assert client.answers()


def test_a_socket_directory_that_is_a_link_is_refused(tmp_path: Path) -> None:
    home, elsewhere = make_home(tmp_path / "home"), tmp_path / "elsewhere"
    elsewhere.mkdir()
    if home.socket.parent.parent != home.root:
        pytest.skip("this test directory's path is too long for a socket in it")
    home.socket.parent.symlink_to(elsewhere)
    with pytest.raises(PermissionDeniedError, match="not a directory of uid"):
        Client(home).ensure_engine()
    assert list(elsewhere.iterdir()) == []


def test_a_client_is_told_why_the_engine_does_not_start(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    home.config.write_text("[engine]\ncpu_slotz = 3\n")
    with pytest.raises(UsageError, match="cpu_slotz"):
        Client(home).ensure_engine()
    in_the_foreground = _daemon(home)
    assert in_the_foreground.returncode == 2
    assert in_the_foreground.stderr.splitlines()[-1].startswith("llmops-tui: ")
    assert "cpu_slotz" in in_the_foreground.stderr.splitlines()[-1]


def test_the_database_of_a_newer_program_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    with running_engine(tmp_path) as client:
        client.stop_engine()
        with duckdb.connect(str(client.home.database)) as con:
            con.execute("UPDATE meta SET value = '9999' WHERE key = 'schema_version'")
        for _ in range(2):
            with pytest.raises(LlmopsError, match="newer"):
                client.ensure_engine()


def test_a_database_that_is_no_database_is_told_with_the_way_out(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    home.database.write_bytes(b"this is no database" * 1000)
    with pytest.raises(LlmopsError, match="doctor --rebuild"):
        Client(home).ensure_engine()


def test_a_long_engine_log_keeps_its_end(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    home.engine_log.write_bytes(b"old line\n" * (1 << 20) + b"last line\n")
    with running_engine(tmp_path):
        content = home.engine_log.read_bytes()
        assert len(content) < 2 << 20
        assert b"last line\n" in content
