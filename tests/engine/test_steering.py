"""Pausing, resuming and preempting runs, over a real scheduler with a job that saves as the trainer does."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmops_tui.data.rundir import RunDir
from llmops_tui.engine import silence
from llmops_tui.engine.jobs import launch
from llmops_tui.engine.live_run import LiveRun
from llmops_tui.engine.scheduler import Scheduler
from llmops_tui.errors import ConflictError, UsageError
from llmops_tui.paths import Home
from llmops_tui.specs.common import RunSpec
from llmops_tui.specs.parse import parse_spec
from tests.engine import saving_job
from tests.engine.scheduling import engine, reaches, submit, summary, until

Argv = Callable[[RunSpec, RunDir], list[str]]
LONG = 100_000


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path, explicit=True)


@pytest.fixture(autouse=True)
def _counting_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of the kind train count; how far is in their notes."""
    real: Argv = launch.job_argv

    def argv(spec: RunSpec, run: RunDir) -> list[str]:
        if spec.kind != "train":
            return real(spec, run)
        last, _, fate = spec.notes.partition(" ")
        return [sys.executable, str(Path(saving_job.__file__)), last, fate]

    monkeypatch.setattr(launch, "job_argv", argv)
    monkeypatch.setenv("PYTHONPATH", str(Path(launch.__file__).parents[3]))


async def count_to(scheduler: Scheduler, last: int, fate: str = "", prepared: dict[str, Any] | None = None, **spec: Any) -> str:
    values = {"kind": "train", "model": "m", "dataset": {"path": "d"}, "notes": f"{last} {fate}", **spec}
    return (await scheduler.submit(parse_spec(values), owner="me", uid=0, cwd="/", prepared=prepared or {}))["id"]


def begins(home: Home, run: str) -> list[str]:
    """What each attempt said at its beginning."""
    events = [json.loads(line) for line in (home.runs / run / "events.jsonl").read_text().splitlines()]
    return [event["message"] for event in events if event["type"] == "log"]


def answers(home: Home, run: str) -> list[tuple[str, str]]:
    """What the job answered, and to whom."""
    events = [json.loads(line) for line in (home.runs / run / "events.jsonl").read_text().splitlines()]
    return [(event["command"], event["by"]) for event in events if event["type"] == "control"]


async def counts(scheduler: Scheduler, run: str) -> None:
    """Wait until it has counted at least one step."""
    await until(lambda: summary(scheduler, run)["state"] == "running" and bool(summary(scheduler, run)["latest"]))


async def test_a_paused_run_frees_its_slot_survives_the_engine_and_goes_on_where_it_stopped(home: Home) -> None:
    async with engine(home, slots=1) as scheduler:
        run = await count_to(scheduler, LONG)
        await counts(scheduler, run)
        assert (await scheduler.control(run, "pause"))["state"] == "stopping"
        paused = await reaches(scheduler, run, "paused", "cancelled")
        assert (paused["state"], paused["queue_position"]) == ("paused", None)
        assert "resumed" in paused["reason"]
        other = await submit(scheduler, "pass")
        await reaches(scheduler, other, "succeeded")
        with pytest.raises(ConflictError, match="paused"):
            await scheduler.retry(run)
    async with engine(home, slots=1) as scheduler:
        assert summary(scheduler, run)["state"] == "paused"
        await scheduler.control(run, "resume")
        await until(lambda: len(begins(home, run)) == 2)
        reached = json.loads(next((home.runs / run / "checkpoints").glob("*/progress.json")).read_text())["step"]
        assert begins(home, run)[1].startswith(f"begins at {reached} ")
        await reaches(scheduler, run, "running")
        await scheduler.stop(run, "now")
        await reaches(scheduler, run, "cancelled")


async def test_a_held_run_keeps_still_is_no_hang_and_goes_on(home: Home) -> None:
    async with engine(home) as scheduler:
        run = await count_to(scheduler, LONG)
        talk = "import time\nfor n in range(10**6):\n    print(n, flush=True); time.sleep(0.02)"
        program = await submit(scheduler, talk, limits={"hang_seconds": 5})
        await counts(scheduler, run)
        await until(lambda: (home.runs / program / "stdout.log").stat().st_size > 0 and summary(scheduler, program)["state"] == "running")
        for each in (run, program):
            assert "keeps its memory" in (await scheduler.control(each, "pause", {"mode": "hold"}))["reason"]
        stat = Path(f"/proc/{scheduler.one(program).pid}/stat")
        await until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")
        await until(lambda: [command for command, _ in answers(home, run)] == ["pause"])
        with pytest.raises(ConflictError, match="cannot save"):
            await scheduler.control(program, "pause", {"mode": "free"})
    async with engine(home) as scheduler:  # another engine knows that they keep still because they were told to
        assert [scheduler.one(each).held for each in (run, program)] == [True, True]
        await until(lambda: scheduler.one(program).pid is not None)
        for each in (run, program):
            assert (await scheduler.control(each, "resume"))["reason"] == ""
        size = (home.runs / program / "stdout.log").stat().st_size
        await until(lambda: (home.runs / program / "stdout.log").stat().st_size > size)
        await until(lambda: "resume" in [command for command, _ in answers(home, run)])
        for each in (run, program):
            await scheduler.stop(each, "now")
            await reaches(scheduler, each, "cancelled")


def test_silence_does_not_count_while_a_run_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = LiveRun(RunDir(tmp_path), {}, parse_spec({"kind": "command", "argv": ["x"], "limits": {"hang_seconds": 40}}), held=True)
    clock = iter(range(0, 1000, 15))
    monkeypatch.setattr(silence.time, "monotonic", lambda: float(next(clock)))
    quiet = silence.Silence(run)
    assert not any(quiet.too_long() for _ in range(10))
    run.held = False
    assert [quiet.too_long() for _ in range(4)] == [False, False, False, True]


