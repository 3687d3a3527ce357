"""The helper for training programs: what it writes, and that it never gets in their way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def run(program: str, run_dir: Path | None, **env: str) -> subprocess.CompletedProcess[str]:
    """The program with the helper at hand."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LLMOPS_")}
    inside = {} if run_dir is None else {"LLMOPS_RUN_DIR": str(run_dir)}
    environment = {**clean, **inside, **env, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=False)


def events(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "events.jsonl").read_text().splitlines()]


def test_three_lines_record_metrics_progress_samples_and_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    program = """
import sys
from llmops_tui import track
track.phase("train", total=3)
for step in range(1, 4):
    track.metric(step, {"eval/accuracy": 0.5}, loss=4 / step, lr=0.1)
track.progress(3)
track.sample(3, "hello", "you")
track.log("done")
print(sorted(name for name in sys.modules if name.split(".")[0] in ("pydantic", "numpy", "duckdb", "typing_extensions")))
"""
    done = run(program, tmp_path)
    assert (done.stdout, done.stderr) == ("[]\n", "")
    told = events(tmp_path)
    assert [event["type"] for event in told] == ["phase", "metric", "metric", "metric", "heartbeat", "sample", "log"]
    assert told[2]["values"] == {"eval/accuracy": 0.5, "train/loss": 2.0, "train/learning_rate": 0.1}
    assert (told[4]["done"], told[4]["total"]) == (3, 3)


def test_outside_a_run_nothing_happens_but_one_warning() -> None:
    done = run(
        "from llmops_tui import track\nfor i in range(9): track.metric(i, loss=1)\nprint(track.stop_requested(), track.resume_from())", None
    )
    assert done.returncode == 0
    assert done.stdout == "False None\n"
    assert done.stderr.count("\n") == 1
    assert "no run of the engine" in done.stderr


def test_nothing_raises_into_the_training_and_each_fault_is_said_once(tmp_path: Path) -> None:
    program = """
from llmops_tui import track
for i in range(5):
    track.metric(i, loss="x", other=2.0)
    track.metric("no step", loss=1.0)
    track.checkpoint("/nowhere/at/all", 1)
    track.metric(i, loss=float("nan"))
"""
    done = run(program, tmp_path)
    assert done.returncode == 0
    assert done.stderr.count("\n") == 3, done.stderr
    assert [event["values"] for event in events(tmp_path)][:2] == [{"other": 2.0}, {"train/loss": "NaN"}]
    assert run("from llmops_tui import track; track.metric(1, loss=1)", tmp_path / "gone").returncode == 0


def test_of_several_ranks_the_first_one_tells_and_forks_write_whole_lines(tmp_path: Path) -> None:
    assert run("from llmops_tui import track; track.metric(1, loss=1)", tmp_path, RANK="1").stderr == ""
    assert not (tmp_path / "events.jsonl").exists()
    run("from llmops_tui import track; track.every_rank(); track.metric(1, loss=1)", tmp_path, RANK="1")
    assert len(events(tmp_path)) == 1
    program = """
import os
from llmops_tui import track
track.metric(0, loss=1)
children = [os.fork() for _ in range(1)]
for i in range(500): track.metric(i, loss=float(os.getpid()))
if children[0]: os.waitpid(children[0], 0)
"""
    run(program, tmp_path)
    assert len(events(tmp_path)) == 1 + 1 + 1000


def test_a_stop_is_heard_by_term_and_by_the_control_file(tmp_path: Path) -> None:
    program = """
import os, signal
from llmops_tui import track
print(track.stop_requested(), end=" ")
os.kill(os.getpid(), signal.SIGTERM)
print(track.stop_requested(), track.checkpoint_requested())
"""
    assert run(program, tmp_path).stdout == "False True False\n"
    old = json.dumps({"t": time.time(), "command": "stop"}) + "\n"
    (tmp_path / "control.jsonl").write_text(old + json.dumps({"t": time.time(), "command": "checkpoint"}) + "\n")
    program = "from llmops_tui import track; print(track.stop_requested(), track.checkpoint_requested(), track.checkpoint_requested())"
    assert run(program, tmp_path, LLMOPS_CONTROL_BYTES=str(len(old))).stdout == "False True False\n"
    assert run(program, tmp_path).stdout == "True True False\n"
