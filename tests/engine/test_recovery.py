"""A second engine over the same directory: it adopts, finishes, or starts, and never twice."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from pathlib import Path

import pytest

from llmops_tui.data.rebuild import rebuild
from llmops_tui.data.rundir import RunDir, create_run
from llmops_tui.data.store import Store
from llmops_tui.engine.attempt_files import end_time
from llmops_tui.paths import Home
from llmops_tui.specs.settings import EngineSettings
from tests.engine.attempts import kill_quietly
from tests.engine.scheduling import engine, reaches, submit, summary, until

COUNTED = "import os, time\nopen(os.environ['LLMOPS_RUN_DIR'] + '/starts', 'a').write('x')\ntime.sleep({seconds})\nraise SystemExit(7)"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path, explicit=True)


def starts(home: Home, run: str) -> int:
    path = home.runs / run / "starts"
    return len(path.read_text()) if path.exists() else 0


def pids(home: Home, run: str) -> dict[str, int]:
    value: dict[str, int] = json.loads((home.runs / run / "attempt-1" / "started.json").read_text())
    return value


async def test_a_running_job_is_adopted_and_its_exit_code_seen(home: Home) -> None:
    async with engine(home) as first:
        run = await submit(first, COUNTED.format(seconds=1))
        await reaches(first, run, "running")
    async with engine(home) as second:
        assert summary(second, run)["state"] == "running"
        assert second.holdings()[0].run_id == run
        assert (await reaches(second, run, "failed", "lost"))["exit_code"] == 7
    assert starts(home, run) == 1


async def test_a_job_that_ended_without_an_engine_is_judged_by_its_files(home: Home) -> None:
    async with engine(home) as first:
        run = await submit(first, COUNTED.format(seconds=0.3))
        await reaches(first, run, "running")
    await until((home.runs / run / "attempt-1" / "exit.json").exists)
    async with engine(home) as second:
        assert (await reaches(second, run, "failed", "lost"))["exit_code"] == 7


async def test_an_attempt_that_was_decided_but_not_begun_is_begun_once(home: Home) -> None:
    async with engine(home, slots=1) as first:
        blocker = await submit(first, "import time; time.sleep(60)")
        await reaches(first, blocker, "running")
        run = await submit(first, COUNTED.format(seconds=0.2))
        await first.stop(blocker, "now")
        await reaches(first, run, "failed")
    directory = RunDir(home.runs / run)
    # As after a kill -9 between the decision and the shim's claim.
    journal = directory.journal.read_text().splitlines()
    directory.journal.write_text(next(line for line in journal if '"starting"' in line) + "\n")
    for name in ("claim", "started.json", "exit.json"):
        (directory.attempt(1) / name).unlink()
    (directory.path / "starts").unlink()
    async with engine(home) as second:
        assert (await reaches(second, run, "failed", "lost"))["exit_code"] == 7
    assert starts(home, run) == 1


async def test_after_a_reboot_a_run_is_lost_or_queued_again_as_its_spec_says(home: Home) -> None:
    async with engine(home) as first:
        stays = await submit(first, "import time; time.sleep(60)")
        again = await submit(first, "import os, time; time.sleep(60 * (os.environ['LLMOPS_ATTEMPT'] == '1'))", on_lost="requeue")
        for run in (stays, again):
            await reaches(first, run, "running")
    for run in (stays, again):
        kill_quietly(pids(home, run)["shim_pid"])
        kill_quietly(pids(home, run)["pid"])
        claim = home.runs / run / "attempt-1" / "claim"
        claim.write_text(json.dumps({**json.loads(claim.read_text()), "boot_id": "another"}))
    async with engine(home) as second:
        assert "restarted" in (await reaches(second, stays, "lost"))["reason"]
        assert (await reaches(second, again, "succeeded"))["attempt"] == 2


async def test_a_killed_shim_leaves_its_job_running_and_stoppable(home: Home) -> None:
    async with engine(home) as scheduler:
        run = await submit(scheduler, "import time; time.sleep(60)")
        await reaches(scheduler, run, "running")
        os.kill(pids(home, run)["shim_pid"], signal.SIGKILL)
        await until(lambda: "shim was killed" in summary(scheduler, run)["reason"])
        assert summary(scheduler, run)["state"] == "running"
        await scheduler.stop(run, "now")
        await reaches(scheduler, run, "cancelled")
        assert not RunDir(home.runs / run).tree_alive()


async def test_a_job_without_its_shim_that_runs_out_of_time_has_failed_and_is_not_lost(home: Home) -> None:
    async with engine(home) as scheduler:
        run = await submit(scheduler, "import time; time.sleep(60)", on_lost="requeue", limits={"timeout_seconds": 3.0})
        await reaches(scheduler, run, "running")
        os.kill(pids(home, run)["shim_pid"], signal.SIGKILL)
        ended = await reaches(scheduler, run, "failed", "lost", "queued")
        assert (ended["state"], ended["reason"], ended["attempt"]) == ("failed", "ended by its timeout", 1)


async def test_what_an_unnumbered_end_of_the_first_attempt_told_does_not_count_for_the_second(home: Home) -> None:
    first = """{"type": "end", "status": "out_of_memory"}"""
    code = f"""
