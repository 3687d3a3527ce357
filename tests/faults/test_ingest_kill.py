"""kill -9 of a process that ingests, at random moments, while jobs write: each point is stored once, none is lost."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb

from llmops_tui.data.rundir import RunDir, create_run, list_runs
from llmops_tui.data.store import Store
from llmops_tui.engine.ingest import Ingest
from llmops_tui.specs.settings import EngineSettings
from tests.waiting import wait_for

ROUNDS = 12

# Settles early, so that the kills hit the moving of points too, and says in a file when it is under way.
KEEPER = """
import asyncio, sys
from pathlib import Path
from llmops_tui.data.rundir import list_runs
from llmops_tui.data.store import Store
from llmops_tui.engine import ingest
from llmops_tui.specs.settings import EngineSettings
ingest._SETTLE_POINTS, ingest._TICK_SECONDS = 2000, 0.01
home = Path(sys.argv[1])
store = Store.open(home / "llmops.duckdb", EngineSettings())
keeper = ingest.Ingest(store, EngineSettings(), lambda run, events, latest: (home / "committed").touch(), lambda: 1 << 50)
for run in list_runs(home / "runs"):
    keeper.track(run)
asyncio.run(keeper.run(asyncio.Event()))
"""

JOB = """
import sys, time
from pathlib import Path
from llmops_tui.engine.jobs.event_writer import EventWriter
writer, step = EventWriter(Path(sys.argv[1])), 0
while True:
    writer.metrics(step, {"a": step, "b": -step})
    if step % 50 == 0:
        writer.write("log", level="info", message=str(step))
    step += 1
    time.sleep(0.0005)
"""


def start(script: str, argument: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", script, str(argument)], stdin=subprocess.DEVNULL)


def kill(process: subprocess.Popen[bytes], after: float = 0.0) -> None:
    time.sleep(after)  # the moment of death is the experiment, not a wait for a condition
    process.send_signal(signal.SIGKILL)
    process.wait(20)


def whole_lines(run: RunDir) -> list[dict[str, object]]:
    return [json.loads(line) for line in run.events.read_bytes().split(b"\n")[:-1]]


async def test_kill_9_of_the_keeper_and_of_the_jobs_loses_and_doubles_nothing(tmp_path: Path) -> None:
    for name in ("one", "two"):
        create_run(tmp_path / "runs", "command", name, {"spec": {}})
    runs = list_runs(tmp_path / "runs")
    jobs = [start(JOB, run.path) for run in runs]
    moments = random.Random(7)
    keeper: subprocess.Popen[bytes] | None = None
    try:
        for _ in range(ROUNDS):
            keeper = start(KEEPER, tmp_path)
            wait_for((tmp_path / "committed").exists, 30)
            (tmp_path / "committed").unlink()
            kill(keeper, after=moments.uniform(0, 0.3))
    finally:
        for process in [*jobs, *([keeper] if keeper else [])]:
            kill(process)
    store = Store.open(tmp_path / "llmops.duckdb", EngineSettings())
    last = Ingest(store, EngineSettings(), lambda run, events, latest: None, lambda: 1 << 50)
    assert store.read(lambda con: con.execute("SELECT count(*) > 0 FROM points_settled").fetchone()) == (True,)
    for run in runs:
        assert await last.drain(run)
        lines = whole_lines(run)
        steps = [line["step"] for line in lines if line["type"] == "metric"]
        logs = [line["message"] for line in lines if line["type"] == "log"]
        assert len(steps) > 100
        for metric, sign in (("a", 1), ("b", -1)):
            query = "SELECT step, value FROM metrics_long WHERE run = ? AND metric = ? ORDER BY step"
            points = store.read(lambda con, q=query, r=run.id, m=metric: con.execute(q, [r, m]).fetchall())
            assert points == [(step, float(sign * step)) for step in steps]
        query = "SELECT body->>'message' FROM run_events JOIN runs USING (run_key) WHERE id = ? ORDER BY line_end"
        assert [row[0] for row in store.read(lambda con, q=query, r=run.id: con.execute(q, [r]).fetchall())] == logs
    store.close()


def test_a_commit_that_finds_the_disk_full_costs_no_committed_row_and_the_store_goes_on(tmp_path: Path) -> None:
    """A file size limit stands in for the full disk: the same error from write(2), in a process of its own."""
    script = """
