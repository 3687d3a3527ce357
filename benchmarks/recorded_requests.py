"""Recorded requests: what taking them in costs, what they take on disk, and how soon their latency is told, beside reading the log itself.

    python benchmarks/recorded_requests.py [--quick]

A million requests (quick: 200,000) as the gateway records them, over a day, of four versions. Ours is the engine's own ingest, then the
queries its API makes. The peers answer the same question, the exact p50/p95/p99 of four durations by version and stretch of time, from the
JSON lines: one with the standard library's json and numpy, one with DuckDB's read_json. All answers have to agree. CPU seconds of the whole
process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from llmops_tui.data.request_queries import RequestFilter, latency_history, one_request, request_page
from llmops_tui.data.store import Store
from llmops_tui.engine.recorded.spool_ingest import SpoolIngest
from llmops_tui.engine.serving.gateway.record import Record
from llmops_tui.engine.serving.gateway.spool import Spool
from llmops_tui.specs.answers_requests import LatencyPoint
from llmops_tui.specs.settings import EngineSettings

BARS = {"lines_per_cpu_second": 20_000, "bytes_per_request": 120, "history_ratio": 4, "page_ms": 250, "detail_ms": 250}
T0 = 1_790_000_000.0
DAY = 86_400.0
STRETCH = 900.0
FINE = 10.0
DURATIONS = ("ttft", "itl", "total", "queue")
History = dict[tuple[str, float], list[float]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a fifth of the requests: under a minute")
    count = 200_000 if parser.parse_args().quick else 1_000_000
    with tempfile.TemporaryDirectory(prefix="llmops-requests-") as scratch:
        spool = Path(scratch) / "spool"
        last = write_spool(spool, count)
        ours = measure_ours(Path(scratch), spool, count, last)
        peers = measure_peers(spool)
    check_same(ours.pop("answer"), peers)
    best = min(seconds for seconds, _ in peers.values())
    claims = {
        "lines_per_cpu_second": (ours["lines_per_cpu_second"], ours["lines_per_cpu_second"] >= BARS["lines_per_cpu_second"]),
        "bytes_per_request": (ours["bytes_per_request"], ours["bytes_per_request"] <= BARS["bytes_per_request"]),
        "history_ratio": (best / ours["history_seconds"], best / ours["history_seconds"] >= BARS["history_ratio"]),
        "page_ms": (ours["page_ms"], ours["page_ms"] <= BARS["page_ms"]),
        "detail_ms": (ours["detail_ms"], ours["detail_ms"] <= BARS["detail_ms"]),
    }
    print_table(count, ours, peers)
    holds = all(kept for _, kept in claims.values())
    told = {
        "benchmark": "recorded_requests",
        "ours": round(ours["history_seconds"], 4),
        "peer": round(best, 4),
        "ratio": round(best / ours["history_seconds"], 1),
        "bar": BARS["history_ratio"],
        "unit": f"CPU seconds for a day's latency over {count:,} requests, the faster peer",
        "claims": {name: {"value": round(value, 2), "bar": BARS[name], "holds": kept} for name, (value, kept) in claims.items()},
        "holds": holds,
    }
    print(json.dumps(told))
    return 0 if holds else 1


def write_spool(directory: Path, count: int) -> str:
    """The requests of a day in the gateway's own files; the id of the one in the middle."""
    noise, spool = random.Random(5), Spool(directory, "requests")
    prefix = f"req_{noise.randbytes(8).hex()}"
    for number in range(count):
        record = Record(f"{prefix}{number:08x}", "/v1/chat/completions", T0 + number * DAY / count + noise.random())
        record.endpoint, record.version = "support", f"v{1 + number % 4}"
        record.replica, record.key = f"serve-support-{number % 6:04d}", f"key_{number % 9}"
        record.session, record.stream, record.attempts, record.good = f"s{number % 5000}", True, 1, True
        failed = number % 200 == 0
        record.status, record.finish, record.error = (502, "", "the connection closed") if failed else (200, "stop", "")
        record.prompt_tokens, record.completion_tokens = noise.randrange(4000), noise.randrange(1000)
        record.queue_seconds, record.first_seconds = noise.expovariate(500), noise.lognormvariate(-2, 0.7)
        record.gap_mean, record.gap_most, record.total_seconds = noise.lognormvariate(-4, 0.3), noise.random(), noise.lognormvariate(1, 0.6)
        record.prompt_hash, record.response_hash = noise.randbytes(16).hex(), noise.randbytes(16).hex()
        spool.write(record.line())
    spool.close()
    return f"{prefix}{count // 2:08x}"


