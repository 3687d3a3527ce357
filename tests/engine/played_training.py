"""A training job that is played: a real process under a real shim, which tells a loss that follows from its spec and is over at once.

Importing torch takes eight seconds a process; what a sweep does with its trials does not depend on how they learn.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.catalog_files import ROWS, write_model, write_rows

# Loaded by Python itself before it looks for the module it was asked to run.
_PLAY = """
import json, math, os, pathlib, sys, time
if "llmops_tui.engine.jobs.train" in sys.orig_argv:
    from llmops_tui.engine.jobs.event_writer import EventWriter
    run = pathlib.Path(os.environ["LLMOPS_RUN_DIR"])
    spec = json.loads((run / "spec.json").read_bytes())["spec"]
    events = EventWriter(run)
    rate, fold = spec["optim"]["learning_rate"], spec["dataset"]["fold"] or 0
    if rate > 0.05:
        events.write("end", status="failed", summary={}, error="the loss is no number at step 1")
        os._exit(1)
    for step in range(1, spec["max_steps"] + 1):
        loss = abs(math.log10(rate) + 3) + 1 / step + fold / 10
        events.metrics(step, {"train/tokens": 100 * step, "train/loss": loss})
        events.metrics(step, {"eval/loss": loss})
        while (run.parent.parent / "hold").exists() or rate < float(spec["env"].get("SLOW_BELOW", "0")):
            time.sleep(0.02)
    events.write("end", status="succeeded", summary={}, error="")
    os._exit(0)
"""


def base_spec(root: Path, **values: Any) -> dict[str, Any]:
    """A train spec whose job is played. In its env SLOW_BELOW names the rate below which it never goes beyond its first step.

    No job goes beyond its step while there is a file `hold` in the state directory.
    """
    play = root / "play"
    play.mkdir(exist_ok=True)
    (play / "sitecustomize.py").write_text(_PLAY)
    return {
        "model": str(write_model(root / "model")),
        "dataset": {"path": str(write_rows(root / "rows.jsonl", ROWS))},  # type: ignore[arg-type]
        "max_steps": 9,
        "evaluate_every": 1,
        "env": {"PYTHONPATH": str(play)},
        **values,
    }
