"""An engine's scheduler in a process of its own, to be killed: `python -m tests.faults.steered_engine HOME [submit NOTES | COMMAND RUN]`.

Runs of the kind train count (tests/engine/saving_job.py). It prints a line when its wish was answered, and goes on until it is killed.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.jobs import launch
from llmops_tui.paths import Home
from llmops_tui.specs.common import RunSpec
from llmops_tui.specs.parse import parse_spec
from tests.engine import saving_job
from tests.engine.scheduling import engine


def counting_argv(spec: RunSpec, run: RunDir) -> list[str]:
    """The job that counts in the place of the one that trains; how far, and its fate, are in the run's notes."""
    last, _, fate = spec.notes.partition(" ")
    return [sys.executable, str(Path(saving_job.__file__)), last, fate]


async def main(home: Home, wish: list[str]) -> None:
    async with engine(home) as scheduler:
        if wish and wish[0] == "submit":
            spec = parse_spec({"kind": "train", "model": "m", "dataset": {"path": "d"}, "notes": wish[1]})
            print((await scheduler.submit(spec, owner="me", uid=os.getuid(), cwd="/", prepared={}))["id"], flush=True)
        elif wish:
            print((await scheduler.control(wish[1], wish[0]))["state"], flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    launch.job_argv = counting_argv
    os.environ["PYTHONPATH"] = str(Path(launch.__file__).parents[3])
    asyncio.run(main(Home(Path(sys.argv[1]), explicit=True), sys.argv[2:]))
