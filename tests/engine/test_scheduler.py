"""The queue: order, dependencies, retries, stops, and what the user is told."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from llmops_tui.data.rundir import RunDir
from llmops_tui.errors import ConflictError, InsufficientResourcesError, NotFoundError
from llmops_tui.paths import Home
from llmops_tui.specs.parse import parse_spec
from tests.engine.scheduling import engine, reaches, submit, summary, until

SLEEP = "import time; time.sleep(60)"
POINTS = """
import os, json
with open(os.environ["LLMOPS_RUN_DIR"] + "/events.jsonl", "a") as f:
    for step in range(50):
        print(json.dumps({"t": 1.0, "type": "metric", "step": step, "values": {"a": step}}), file=f)
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path, explicit=True)


async def test_the_queue_goes_on_after_a_failure_in_order_of_priority(home: Home) -> None:
    async with engine(home, slots=1) as scheduler:
        blocker = await submit(scheduler, SLEEP)
        await reaches(scheduler, blocker, "running")
        low = await submit(scheduler, "raise SystemExit(3)", priority=-1)
        high = await submit(scheduler, "pass", priority=5)
        assert (summary(scheduler, high)["queue_position"], summary(scheduler, low)["queue_position"]) == (1, 2)
        await scheduler.stop(blocker, "now")
        assert (await reaches(scheduler, blocker, "cancelled"))["exit_code"] == 143
        failed = await reaches(scheduler, low, "failed")
        done = await reaches(scheduler, high, "succeeded")
        assert failed["exit_code"] == 3
        assert (done["started_at"] or 0) < (failed["started_at"] or 0)


async def test_a_run_is_over_only_when_all_its_points_are_stored(home: Home) -> None:
    async with engine(home) as scheduler:
        run = await submit(scheduler, POINTS)
        assert (await reaches(scheduler, run, "succeeded", "failed"))["latest"] == {"a": 49.0}


async def test_dependents_wait_and_are_cancelled_when_what_they_need_fails(home: Home) -> None:
    async with engine(home) as scheduler:
        first = await submit(scheduler, "import time; time.sleep(0.5); raise SystemExit(1)")
        ok = await submit(scheduler, "pass", after_ok=[first])
        anyway = await submit(scheduler, "pass", after_any=[first])
        assert summary(scheduler, ok)["state"] == "blocked"
        with pytest.raises(NotFoundError):
            await submit(scheduler, "pass", after_ok=["command-none-9999"])
        assert first in (await reaches(scheduler, ok, "cancelled"))["reason"]
        await reaches(scheduler, anyway, "succeeded")
        with pytest.raises(ConflictError):
            await submit(scheduler, "pass", after_ok=[first])


async def test_a_failure_is_tried_again_as_often_as_the_spec_says(home: Home) -> None:
    async with engine(home) as scheduler:
        run = await submit(scheduler, "import os; raise SystemExit(int(os.environ['LLMOPS_ATTEMPT']) < 3)", retries=2)
        assert (await reaches(scheduler, run, "succeeded", "failed"))["attempt"] == 3


async def test_a_silent_job_is_hung_and_a_talking_one_is_not(home: Home) -> None:
    async with engine(home) as scheduler:
        talk = "import time\nfor _ in range(20):\n    print('.', flush=True); time.sleep(0.1)"
        silent = await submit(scheduler, SLEEP, limits={"hang_seconds": 0.8})
        talking = await submit(scheduler, talk, limits={"hang_seconds": 1.5})
        await reaches(scheduler, silent, "hung")
        await reaches(scheduler, talking, "succeeded")


async def test_a_timeout_ends_the_attempt_as_failed(home: Home) -> None:
    async with engine(home) as scheduler:
        run = await submit(scheduler, SLEEP, limits={"timeout_seconds": 0.3})
        assert "timeout" in (await reaches(scheduler, run, "failed"))["reason"]


async def test_a_waiting_run_is_moved_cancelled_and_removed(home: Home) -> None:
    async with engine(home, slots=1) as scheduler:
        blocker = await submit(scheduler, SLEEP)
        await reaches(scheduler, blocker, "running")
        runs = [await submit(scheduler, "pass") for _ in range(3)]
        await scheduler.move(runs[2], 1)
        assert [summary(scheduler, run)["queue_position"] for run in runs] == [2, 3, 1]
        await scheduler.stop(runs[0], "now")
        assert summary(scheduler, runs[0])["state"] == "cancelled"
        await scheduler.remove(runs[0])
        assert not (home.runs / runs[0]).exists()
        with pytest.raises(ConflictError):
            await scheduler.remove(blocker)
        await scheduler.stop(blocker, "now")
        await reaches(scheduler, runs[1], "succeeded")


async def test_what_could_never_start_is_refused(home: Home) -> None:
    async with engine(home) as scheduler:
        with pytest.raises(InsufficientResourcesError):
            await submit(scheduler, "pass", resources={"cpu_slots": 99})
        with pytest.raises(InsufficientResourcesError):
            await submit(scheduler, "pass", resources={"gpus": 1})
        assert scheduler.summaries() == []


async def test_every_state_is_in_the_journal_before_the_world_hears_it(home: Home) -> None:
    async with engine(home) as scheduler:
        run = await submit(scheduler, "pass")
        await reaches(scheduler, run, "succeeded")
        states = [json.loads(line)["state"] for line in RunDir(home.runs / run).journal.read_text().splitlines()]
        assert states[0] == "starting"
        assert states[-1] == "succeeded"
        detail = await asyncio.to_thread(scheduler.detail, run)
        assert detail["state"] == "succeeded"


async def test_a_run_whose_directory_is_deleted_from_outside_gives_its_slot_back_and_can_be_removed(home: Home) -> None:
    async with engine(home, slots=1) as scheduler:
        run = await submit(scheduler, "import time; time.sleep(60)")
        await reaches(scheduler, run, "running")
        await until(lambda: (home.runs / run / "attempt-1" / "capsule.json").exists())
        shutil.rmtree(home.runs / run)
        await scheduler.stop(run, "now")
        ended = await reaches(scheduler, run, "lost")
        assert "deleted" in ended["reason"]
        after = await submit(scheduler, "pass")
        await reaches(scheduler, after, "succeeded")
        await scheduler.remove(run)
        assert [left["id"] for left in scheduler.summaries()] == [after]


async def test_what_a_submission_would_refuse_a_check_refuses_and_nothing_is_queued(home: Home) -> None:
    async with engine(home) as scheduler:
        failed = await submit(scheduler, "raise SystemExit(1)")
        await reaches(scheduler, failed, "failed")
        for wrong, error in (
            ({"after_ok": ["nope-x-0001"]}, NotFoundError),
            ({"after_any": ["nope-x-0001"]}, NotFoundError),
            ({"after_ok": [failed]}, ConflictError),
            ({"resources": {"gpus": 99}}, InsufficientResourcesError),
        ):
            with pytest.raises(error):
                scheduler.check(parse_spec({"kind": "command", "argv": ["true"], **wrong}))
        scheduler.check(parse_spec({"kind": "command", "argv": ["true"], "after_any": [failed]}))
        assert [run["id"] for run in scheduler.summaries()] == [failed]
