"""From one attempt to the next: what it resumes from, what it leaves behind, and what is true though no engine watched."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from llmops_tui.data import models
from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.log_rotation import HEAD_BYTES, rotate
from llmops_tui.errors import ConflictError
from llmops_tui.paths import Home
from tests.catalog_files import write_adapter
from tests.engine.scheduling import engine, reaches, submit, summary, until

MIB = 1 << 20
ROOT = Path(__file__).resolve().parents[2]
# Writes the checkpoint of its attempt, and one that looks newer but was cut off; says what it was told to resume from.
CHECKPOINTS = """
import json, os, time
run, attempt = os.environ["LLMOPS_RUN_DIR"], int(os.environ["LLMOPS_ATTEMPT"])
open(run + "/resumed", "a").write(os.environ.get("LLMOPS_RESUME_FROM", "-") + "\\n")
for step, weights in ((attempt * 10, "whole"), (attempt * 10 + 5, "cut")):
    directory = run + f"/checkpoints/checkpoint-{step}"
    os.makedirs(directory)
    open(directory + "/weights", "w").write(weights)
    open(directory + "/complete.json", "w").write(json.dumps({"step": step, "t": time.time(), "files": {"weights": 5}}))
raise SystemExit(1)
"""
TELLS_A_MODEL = """
import json, os, shutil, sys
run = os.environ["LLMOPS_RUN_DIR"]
shutil.copytree({adapter!r}, run + "/artifacts/adapter")
with open(run + "/events.jsonl", "a") as file:
    for event in ({{"type": "artifact", "artifact": "model", "name": "tuned", "path": {path!r}, "format": "adapter"}},
                  {{"type": "end", "status": {status!r}, "summary": {{}}, "error": ""}}):
        file.write(json.dumps({{"t": 1.0, "attempt": 1, **event}}) + "\\n")
