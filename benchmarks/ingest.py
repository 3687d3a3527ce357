"""Points a CPU second from a job's log call to the database, beside MLflow and trackio in the same run.

    python benchmarks/ingest.py [--quick]

Ours is `EventWriter.metrics` in the job plus `Ingest` in the engine: reading, parsing and committing, by CPU time of the whole process, so
that no thread is left out. The peers do the same work with their own calls: MLflow's `log_batch` into its SQLite store, trackio's
`log` and `finish`. Imports and the opening of stores are not counted for anybody. Each peer runs in a process of its own, offline.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from peer_environment import peer_python

from llmops_tui.data.compact import live_points
from llmops_tui.data.queries import series
from llmops_tui.data.rundir import RunDir, create_run
from llmops_tui.data.store import Store
from llmops_tui.engine.ingest import Ingest
from llmops_tui.engine.jobs.event_writer import EventWriter
from llmops_tui.specs.settings import EngineSettings

BARS = {"ingest": 100_000, "mlflow_ratio": 10, "trackio_ratio": 1, "bytes_per_point": 12, "series_ms": 150, "log_call_us": 15}
NAMES = [
    "train/loss", "train/grad_norm", "train/learning_rate", "perf/tokens_per_second",
    "perf/mfu", "perf/step_seconds", "perf/data_wait_fraction", "gpu/0/memory_bytes",
]  # fmt: skip

MLFLOW = """
import sys, time, resource
points, directory = int(sys.argv[1]), sys.argv[2]
from mlflow.tracking import MlflowClient
from mlflow.entities import Metric
client = MlflowClient(tracking_uri=f"sqlite:///{directory}/mlflow.db")
run = client.create_run(client.create_experiment("benchmark")).info.run_id
def batch(first, count):
    return [Metric(f"m{n % 8}", n * 0.37 % 5, 1790000000000 + n, n // 8) for n in range(first, first + count)]
client.log_batch(run, metrics=batch(0, 8))
def cpu():
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime
began = cpu()
for first in range(8, 8 + points, 1000):  # the most that one call takes
    client.log_batch(run, metrics=batch(first, min(1000, 8 + points - first)))
print("RESULT", points / (cpu() - began))
"""

TRACKIO = """
import sys, time, resource
points, directory, values = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
import trackio
trackio.init(project="benchmark", name="run")
def cpu():
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime
began = cpu()
for step in range(points // values):
    trackio.log({f"m{n}": (step * 8 + n) * 0.37 % 5 for n in range(values)}, step=step)
trackio.finish()
print("RESULT", points / (cpu() - began))
import glob, os
print("SIZE", sum(os.path.getsize(path) for path in glob.glob(directory + "/*.db*")) / points)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer points: under a minute once the peers are installed")
    quick = parser.parse_args().quick
    scale = 1 if quick else 4
    with tempfile.TemporaryDirectory(prefix="llmops-ingest-") as scratch:
        ours = measure_ours(Path(scratch), scale)
        peers = measure_peers(Path(scratch), scale)
    slower = min(ours["ingest_1"], ours["ingest_8"])
    claims = {
        "ingest": (slower, slower >= BARS["ingest"]),
        "mlflow_ratio": (ours["log_and_ingest_8"] / peers["mlflow"], ours["log_and_ingest_8"] >= BARS["mlflow_ratio"] * peers["mlflow"]),
        "trackio_ratio": (ours["log_and_ingest_8"] / peers["trackio_8"], ours["log_and_ingest_8"] > peers["trackio_8"]),
        "bytes_per_point": (ours["bytes_per_point"], ours["bytes_per_point"] <= BARS["bytes_per_point"]),
        "series_ms": (max(ours["series_live_ms"], ours["series_ms"]), max(ours["series_live_ms"], ours["series_ms"]) <= BARS["series_ms"]),
        "log_call_us": (ours["log_call_1_us"], ours["log_call_1_us"] <= BARS["log_call_us"]),
    }
    print_table(ours, peers)
    holds = all(kept for _, kept in claims.values())
    print(
        json.dumps(
            {
                "benchmark": "ingest",
                "ours": round(ours["log_and_ingest_8"]),
                "peer": round(peers["mlflow"]),
                "ratio": round(ours["log_and_ingest_8"] / peers["mlflow"], 1),
                "bar": BARS["mlflow_ratio"],
                "unit": "points per CPU second, log call to database",
                "claims": {name: {"value": round(value, 2), "bar": BARS[name], "holds": kept} for name, (value, kept) in claims.items()},
                "holds": holds,
            }
        )
    )
    return 0 if holds else 1


def measure_ours(scratch: Path, scale: int) -> dict[str, float]:
    """Two runs of `scale` million points: one value a line, which is the dearest, and eight, which is what a training step logs."""
    result: dict[str, float] = {}
    points = scale * 1_000_000
    runs = {values: write_run(scratch, values, points, result) for values in (1, 8)}
    measure_as_they_come(scratch, runs[1], result)
    store = Store.open(scratch / "llmops.duckdb", EngineSettings())
    for values, run in runs.items():
        ingest = Ingest(store, EngineSettings(), lambda run, events, latest: None, lambda: 1 << 50)
        ingest.track(run)
        began = time.process_time()
        asyncio.run(follow_and_settle(ingest, store, run, points // values - 1))
        seconds = time.process_time() - began
        result[f"ingest_{values}"] = points / seconds
        result[f"log_and_ingest_{values}"] = points / (seconds + points / values * result[f"log_call_{values}_us"] / 1e6)
    stored = store.read(lambda con: con.execute("SELECT count(*) FROM points").fetchone())
    if stored != (2 * points,):
        raise SystemExit(f"{stored} points stored, {2 * points} written")
    result["series_ms"] = series_ms(store, runs[1].id)
    store.checkpoint().result()
    store.close()
    result["bytes_per_point"] = (scratch / "llmops.duckdb").stat().st_size / (2 * points)
    return result


def measure_as_they_come(scratch: Path, run: RunDir, result: dict[str, float]) -> None:
    """The curve of a run whose points were not moved yet: the loop that moves them does not run here."""
    store = Store.open(scratch / "live.duckdb", EngineSettings())
    asyncio.run(Ingest(store, EngineSettings(), lambda run, events, latest: None, lambda: 1 << 50).drain(run))
    result["series_live_ms"] = series_ms(store, run.id)
    store.close()


def write_run(scratch: Path, values: int, points: int, result: dict[str, float]) -> RunDir:
    """Let a job's writer log `points` points of noise around a falling curve, full doubles as they come from a GPU."""
    run = create_run(scratch / "runs", "command", f"values-{values}", {"spec": {}})
    writer, noise = EventWriter(run.path), random.Random(values)
    steps = points // values
    spent = 0.0
    for first in range(0, steps, 10_000):
        rows = [
            {name: math.exp(-step / steps) + noise.gauss(0, 0.05) for name in NAMES[:values]}
            for step in range(first, min(first + 10_000, steps))
        ]
        began = time.process_time()
        for step, row in enumerate(rows, first):
            writer.metrics(step, row)
        spent += time.process_time() - began
    writer.close()
    result[f"log_call_{values}_us"] = spent / steps * 1e6
    return run


async def follow_and_settle(ingest: Ingest, store: Store, run: RunDir, last_step: int) -> None:
    """Run the engine's loop as for a job that ends: all is committed, then all is moved to where it stays."""
    stop = asyncio.Event()
    loop = asyncio.create_task(ingest.run(stop))
    query = "SELECT max(step) FROM points JOIN runs USING (run_key) WHERE id = ?"
    await asyncio.to_thread(wait_until, lambda: store.read(lambda con: con.execute(query, [run.id]).fetchone()) == (last_step,))
    ingest.untrack(run.id)
    await asyncio.to_thread(wait_until, lambda: not store.read(live_points))
    stop.set()
    await loop


def wait_until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.2)


def series_ms(store: Store, run_id: str, first: int = 0, last: int = 999_999) -> float:
    """CPU of the curve of a million points in 1,000 buckets, the median of five."""
    spent = []
    for _ in range(5):
        began = time.process_time()
        curve = store.read(lambda con: series(con, run_id, "train/loss", 1000, first, last))
        spent.append(time.process_time() - began)
        if curve["total_points"] != last - first + 1 or len(curve["buckets"]) != 1000:
            raise SystemExit(f"{curve['total_points']} points in {len(curve['buckets'])} buckets")
    return sorted(spent)[2] * 1e3


def measure_peers(scratch: Path, scale: int) -> dict[str, float]:
    result: dict[str, float] = {}
    mlflow = peer_python("mlflow", ["mlflow==3.17.*"])
    answer = ask_peer(mlflow, MLFLOW, scratch / "mlflow", 10_000 * scale)
    result["mlflow"] = answer["RESULT"]
    result["mlflow_bytes"] = (scratch / "mlflow" / "mlflow.db").stat().st_size / (10_000 * scale)
    trackio = peer_python("trackio", ["trackio==0.43.*"])
    for values in (1, 8):
        answer = ask_peer(trackio, TRACKIO, scratch / f"trackio-{values}", 80_000 * scale, str(values))
        result[f"trackio_{values}"], result[f"trackio_{values}_bytes"] = answer["RESULT"], answer["SIZE"]
    return result


def ask_peer(python: Path, script: str, directory: Path, points: int, *more: str) -> dict[str, float]:
    directory.mkdir()
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1", "GRADIO_ANALYTICS_ENABLED": "False", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true",
        "TRACKIO_DIR": str(directory), "PYTHONWARNINGS": "ignore",
    }  # fmt: skip
    done = subprocess.run(
        [str(python), "-c", script, str(points), str(directory), *more],
        env=environment, cwd=directory, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"the peer failed:\n{done.stderr[-2000:]}")
    words = [line.split() for line in done.stdout.splitlines() if line.startswith(("RESULT", "SIZE"))]
    return {name: float(value) for name, value in words}


def print_table(ours: dict[str, float], peers: dict[str, float]) -> None:
    rows = [
        ("", "ours", "mlflow log_batch", "trackio"),
        ("engine alone with compaction, 1 value a line, points/cpu-s", f"{ours['ingest_1']:,.0f}", "", ""),
        ("engine alone with compaction, 8 values a line, points/cpu-s", f"{ours['ingest_8']:,.0f}", "", ""),
        ("log call + engine, 1 value a call, points/cpu-s", f"{ours['log_and_ingest_1']:,.0f}", "", f"{peers['trackio_1']:,.0f}"),
        (
            "log call + engine, 8 values a call, points/cpu-s",
            f"{ours['log_and_ingest_8']:,.0f}",
            f"{peers['mlflow']:,.0f}",
            f"{peers['trackio_8']:,.0f}",
        ),
        ("log call with 1 / 8 values, µs", f"{ours['log_call_1_us']:.1f} / {ours['log_call_8_us']:.1f}", "", ""),
        (
            "bytes a point on disk",
            f"{ours['bytes_per_point']:.1f}",
            f"{peers['mlflow_bytes']:.0f}",
            f"{peers['trackio_1_bytes']:.0f} / {peers['trackio_8_bytes']:.0f}",
        ),
        ("1M points to 1,000 buckets, ms, as they came / settled", f"{ours['series_live_ms']:.0f} / {ours['series_ms']:.0f}", "", ""),
        ("peak memory of this process, MB", f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}", "", ""),
    ]
    for name, *cells in rows:
        print(f"{name:60} " + "".join(f"{cell:>20}" for cell in cells))


if __name__ == "__main__":
    sys.exit(main())
