"""A run folded from its journal until a moment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.live_run import LiveRun
from llmops_tui.engine.run_past import Journals

_JOURNAL = [
    {"t": 10, "entry": "state", "state": "queued", "attempt": 1},
    {"t": 100, "entry": "state", "state": "starting", "attempt": 1, "data": {"gpus": ["a", "b"], "held_since": 100}},
    {"t": 101, "entry": "state", "state": "running", "attempt": 1, "data": {"started_at": 101}},
    {"t": 200, "entry": "state", "state": "queued", "attempt": 2, "data": {"ended_at": 200, "gpu_seconds": 200, "energy_joules": 50}},
    {"t": 300, "entry": "state", "state": "starting", "attempt": 2, "data": {"gpus": ["a"], "held_since": 300}},
    {"t": 400, "entry": "state", "state": "succeeded", "attempt": 2, "data": {"ended_at": 400, "gpu_seconds": 300, "energy_joules": 90}},
]


@pytest.mark.parametrize(
    ("t", "gpu_seconds", "joules"),
    [(50, 0, None), (150, 100, None), (250, 200, 50), (340, 240, None), (450, 300, 90)],
)
def test_what_a_run_had_used_by_then_is_told_and_energy_only_where_it_was_noted(
    tmp_path: Path, t: float, gpu_seconds: float, joules: float | None
) -> None:
    directory = RunDir(tmp_path / "train-x-0001")
    directory.path.mkdir()
    directory.journal.write_text("".join(json.dumps(entry) + "\n" for entry in _JOURNAL))
    run = LiveRun(directory, {"submitted_at": 10.0}, None)
    told = Journals().fold(run, t).summary(None, t)
    assert (told["gpu_seconds"], told["energy_joules"]) == (gpu_seconds, joules)
