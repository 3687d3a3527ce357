"""Exports of a run, read back by the packages they are for; and their logs, read by us.

    python benchmarks/exports.py [--quick]

An environment of its own gets tensorboard, mlflow-skinny and wandb. A run of 8 metrics is exported by `engine/export`, and every point,
setting and state must come back through TensorBoard's EventAccumulator and MLflow's client. Then tensorboard and wandb write logs of their
own and `engine/foreign` reads them: every point must be there. The ratio is TensorBoard's CPU seconds to read its own file beside ours.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import tempfile
import time
from pathlib import Path

from peer_environment import peer_python

from llmops_tui.commands.unpacking import unpack
from llmops_tui.data.event_lines import parse
from llmops_tui.data.event_store import EventStore, open_position
from llmops_tui.data.store import Store
from llmops_tui.engine.export.content import Content
from llmops_tui.engine.export.pack import ExportForm, pack
from llmops_tui.engine.foreign.reading import Stretch
from llmops_tui.engine.foreign.tfevents import read_events
from llmops_tui.engine.foreign.wandb_file import read_wandb
from llmops_tui.specs.answers import RunSummary
from llmops_tui.specs.settings import EngineSettings

PACKAGES = ["tensorboard==2.21.0", "mlflow-skinny==3.17.2", "wandb==0.31.0"]
NAMES = [f"train/m{number}" for number in range(8)]
RUN = "command-export-0001"

READ = """
import json, sys, math, os, time
os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
where, steps = sys.argv[1], int(sys.argv[2])
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
seen = EventAccumulator(where + "/tensorboard", size_guidance={"scalars": 0})
began = time.process_time(); seen.Reload(); seconds = time.process_time() - began
board = {tag: [(e.step, e.value) for e in seen.Scalars(tag)] for tag in seen.Tags()["scalars"]}
from mlflow.tracking import MlflowClient
client = MlflowClient(tracking_uri="file://" + where + "/mlflow")
(run,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
flow = {key: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, key)] for key in run.data.metrics}
spell = lambda points: [(s, "nan" if math.isnan(v) else v) for s, v in points]
print(json.dumps({"board": {k: spell(v) for k, v in board.items()}, "flow": {k: spell(v) for k, v in flow.items()},
    "params": run.data.params, "status": run.info.status, "name": run.info.run_name, "seconds": seconds}))
"""
WRITE = """
import os, sys, time
where, steps = sys.argv[1], int(sys.argv[2])
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
writer = EventFileWriter(where + "/board")
for step in range(steps):
    for tag in ("train/loss", "train/grad_norm"):
        writer.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=[Summary.Value(tag=tag, simple_value=step)])))
writer.close()
os.environ.update(WANDB_MODE="offline", WANDB_SILENT="true")
import wandb
run = wandb.init(project="p", dir=where)
for step in range(steps):
    run.log({"train/loss": float(step), "nested": {"a": step}})
