"""`status`: everything the first screen shows, in one call."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from llmops_tui.client import Client
from llmops_tui.commands.connect import connect
from llmops_tui.commands.moment import clock
from llmops_tui.commands.money import cost, energy
from llmops_tui.commands.output import ago, duration, number, one_line, percent, print_fields, print_json, print_table, size, value_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from llmops_tui.specs.answers import GpuSample, Progress, RunSummary, Scalar

_WORTH_SAYING_SECONDS = 60.0


def status(args: argparse.Namespace) -> int:
    """Print one frame, of now or of the moment asked for, and leave."""
    return print_frame(connect(args), args.json, args.at)


def print_frame(client: Client, as_json: bool, at: float | None = None) -> int:
    """The engine, the box, what runs, what waits, what ended last; `at` (Unix seconds) shows a past moment."""
    frame = client.status() if at is None else client.at(at)
    if as_json:
        print_json(frame)
        return 0
    now = time.time() if at is None else frame["host"]["t"]
    engine, host = frame["engine"], frame["host"]
    print_fields(
        [
            ("as of", "" if at is None else f"{clock(now, time.time())}, {ago(now)}"),
            ("engine", f"{engine['version']}, pid {engine['pid']}, started {ago(engine['started_at'])}, {engine['home']}"),
            ("ingest", engine["ingest"] if engine["ingest"] != "ok" else ""),
            *(("warning", one_line(warning)) for warning in engine["warnings"]),
            ("cpu", f"{percent(host['cpu'])} of {host['cpu_cores']} cores, {host['cpu_slots_free']} of {host['cpu_slots']} slots free"),
            ("memory", f"{size(host['memory_used_bytes'])} of {size(host['memory_total_bytes'])}"),
            ("disk", f"{size(host['disk_free_bytes'])} free of {size(host['disk_total_bytes'])}"),
            *((f"gpu {gpu['index']}", gpu_line(gpu)) for gpu in frame["gpus"]),
        ]
    )
    for title, runs in (("running", frame["running"]), ("waiting", frame["waiting"]), ("recent", frame["recent"])):
        if runs:
            print(f"\n{title}")
            print_runs(runs, now, frame["currency"])
    if not (frame["running"] or frame["waiting"] or frame["recent"]):
        print("\nno runs yet; `llmops-tui demo` fine-tunes a small model, `llmops-tui run --help` shows how to start one")
    return 0


def gpu_line(gpu: GpuSample) -> str:
    """One GPU in one line."""
    if gpu["health"] != "ok":
        return f"{gpu['name']}: {gpu['health']}: {one_line(gpu['reason'])}"
    temperature = gpu["temperature_celsius"]
    parts = [
        gpu["name"],
        percent(gpu["utilisation"]),
        f"{size(gpu['memory_used_bytes'])} of {size(gpu['memory_total_bytes'])}",
        f"{number(gpu['power_watts'])} W",
        "-" if temperature is None else f"{temperature:.0f} °C",
    ]
    if gpu["held_by"]:
        parts.append("held by " + ", ".join(gpu["held_by"]))
    parts += gpu_words(gpu)
    if gpu["throttle_reasons"]:
        parts.append("throttled: " + ", ".join(gpu["throttle_reasons"]))
    return ", ".join(parts)


def gpu_words(gpu: GpuSample) -> list[str]:
    """What is odd about a GPU's use: held and idle for a minute or more, memory that no process accounts for; and who has it reserved."""
    words = []
    if reserved := gpu.get("reserved_by"):
        note = f" ({one_line(reserved['note'])})" if reserved["note"] else ""
        words.append(f"reserved by {reserved['owner']} until {clock(reserved['until'], time.time())}{note}")
    if gpu["idle_seconds"] is not None and gpu["idle_seconds"] >= _WORTH_SAYING_SECONDS:
        words.append(f"idle for {duration(gpu['idle_seconds'])}")
    if gpu["hidden_bytes"]:
        words.append(f"{size(gpu['hidden_bytes'])} in use without a process in sight")
    return words


def print_runs(
    runs: list[RunSummary],
    now: float | None = None,
    currency: str = "",
    columns: Sequence[str] = (),
    cells: Mapping[str, Mapping[str, Scalar]] | None = None,
) -> None:
    """The table of runs; `now` (Unix seconds) is the moment it shows, unset: the present. `cells` has the more `columns` by run id."""
    now = time.time() if now is None else now
    rows = []
    # A box without a GPU, or without a tariff, has nothing to say here.
    used: list[tuple[str, Callable[[RunSummary], str]]] = []
    if any(run["energy_joules"] is not None for run in runs):
        used.append(("ENERGY", lambda run: energy(run["energy_joules"])))
    if any(run["cost"] is not None for run in runs):
        used.append(("COST", lambda run: cost(run["cost"], currency)))
    for run in runs:
        started, ended = run["started_at"], run["ended_at"]
        took = "-" if started is None else duration((ended or now) - started)
        loss = run["latest"].get("train/loss", run["latest"].get("eval/loss"))
        note = run["reason"] if not ended or run["state"] != "succeeded" else ""
        more = [value_text(value) for value in (cells or {}).get(run["id"], {}).values()]
        rows.append([run["id"], run["state"], *more, progress_text(run["progress"]) if not ended else "", number(loss), took,
                     *(show(run) for _, show in used), f"{duration(now - run['submitted_at'])} ago", note[:80]])  # fmt: skip
    columns = list(dict.fromkeys(columns))
    head = ["RUN", "STATE", *columns, "PROGRESS", "LOSS", "TOOK", *(name for name, _ in used), "SUBMITTED", "WHY"]
    print_table(head, rows, right=[*range(2, 2 + len(columns)), *range(3 + len(columns), 5 + len(columns) + len(used))])


def progress_text(progress: Progress | None) -> str:
    """`train 12/24 steps, 3m05s left`"""
    if progress is None:
        return ""
    total = progress["total"]
    if not total and not progress["done"]:
        return progress["phase"]  # a phase that cannot be counted
    text = f"{progress['phase']} {number(progress['done'])}" + (f"/{number(total)}" if total else "")
    text += f" {progress['unit']}" if progress["unit"] else ""
    eta = progress["eta_seconds"]
    return text + (f", {duration(eta)} left" if eta is not None else "")
