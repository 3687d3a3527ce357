"""What the console costs while it is only looked at: CPU, bytes to the terminal and memory at 1 Hz with 8 GPUs and a running job.

    python benchmarks/wire.py [--quick]

A real engine reads 8 GPUs through pynvml from the C library of the tests, whose readings change every half second; a job writes a
metric a second; for the Serve page llama.cpp answers two requests a second. The console is watched through a pseudo-terminal of
140 x 40 cells, at full rate and in low-bandwidth mode, beside nvitop on the same library and btop where it is installed. `ratio` is
nvitop's bytes a second over ours, of the page that sends the most.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from peer_environment import peer_python
from terminal_watch import Measured, watch

sys.path.insert(0, str(Path(__file__).parents[1]))

from llmops_tui.client import Client
from llmops_tui.paths import Home
from tests.nvml.driver import GIB, FakeNvml, compile_library
from tests.serving.serving_engine import free_port
from tests.serving.tiny_gguf import write_model

GPUS = 8
CPU_BAR, WIRE_BAR_BYTES, SLOW_BAR_BYTES, MEMORY_BAR_MIB = 0.05, 15_000, 3_000, 80
NVITOP = "nvitop==1.7.2"
JOB = """
import json, math, os, time
with open(os.environ["LLMOPS_RUN_DIR"] + "/events.jsonl", "a", buffering=1) as events:
    for step in range(1, 100000):
        values = {"train/loss": 1.5 + 2 * math.exp(-step / 60), "train/grad_norm": 1 / step}
        events.write(json.dumps({"t": time.time(), "type": "metric", "step": step, "values": values}) + "\\n")
        time.sleep(1)
"""


def play(nvml: FakeNvml, stop: threading.Event) -> None:
    """GPUs at work: every reading moves, as on a training box."""
    dice = random.Random(7)
    beat = 0
    while not stop.wait(0.5):
        beat += 1
        for index in range(GPUS):
            load = 70 + 25 * math.sin(beat / 7 + index) + dice.uniform(-5, 5)
            nvml.set_gpu(
                index, utilisation=int(max(0, min(100, load))), memory_used=int((12 + load / 20) * GIB), power=int(80_000 + 3_300 * load),
                temperature=int(40 + load / 3), clock_sm=int(1200 + 6 * load), energy=7_000_000 + 150_000 * beat,
            )  # fmt: skip


@contextmanager
def served(program: list[str], home: Path, port: int, environment: dict[str, str]) -> Iterator[None]:
    """An endpoint of a model of one layer that is asked twice a second; on the CPU, whose time is not the console's."""
    model = write_model(home / "tiny.gguf")
    start = ["endpoints", "start", str(model), "--name", "support", "--gpus", "0", "--context", "256", "--slots", "2"]
    subprocess.run([*program, *start], env=environment, check=True, capture_output=True)
    over = threading.Event()
    body = {"model": "support", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 16, "stream": True}

    def ask() -> None:
        while not over.wait(0.5):
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
            )
            with suppress(OSError), urllib.request.urlopen(request, timeout=10) as answer:
                answer.read()

    asker = threading.Thread(target=ask, daemon=True)
    asker.start()
    try:
        yield
    finally:
        over.set()
        asker.join()
        subprocess.run([*program, "endpoints", "stop", "support", "--yes"], env=environment, check=False, capture_output=True)
        await_end(Client(Home(home / "state", explicit=True)))


