"""The engine's life from the command line: started by whoever comes first, stopped, killed in the middle, rebuilt."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from tests.engine.test_commands import FOREVER, REPORT, Shell
from tests.waiting import wait_for


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path / "home")
    yield shell
    if shell.full("engine", "status").returncode == 0:
        for run in shell.json("status")["running"]:
            shell("runs", "stop", run["id"], "--now")
        wait_for(lambda: not shell.json("status")["running"], 30)
        shell("engine", "stop")


def test_engine_status_and_stop_never_start_one(shell: Shell) -> None:
    assert "no engine runs" in shell.error("engine", "status", code=1)
    assert shell.full("engine", "stop").returncode == 0
    assert not shell.home.exists()


def test_the_first_read_starts_the_engine_and_stop_ends_it(shell: Shell) -> None:
    pid = shell.json("status")["engine"]["pid"]
    assert shell.json("engine", "start")["pid"] == pid
    for verb in ("start", "status"):
        assert Path(shell.json("engine", verb)["socket"]).is_socket(), "a console on another box has ssh forward to it"
    shell("engine", "stop")
    wait_for(lambda: not Path(f"/proc/{pid}").exists(), 15)
    shell.error("engine", "status", code=1)


def test_a_foreground_engine_serves_and_ends_with_the_terminal_s_signal(shell: Shell) -> None:
    process = subprocess.Popen(shell.command("engine", "start", "--foreground"), env=shell.environment, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: shell.full("engine", "status").returncode == 0, 30)
        assert shell.json("engine", "status")["pid"] == process.pid
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)
    shell.error("engine", "status", code=1)


def test_a_followed_run_ends_well_although_the_engine_is_killed_in_the_middle(shell: Shell, tmp_path: Path) -> None:
    go = tmp_path / "go"
    program = f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.05)"
    follower = subprocess.Popen(
        shell.command("run", "command", "--follow", "--", sys.executable, "-c", program),
        env=shell.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert follower.stdout is not None
    run = follower.stdout.readline().strip()
    shell.wait(run, "running")
    os.kill(shell.json("engine", "status")["pid"], signal.SIGKILL)
    wait_for(lambda: shell.full("engine", "status").returncode == 0, 30, "the follower starts the engine again")
    go.touch()
    output, error = follower.communicate(timeout=40)
    assert follower.returncode == 0, error
    assert f"{run} succeeded" in output
    assert "the engine is gone, the run is not" in error


def test_jobs_go_on_when_the_engine_is_stopped(shell: Shell) -> None:
    run = shell.python(FOREVER)
    shell.wait(run, "running")
    assert run in shell.full("engine", "stop").stderr
    shell("engine", "start")
    assert shell.state(run) == "running"


def test_a_rebuilt_database_has_what_the_run_directories_tell(shell: Shell) -> None:
    run = shell.python(REPORT)
    shell.wait(run, "succeeded")
    before = shell("runs", "export", run)
    shell("engine", "stop")
    wait_for(lambda: shell.full("engine", "status").returncode == 1)
    (shell.home / "llmops.duckdb").unlink()
    assert "1 runs, 10 points" in shell("doctor", "--rebuild")
    assert shell("runs", "export", run) == before


def test_a_state_directory_that_cannot_be_written_is_refused(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    shell.environment["LLMOPS_HOME"] = str(tmp_path / "file" / "home")
    assert "--home" in shell.error("status", code=1)


def test_a_wrong_setting_stops_the_start_with_its_name(shell: Shell) -> None:
    shell.home.mkdir()
    (shell.home / "config.toml").write_text("[engine]\ncpu_slotz = 1\n")
    assert "cpu_slotz" in shell.error("status", code=2)


def test_a_backup_is_a_database_of_its_own_and_never_replaces_a_file(shell: Shell, tmp_path: Path) -> None:
    copy = tmp_path / "copy.duckdb"
    shell("engine", "backup", str(copy))
    with duckdb.connect(str(copy), read_only=True) as con:
        assert con.execute("SELECT count(*) FROM runs").fetchone() == (0,)
    before = copy.read_bytes()
    assert "exists" in shell.error("engine", "backup", str(copy), code=1)
    assert copy.read_bytes() == before
    assert "no backup to" in shell.error("engine", "backup", str(tmp_path / "nowhere" / "copy.duckdb"), code=1)
