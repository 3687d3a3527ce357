"""A job that trains nothing, for tests of the engine: it counts steps, saves where it was told to and goes on from there.

It takes the place of the real train job, whose libraries take seconds to import: same control channel, same events.
"""

from __future__ import annotations

import json
import os
import sys
import time
from functools import partial
from pathlib import Path

from llmops_tui.data.checkpoints import mark_complete
from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.jobs.control import ControlChannel
from llmops_tui.engine.jobs.event_writer import EventWriter


def main(last: int, fate: str) -> int:
    """Count to `last`, a step in 20 ms. `fate` "memory": runs out of memory unless it was adjusted twice."""
    run = RunDir(Path(os.environ["LLMOPS_RUN_DIR"]))
    events, control = EventWriter(run.path), ControlChannel(run.path)
    resume = os.environ.get("LLMOPS_RESUME_FROM")
    step = json.loads((Path(resume) / "progress.json").read_text())["step"] if resume else 0
    adjust = json.loads(os.environ.get("LLMOPS_ADJUST") or "{}")
    events.write("log", level="info", message=f"begins at {step} with {json.dumps(adjust, sort_keys=True)}")
    if fate == "memory" and "gradient_checkpointing" not in adjust:
        events.write("end", status="out_of_memory", summary={}, error="OutOfMemoryError: CUDA out of memory", memory="gpu")
        return 1
    while step < last and not control.stop:
        step += 1
        events.metrics(step, {"train/loss": 1.0 / step})
        time.sleep(0.02)
        control.poll()
        for request in control.take():
            events.write("control", command=request.command, step=step, outcome="done", by=request.who)
        control.wait_while_held(partial(events.heartbeat, "training", step, last))
    if control.stop:
        directory = run.checkpoints / f"checkpoint-{step}"
        directory.mkdir()
        (directory / "progress.json").write_text(json.dumps({"step": step}))
        mark_complete(directory, step)
    events.write("end", status="stopped" if control.stop else "succeeded", summary={}, error="")
    events.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2]))