raise SystemExit({code})
"""
TALKS_THEN_SLEEPS = f"import os, time\nfor _ in range(12):\n    os.write(1, (b'x' * 1023 + b'\\n') * {MIB // 1024})\ntime.sleep(60)"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    return Home(tmp_path / "home", explicit=True)


def tells_a_model(tmp_path: Path, *, path: str = "artifacts/adapter", status: str = "succeeded", code: int = 0) -> str:
    adapter = write_adapter(tmp_path / "adapter", "/models/base")
    return TELLS_A_MODEL.format(adapter=str(adapter), path=path, status=status, code=code)


def registered(home: Home) -> list[str]:
    return [f"{model['name']}@v{model['version']}" for model in models.list_models(home) if model["version"] is not None]


async def test_each_further_attempt_resumes_from_the_newest_whole_checkpoint(home: Home) -> None:
    async with engine(home) as scheduler:
        run = await submit(scheduler, CHECKPOINTS, retries=2)
        assert (await reaches(scheduler, run, "failed"))["attempt"] == 3
        checkpoints = home.runs / run / "checkpoints"
        resumed = (home.runs / run / "resumed").read_text().split()
        assert resumed == ["-", str(checkpoints / "checkpoint-10"), str(checkpoints / "checkpoint-20")]
        assert (await scheduler.retry(run))["attempt"] == 4
        await until(lambda: len((home.runs / run / "resumed").read_text().split()) >= 4)
        assert (home.runs / run / "resumed").read_text().split()[3] == str(checkpoints / "checkpoint-30")
        began = [entry["reason"] for entry in RunDir(home.runs / run).read_journal() if entry["state"] == "starting"]
        torn = [f"goes on from step {step}; checkpoint-{step + 5} is torn: weights has 3 of 5 bytes" for step in (10, 20, 30)]
        assert began == ["", *torn], "where it begins is told, and which newer one was passed over for which file"


async def test_a_retried_run_gets_its_retries_anew_and_survives_the_engine(home: Home) -> None:
    async with engine(home) as first:
        run = await submit(first, "raise SystemExit(5)", retries=1)
        assert (await reaches(first, run, "failed"))["attempt"] == 2
        await first.retry(run)
    async with engine(home) as second:
        await until(lambda: summary(second, run)["attempt"] == 4 and summary(second, run)["state"] == "failed")
        assert summary(second, run)["exit_code"] == 5


async def test_only_what_ended_without_success_is_retried(home: Home) -> None:
    async with engine(home, slots=1) as scheduler:
        done = await submit(scheduler, "pass")
        await reaches(scheduler, done, "succeeded")
        with pytest.raises(ConflictError, match="has succeeded"):
            await scheduler.retry(done)
        running = await submit(scheduler, "import time; time.sleep(60)")
        waiting = await submit(scheduler, "pass")
        await reaches(scheduler, running, "running")
        for run in (running, waiting):
            with pytest.raises(ConflictError, match="not over"):
                await scheduler.retry(run)
        await scheduler.stop(waiting, "now")
        assert (await scheduler.retry(waiting))["attempt"] == 1  # it never began
        await scheduler.stop(running, "now")
        await reaches(scheduler, waiting, "succeeded")


async def test_a_model_has_its_name_when_its_run_has_succeeded(home: Home, tmp_path: Path) -> None:
    async with engine(home) as scheduler:
        run = await submit(scheduler, tells_a_model(tmp_path))
        assert (await reaches(scheduler, run, "succeeded", "failed"))["reason"] == ""
        assert registered(home) == ["tuned@v1"]
        with pytest.raises(ConflictError, match="tuned@v1"):
            await scheduler.remove(run)


async def test_a_model_told_by_a_run_that_failed_or_was_stopped_gets_no_name(home: Home, tmp_path: Path) -> None:
    async with engine(home) as scheduler:
        failed = await submit(scheduler, tells_a_model(tmp_path, status="failed", code=1))
        stopped = await submit(scheduler, tells_a_model(tmp_path / "other", status="stopped"))
        await reaches(scheduler, failed, "failed")
        await reaches(scheduler, stopped, "cancelled")
        assert registered(home) == []
        await scheduler.remove(failed)


async def test_a_model_that_cannot_be_registered_is_said_and_the_run_still_counts(home: Home, tmp_path: Path) -> None:
    async with engine(home) as scheduler:
        run = await submit(scheduler, tells_a_model(tmp_path, path="../../elsewhere"))
        assert "not registered" in (await reaches(scheduler, run, "succeeded", "failed"))["reason"]
        assert summary(scheduler, run)["state"] == "succeeded"


@pytest.mark.parametrize(
    "line",
    [
        '{"type": "artifact", "x": ' + "[" * 100_000,
        '{"type": "end", "x": ' + "[" * 100_000,
        '{"type": "artifact", "artifact": "model", "path": "artifacts", "lineage": [1]}',
        '{"type": "artifact", "artifact": "model", "path": "a\\u0000b"}',
    ],
)
async def test_a_job_that_tells_nonsense_comes_to_its_end(home: Home, tmp_path: Path, line: str) -> None:
    events = tmp_path / "events"
    events.write_text(line + "\n")
    async with engine(home) as scheduler:
        run = await submit(scheduler, f"import os, shutil\nshutil.copy({str(events)!r}, os.environ['LLMOPS_RUN_DIR'] + '/events.jsonl')")
        assert (await reaches(scheduler, run, "succeeded"))["gpus"] == []
        assert registered(home) == []


async def test_a_timeout_that_passed_while_no_engine_lived_has_ended_the_attempt(home: Home) -> None:
    async with engine(home) as first:
        run = await submit(first, "import time; time.sleep(60)", limits={"timeout_seconds": 0.5, "grace_seconds": 0.2})
        await reaches(first, run, "running")
    await until((home.runs / run / "attempt-1" / "exit.json").exists)
    assert not RunDir(home.runs / run).tree_alive()
    async with engine(home) as second:
        ended = await reaches(second, run, "failed", "lost")
        assert (ended["state"], ended["reason"]) == ("failed", "ended by its timeout")


async def test_a_timeout_holds_though_the_shim_was_killed(home: Home) -> None:
    async with engine(home) as scheduler:
        run = await submit(scheduler, "import time; time.sleep(60)", limits={"timeout_seconds": 1.5, "grace_seconds": 0.2})
        await reaches(scheduler, run, "running")
        os.kill(json.loads((home.runs / run / "attempt-1" / "started.json").read_text())["shim_pid"], 9)
        await until(lambda: summary(scheduler, run)["state"] not in ("running", "stopping"))
        assert not RunDir(home.runs / run).tree_alive()


async def test_giving_back_the_middle_of_a_log_does_not_make_a_silent_job_look_alive(home: Home) -> None:
    async with engine(home) as scheduler:
        run = await submit(scheduler, TALKS_THEN_SLEEPS, limits={"hang_seconds": 1.0, "grace_seconds": 0.2})
        log = RunDir(home.runs / run).log
        await until(lambda: log.exists() and log.stat().st_size == 12 * MIB)
        keep, touched = 11 * MIB, set()
        while summary(scheduler, run)["state"] != "hung":
            if keep > HEAD_BYTES:
                keep -= MIB // 4
                assert await asyncio.to_thread(rotate, log, keep) > 0
            touched.add(log.stat().st_mtime_ns)
            await asyncio.sleep(0.05)
        assert len(touched) > 10
        assert log.stat().st_size == 12 * MIB


async def test_a_run_without_a_readable_spec_hides_no_other(home: Home) -> None:
    async with engine(home) as first:
        good = await submit(first, "pass")
        bad = await submit(first, "pass")
        for run in (good, bad):
            await reaches(first, run, "succeeded")
    (home.runs / bad / "spec.json").write_text('{"id": ')
    async with engine(home) as second:
        assert [run["id"] for run in second.summaries()] == [good]
        new = await submit(second, "pass")
        assert int(new[-4:]) == 3
        await reaches(second, new, "succeeded")
