"""Jobs that are killed, stopped, or noisy: what they told is kept and the engine goes on."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from llmops_tui.data.rundir import RunDir
from llmops_tui.engine import supervisor
from llmops_tui.engine.log_rotation import HEAD_BYTES
from llmops_tui.paths import Home
from tests.engine.scheduling import engine, reaches, submit, summary, until

ENDLESS = """
import os, json, time
out = os.open(os.environ["LLMOPS_RUN_DIR"] + "/events.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
step = 0
while True:
    step += 1
    os.write(out, (json.dumps({"t": 1.0, "type": "metric", "step": step, "values": {"a": step}}) + "\\n").encode())
    time.sleep(0.002)
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path, explicit=True)


def job_pid(home: Home, run: str) -> int:
    return int(json.loads((home.runs / run / "attempt-1" / "started.json").read_text())["pid"])


async def test_every_point_of_a_trainer_that_was_killed_is_stored(home: Home) -> None:
    async with engine(home) as scheduler:
        run = await submit(scheduler, ENDLESS)
        await until(lambda: summary(scheduler, run)["latest"].get("a", 0) > 50)
        os.kill(job_pid(home, run), signal.SIGKILL)
        failed = await reaches(scheduler, run, "failed")
        lines = (home.runs / run / "events.jsonl").read_text().splitlines()
        assert failed["latest"] == {"a": float(len(lines))}
        assert "SIGKILL" in failed["reason"]


async def test_a_stopped_job_is_found_hung_and_taken_away(home: Home) -> None:
    async with engine(home) as scheduler:
        run = await submit(scheduler, ENDLESS, limits={"hang_seconds": 1.0, "grace_seconds": 0.5})
        await reaches(scheduler, run, "running")
        os.kill(job_pid(home, run), signal.SIGSTOP)
        await reaches(scheduler, run, "hung")


async def test_a_job_that_writes_a_gigabyte_to_stderr_is_not_slowed_and_its_log_stays_small(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_SLOW_TICK_SECONDS", 0.1)
    code = "import os, time\nline = (b'x' * 1023 + b'\\n') * 1024\nfor _ in range(1024):\n    os.write(2, line); time.sleep(0.002)"
    async with engine(home, log_keep_bytes=8 << 20) as scheduler:
        run = RunDir(home.runs / await submit(scheduler, code))
        stored = 0
        while summary(scheduler, run.id)["state"] not in ("succeeded", "failed"):
            if run.log.exists():
                stored = max(stored, run.log.stat().st_blocks * 512)
            await asyncio.sleep(0.05)
        assert summary(scheduler, run.id)["state"] == "succeeded"
        assert run.log.stat().st_size == 1 << 30
        assert stored < 1 << 30, "the middle was given back while the job wrote"
        assert run.log.stat().st_blocks * 512 < (8 << 20) + HEAD_BYTES + (1 << 20)
        run.log.unlink()


def zombies() -> set[int]:
    """Ended children of this process that nobody collected."""
    lines = subprocess.run(["ps", "--ppid", str(os.getpid()), "-o", "pid=,stat="], capture_output=True, text=True).stdout.splitlines()
    return {int(pid) for pid, state in map(str.split, lines) if state.startswith("Z")}


async def test_no_zombie_is_left_by_a_dozen_runs(home: Home) -> None:
    before = zombies()  # of engines that other tests left behind in this process
    async with engine(home, slots=4) as scheduler:
        runs = [await submit(scheduler, "pass") for _ in range(12)]
        for run in runs:
            await reaches(scheduler, run, "succeeded")
        assert zombies() <= before
