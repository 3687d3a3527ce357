"""`status`: everything the first screen shows, in one call."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from llmops_tui.client import Client
from llmops_tui.commands.connect import connect
from llmops_tui.commands.moment import clock
from llmops_tui.commands.output import ago, duration, number, one_line, percent, print_fields, print_json, print_table, size

if TYPE_CHECKING:
    from llmops_tui.specs.answers import GpuSample, Progress, RunSummary


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
            print_runs(runs, now)
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
    if gpu["throttle_reasons"]:
        parts.append("throttled: " + ", ".join(gpu["throttle_reasons"]))
    return ", ".join(parts)


def print_runs(runs: list[RunSummary], now: float | None = None) -> None:
    """The table of runs; `now` (Unix seconds) is the moment it shows, unset: the present."""
    now = time.time() if now is None else now
    rows = []
    for run in runs:
        started, ended = run["started_at"], run["ended_at"]
        took = "-" if started is None else duration((ended or now) - started)
        loss = run["latest"].get("train/loss", run["latest"].get("eval/loss"))
        note = run["reason"] if not ended or run["state"] != "succeeded" else ""
        rows.append([run["id"], run["state"], progress_text(run["progress"]) if not ended else "", number(loss), took,
                     f"{duration(now - run['submitted_at'])} ago", note[:80]])  # fmt: skip
    print_table(["RUN", "STATE", "PROGRESS", "LOSS", "TOOK", "SUBMITTED", "WHY"], rows, right=[3, 4])


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
