"""A client that answers from memory: two runs with real-looking curves, a log of any size, an engine that can be lost."""

from __future__ import annotations

import math
import queue
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from llmops_tui.engine.log_scan import Bounds, Needle
from llmops_tui.engine.log_search import filter_log, search_log
from llmops_tui.errors import EngineUnavailableError, NotFoundError
from llmops_tui.specs.answers import (
    Comparison,
    Done,
    EngineEvent,
    EngineEvents,
    EngineInfo,
    GpuSample,
    HostHistory,
    LogFilter,
    LogSearch,
    RunDetail,
    RunPage,
    RunSummary,
    Series,
    Span,
    Status,
)
from llmops_tui.specs.answers_sweep import SweepAnswer
from llmops_tui.specs.log_text import PIECE_BYTES
from llmops_tui.specs.reproduction import Difference, Reproduction
from tests.tui import fake_past
from tests.tui.fake_archive import Archive, comparison
from tests.tui.fake_form import FormAnswers
from tests.tui.fake_people import PeopleAnswers
from tests.tui.fake_serving import FakeServing
from tests.tui.fake_sweep import sweep_answer
from tests.tui.fake_watch import WatchAnswers

NOW = time.time()


OLD_SPEC: dict[str, Any] = {
    "kind": "train", "model": "smollm2", "dataset": {"name": "fiqa", "eval_fraction": 0.1}, "seed": 17,
    "optim": {"learning_rate": 2e-4, "steps": 960}, "lora": {"rank": 16}, "tags": ["demo"],
}  # fmt: skip


class Part(NamedTuple):
    """Like `client.LogChunk`."""

    data: bytes
    offset: int
    next_offset: int
    size: int
    first_kept: int


def summary(run_id: str, state: str, **changes: Any) -> RunSummary:
    """A row of the runs table."""
    ended = state not in ("queued", "blocked", "running", "starting", "stopping")
    row: dict[str, Any] = {
        "id": run_id, "kind": run_id.split("-")[0], "name": run_id.split("-")[1], "state": state, "reason": "", "attempt": 1,
        "priority": 0, "queue_position": None, "owner": "ada", "tags": [], "note": "", "baseline": False, "submitted_at": NOW - 900,
        "started_at": None if state in ("queued", "blocked") else NOW - 880, "ended_at": NOW - 100 if ended else None,
        "exit_code": 0 if state == "succeeded" else 1 if state == "failed" else None, "gpus": [], "progress": None, "latest": {},
        "gpu_seconds": 0.0, "energy_joules": None, "cost": None, "parent": "",
    }  # fmt: skip
    row.update(changes)
    return row  # type: ignore[return-value]


def gpu(index: int, **changes: Any) -> GpuSample:
    """A GPU's sample."""
    sample: dict[str, Any] = {
        "index": index, "uuid": f"GPU-{index}", "name": "NVIDIA H100 80GB HBM3", "health": "ok", "reason": "", "utilisation": 0.93,
        "memory_used_bytes": 61 << 30, "memory_total_bytes": 80 << 30, "power_watts": 612.0, "power_limit_watts": 700.0,
        "temperature_celsius": 67.0, "sm_clock_mhz": 1980, "memory_clock_mhz": 2619, "throttle_reasons": [],
        "pcie_rx_bytes_per_second": 1e9, "pcie_tx_bytes_per_second": 1e8, "pcie_generation": 5, "pcie_width": 16,
        "ecc_uncorrected": 0, "energy_joules": 1e6, "xid": [], "processes": [], "held_by": [],
        "holders": [], "held_since": None, "idle_seconds": None, "hidden_bytes": None, "reserved_by": None,
    }  # fmt: skip
    sample.update(changes)
    return sample  # type: ignore[return-value]


