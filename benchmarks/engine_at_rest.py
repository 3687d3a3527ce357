"""What the engine costs while nothing runs, beside an MLflow tracking server at rest in the same minute.

    python benchmarks/engine_at_rest.py [--quick] [--seconds 60] [--runs 200]

Ours is a real engine over a state directory with ended runs, after it has settled. The peer is `mlflow server` with its SQLite store, which
people leave running for the same purpose. CPU is user and system time of the whole process tree over the window; memory is
its resident set at the end.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import psutil
from peer_environment import peer_python

from llmops_tui.client import Client
from llmops_tui.data.rundir import create_run
from llmops_tui.paths import Home

BARS = {"cpu_percent": 1.0, "rss_mib": 150.0}
SETTLE_SECONDS = 12.0


@dataclass
class AtRest:
    """Share of one core in percent, and MiB."""

    cpu_percent: float
    rss_mib: float


def tree(pid: int) -> list[psutil.Process]:
    """A process and everything below it."""
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def cpu_seconds(pid: int) -> float:
    """User and system time of the tree so far."""
    return sum(sum(process.cpu_times()[:2]) for process in tree(pid))


def ended_runs(home: Home, number: int) -> None:
    """Runs that were lost long ago, as the engine finds them on its first start."""
    for _ in range(number):
        run = create_run(
            home.runs,
            "command",
            "old",
            {"schema": 1, "spec": {"kind": "command", "argv": ["true"]}, "submitted_at": 1.0, "owner": "nobody", "prepared": {}},
        )
        run.append_journal({"t": 2.0, "entry": "state", "state": "cancelled", "attempt": 1, "reason": "long ago", "data": {}})


def free_port() -> int:
    """A port of loopback that nobody holds now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_it_answers(port: int, seconds: float = 180.0) -> None:
    """Start-up is nobody's rest. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise TimeoutError(f"mlflow server did not answer within {seconds:.0f} s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20 seconds instead of 60")
    parser.add_argument("--seconds", type=float, default=None)
    parser.add_argument("--runs", type=int, default=200, help="ended runs in the state directory")
    options = parser.parse_args()
    window = options.seconds or (20.0 if options.quick else 60.0)
    python = peer_python("mlflow", ["mlflow==3.17.*"])
    with tempfile.TemporaryDirectory(prefix="at-rest-") as place:
        home = Home(Path(place) / "home", explicit=True)
        ended_runs(home, options.runs)
        client = Client(home)
        engine = client.ensure_engine()["pid"]
        port = free_port()
        argv = [str(python), "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--backend-store-uri"]
        server = subprocess.Popen([*argv, f"sqlite:///{place}/mlflow.db"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=place)
        try:
            wait_until_it_answers(port)
            time.sleep(SETTLE_SECONDS)
            before = [cpu_seconds(pid) for pid in (engine, server.pid)]
            began = time.monotonic()
            time.sleep(window)
            passed = time.monotonic() - began
            ours, peer = (
                AtRest(
                    cpu_percent=100 * (cpu_seconds(pid) - earlier) / passed,
                    rss_mib=sum(process.memory_info().rss for process in tree(pid)) / 2**20,
                )
                for pid, earlier in zip((engine, server.pid), before, strict=True)
            )
        finally:
            client.stop_engine()
            for process in tree(server.pid):
                process.terminate()
            server.wait()
    print(f"{'at rest':16}{'% of a core':>14}{'RSS, MiB':>12}   (over {passed:.0f} s, {options.runs} ended runs)")
    for name, result in (("llmops-tui", ours), ("mlflow server", peer)):
        print(f"{name:16}{result.cpu_percent:>14.2f}{result.rss_mib:>12.0f}")
    holds = ours.cpu_percent <= BARS["cpu_percent"] and ours.rss_mib <= BARS["rss_mib"]
    answer = {
        "benchmark": "engine_at_rest",
        "ours": vars(ours),
        "peer": vars(peer),
        "ratio": {"cpu": ours.cpu_percent / peer.cpu_percent if peer.cpu_percent else None, "rss": ours.rss_mib / peer.rss_mib},
        "bar": BARS,
        "holds": holds,
    }
    print(json.dumps(answer))
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
