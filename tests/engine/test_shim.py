"""The shim: what it writes, what it kills, what it refuses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.backends.local import spawn_shim
from llmops_tui.engine.shim import BUSY, CLAIMED
from tests.engine.attempts import finish, is_gone, kill_quietly, make_attempt, record, start
from tests.waiting import wait_for


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path)


def test_an_exit_code_a_signal_and_the_output_are_kept(run: RunDir) -> None:
    ended = finish(run, start(run, ["sh", "-c", "echo out; echo err >&2; exit 7"]))
    assert (ended["code"], ended["signal"], ended["reason"]) == (7, None, "exited")
    assert run.log.read_text() == "out\nerr\n"
    make_attempt(run, ["sh", "-c", "kill -SEGV $$"], 2)
    assert spawn_shim(run, 2).wait(20) == 0
    second = record(run, "exit.json", 2)
    assert (second["code"], second["signal"]) == (None, signal.SIGSEGV)


def test_a_missing_program_and_a_missing_directory_are_told_not_raised(run: RunDir) -> None:
    ended = finish(run, start(run, ["no-such-program-at-all"]))
    assert ended["reason"] == "exec_failed"
    assert "no-such-program-at-all" in ended["detail"]
    make_attempt(run, ["true"], 2, cwd="/no/such/directory")
    assert spawn_shim(run, 2).wait(20) == 0
    assert "/no/such/directory" in record(run, "exit.json", 2)["detail"]
    make_attempt(run, ["true"], 3)
    (run.attempt(3) / "launch.json").write_text("{torn")
    assert spawn_shim(run, 3).wait(20) == 0
    assert record(run, "exit.json", 3)["reason"] == "exec_failed"


def test_a_second_shim_leaves_at_once_and_an_attempt_is_begun_only_once(run: RunDir) -> None:
    shim = start(run, ["sleep", "60"])
    record(run, "started.json")
    assert spawn_shim(run, 1).wait(10) == BUSY
    os.kill(shim.pid, signal.SIGTERM)
    finish(run, shim)
    assert spawn_shim(run, 1).wait(10) == CLAIMED


def test_of_many_shims_started_at_once_exactly_one_runs_the_job(run: RunDir) -> None:
    make_attempt(run, ["sh", "-c", "echo started; sleep 0.3"])
    codes = [shim.wait(20) for shim in [spawn_shim(run, 1) for _ in range(6)]]
    assert codes.count(0) == 1
    assert run.log.read_text() == "started\n"


def test_readers_that_test_the_lock_all_the_time_do_not_keep_a_shim_out(run: RunDir) -> None:
    make_attempt(run, ["true"])
    probe = (
        "import sys; from pathlib import Path; from llmops_tui.data.rundir import RunDir; r = RunDir(Path(sys.argv[1]))\n"
        "while True: r.shim_alive(); r.tree_alive()"
    )
    run.shim_lock.touch()
    run.tree_lock.touch()
    reader = subprocess.Popen([sys.executable, "-c", probe, str(run.path)])
    try:
        assert [spawn_shim(run, 1).wait(20)] == [0]
    finally:
        reader.kill()
        reader.wait()


def test_a_stop_is_heard_by_a_job_that_handles_it(run: RunDir) -> None:
    shim = start(run, ["sh", "-c", "trap 'echo saved; exit 0' TERM; echo ready; while :; do sleep 0.05; done"])
    wait_for(lambda: run.log.exists() and "ready" in run.log.read_text())
    os.kill(shim.pid, signal.SIGTERM)
    ended = finish(run, shim)
    assert (ended["code"], ended["reason"]) == (0, "stopped")
    assert "saved" in run.log.read_text()


def test_a_job_that_ignores_the_stop_is_killed_after_its_grace(run: RunDir) -> None:
    shim = start(run, ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"], grace_seconds=0.2)
    wait_for(lambda: run.log.exists() and "ready" in run.log.read_text())
    os.kill(shim.pid, signal.SIGTERM)
    ended = finish(run, shim)
    assert (ended["signal"], ended["reason"]) == (signal.SIGKILL, "stopped")


def test_a_second_stop_shortens_the_grace(run: RunDir) -> None:
    shim = start(run, ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"], grace_seconds=3600)
    wait_for(lambda: run.log.exists() and "ready" in run.log.read_text())
    os.kill(shim.pid, signal.SIGTERM)
    (run.attempt(1) / "stop.json").write_text('{"grace_seconds": 0}')
    os.kill(shim.pid, signal.SIGTERM)
    assert finish(run, shim)["signal"] == signal.SIGKILL


def test_the_timeout_needs_no_engine(run: RunDir) -> None:
    ended = finish(run, start(run, ["sleep", "60"], timeout_seconds=0.3))
    assert (ended["signal"], ended["reason"]) == (signal.SIGTERM, "timeout")


def test_what_a_job_leaves_behind_is_swept_even_in_a_session_of_its_own(run: RunDir) -> None:
    script = (
        "import subprocess, time\np = subprocess.Popen(['setsid', 'sh', '-c', 'sleep 300 & sleep 300'])\n"
        "print(p.pid, flush=True); time.sleep(0.3)"
    )
    ended = finish(run, start(run, [sys.executable, "-c", script]))
    left = int(run.log.read_text())
    assert ended["code"] == 0
    assert left in ended["swept"]
    assert len(ended["swept"]) >= 2
    assert all(is_gone(pid) for pid in ended["swept"])
    assert not run.tree_alive()


def test_the_tree_lock_outlives_the_shim_and_ends_with_the_last_process(run: RunDir) -> None:
    shim = start(run, ["sleep", "60"])
    pid = int(record(run, "started.json")["pid"])
    shim.kill()
    shim.wait(10)
    try:
        assert not run.shim_alive()
        assert run.tree_alive()
        assert spawn_shim(run, 1).wait(10) == BUSY
    finally:
        kill_quietly(pid)
    wait_for(lambda: not run.tree_alive())


def test_a_job_sees_no_pipe_no_signal_mask_and_no_terminal(run: RunDir) -> None:
    script = (
        "import os, stat, signal\n"
        "modes = [os.fstat(n).st_mode for n in (0, 1, 2)]\n"
        "print([stat.S_ISFIFO(m) or stat.S_ISSOCK(m) for m in modes], "
        "sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])), os.getsid(0) == os.getpid())"
    )
    finish(run, start(run, [sys.executable, "-c", script]))
    assert run.log.read_text() == "[False, False, False] [] True\n"


def test_a_stop_that_comes_before_the_job_means_it_never_starts(run: RunDir) -> None:
    make_attempt(run, ["sh", "-c", "echo started; sleep 60"])
    # Held up where it reads launch.json, so that the signal is surely there first.
    launch = run.attempt(1) / "launch.json"
    content = launch.read_text()
    launch.unlink()
    os.mkfifo(launch)
    shim = spawn_shim(run, 1)
    wait_for((run.attempt(1) / "claim").exists)
    wait_for(lambda: (run.attempt(1) / ".exit.json.tmp").exists())
    os.kill(shim.pid, signal.SIGTERM)
    launch.write_text(content)
    ended = finish(run, shim)
    assert (ended["reason"], ended["code"]) == ("stopped", None)
    assert "started" not in run.log.read_text()


def test_the_shim_is_small(run: RunDir) -> None:
    shim = start(run, ["sleep", "60"])
    record(run, "started.json")
    status = Path(f"/proc/{shim.pid}/status").read_text()
    resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    os.kill(shim.pid, signal.SIGTERM)
    finish(run, shim)
    assert resident < 20_000, "kB"


def test_a_job_of_the_past_is_timed_by_its_processors_time(run: RunDir) -> None:
    script = "import time\nend = time.process_time() + 0.2\nwhile time.process_time() < end: pass"
    ended = finish(run, start(run, [sys.executable, "-c", script]))
    assert ended["cpu_seconds"] >= 0.2
    assert ended["max_rss_bytes"] > 1 << 20
    assert ended["t"] <= time.time()