import resource, signal, sys, os, duckdb
from pathlib import Path
from llmops_tui.data.store import Store
from llmops_tui.specs.settings import EngineSettings
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = Store.open(Path(sys.argv[1]), EngineSettings())
def add(first, count):
    rows = f"SELECT range, md5(range::VARCHAR) FROM range({first}, {first + count})"
    return store.write(lambda con: con.execute(f"INSERT INTO metrics {rows}"))
add(0, 1000).result()
size = max(path.stat().st_size for path in Path(sys.argv[1]).parent.iterdir())
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 65536, resource.RLIM_INFINITY))
failed = 0
for number in range(5):
    try:
        add(10_000 * (number + 1), 10_000).result(30)
    except Exception as error:
        failed += 1
try:
    store.checkpoint().result()  # this one is fatal to DuckDB: it refuses everything until it is opened again
    sys.exit("the checkpoint fitted")
except duckdb.FatalException:
    pass
for number in range(2):  # the first write finds the wreck, the second one an opened database
    try:
        add(100_000, 10_000).result(30)
    except Exception:
        failed += 1
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
add(1000, 1000).result(30)
print(failed, store.read(lambda con: con.execute("SELECT count(*) FROM metrics WHERE metric_key < 2000").fetchone())[0], flush=True)
os._exit(0)
"""
    path = tmp_path / "llmops.duckdb"
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    failed, kept = map(int, done.stdout.split())
    assert failed > 1
    assert kept == 2000
    store = Store.open(path, EngineSettings())
    query = "SELECT count(*), count(DISTINCT metric_key) FROM metrics WHERE metric_key < 2000"
    assert store.read(lambda con: con.execute(query).fetchone()) == (2000, 2000)
    store.close()


def test_no_code_path_of_ours_opens_the_database_file_outside_duckdb() -> None:
    """Closing such a handle drops DuckDB's lock. What touches the path at all is listed here, so that a new place is looked at."""
    package = Path(__file__).parents[2] / "llmops_tui"
    touching = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if ".database" in (text := path.read_text()) and any(f"{word}.database" in text for word in ("home", "self", "Home"))
    }
    for path in sorted(touching):
        for line in (package / path).read_text().splitlines():
            if ".database" in line:
                for call in ("open(", "read_bytes(", "read_text(", "write_bytes(", "copy", "write_json(", "sha256", "os.link", "unlink"):
                    allowed = {"Store.open(", "connect("}
                    assert call not in line or any(word in line for word in allowed), f"{path}: {line.strip()}"
    connecting = {str(path.relative_to(package)) for path in package.rglob("*.py") if "duckdb.connect(" in path.read_text()}
    assert connecting == {"data/store.py"}


def test_the_lock_we_rely_on_is_really_lost_by_an_open_and_close(tmp_path: Path) -> None:
    """Why the rule stands. Should DuckDB one day take another kind of lock, this fails and the rule can go."""
    path = tmp_path / "trap.duckdb"
    script = (
        "import duckdb, sys\n"
        "try: duckdb.connect(sys.argv[1]); print('came in')\n"
        "except duckdb.IOException: print('refused')"
    )  # fmt: skip

    def second() -> str:
        return subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True).stdout.strip()

    with duckdb.connect(str(path)) as con:
        con.execute("CREATE TABLE a AS SELECT 1")
        con.execute("CHECKPOINT")
        assert second() == "refused"
        os.close(os.open(path, os.O_RDONLY))
        assert second() == "came in"
