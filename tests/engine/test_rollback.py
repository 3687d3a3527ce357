"""A run that is rolled back: what was saved at the fault or after it is given up, and it goes on by itself, slower."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmops_tui.data.checkpoints import complete_checkpoints, discard_from, mark_complete
from llmops_tui.data.rundir import RunDir, read_lines
from llmops_tui.engine.recovery import load_run
from llmops_tui.errors import ConflictError
from llmops_tui.paths import Home
from tests.engine.scheduling import engine, reaches, submit, until
from tests.engine.test_steering import LONG, _counting_job, begins, count_to, counts, home  # noqa: F401


def steps_of(home: Home, run: str, attempt: int) -> list[int]:  # noqa: F811
    lines = read_lines(home.runs / run / "events.jsonl")
    return [line["step"] for line in lines if line["type"] == "metric" and line["attempt"] == attempt]


def test_checkpoints_of_the_fault_and_later_are_given_up_and_the_newest_before_it_stays(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    for step in (10, 20, 30):
        (run.checkpoints / f"checkpoint-{step}").mkdir(parents=True)
        (run.checkpoints / f"checkpoint-{step}" / "weights").write_text("x")
        mark_complete(run.checkpoints / f"checkpoint-{step}", step)
    assert discard_from(run, 20) == 10
    assert [checkpoint["step"] for checkpoint in complete_checkpoints(run)] == [10]
    assert discard_from(run, 20) == 10
    assert discard_from(run, 1) is None


async def test_a_rolled_back_run_goes_on_by_itself_from_before_the_fault_with_less_of_its_rate(home: Home) -> None:  # noqa: F811
    async with engine(home) as scheduler:
        run = await count_to(scheduler, LONG)
        await counts(scheduler, run)
        told = await scheduler.roll_back(run, 1, 0.5, asker="the watcher divergence")
        assert (told["state"], told["reason"].partition(",")[0]) == ("stopping", "the watcher divergence rolls it back to before step 1")
        await until(lambda: len(begins(home, run)) == 2)
        assert begins(home, run)[1] == 'begins at 0 with {"learning_rate_scale": 0.5}'
        await reaches(scheduler, run, "running")
        await until(lambda: len(steps_of(home, run, 2)) > 3)
        await scheduler.roll_back(run, LONG, 0.5, asker="the watcher divergence")  # what it saves now lies before that step
        await until(lambda: len(begins(home, run)) == 3)
        assert begins(home, run)[2].endswith('with {"learning_rate_scale": 0.25}')
        assert not begins(home, run)[2].startswith("begins at 0 ")
        again = load_run(RunDir(home.runs / run), scheduler.one(run).record)
        assert again.adjustment == {"learning_rate_scale": 0.25}, "an engine that starts later knows it from the journal"
        await reaches(scheduler, run, "running")
        await scheduler.stop(run, "now")
        await reaches(scheduler, run, "cancelled")
        with pytest.raises(ConflictError, match="only a training that runs can"):
            await scheduler.roll_back(run, 1, 0.5, asker="the watcher divergence")


async def test_a_rollback_that_an_engine_did_not_live_to_see_is_carried_out_by_the_next(home: Home) -> None:  # noqa: F811
    async with engine(home) as scheduler:
        run = await count_to(scheduler, LONG)
        await counts(scheduler, run)
        await scheduler.roll_back(run, 1, 0.1, asker="the watcher spike")
    async with engine(home) as scheduler:
        await until(lambda: len(begins(home, run)) == 2)
        assert begins(home, run)[1] == 'begins at 0 with {"learning_rate_scale": 0.1}'
        other = await submit(scheduler, "import time; time.sleep(60)")
        await reaches(scheduler, other, "running", "queued")
        with pytest.raises(ConflictError):
            await scheduler.roll_back(other, 1, 0.5, asker="the watcher spike")
        for each in (run, other):
            await scheduler.stop(each, "now")
            await reaches(scheduler, each, "cancelled")
