"""Every way a run is asked to end, and what becomes of it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from llmops_tui.data.rundir import RunDir
from llmops_tui.errors import ConflictError, UsageError
from llmops_tui.paths import Home
from tests.engine.attempts import is_gone
from tests.engine.scheduling import engine, reaches, submit, summary, until

SLEEP = "import time; time.sleep(60)"
# Obeys the control file as our jobs do: what was asked before its process was born is not for it.
OBEDIENT = """
import json, os, time
run = os.environ["LLMOPS_RUN_DIR"]
ticks = int(open("/proc/self/stat").read().rpartition(")")[2].split()[19])
born = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / os.sysconf("SC_CLK_TCK")
def tell(**event):
    with open(run + "/events.jsonl", "a") as file:
        file.write(json.dumps({"t": time.time(), "attempt": int(os.environ["LLMOPS_ATTEMPT"]), **event}) + "\\n")
for _ in range(3000):
    time.sleep(0.02)
    if not os.path.exists(run + "/control.jsonl"):
        continue
    with open(run + "/control.jsonl") as file:
        asked = [line["command"] for line in map(json.loads, file) if line["t"] >= born]
    if "stop" in asked:
        os.makedirs(run + "/checkpoints/checkpoint-5")
        open(run + "/checkpoints/checkpoint-5/complete.json", "w").write(json.dumps({"step": 5, "t": time.time(), "files": {}}))
        tell(type="end", status="stopped", summary={}, error="")
        raise SystemExit(0)