def await_end(client: Client) -> None:
    """Until server and gateway are gone: they would outlive the engine."""
    deadline = time.monotonic() + 60
    while client.serving.gateway()["state"] != "off" and time.monotonic() < deadline:
        time.sleep(0.2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a shorter look at each")
    settle, idle = (4.0, 8.0) if parser.parse_args().quick else (8.0, 40.0)
    program = [sys.executable, "-m", "llmops_tui"]
    nvitop = peer_python("nvitop", [NVITOP]).with_name("nvitop")
    with tempfile.TemporaryDirectory(prefix="llmops-wire-") as home:
        nvml = FakeNvml(compile_library(Path(home) / "nvml"), Path(home) / "gpus", GPUS)
        stop = threading.Event()
        threading.Thread(target=play, args=(nvml, stop), daemon=True).start()
        environment = {
            **nvml.environment(), "LLMOPS_HOME": f"{home}/state", "TERM": "xterm-256color", "COLORTERM": "truecolor", "LC_ALL": "C.UTF-8",
        }  # fmt: skip
        environment.pop("NO_COLOR", None)
        port = free_port()
        (Path(home) / "state").mkdir()
        (Path(home) / "state" / "config.toml").write_text(f"[serving]\nport = {port}\n")
        job = Path(home) / "job.py"
        job.write_text(JOB)
        submitted = subprocess.run(
            [*program, "run", "command", "--name", "curve", "--set", "resources.gpus=1", "--", sys.executable, str(job)],
            env=environment, check=True, capture_output=True, text=True,
        )  # fmt: skip
        try:
            ours = watch(program, " LIVE ", settle, idle, environment)
            gpus = watch(program, " LIVE ", settle, idle, environment, b"4")
            slow = watch(program, " LIVE ", settle, idle, environment, b":low on\r")
            with served(program, Path(home), port, environment):
                serve = watch(program, " LIVE ", settle, idle, environment, b"6")
            peers = {"nvitop, the same 8 GPUs": watch([str(nvitop), "--monitor", "full"], "GPU", settle, idle, environment)}
            if shutil.which("btop"):
                (Path(home) / "btop").mkdir()
                (Path(home) / "btop" / "btop.conf").write_text("update_ms = 1000\n")
                peers["btop"] = watch(["btop"], "cpu", settle, idle, {**environment, "XDG_CONFIG_HOME": home})
        finally:
            stop.set()
            subprocess.run([*program, "runs", "stop", "--now", submitted.stdout.strip()], env=environment, check=False, capture_output=True)
            subprocess.run([*program, "engine", "stop"], env=environment, check=False, capture_output=True)
    ours_by_page = {"llmops-tui, Pulse": ours, "llmops-tui, GPUs": gpus, "llmops-tui, Serve": serve, "llmops-tui, low bandwidth": slow}
    shown: dict[str, Measured] = {**ours_by_page, **peers}
    print(f"{'':28}{'CPU at 1 Hz':>14}{'to the terminal':>18}{'RSS':>10}")
    for name, measured in shown.items():
        print(f"{name:28}{measured.idle_cpu:>13.1%} {measured.bytes_per_second / 1000:>12.1f} kB/s{measured.rss_mib:>6.0f} MiB")
    pages = (ours, gpus, serve)
    worst = max(pages, key=lambda each: each.bytes_per_second)
    holds = (
        max(page.idle_cpu for page in pages) <= CPU_BAR
        and worst.bytes_per_second <= WIRE_BAR_BYTES
        and slow.bytes_per_second <= SLOW_BAR_BYTES
        and max(page.rss_mib for page in pages) <= MEMORY_BAR_MIB
    )
    answer = {
        "benchmark": "wire",
        "ours": {name.removeprefix("llmops-tui, "): _told(each) for name, each in shown.items() if name.startswith("llmops")},
        "peer": {name: _told(each) for name, each in peers.items()},
        "ratio": round(next(iter(peers.values())).bytes_per_second / worst.bytes_per_second, 2),
        "bar": {
            "idle_cpu": CPU_BAR, "bytes_per_second": WIRE_BAR_BYTES, "low_bandwidth_bytes_per_second": SLOW_BAR_BYTES,
            "rss_mib": MEMORY_BAR_MIB,
        },
        "holds": holds,
    }  # fmt: skip
    print(json.dumps(answer))
    return 0 if holds else 1


def _told(measured: Measured) -> dict[str, float]:
    return {
        "idle_cpu": round(measured.idle_cpu, 4),
        "bytes_per_second": round(measured.bytes_per_second),
        "rss_mib": round(measured.rss_mib, 1),
    }


if __name__ == "__main__":
    sys.exit(main())
