"""What the engine's stream tells of a run that goes on."""

from __future__ import annotations

import json
import math
from pathlib import Path

from llmops_tui.data.rundir import RunDir
from llmops_tui.data.store import Store
from llmops_tui.engine.hub import Hub
from llmops_tui.engine.live_run import LiveRun
from llmops_tui.engine.progress_events import ProgressEvents
from llmops_tui.specs.settings import EngineSettings


async def test_a_loss_that_is_no_number_is_null_in_the_stream_because_json_has_no_nan(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "llmops.duckdb", EngineSettings())
    try:
        hub = Hub(store)
        run = LiveRun(RunDir(tmp_path / "train-x-0001"), {}, None, latest={"train/loss": math.nan, "train/grad_norm": math.inf, "a": 1.0})
        ProgressEvents(hub).changed(run)
        await hub.publish("engine.stopping", None, {})
        stored = store.read(lambda con: con.execute("SELECT data FROM engine_events WHERE type = 'run.progress'").fetchall())
        assert json.loads(stored[0][0])["latest"] == {"train/loss": None, "train/grad_norm": None, "a": 1.0}
    finally:
        store.close()