import os
if os.environ["LLMOPS_ATTEMPT"] == "1":
    open(os.environ["LLMOPS_RUN_DIR"] + "/events.jsonl", "w").write({first!r} + chr(10))
    raise SystemExit(1)
"""
    async with engine(home) as scheduler:
        run = await submit(scheduler, code)
        await reaches(scheduler, run, "out_of_memory")
        await scheduler.retry(run)
        await until(lambda: summary(scheduler, run)["ended_at"] is not None)
        assert (summary(scheduler, run)["state"], summary(scheduler, run)["attempt"]) == ("succeeded", 2)


async def test_a_killed_shim_and_job_are_lost(home: Home) -> None:
    async with engine(home) as scheduler:
        run = await submit(scheduler, "import time; time.sleep(60)")
        await reaches(scheduler, run, "running")
        before = pids(home, run)
        os.kill(before["shim_pid"], signal.SIGKILL)
        kill_quietly(before["pid"])
        await reaches(scheduler, run, "lost")


async def test_a_run_whose_journal_cannot_be_read_keeps_the_engine_from_no_other_run(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    damaged = [create_run(home.runs, "command", name, {"spec": {"kind": "command", "argv": ["true"]}}) for name in ("a", "b")]
    damaged[0].journal.mkdir()
    damaged[1].append_journal({"t": 1.0, "entry": "priority", "data": {"priority": None}})
    async with engine(home) as scheduler:
        await reaches(scheduler, await submit(scheduler, "pass"), "succeeded")
        assert len(scheduler.summaries()) == 1
    assert all(run.id in caplog.text for run in damaged)


async def test_a_torn_journal_line_does_not_swallow_the_next(home: Home) -> None:
    async with engine(home, slots=1) as first:
        blocker = await submit(first, "import time; time.sleep(60)")
        await reaches(first, blocker, "running")
        run = await submit(first, "pass")
        await first.set_priority(run, 3)
        with open(home.runs / run / "journal.jsonl", "a") as file:
            file.write('{"t":1,"entry":"prio')
    async with engine(home, slots=1) as second:
        assert summary(second, run)["priority"] == 3
        await second.set_priority(run, 4)
        await second.stop(blocker, "now")
        await reaches(second, run, "succeeded")
    async with engine(home, slots=1) as third:
        assert (summary(third, run)["priority"], summary(third, run)["state"]) == (4, "succeeded")
        assert time.time() >= (summary(third, run)["ended_at"] or 0)


async def test_a_job_that_ended_without_an_engine_ended_when_it_did_and_not_when_an_engine_came(home: Home) -> None:
    async with engine(home) as first:
        run = await submit(first, COUNTED.format(seconds=0.3))
        await reaches(first, run, "running")
    record = home.runs / run / "attempt-1" / "exit.json"
    await until(record.exists)
    await until(lambda: not RunDir(home.runs / run).shim_alive())
    values = json.loads(record.read_text())
    # As if the engine came an hour later.
    for path, key in ((record, "t"), (record.with_name("started.json"), "t")):
        earlier = json.loads(path.read_text())
        path.write_text(json.dumps({**earlier, key: earlier[key] - 3600}))
    journal = RunDir(home.runs / run).journal
    entries = [json.loads(line) for line in journal.read_text().splitlines()]
    for entry in entries:
        if entry["state"] == "running":
            entry["data"]["started_at"] -= 3600
    journal.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    for _ in range(2):  # the second engine finds the end in the journal
        async with engine(home) as later:
            assert (await reaches(later, run, "failed"))["ended_at"] == values["t"] - 3600
    rebuild(home, EngineSettings())
    with contextlib.closing(Store.open(home.database, EngineSettings())) as store:
        assert store.read(lambda con: con.execute("SELECT ended_at FROM runs").fetchone()) == (values["t"] - 3600,)


@pytest.mark.parametrize(("told", "believed"), [(-1.0, True), (-1e6, False), (1e6, False)])
def test_without_an_exit_record_the_jobs_own_word_about_its_end_is_taken_if_it_can_be_true(
    tmp_path: Path, told: float, believed: bool
) -> None:
    run = RunDir(tmp_path)
    now = time.time()
    run.events.write_text(json.dumps({"type": "end", "attempt": 1, "status": "succeeded", "t": now + told}) + "\n")
    assert (end_time(run, 1, now - 60) == now + told) is believed
    assert end_time(run, 2, now - 60) >= now, "another attempt's end is not this one's"
    assert end_time(run, 1, None) >= now, "an attempt that never began told nothing"
