"""What a past moment costs the engine, beside the same question asked of all points by one statement.

    python benchmarks/moments.py [--quick]

10,000 runs, of which 16 are open at any moment, 12 million points and 45 million samples of eight GPUs; a fifth of each with --quick.
Ours is the whole answer of `GET /v1/at` but for its way through the socket: runs, metrics, progress, GPUs, as JSON. The peer is only the
metrics' part: the newest value of each of the open runs' metrics by `arg_max` over the view people query, which reads their points from
the first on. CPU of the process, medians over random moments.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import duckdb

from llmops_tui.data.rundir import RunDir
from llmops_tui.data.store import Store
from llmops_tui.engine.host import HostMonitor
from llmops_tui.engine.past import Past
from llmops_tui.engine.recovery import load_runs
from llmops_tui.engine.samples import Samples
from llmops_tui.paths import Home
from llmops_tui.specs.settings import EngineSettings

BAR_MS = 100.0
BEGIN = 1_790_000_000.0
LONG_RUNS, METRICS, STEP_SECONDS = 8, 12, 11
READINGS = ("utilisation", "memory_used_bytes", "power_watts", "temperature_celsius", "sm_clock_mhz")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a fifth of everything: under half a minute")
    runs = 2_000 if parser.parse_args().quick else 10_000
    with tempfile.TemporaryDirectory(prefix="llmops-moments-") as scratch:
        home = Home(Path(scratch), explicit=True)
        seconds = make_history(home, runs)
        ours, scan, points = asyncio.run(measure(home, seconds))
    ratio = scan / ours
    print(f"{runs} runs, {points / 1e6:.1f}M points   ours {ours:.0f} ms   newest values by a scan {scan:.0f} ms   {ratio:.1f}x")
    holds = ours <= BAR_MS
    figures = {"ours": round(ours, 1), "peer": round(scan, 1), "ratio": round(ratio, 1), "bar": BAR_MS}
    print(json.dumps({"benchmark": "moments", **figures, "unit": "ms of CPU a moment", "holds": holds}))
    return 0 if holds else 1


def make_history(home: Home, runs: int) -> int:
    """Eight runs that last throughout, the others one after another, eight at a time; returns how many seconds it spans."""
    seconds = runs * 100
    for number in range(runs):
        run = RunDir(home.runs / f"command-bench-{number + 1:04d}")
        run.path.mkdir(parents=True)
        submitted = BEGIN + (0 if number < LONG_RUNS else number * 100)
        ended = BEGIN + seconds + 900 if number < LONG_RUNS else submitted + 800
        record = {"id": run.id, "submitted_at": submitted, "owner": "ada", "spec": {"kind": "command", "name": "bench", "argv": ["true"]}}
        run.spec.write_text(json.dumps(record))
        life = (
            (submitted + 1, "starting", {"gpus": [f"GPU-{number % 8}"], "cpu_slots": 0}),
            (submitted + 2, "running", {"started_at": submitted + 2}),
            (ended, "succeeded", {"exit": 0, "ended_at": ended}),
        )
        entries = ({"t": t, "entry": "state", "state": state, "attempt": 1, "reason": "", "data": data} for t, state, data in life)
        run.journal.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
        if number < LONG_RUNS:
            with open(run.events, "w") as file:
                for step in range(seconds // STEP_SECONDS):
                    beat = {"t": BEGIN + step * STEP_SECONDS, "type": "heartbeat", "phase": "training", "done": step, "total": seconds}
                    file.write(json.dumps(beat) + "\n")
    store = Store.open(home.database, EngineSettings())
    store.write(lambda con: fill(con, runs, seconds)).result()
    store.checkpoint().result()
    store.close()
    return seconds


def fill(con: duckdb.DuckDBPyConnection, runs: int, seconds: int) -> None:
    """The points and samples of that history, laid out as the engine leaves them."""
    latest = json.dumps({f"m/{number}": 1.0 for number in range(METRICS)})
    con.execute(f"INSERT INTO metrics SELECT i, 'm/' || i FROM range({METRICS}) r(i)")
    con.executemany("INSERT INTO runs (run_key, id) VALUES (?, ?)", [(n, f"command-bench-{n + 1:04d}") for n in range(runs)])
    con.execute(f"INSERT INTO ingest_offsets SELECT i, 0, 0, 0, false, ?, NULL FROM range({runs}) r(i)", [latest])
    start = int(BEGIN * 1000)
    for run in range(LONG_RUNS):  # the last metric comes once a day, as an evaluation does
        con.execute(
            f"INSERT INTO points_settled SELECT {run}, m, 1, s, {start} + s * {STEP_SECONDS}000, random() "
            f"FROM range({METRICS}) a(m), range({seconds // STEP_SECONDS}) b(s) WHERE m < {METRICS - 1} OR s % 8000 = 7999 ORDER BY m, s"
        )
    con.execute(
        f"INSERT INTO points_settled SELECT r, m, 1, s, {start} + r * 100000 + s * 20000, random() "
        f"FROM range({LONG_RUNS}, {runs}) c(r), range({METRICS}) a(m), range(34) b(s) ORDER BY r, m, s"
    )
    names = ["host/cpu", "host/load_1m", "host/memory_used_bytes", "host/disk_free_bytes", "host/cpu_slots_free"]
    names += [f"gpu/{gpu}/{reading}" for gpu in range(8) for reading in READINGS]
    con.executemany("INSERT INTO sample_series VALUES (?, ?)", list(enumerate(names, 1)))
    for first in range(0, seconds, 50_000):
        con.execute(
            f"INSERT INTO samples SELECT {start} + t * 1000, s, random() FROM range({first}, {first + 50_000}) a(t), "
            f"range(1, {len(names) + 1}) q(s) ORDER BY t // 10, s, t"
        )


async def measure(home: Home, seconds: int) -> tuple[float, float, int]:
    """Milliseconds of CPU a moment, ours and by the scan; and how many points there are."""
    store = Store.open(home.database, EngineSettings())
    runs = load_runs(home)
    past = Past(store, Samples(store, EngineSettings()), lambda: runs, BEGIN)
    host, chance = HostMonitor(home.root).sample(8, 8), random.Random(7)
    moments = [BEGIN + chance.random() * seconds for _ in range(25)]

    async def ours(t: float) -> None:
        told = await past.at(t, host, [])
        assert len(json.dumps(told)) > 1000
        assert told["running"]

    async def scan(t: float) -> None:
        open_then = [run.id for run in runs if run.submitted_at <= t < (run.ended_at or 0.0)]
        query = "SELECT run, metric, arg_max(value, t) FROM metrics_long WHERE list_contains(?, run) AND t <= ? GROUP BY ALL"
        assert store.read(lambda con: con.execute(query, [open_then, t]).fetchall())

    result = await median_cpu(ours, moments), await median_cpu(scan, moments[:7])
    points = store.read(lambda con: con.execute("SELECT count(*) FROM points").fetchall())[0][0]
    store.close()
    return *result, int(points)


async def median_cpu(ask: Callable[[float], Awaitable[None]], moments: list[float]) -> float:
    """Milliseconds; the first moment warms up and does not count."""
    taken = []
    for t in moments:
        began = time.process_time()
        await ask(t)
        taken.append(1000 * (time.process_time() - began))
    return statistics.median(taken[1:])


if __name__ == "__main__":
    raise SystemExit(main())