@dataclass
class FakeEngine(FormAnswers, PeopleAnswers, WatchAnswers):
    """Everything the screens ask for. `lost` makes every call fail like an engine that has gone.

    `now` is when all this is so: the runs' times lie before it. `clock` is what the engine's own watch says.
    """

    lost: bool = False
    gpus: list[GpuSample] = field(default_factory=list)
    log_bytes: bytes | None = None
    log_size: int = 0
    log_reads: list[tuple[int, int]] = field(default_factory=list)
    stops: list[tuple[str, str]] = field(default_factory=list)
    checkpoints: list[str] = field(default_factory=list)
    asked: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    reproduced: list[str] = field(default_factory=list)
    retried: list[str] = field(default_factory=list)
    started: int = 0
    calls: int = 0
    running: list[RunSummary] = field(default_factory=list)
    waiting: list[RunSummary] = field(default_factory=list)
    recent: list[RunSummary] = field(default_factory=list)
    stream: queue.Queue[EngineEvent] = field(default_factory=queue.Queue)
    old_runs: int = 0
    said: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    outcomes: dict[str, dict[str, Any]] = field(default_factory=dict)
    capsule: dict[str, Any] | None = None
    now: float = NOW
    clock: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        self.archive = Archive(self.old_runs, self.now)
        self.serving = FakeServing(self._check, self.now)
        if not self.running:
            self.running = [
                summary(
                    "train-fiqa-0003", "running",
                    progress={"phase": "train", "done": 412.0, "total": 960.0, "unit": "step", "eta_seconds": 754.0},
                    latest={"train/loss": 1.4887, "eval/loss": 1.6927, "train/learning_rate": 1.7e-4, "perf/tokens_per_second": 51.3,
                            "train/grad_norm": 0.83},
                ),
                summary("command-prepare-0007", "running",
                        progress={"phase": "rows", "done": 120344.0, "total": None, "unit": "rows", "eta_seconds": None}),
            ]  # fmt: skip
            self.waiting = [
                summary("evaluate-fiqa-0004", "blocked", reason="waits for train-fiqa-0003"),
                summary("train-boolq-0005", "queued", reason="waits for a CPU slot", queue_position=1),
            ]
            self.recent = [
                summary("train-fiqa-0002", "succeeded", latest={"train/loss": 1.6021}),
                summary("train-fiqa-0001", "out_of_memory", reason="CUDA out of memory at step 3", latest={"train/loss": 3.21}),
                summary("evaluate-base-0006", "failed", reason="exit code 1"),
            ]
        if self.log_bytes is None and not self.log_size:
            lines = (f"step {n:5d}  loss {1.5 + 2 * math.exp(-n / 300):.4f}  grad_norm 0.{n % 97:02d}" for n in range(4000))
            self.log_bytes = "\n".join(lines).encode() + b"\n"
        if self.log_bytes is not None:
            self.log_size = len(self.log_bytes)
        for run in (*self.running, *self.waiting, *self.recent):
            times = {name: run[name] for name in ("submitted_at", "started_at", "ended_at")}  # type: ignore[literal-required]
            run.update({name: self.now + round(at - NOW, 3) for name, at in times.items() if at is not None})  # type: ignore[typeddict-item]

    def _check(self) -> None:
        self.calls += 1
        if self.lost:
            raise EngineUnavailableError("no engine runs for /home/ada/.local/state/llmops-tui", "start it with `llmops-tui engine start`")

    def info(self) -> EngineInfo:
        return {
            "pid": 4242, "host": "node-7", "version": "0.1.0", "home": "/home/ada", "started_at": self.now, "epoch": "e",
            "ingest": "ok", "warnings": [],
            "shared": False, "group": "", "you": {"user": "ada", "uid": 1000, "role": "admin", "read_only": False},
        }  # fmt: skip

    def ensure_engine(self) -> EngineInfo:
        self.started += 1
        self._check()
        return self.info()

    def status(self) -> Status:
        self._check()
        every = [*self.running, *self.waiting, *self.recent]
        counts = {state: sum(run["state"] == state for run in every) for state in {run["state"] for run in every}}
        return {
            "engine": self.info(),
            "host": {
                "t": self.clock(), "cpu": 0.62, "cpu_cores": 16, "load_1m": 9.31, "memory_used_bytes": 21 << 30,
                "memory_total_bytes": 64 << 30, "disk_free_bytes": 410 << 30, "disk_total_bytes": 1800 << 30,
                "cpu_slots": 4, "cpu_slots_free": 2,
            },
            "gpus": self.gpus, "running": self.running, "waiting": self.waiting, "recent": self.recent, "counts": counts,
            "currency": "EUR", "serving": self.serving.overview(),
        }  # fmt: skip

    def _moment(self) -> float:
        return self.now

    def run(self, run_id: str, /) -> RunDetail:
        self._check()
        servers = [summary(name, "running", submitted_at=self.now - 900) for name in self.serving.runs()]
        for run in [*self.archive.every([*self.running, *self.waiting, *self.recent]), *servers]:
            if run["id"] == run_id:
                detail: dict[str, Any] = {
                    **run, "directory": f"/home/ada/.local/state/llmops-tui/runs/{run_id}",
                    "cwd": "/home/ada/work",
                    "spec": self.specs.get(run_id) or OLD_SPEC,
                    "journal": [{"t": self.now - 900, "entry": "state", "state": "queued", "attempt": 1, "reason": "", "data": {}},
                                {"t": self.now - 880, "entry": "state", "state": "running", "attempt": 1, "reason": "2 CPU slots",
                                 "data": {}}],
                    "checkpoints": [{"step": 200, "path": "checkpoints/200", "bytes": 18 << 20, "t": self.now - 500},
                                    {"step": 400, "path": "checkpoints/400", "bytes": 18 << 20, "t": self.now - 60}],
                    "capsule": self.capsule, "metrics": sorted(run["latest"]), "predicted": self.predicted, "measured": self.measured,
                    **({"outcome": self.outcomes[run_id]} if run_id in self.outcomes else {}),
                }  # fmt: skip
                return detail  # type: ignore[return-value]
        raise NotFoundError(f"there is no run {run_id}", "see `llmops-tui runs list`")

    def series(
        self,
        run_id: str,
        metrics: Sequence[str],
        /,
        points: int,
        step_first: int | None = None,
        step_last: int | None = None,
        until: float | None = None,
    ) -> list[Series]:
        self._check()
        answer: list[Series] = []
        for name in metrics:
            buckets = [
                bucket
                for bucket in self._buckets(name, points)
                if (until is None or (bucket[7] or 0.0) <= until)
                and (step_first is None or (bucket[0] or 0) >= step_first)
                and (step_last is None or (bucket[0] or 0) <= step_last)
            ]
            answer.append({"metric": name, "total_points": int(sum(bucket[2] or 0 for bucket in buckets)), "buckets": buckets})
        return answer

    def _buckets(self, name: str, points: int) -> list[list[float | None]]:
        noise = random.Random(name)
        buckets: list[list[float | None]] = []
        for step in range(40 if name.startswith("eval") else 1, 413, 40 if name.startswith("eval") else 1):
            value = 1.5 + 2.2 * math.exp(-step / 120) + noise.gauss(0, 0.08) + (0.1 if name.startswith("eval") else 0)
            buckets.append([step, step, 1, value, value, value, value, self.now - 880 + 2 * step])
        if points == 1:
            values = [bucket[3] or 0.0 for bucket in buckets]
            return [[1, 412, len(values), min(values), max(values), sum(values) / len(values), values[-1], self.now]]
        return buckets

    def log(self, run_id: str, /, offset: int, limit: int) -> Part:
        self._check()
        self.log_reads.append((offset, limit))
        offset = max(0, self.log_size + offset) if offset < 0 else min(offset, self.log_size)
        end = min(self.log_size, offset + limit)
        data = self.log_bytes[offset:end] if self.log_bytes is not None else self._made_up(offset, end)
        return Part(data, offset, offset + len(data), self.log_size, 0)

    @staticmethod
    def _made_up(begin: int, end: int) -> bytes:
        """A file too large to exist: line n lies at byte 32 n and says so."""
        lines = b"".join(b"line %010d ---------------\n" % n for n in range(begin // 32, end // 32 + 1))
        return lines[begin % 32 : begin % 32 + end - begin]

    def log_search(
        self, run_id: str, pattern: str, /, regex: bool = False, ignore_case: bool = False, offset: int = 0, until: int | None = None,
        backward: bool = False, limit: int = 100,
    ) -> LogSearch:  # fmt: skip
        self._check()
        bounds = Bounds(offset, -1 if until is None else until, backward, limit)
        with self._log_file() as path:
            return search_log(path, Needle(pattern, regex, ignore_case), bounds)

    def log_filter(
        self, run_id: str, pattern: str, /, regex: bool = False, ignore_case: bool = False, offset: int = 0, until: int | None = None,
        backward: bool = False, limit: int = 200, context: int = 0,
    ) -> LogFilter:  # fmt: skip
        self._check()
        bounds = Bounds(offset, -1 if until is None else until, backward, limit, PIECE_BYTES)
        with self._log_file() as path:
            return filter_log(path, Needle(pattern, regex, ignore_case), bounds, context)

    @contextmanager
    def _log_file(self) -> Iterator[Path]:
        """The log where the engine's own search can read it."""
        with tempfile.NamedTemporaryFile() as file:
            file.write(self.log_bytes or b"")
            file.flush()
            yield Path(file.name)

    def at(self, t: float, /) -> Status:
        return fake_past.status_at(self.status(), t, self.now)

    def span(self) -> Span:
        self._check()
        return {"first": self.now - 3600, "last": self.now}

    def events(
        self,
        after: int = 0,
        limit: int = 1000,
        newest: bool = False,
        types: Sequence[str] = (),
        run: str = "",
        since: float | None = None,
        until: float | None = None,
    ) -> EngineEvents:
        self._check()
        told = fake_past.events_of([*self.running, *self.waiting, *self.recent])
        return fake_past.choose(told, after, limit, newest, types, run, since, until)

    def log_bytes_at(self, run_id: str, t: float, /) -> int | None:
        """Grows evenly from the run's start until now; None for a run that had not started."""
        run = next((run for run in (*self.running, *self.waiting, *self.recent) if run["id"] == run_id), None)
        if run is None or run["started_at"] is None or run["started_at"] > t:
            return None
        self._check()
        return int(self.log_size * fake_past.fraction_at(run, t, self.now))

    def host_history(self, seconds: float = 600.0, start: float | None = None, end: float | None = None, points: int = 600) -> HostHistory:
        self._check()
        if start is not None or end is not None:
            last = self.now if end is None else end
            return fake_past.history(last - seconds if start is None else start, last, points, [gpu["index"] for gpu in self.gpus])
        cpu: list[float | None] = [0.5 + 0.4 * math.sin(n / 9) for n in range(120)]
        memory: list[float | None] = [(18 + n / 40) * 2**30 for n in range(120)]
        return {"t": [self.now + n for n in range(120)], "series": {"host/cpu": cpu, "host/memory_used_bytes": memory}}

    def stop_run(self, run_id: str, mode: str, /) -> RunSummary:
        self._check()
        self.stops.append((run_id, mode))
        return summary(run_id, "stopping")

    def checkpoint(self, run_id: str, /) -> RunSummary:
        self._check()
        self.checkpoints.append(run_id)
        return summary(run_id, "running")

    def control(self, run_id: str, command: str, arguments: Mapping[str, Any] | None = None, /) -> RunSummary:
        self._check()
        self.asked.append((run_id, command, dict(arguments or {})))
        return summary(run_id, "running")

    def reproduce(self, run_id: str, /, anyway: bool = False, dry_run: bool = False) -> Reproduction:
        self._check()
        if not dry_run:
            self.reproduced.append(run_id)
        differences = [
            Difference(what="package torch", then="2.12.0", now="2.13.0"),
            Difference(what="git diff", then="", now="changes 0a1b2c"),
        ]
        return Reproduction(of=run_id, differences=differences, run=None if dry_run else summary("train-fiqa-0053", "queued"))

    def runs(
        self, *, filter: str = "", sort: str = "", descending: bool = True, limit: int = 100, offset: int = 0,
        columns: Sequence[str] = (), around: str = "",
    ) -> RunPage:  # fmt: skip
        self._check()
        self.archive.specs = self.specs
        return self.archive.page(
            [*self.running, *self.waiting, *self.recent], filter, sort, descending, limit, offset, columns, around
        )  # fmt: skip

    def waiting_runs(self) -> list[RunSummary]:
        return self.waiting

    def queue_run(self, run_id: str) -> RunSummary:
        self.waiting.append(summary(run_id, "queued"))
        return self.waiting[-1]

    def annotate(
        self, run_id: str, /, tags: Sequence[str] | None = None, note: str | None = None, baseline: bool | None = None
    ) -> RunSummary:
        self._check()
        told = {"tags": None if tags is None else list(tags), "note": note, "baseline": baseline}
        changes = {name: value for name, value in told.items() if value is not None}
        self.archive.changes[run_id] = {**self.archive.changes.get(run_id, {}), **changes}
        for group in (self.running, self.waiting, self.recent):
            for run in group:
                if run["id"] == run_id:
                    run.update(changes)  # type: ignore[typeddict-item]
        return self.run(run_id)

    def retry(self, run_id: str, /) -> RunSummary:
        self._check()
        self.retried.append(run_id)
        return summary(run_id, "queued")

    def remove(self, run_id: str, /) -> Done:
        self._check()
        self.archive.removed.add(run_id)
        self.recent = [run for run in self.recent if run["id"] != run_id]
        return {"done": f"removed {run_id}"}

    def sweep(self, run_id: str, /) -> SweepAnswer:
        self._check()
        return sweep_answer(self.now)

    def compare(self, run_ids: Sequence[str], /) -> Comparison:
        self._check()
        every = {run["id"]: run for run in self.archive.every([*self.running, *self.waiting, *self.recent])}
        return comparison([every[run_id] for run_id in run_ids])

    def run_events(self, run_id: str, /, after: int = 0, types: Sequence[str] = (), limit: int = 1000) -> list[dict[str, Any]]:
        self._check()
        return [event for event in self.said.get(run_id, []) if event["offset"] > after and (not types or event["type"] in types)][:limit]

    def stream_events(self) -> Iterator[EngineEvent]:
        while True:
            yield self.stream.get()