run.finish()
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
seen = EventAccumulator(where + "/board", size_guidance={"scalars": 0})
began = time.process_time(); seen.Reload()
print("SECONDS", time.process_time() - began)
"""


def value(metric: int, step: int) -> float:
    """Exact in 32 bits; one NaN a metric."""
    return math.nan if step == 3 else metric + (step % 1024) / 1024


def exported(root: Path, steps: int) -> dict[str, float]:
    """The exports below `root`, and the CPU seconds each took."""
    store = Store.open(root / "x.duckdb", EngineSettings())
    lines = [
        {"t": 1.8e9 + step, "attempt": 1, "type": "metric", "step": step,
         "values": {name: v if math.isfinite(v := value(n, step)) else "NaN" for n, name in enumerate(NAMES)}}
        for step in range(steps)
    ]  # fmt: skip
    data = "".join(json.dumps(line) + "\n" for line in lines).encode()
    position = store.write(lambda con: open_position(con, RUN)).result()
    batch = parse(data, 0, now=time.time())
    store.write(lambda con: EventStore().write(con, [(position, batch)])).result()
    run = RunSummary(
        id=RUN, kind="command", name="export", state="succeeded", reason="", attempt=1, priority=0, queue_position=None, owner="ada",
        tags=["a"], note="", baseline=False, submitted_at=1.8e9, started_at=1.8e9, ended_at=1.8e9 + steps, exit_code=0, gpus=[],
        progress=None, latest=dict.fromkeys(NAMES, 0.0), gpu_seconds=0.0, energy_joules=None, cost=None, parent="",
    )  # fmt: skip
    took: dict[str, float] = {}
    forms: tuple[ExportForm, ...] = ("tensorboard", "mlflow", "csv")
    for form in forms:
        began = time.process_time()
        archive = pack(store, Content(run, {"optim.learning_rate": 0.1, "env.KEY": "***"}), form, root)
        took[form] = time.process_time() - began
        unpack(archive.read_bytes(), root / form)
    store.close()
    return took


def whole(read: object, path: Path) -> tuple[dict[tuple[str, int], float], float]:
    """Every point of a log by our reader, and the CPU seconds."""
    began, offset, found = time.process_time(), 0, {}
    while True:
        stretch: Stretch = read(path, offset)  # type: ignore[operator]
        for reading in stretch.readings:
            for name, number in reading.values.items():
                found[name, reading.step] = number
        if stretch.end == offset:
            return found, time.process_time() - began
        offset = stretch.end


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    steps = 2_000 if parser.parse_args().quick else 25_000
    python = str(peer_python("exports", PACKAGES))
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "WANDB_MODE": "offline"}
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        took = exported(root, steps)
        answer = subprocess.run(
            [python, "-W", "ignore", "-c", READ, str(root), str(steps)], check=True, capture_output=True, text=True, env=offline
        )
        read = json.loads(answer.stdout.splitlines()[-1])
        told = {name: [[step, "nan" if step == 3 else value(n, step)] for step in range(steps)] for n, name in enumerate(NAMES)}
        right = {tool: read[tool] == told for tool in ("board", "flow")}
        facts = read["params"] == {"optim.learning_rate": "0.1", "env.KEY": "***"} and (read["status"], read["name"]) == ("FINISHED", RUN)
        answer = subprocess.run(
            [python, "-W", "ignore", "-c", WRITE, str(root), str(2 * steps)], check=True, capture_output=True, text=True, env=offline
        )
        peer = float(answer.stdout.split("SECONDS")[1])
        board, ours = whole(read_events, next((root / "board").iterdir()))
        wandb, wandb_seconds = whole(read_wandb, next((root / "wandb").glob("offline-run-*/*.wandb")))
    logs = {
        "tensorboard log": board == {(name, step): float(step) for name in ("train/loss", "train/grad_norm") for step in range(2 * steps)},
        "wandb log": wandb == {(name, step): float(step) for name in ("train/loss", "nested/a") for step in range(2 * steps)},
    }
    points = len(NAMES) * steps
    print(f"{'':34}{'points':>10}{'CPU s':>8}  all back")
    for form, tool, good in (("tensorboard", "EventAccumulator", right["board"]), ("mlflow", "MlflowClient", right["flow"] and facts)):
        print(f"{'export to ' + form + ', by ' + tool:34}{points:>10,}{took[form]:>8.2f}  {good}")
    print(f"{'export to csv':34}{points:>10,}{took['csv']:>8.2f}")
    print(f"{'TensorBoard log, read by us':34}{4 * steps:>10,}{ours:>8.2f}  {logs['tensorboard log']}")
    print(f"{'  by the tensorboard package':34}{4 * steps:>10,}{peer:>8.2f}")
    print(f"{'wandb log, read by us':34}{4 * steps:>10,}{wandb_seconds:>8.2f}  {logs['wandb log']}")
    holds = all(right.values()) and facts and all(logs.values())
    print(json.dumps({"benchmark": "exports", "ours": ours, "peer": peer, "ratio": peer / ours, "bar": "every point back", "holds": holds}))
    return 0 if holds else 1


if __name__ == "__main__":
    raise SystemExit(main())