"""
DEAF = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('deaf', flush=True)\ntime.sleep(60)"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path, explicit=True)


def job_pid(home: Home, run: str) -> int:
    return int(json.loads((home.runs / run / "attempt-1" / "started.json").read_text())["pid"])


async def test_a_job_that_is_asked_to_save_and_stop_ends_by_itself_as_cancelled(home: Home) -> None:
    async with engine(home) as scheduler:
        run = await submit(scheduler, OBEDIENT)
        await reaches(scheduler, run, "running")
        assert (await scheduler.stop(run, "checkpoint"))["state"] == "stopping"
        ended = await reaches(scheduler, run, "cancelled", "succeeded", "failed")
        assert (ended["state"], ended["exit_code"]) == ("cancelled", 0)
        detail = await asyncio.to_thread(scheduler.detail, run)
        assert [checkpoint["step"] for checkpoint in detail["checkpoints"]] == [5]
        assert "retries_used" not in str(detail["journal"])


async def test_a_wish_for_a_checkpoint_that_came_before_the_job_was_born_reaches_it(home: Home) -> None:
    async with engine(home) as scheduler:
        run = await submit(scheduler, OBEDIENT)
        await until((home.runs / run / "attempt-1" / "claim").exists)
        await scheduler.stop(run, "checkpoint")
        await reaches(scheduler, run, "cancelled")


async def test_an_engine_that_comes_back_remembers_that_a_job_shall_save_and_stop(home: Home) -> None:
    async with engine(home) as first:
        run = await submit(first, OBEDIENT)
        await reaches(first, run, "running")
        os.kill(job_pid(home, run), signal.SIGSTOP)
        await first.stop(run, "checkpoint")
    RunDir(home.runs / run).control.unlink()  # as after a kill between the journal and the control file
    async with engine(home) as second:
        assert summary(second, run)["state"] == "stopping"
        os.kill(job_pid(home, run), signal.SIGCONT)
        await reaches(second, run, "cancelled")


async def test_a_stop_that_was_journaled_before_the_engine_died_is_carried_out_by_the_next(home: Home) -> None:
    async with engine(home) as first:
        run = await submit(first, SLEEP)
        await reaches(first, run, "running")
    entry = {"t": 1.0, "entry": "state", "state": "stopping", "attempt": 1, "reason": "the user asked", "data": {"mode": "now"}}
    RunDir(home.runs / run).append_journal(entry)
    async with engine(home) as second:
        assert (await reaches(second, run, "cancelled", "lost", "failed"))["state"] == "cancelled"


async def test_a_job_that_does_not_obey_can_still_be_stopped_now(home: Home) -> None:
    async with engine(home) as scheduler:
        run = await submit(scheduler, DEAF, limits={"grace_seconds": 0.3})
        await reaches(scheduler, run, "running")
        await scheduler.stop(run, "checkpoint")
        assert (await scheduler.stop(run, "now"))["state"] == "stopping"
        assert (await reaches(scheduler, run, "cancelled"))["exit_code"] in (128 + signal.SIGTERM, 128 + signal.SIGKILL)


async def test_waiting_runs_are_cancelled_at_once_and_never_start(home: Home) -> None:
    async with engine(home, slots=1) as scheduler:
        blocker = await submit(scheduler, SLEEP)
        await reaches(scheduler, blocker, "running")
        queued = await submit(scheduler, "pass")
        blocked = await submit(scheduler, "pass", after_any=[blocker])
        assert (await scheduler.stop(queued, "now"))["state"] == "cancelled"
        assert (await scheduler.stop(blocked, "checkpoint"))["state"] == "cancelled"
        with pytest.raises(ConflictError, match="over"):
            await scheduler.stop(queued, "now")
        with pytest.raises(UsageError, match="unknown way"):
            await scheduler.stop(blocker, "gently")
        await scheduler.stop(blocker, "now")
        await reaches(scheduler, blocker, "cancelled")
    async with engine(home) as second:
        assert {summary(second, run)["state"] for run in (queued, blocked)} == {"cancelled"}
    assert [(home.runs / run / "attempt-1").exists() for run in (queued, blocked)] == [False, False]


async def test_a_job_that_was_put_to_sleep_hears_the_stop(home: Home) -> None:
    async with engine(home) as scheduler:
        run = await submit(scheduler, SLEEP)
        await reaches(scheduler, run, "running")
        pid = job_pid(home, run)
        os.kill(pid, signal.SIGSTOP)
        await scheduler.stop(run, "now")
        assert (await reaches(scheduler, run, "cancelled"))["exit_code"] == 128 + signal.SIGTERM
        assert is_gone(pid)


async def test_a_waiting_run_whose_directory_was_deleted_can_be_cancelled_and_removed(home: Home) -> None:
    async with engine(home, slots=1) as scheduler:
        blocker = await submit(scheduler, SLEEP)
        await reaches(scheduler, blocker, "running")
        doomed, waiting, other = (
            await submit(scheduler, "pass", after_ok=[blocker]),
            await submit(scheduler, "pass"),
            await submit(scheduler, "pass"),
        )
        for run in (doomed, waiting):
            shutil.rmtree(home.runs / run)
        assert (await scheduler.stop(waiting, "now"))["state"] == "cancelled"
        await scheduler.stop(blocker, "now")
        await reaches(scheduler, doomed, "cancelled")
        await reaches(scheduler, other, "succeeded")
        for run in (doomed, waiting):
            await scheduler.remove(run)
        assert {run["id"] for run in scheduler.summaries()} == {blocker, other}


async def test_a_stopped_run_is_not_tried_again_by_itself(home: Home) -> None:
    async with engine(home) as scheduler:
        run = await submit(scheduler, SLEEP, retries=5)
        await reaches(scheduler, run, "running")
        await scheduler.stop(run, "now")
        assert (await reaches(scheduler, run, "cancelled", "queued"))["attempt"] == 1


async def test_a_stop_is_the_users_even_where_the_job_is_silent_for_too_long_while_it_ends(home: Home) -> None:
    async with engine(home) as scheduler:
        run = await submit(scheduler, DEAF, retries=3, limits={"hang_seconds": 1.0, "grace_seconds": 3.0})
        await reaches(scheduler, run, "running")
        await scheduler.stop(run, "now")
        ended = await reaches(scheduler, run, "cancelled", "hung", "queued")
        assert (ended["state"], ended["attempt"]) == ("cancelled", 1)


async def test_a_job_that_hangs_instead_of_saving_is_ended_as_the_user_wished(home: Home) -> None:
    async with engine(home) as scheduler:
        run = await submit(scheduler, SLEEP, retries=3, limits={"hang_seconds": 1.0})
        await reaches(scheduler, run, "running")
        await scheduler.stop(run, "checkpoint")
        ended = await reaches(scheduler, run, "cancelled", "hung", "queued")
        assert (ended["state"], ended["attempt"]) == ("cancelled", 1)
