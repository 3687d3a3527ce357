"""A state directory on a disk that is full: nothing half-made, nothing lost, and the job that fills it can be ended."""

from __future__ import annotations

import errno
import json
import os
import signal
from pathlib import Path

import pytest

from llmops_tui.data.rundir import RunDir, create_run
from llmops_tui.engine.backends.local import spawn_shim
from llmops_tui.errors import InsufficientResourcesError, LlmopsError
from llmops_tui.paths import Home
from tests.engine.attempts import finish, is_gone, make_attempt, record, start
from tests.engine.scheduling import engine, reaches, submit, summary, until
from tests.faults.small_disk import fill
from tests.waiting import wait_for

SLEEP = "import time; time.sleep(60)"


@pytest.fixture
def home(disk: Path, tmp_path: Path) -> Home:
    """Its run directories lie on the small disk, its database elsewhere."""
    home = Home(tmp_path / "home", explicit=True)
    home.root.mkdir()
    (disk / "runs").mkdir()
    home.runs.symlink_to(disk / "runs")
    return home


def _refuse(run: RunDir, entry: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_shim_keeps_room_for_its_last_word(disk: Path) -> None:
    run = create_run(disk / "runs", "command", "x", {"spec": {}})
    shim = start(run, ["sh", "-c", "while [ ! -e go ]; do sleep 0.05; done; exit 7"])
    record(run, "started.json")
    fill(disk)
    (run.path / "go").touch()
    assert finish(run, shim)["code"] == 7


def test_a_shim_that_found_no_room_tells_how_it_ended_once_there_is_some(disk: Path) -> None:
    run = create_run(disk / "runs", "command", "x", {"spec": {}})
    make_attempt(run, ["sh", "-c", "exit 7"])
    for name in ("shim.lock", "tree.lock", "stdout.log"):
        (run.path / name).touch()
    ballast = fill(disk)
    shim = spawn_shim(run, 1)
    wait_for(lambda: (run.attempt(1) / "claim").exists(), what="the claim, which is a name alone")
    wait_for(lambda: not run.tree_alive() and shim.poll() is None, what="the job to be over and the shim to wait")
    assert not (run.attempt(1) / "exit.json").exists()
    ballast.unlink()
    assert finish(run, shim)["code"] == 7


async def test_a_submit_is_refused_in_one_line_and_leaves_nothing(home: Home, disk: Path) -> None:
    async with engine(home) as scheduler:
        ballast = fill(disk)
        with pytest.raises(InsufficientResourcesError) as refused:
            await submit(scheduler, "pass")
        assert "\n" not in str(refused.value)
        assert "No space left" in str(refused.value)
        assert os.listdir(home.runs) == []
        assert scheduler.summaries() == []
        ballast.unlink()
        await reaches(scheduler, await submit(scheduler, "pass"), "succeeded")


async def test_a_queued_run_waits_for_room_and_starts_then(home: Home, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmops_tui.engine.scheduler._RETRY_START_SECONDS", 0.2)
    monkeypatch.setattr("llmops_tui.engine.scheduler._WAITING_TICK_SECONDS", 0.1)
    async with engine(home, slots=1) as scheduler:
        blocker = await submit(scheduler, SLEEP)
        await reaches(scheduler, blocker, "running")
        waiting = await submit(scheduler, "pass")
        ballast = fill(disk)
        await scheduler.stop(blocker, "now")
        await until(lambda: "No space left" in summary(scheduler, waiting)["reason"])
        assert summary(scheduler, waiting)["state"] == "queued"
        fill(disk, RunDir(home.runs / waiting).journal)
        with pytest.raises(LlmopsError, match="not cancelled"):
            await scheduler.stop(waiting, "now")
        ballast.unlink()
        await reaches(scheduler, waiting, "succeeded")
        assert (await reaches(scheduler, blocker, "cancelled"))["exit_code"] == 128 + signal.SIGTERM


async def test_the_job_that_fills_the_disk_can_be_stopped_and_removed(home: Home, disk: Path) -> None:
    code = """
import os, time
with open(os.environ["LLMOPS_RUN_DIR"] + "/artifacts/huge", "wb", 0) as file:
    try:
        while True:
            file.write(b"x" * 4096)
    except OSError:
        pass
time.sleep(60)
"""
    async with engine(home) as scheduler:
        run = await submit(scheduler, code)
        await until(lambda: os.statvfs(disk).f_bavail == 0)
        with pytest.raises(LlmopsError, match="No space left"):
            await scheduler.stop(run, "checkpoint")
        await scheduler.stop(run, "now")
        assert (await reaches(scheduler, run, "cancelled", "failed", "lost"))["state"] == "cancelled"
        await scheduler.remove(run)
        assert os.statvfs(disk).f_bavail > 0
        await reaches(scheduler, await submit(scheduler, "pass"), "succeeded")


async def test_a_silent_job_on_a_full_disk_is_still_ended(home: Home, disk: Path) -> None:
    async with engine(home) as scheduler:
        run = await submit(scheduler, SLEEP, limits={"hang_seconds": 1.0, "grace_seconds": 0.3})
        await reaches(scheduler, run, "running")
        pid = json.loads((home.runs / run / "attempt-1" / "started.json").read_text())["pid"]
        fill(disk, RunDir(home.runs / run).journal)
        await reaches(scheduler, run, "hung")
        assert is_gone(pid)


async def test_a_retry_that_no_journal_took_is_made_once_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with engine(Home(tmp_path, explicit=True)) as scheduler:
        code = "import os, time; time.sleep(0.3); raise SystemExit(int(os.environ['LLMOPS_ATTEMPT']) < 2)"
        run = await submit(scheduler, code, retries=1)
        await reaches(scheduler, run, "running")
        with monkeypatch.context() as patch:
            patch.setattr(RunDir, "append_journal", _refuse)
            await until(lambda: "waits for its disk" in caplog.text)
            assert summary(scheduler, run)["state"] == "running"
        assert (await reaches(scheduler, run, "succeeded", "failed"))["attempt"] == 2
        assert "Traceback" not in caplog.text


async def test_a_run_that_cannot_be_given_up_for_want_of_room_does_not_end_the_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("llmops_tui.engine.scheduler._WAITING_TICK_SECONDS", 0.1)
    async with engine(Home(tmp_path, explicit=True)) as scheduler:
        first = await submit(scheduler, "import time; time.sleep(0.3); raise SystemExit(1)")
        doomed = await submit(scheduler, "pass", after_ok=[first])
        await reaches(scheduler, first, "running")
        with monkeypatch.context() as patch:
            patch.setattr(RunDir, "append_journal", _refuse)
            await until(lambda: "not cancelled" in caplog.text)
        assert first in (await reaches(scheduler, doomed, "cancelled"))["reason"]
        await reaches(scheduler, await submit(scheduler, "pass"), "succeeded")


async def test_an_end_that_no_journal_took_is_found_again_by_the_next_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path, explicit=True)
    code = "import os, time\nwhile not os.path.exists(os.environ['LLMOPS_RUN_DIR'] + '/go'): time.sleep(0.05)\nraise SystemExit(9)"
    async with engine(home) as first:
        run = RunDir(home.runs / await submit(first, code))
        await reaches(first, run.id, "running")
        with monkeypatch.context() as patch:
            patch.setattr(RunDir, "append_journal", _refuse)
            (run.path / "go").touch()
            assert (await reaches(first, run.id, "failed"))["exit_code"] == 9
    assert '"failed"' not in run.journal.read_text()
    async with engine(home) as second:
        assert (await reaches(second, run.id, "failed"))["exit_code"] == 9
    assert '"failed"' in run.journal.read_text()