async def test_what_is_set_while_it_runs_is_heard_kept_for_later_attempts_and_refused_where_it_is_nonsense(home: Home) -> None:
    async with engine(home) as scheduler:
        run = await count_to(scheduler, LONG)
        await counts(scheduler, run)
        for wrong in ({}, {"beta": 1}, {"learning_rate_scale": -1}, {"checkpoint_every": 0}, {"evaluate_every": 1.5}):
            with pytest.raises(UsageError):
                await scheduler.control(run, "set", wrong)
        await scheduler.control(run, "set", {"learning_rate_scale": 0.5, "checkpoint_every": None})
        await until(lambda: [command for command, _ in answers(home, run)] == ["set"])
        await scheduler.control(run, "pause")
        await reaches(scheduler, run, "paused")
        await scheduler.control(run, "resume")
        await until(lambda: len(begins(home, run)) == 2)
        assert begins(home, run)[1].endswith('{"checkpoint_every": null, "learning_rate_scale": 0.5}')
        await reaches(scheduler, run, "running")
        await scheduler.stop(run, "now")
        await reaches(scheduler, run, "cancelled")
        with pytest.raises(ConflictError):
            await scheduler.control(run, "evaluate")
        with pytest.raises(UsageError):
            await scheduler.control(run, "dance")


async def test_a_higher_priority_takes_the_slot_of_a_preemptible_run_which_comes_back_and_never_the_other_way(home: Home) -> None:
    async with engine(home, slots=1) as scheduler:
        low = await count_to(scheduler, LONG, preemptible=True)
        await counts(scheduler, low)
        equal = await submit(scheduler, "pass", preempt=True)
        polite = await submit(scheduler, "pass", priority=1)
        await until(lambda: "CPU slot" in summary(scheduler, polite)["reason"])
        assert summary(scheduler, low)["state"] == "running", "it gives way to a higher priority that says preempt, and to no other"
        await scheduler.stop(polite, "now")
        high = await count_to(scheduler, 60, priority=5, preempt=True, preemptible=True)
        await until(lambda: summary(scheduler, low)["state"] in ("stopping", "queued"))
        assert high in summary(scheduler, low)["reason"]
        await reaches(scheduler, high, "running")
        assert summary(scheduler, low)["state"] == "queued"
        await reaches(scheduler, high, "succeeded")
        await until(lambda: len(begins(home, low)) == 2)
        assert not begins(home, low)[1].startswith("begins at 0 ")
        assert len(begins(home, high)) == 1, "no ping-pong"
        await scheduler.stop(equal, "now")
        await scheduler.stop(low, "now")
        await reaches(scheduler, low, "cancelled")


async def test_a_run_whose_rows_changed_meanwhile_is_not_resumed_nor_started_again(home: Home, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("a")
    noted = {"dataset": {"path": str(rows), "bytes": 1, "mtime_ns": rows.stat().st_mtime_ns, "sha256": hashlib.sha256(b"a").hexdigest()}}
    async with engine(home, slots=1) as scheduler:
        run = await count_to(scheduler, LONG, prepared=noted, preemptible=True)
        await counts(scheduler, run)
        rows.write_text("b")
        await scheduler.control(run, "pause")
        await reaches(scheduler, run, "paused")
        with pytest.raises(ConflictError, match="other rows"):
            await scheduler.control(run, "resume")
        rows.write_text("a")
        await scheduler.control(run, "resume")
        await until(lambda: len(begins(home, run)) == 2)
        rows.write_text("c")
        await scheduler.stop(await submit(scheduler, "pass", priority=1, preempt=True), "now")
        high = await submit(scheduler, "pass", priority=1, preempt=True)
        ended = await reaches(scheduler, run, "failed")
        assert "has changed" in ended["reason"], "a preempted one comes back by itself, and is looked at then"
        assert summary(scheduler, high)["state"] == "succeeded"


async def test_a_run_out_of_memory_is_tried_with_smaller_passes_then_with_checkpointing_and_each_is_recorded(home: Home) -> None:
    async with engine(home) as scheduler:
        run = await count_to(scheduler, 2, "memory", micro_batch=4, retries=0)
        done = await reaches(scheduler, run, "succeeded", "out_of_memory")
        assert (done["state"], done["attempt"]) == ("succeeded", 3)
        assert [line.partition("with ")[2] for line in begins(home, run)] == [
            "{}",
            '{"accumulation": 2, "micro_batch": 2}',
            '{"accumulation": 2, "gradient_checkpointing": true, "micro_batch": 2}',
        ]
        journal = RunDir(home.runs / run).read_journal()
        adjusted = [entry["data"] for entry in journal if entry["entry"] == "adjusted"]
        assert adjusted[0] == {"from": {"micro_batch": 4, "accumulation": 1}, "to": {"micro_batch": 2, "accumulation": 2}}
        assert "the memory of the GPU ran out" in next(entry["reason"] for entry in journal if entry["state"] == "queued")

        refused = await count_to(scheduler, 2, "memory", out_of_memory={"retries": 1})
        ended = await reaches(scheduler, refused, "out_of_memory")
        assert ended["attempt"] == 2
        assert ended["reason"].endswith("try micro_batch=1 accumulation=4 (the same batch)")
        assert RunDir(home.runs / refused).read_journal()[-1]["data"]["advice"] == {"micro_batch": 1, "accumulation": 4}