def measure_ours(scratch: Path, spool: Path, count: int, middle: str) -> dict[str, Any]:
    store = Store.open(scratch / "llmops.duckdb", EngineSettings())
    ingest = SpoolIngest(store, spool, EngineSettings(), lambda: 1 << 50, lambda said: None)
    began = time.process_time()
    asyncio.run(take_all(ingest))
    spent = time.process_time() - began
    stored = store.read(lambda con: con.execute("SELECT count(*), count(DISTINCT id) FROM requests").fetchone())
    if stored != (count, count):
        raise SystemExit(f"{stored} requests stored, {count} written")
    store.checkpoint().result()
    result: dict[str, Any] = {"lines_per_cpu_second": count / spent, "ingest_seconds_per_million": spent / count * 1e6}
    result["bytes_per_line"] = sum(path.stat().st_size for path in spool.iterdir()) / count
    end = T0 + DAY + 1
    result["history_seconds"], answer = median(lambda: store.read(lambda con: latency_history(con, "support", T0 - 1, end, STRETCH)[0]))
    result["fine_seconds"], _ = median(lambda: store.read(lambda con: latency_history(con, "support", T0 - 1, end, FINE)[0]))
    hour = T0 + DAY / 2
    result["hour_seconds"], _ = median(lambda: store.read(lambda con: latency_history(con, "support", hour, hour + 3600, 30.0)[0]))
    slow = RequestFilter(endpoint="support", version="v2", status_low=400, slower_than_ms=2000)
    result["page_ms"] = 1e3 * median(lambda: store.read(lambda con: request_page(con, slow, count=True)))[0]
    result["newest_ms"] = 1e3 * median(lambda: store.read(lambda con: request_page(con, RequestFilter())))[0]
    result["detail_ms"] = 1e3 * median(lambda: store.read(lambda con: one_request(con, middle)))[0]
    result["answer"] = {(version, point["t"]): figures(point) for version, points in answer.items() for point in points}
    store.close()
    result["bytes_per_request"] = (scratch / "llmops.duckdb").stat().st_size / count
    return result


async def take_all(ingest: SpoolIngest) -> None:
    while (taken := await ingest.take()) is not None and taken.more:
        pass


def median(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of the median of five, and what came of it."""
    spent, answer = [], None
    for _ in range(5):
        began = time.process_time()
        answer = work()
        spent.append(time.process_time() - began)
    return sorted(spent)[2], answer


def figures(point: LatencyPoint) -> list[float]:
    return [point[f"{name}_{rank}"] or 0.0 for name in DURATIONS for rank in ("p50", "p95", "p99")]  # type: ignore[literal-required]


def measure_peers(spool: Path) -> dict[str, tuple[float, History]]:
    found = {}
    for name, work in (("json + numpy", by_json), ("DuckDB read_json", by_read_json)):
        began = time.process_time()
        answer = work(spool)
        found[name] = (time.process_time() - began, answer)
    return found


def by_json(spool: Path) -> History:
    """A plain script: read every line, then numpy."""
    groups: dict[tuple[str, float], list[tuple[float, ...]]] = {}
    for path in sorted(spool.glob("requests-*.jsonl")):
        with open(path, encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                key = row["version"], row["t"] // STRETCH * STRETCH
                groups.setdefault(key, []).append(tuple(row[f"{name}_ms"] for name in DURATIONS))
    return {
        key: [value for column in np.array(rows).T for value in np.quantile(column, (0.5, 0.95, 0.99)).tolist()]
        for key, rows in groups.items()
    }  # fmt: skip


def by_read_json(spool: Path) -> History:
    """DuckDB over the files, told which columns there are, on as many threads as the engine's database has."""
    columns = {"version": "VARCHAR", "t": "DOUBLE", **{f"{name}_ms": "DOUBLE" for name in DURATIONS}}
    quantiles = ", ".join(f"quantile_cont({name}_ms, [0.5, 0.95, 0.99])" for name in DURATIONS)
    with duckdb.connect(config={"threads": EngineSettings().database_threads}) as con:
        rows = con.execute(
            f"SELECT version, floor(t / {STRETCH}) * {STRETCH} AS begun, {quantiles} "
            f"FROM read_json('{spool}/requests-*.jsonl', format = 'newline_delimited', columns = {columns}) GROUP BY ALL"
        ).fetchall()
    return {(version, begun): [value for values in lists for value in values] for version, begun, *lists in rows}


def check_same(ours: History, peers: dict[str, tuple[float, History]]) -> None:
    for name, (_, theirs) in peers.items():
        if ours.keys() != theirs.keys() or not all(np.allclose(ours[key], theirs[key], rtol=1e-9) for key in ours):
            raise SystemExit(f"{name} and the engine do not agree")


def print_table(count: int, ours: dict[str, Any], peers: dict[str, tuple[float, History]]) -> None:
    rows = [
        ("lines taken in, a CPU second", f"{ours['lines_per_cpu_second']:,.0f}"),
        ("CPU seconds a million lines", f"{ours['ingest_seconds_per_million']:.1f}"),
        ("bytes a request in the database / in the spool", f"{ours['bytes_per_request']:.0f} / {ours['bytes_per_line']:.0f}"),
        (f"a day's latency by {STRETCH:.0f} s, 4 versions, exact quantiles, ms", f"{ours['history_seconds'] * 1e3:.0f}"),
        ("  the same by 10 s, ms", f"{ours['fine_seconds'] * 1e3:.0f}"),
        ("  an hour of it by 30 s, ms", f"{ours['hour_seconds'] * 1e3:.0f}"),
        *((f"  a day's from the lines with {name}, ms", f"{seconds * 1e3:.0f}") for name, (seconds, _) in peers.items()),
        ("the newest hundred, ms", f"{ours['newest_ms']:.1f}"),
        ("errors of a version slower than 2 s, counted, ms", f"{ours['page_ms']:.1f}"),
        ("one request by its id, ms", f"{ours['detail_ms']:.1f}"),
        ("peak memory of this process, MB", f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}"),
    ]
    print(f"{count:,} requests")
    for name, value in rows:
        print(f"{name:72}{value:>14}")


if __name__ == "__main__":
    sys.exit(main())
