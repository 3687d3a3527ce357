"""The fake engine's past: the same moment always looks the same, and nothing is told before it happened."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, cast

from llmops_tui.specs.answers import EngineEvent, EngineEvents, HostHistory, RunSummary, Status

GIB = 2**30


def loss_at(fraction: float) -> float:
    """A training loss that falls from 3.7 to 1.5 over a run."""
    return 1.5 + 2.2 * math.exp(-4 * fraction)


def cpu_at(t: float) -> float:
    return 0.5 + 0.4 * math.sin(t / 9)


def gpu_reading(name: str, index: int, t: float) -> float:
    """One reading of GPU `index`; each GPU has a rhythm of its own."""
    wave = math.sin(t / 13 + index)
    readings = {
        "utilisation": 0.85 + 0.15 * wave,
        "memory_used_bytes": float(int((60 + 2 * wave) * GIB)),
        "power_watts": 600 + 80 * wave,
        "temperature_celsius": 66 + 5 * wave,
        "sm_clock_mhz": float(round(1900 + 80 * wave)),
    }
    return readings[name]


def run_at(run: RunSummary, t: float, now: float) -> RunSummary | None:
    """The run as it stood at `t`; None before it was submitted."""
    if run["submitted_at"] > t:
        return None
    past = copy.deepcopy(run)
    if run["ended_at"] is not None and run["ended_at"] <= t:
        return past
    past["ended_at"] = past["exit_code"] = None
    if run["started_at"] is None or run["started_at"] > t:
        past.update(state="queued" if run["started_at"] is not None else run["state"], started_at=None, gpus=[], progress=None, latest={})
        return past
    share = fraction_at(run, t, now)
    past["state"] = run["state"] if run["ended_at"] is None else "running"
    if past["ended_at"] is None and run["ended_at"] is not None:
        past["reason"] = ""
    past["latest"] = {name: loss_at(share) if name.endswith("/loss") else value for name, value in run["latest"].items()}
    if progress := past["progress"]:
        progress["done"] = math.floor(progress["done"] * share)
    return past


def fraction_at(run: RunSummary, t: float, now: float) -> float:
    """How much of what the run has done by now was done at `t`, 0–1."""
    start = run["started_at"]
    if start is None or t <= start:
        return 0.0
    end = run["ended_at"] or now
    return min(1.0, (t - start) / max(1.0, end - start))


def status_at(status: Status, t: float, now: float) -> Status:
    """`status` as it was at `t`."""
    every = [past for run in (*status["running"], *status["waiting"], *status["recent"]) if (past := run_at(run, t, now))]
    answer = copy.deepcopy(status)
    answer["running"] = [run for run in every if run["state"] in ("starting", "running", "stopping")]
    answer["waiting"] = [run for run in every if run["state"] in ("queued", "blocked")]
    answer["recent"] = [run for run in every if run["ended_at"] is not None]
    answer["counts"] = {state: sum(run["state"] == state for run in every) for state in {run["state"] for run in every}}
    answer["host"].update(t=t, cpu=cpu_at(t))
    for gpu in answer["gpus"]:
        values: dict[str, Any] = cast("dict[str, Any]", gpu)
        for name in ("utilisation", "memory_used_bytes", "power_watts", "temperature_celsius", "sm_clock_mhz"):
            values[name] = gpu_reading(name, gpu["index"], t)
    return answer


def history(start: float, end: float, points: int, gpus: Sequence[int]) -> HostHistory:
    """The curves between two moments, with the values `status_at` tells."""
    count = max(1, min(points, int(end - start) + 1))
    times = [start + (end - start) * n / max(1, count - 1) for n in range(count)]
    curves: dict[str, list[float | None]] = {
        "host/cpu": [cpu_at(t) for t in times],
        "host/memory_used_bytes": [21.0 * GIB for _ in times],
    }
    for index in gpus:
        for name in ("utilisation", "memory_used_bytes", "power_watts", "temperature_celsius", "sm_clock_mhz"):
            curves[f"gpu/{index}/{name}"] = [gpu_reading(name, index, t) for t in times]
    return {"t": times, "series": curves}


def events_of(runs: Sequence[RunSummary]) -> list[EngineEvent]:
    """What the engine told of these runs, numbered by time."""
    told: list[tuple[float, str, str]] = []
    for run in runs:
        told.append((run["submitted_at"], run["id"], "queued"))
        if run["started_at"] is not None:
            told.append((run["started_at"], run["id"], "running"))
        if run["ended_at"] is not None:
            told.append((run["ended_at"], run["id"], run["state"]))
    reasons = {run["id"]: run["reason"] for run in runs if run["ended_at"] is not None}
    return [
        {
            "seq": seq, "t": t, "type": "run.state", "run": run_id,
            "data": {"state": state, "reason": "" if state in ("queued", "running") else reasons[run_id], "attempt": 1,
                     "exit_code": None, "gpus": [], "priority": 0},
        }
        for seq, (t, run_id, state) in enumerate(sorted(told), 1)
    ]  # fmt: skip


def choose(
    events: Sequence[EngineEvent],
    after: int,
    limit: int,
    newest: bool,
    types: Sequence[str],
    run: str,
    since: float | None,
    until: float | None,
) -> EngineEvents:
    """The events asked for, as the engine chooses them."""
    left_out = {name.removeprefix("-") for name in types if name.startswith("-")}
    types = [name for name in types if not name.startswith("-")]
    found = [
        event
        for event in events
        if event["seq"] > after
        and (not types or event["type"] in types)
        and event["type"] not in left_out
        and (not run or event["run"] == run)
        and (since is None or event["t"] >= since)
        and (until is None or event["t"] <= until)
    ]
    return {"epoch": "e", "events": found[-limit:] if newest else found[:limit]}
