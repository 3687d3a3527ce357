"""How much CPU the viewer takes until its first full frame, and how much CPU and how many bytes a second it takes afterwards.

Ours (against a real engine with a run that writes metrics) beside the smallest Textual app, and btop where it is installed; all through a
pseudo-terminal of 140 × 40 cells, in the same run. `ratio` is our first paint over the smallest Textual app's.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from dataclasses import dataclass
from pathlib import Path

ROWS, COLUMNS = 40, 140
PAINT_BAR_SECONDS, STATUS_BAR_SECONDS = 0.6, 0.3
IDLE_BAR, WIRE_BAR_BYTES, MEMORY_BAR_MIB = 0.05, 20_000, 80
_TICKS = os.sysconf("SC_CLK_TCK")
_ESCAPES = re.compile(rb"\x1b(?:\[[0-9;:?<=>]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|P[^\x1b]*\x1b\\|[@-Z\\^_])")

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


@dataclass
class Measured:
    """CPU seconds until `text` stood on the terminal, then shares and bytes a second of the quiet time."""

    paint_cpu_seconds: float
    idle_cpu: float
    bytes_per_second: float
    rss_mib: float


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def rss_mib(pid: int) -> float:
    """Resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def watch(argv: list[str], text: str, settle_seconds: float, idle_seconds: float, environment: dict[str, str]) -> Measured:
    """Run a program on a pseudo-terminal until `text` is painted, then watch it for `idle_seconds`."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(argv[0], argv, environment)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    try:
        seen, deadline = b"", time.monotonic() + 60
        while text.encode() not in _ESCAPES.sub(b"", seen):
            if time.monotonic() > deadline:
                raise SystemExit(f"{argv[0]} did not paint {text!r} within 60 s; it said: {_ESCAPES.sub(b'', seen)[-400:]!r}")
            seen += _read(terminal, 0.005)
        paint = cpu_seconds(pid)
        _drain(terminal, settle_seconds)
        before, began = cpu_seconds(pid), time.monotonic()
        count = _drain(terminal, idle_seconds)
        spent = time.monotonic() - began
        return Measured(paint, (cpu_seconds(pid) - before) / spent, count / spent, rss_mib(pid))
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


def _read(terminal: int, seconds: float) -> bytes:
    if not select.select([terminal], [], [], seconds)[0]:
        return b""
    try:
        return os.read(terminal, 1 << 16)
    except OSError:
        return b""


def _drain(terminal: int, seconds: float) -> int:
    count, deadline = 0, time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        count += len(_read(terminal, left))
    return count


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
