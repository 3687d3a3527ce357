"""How much CPU the viewer takes until its first full frame, and how much CPU and how many bytes a second it takes afterwards.

Ours (against a real engine with a run that writes metrics) beside the smallest Textual app, and btop where it is installed; all through a
pseudo-terminal of 140 × 40 cells, in the same run. `ratio` is our first paint over the smallest Textual app's.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from terminal_watch import watch

PAINT_BAR_SECONDS, STATUS_BAR_SECONDS = 0.6, 0.3
IDLE_BAR, WIRE_BAR_BYTES, MEMORY_BAR_MIB = 0.05, 20_000, 80

SMALLEST = """
from textual.app import App
from textual.widgets import Static
class Smallest(App):
    def compose(self):
        yield Static("ready")
Smallest().run()
"""
JOB = """
import json, math, os, time
with open(os.environ["LLMOPS_RUN_DIR"] + "/events.jsonl", "a", buffering=1) as events:
    for step in range(1, 100000):
        values = {"train/loss": 1.5 + 2 * math.exp(-step / 60), "train/grad_norm": 1 / step}
        events.write(json.dumps({"t": time.time(), "type": "metric", "step": step, "values": values}) + "\\n")
        time.sleep(1)
"""


def status_cpu_seconds(program: list[str], environment: dict[str, str]) -> float:
    """CPU of one `status --json` against the running engine."""
    before = os.times()
    subprocess.run([*program, "status", "--json"], env=environment, check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and a shorter quiet time")
    quick = parser.parse_args().quick
    rounds, settle, idle = (2, 5.0, 8.0) if quick else (5, 8.0, 30.0)
    program = [sys.executable, "-m", "llmops_tui"]
    with tempfile.TemporaryDirectory(prefix="llmops-paint-") as home:
        environment = {**os.environ, "LLMOPS_HOME": home, "TERM": "xterm-256color", "COLORTERM": "truecolor", "LC_ALL": "C.UTF-8"}
        environment.pop("NO_COLOR", None)
        job = Path(home) / "job.py"
        job.write_text(JOB)
        submitted = subprocess.run(
            [*program, "run", "command", "--name", "curve", "--", sys.executable, str(job)],
            env=environment, check=True, capture_output=True, text=True,
        )  # fmt: skip
        try:
            frames, full, smallest, status = [], [], [], []
            for _ in range(rounds):
                frames.append(watch(program, "connecting to the engine", 0, 0, environment).paint_cpu_seconds)
                full.append(watch(program, " LIVE ", 0, 0, environment).paint_cpu_seconds)
                smallest.append(watch([sys.executable, "-c", SMALLEST], "ready", 0, 0, environment).paint_cpu_seconds)
                status.append(status_cpu_seconds(program, environment))
            ours = watch(program, " LIVE ", settle, idle, environment)
            peer = watch([sys.executable, "-c", SMALLEST], "ready", 1, 2, environment)
            btop = watch(["btop"], "cpu", settle, idle, environment) if shutil.which("btop") else None
        finally:
            subprocess.run([*program, "runs", "stop", submitted.stdout.strip()], env=environment, check=False, capture_output=True)
            subprocess.run([*program, "engine", "stop"], env=environment, check=False, capture_output=True)
    frame, live, bare, asked = min(frames), min(full), min(smallest), min(status)
    print(f"{'':34}{'first paint':>14}{'at 1 Hz':>10}{'to terminal':>14}{'RSS':>10}")
    rows = [("llmops-tui (frame, then live data)", frame, ours), ("smallest Textual app (static)", bare, peer)]
    rows += [("btop", btop.paint_cpu_seconds, btop)] if btop else []
    for name, paint, measured in rows:
        rates = f"{measured.idle_cpu:>9.1%} {measured.bytes_per_second / 1000:>9.1f} kB/s{measured.rss_mib:>6.0f} MiB"
        print(f"{name:34}{paint:>10.2f} cpu-s{rates}")
    print(f"first frame with the engine's data {live:>9.2f} cpu-s")
    print(f"status --json                      {asked:>9.2f} cpu-s")
    holds = (
        live <= PAINT_BAR_SECONDS
        and asked <= STATUS_BAR_SECONDS
        and ours.idle_cpu <= IDLE_BAR
        and ours.bytes_per_second <= WIRE_BAR_BYTES
        and ours.rss_mib <= MEMORY_BAR_MIB
    )
    answer = {
        "benchmark": "first_paint",
        "ours": {
            "first_frame_cpu_seconds": frame, "live_frame_cpu_seconds": live, "status_json_cpu_seconds": round(asked, 3),
            "idle_cpu": round(ours.idle_cpu, 4), "bytes_per_second": round(ours.bytes_per_second), "rss_mib": round(ours.rss_mib, 1),
        },
        "peer": {"smallest_textual_app_cpu_seconds": bare, "btop_cpu_seconds": btop.paint_cpu_seconds if btop else None},
        "ratio": round(frame / bare, 2),
        "bar": {
            "live_frame_cpu_seconds": PAINT_BAR_SECONDS, "status_json_cpu_seconds": STATUS_BAR_SECONDS, "idle_cpu": IDLE_BAR,
            "bytes_per_second": WIRE_BAR_BYTES, "rss_mib": MEMORY_BAR_MIB,
        },
        "holds": holds,
    }  # fmt: skip
    print(json.dumps(answer))
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
