"""kill -9 of the supervisor at random moments under two jobs that write metrics: what is lost, doubled, or started twice?

Ours: a real engine in a fresh state directory. Each round submits two jobs, kills the engine at a random moment and starts it
again. At the end every point, exit code and start is counted against what the jobs wrote themselves.
Peer: supervisord (PyPI `supervisor`), the same jobs and kills. It keeps no points, so only its starts and exit codes are counted.

    python benchmarks/kill_rounds.py [--quick] [--rounds 50] [--seed 1]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from peer_environment import peer_python

from llmops_tui.client import Client
from llmops_tui.errors import LlmopsError
from llmops_tui.paths import Home

POINTS = 300
PAUSE_SECONDS = 0.004
EXIT_CODES = (0, 7)

# The job counts its own starts in a file, so that a second start cannot hide.
JOB = textwrap.dedent(
    """
    import json, os, sys, time
    code, points, pause, starts = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
    with open(starts, "a") as file:
        file.write(f"{os.getpid()}\\n")
    out = os.environ.get("LLMOPS_RUN_DIR")
    descriptor = os.open(out + "/events.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT) if out else 1
    for step in range(points):
        line = json.dumps({"t": time.time(), "type": "metric", "step": step, "values": {"train/loss": 1 / (step + 1)}})
        os.write(descriptor, line.encode() + b"\\n")
        time.sleep(pause)
    sys.exit(code)
    """
)


@dataclass
class Count:
    """What went wrong over all rounds, and out of how much."""

    jobs: int = 0
    points: int = 0
    lost: int = 0
    doubled: int = 0
    wrong_exit_codes: int = 0
    second_starts: int = 0
    unknown_runs: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def faults(self) -> int:
        return self.lost + self.doubled + self.wrong_exit_codes + self.second_starts + self.unknown_runs


def wait(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Poll until the condition holds; RuntimeError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} did not happen within {seconds:.0f} s")
        time.sleep(0.05)


def ours(rounds: int, rng: random.Random, root: Path) -> Count:
    """Kill our engine `rounds` times and compare the database with the jobs' own files."""
    home = Home(root / "home", explicit=True)
    home.root.mkdir()
    home.config.write_text("[engine]\ncpu_slots = 4\npause_ingest_free_bytes = 0\nrefuse_start_free_bytes = 0\n")
    job = root / "job.py"
    job.write_text(JOB)
    client = Client(home)
    wanted: dict[str, tuple[int, Path]] = {}
    for number in range(rounds):
        client.ensure_engine()
        kill_at = time.monotonic() + rng.uniform(0.0, 1.6)
        for code in EXIT_CODES:
            starts = root / f"starts-{number}-{code}"
            argv = [sys.executable, str(job), str(code), str(POINTS), str(PAUSE_SECONDS), str(starts)]
            submitted = client.submit({"kind": "command", "name": "kill", "argv": argv}, cwd=str(root))
            wanted[submitted["id"]] = (code, starts)
        time.sleep(max(0.0, kill_at - time.monotonic()))
        os.kill(int(json.loads(home.engine_json.read_text())["pid"]), signal.SIGKILL)
    client.ensure_engine()

    def all_ended() -> bool:
        status = client.status()
        return not status["running"] and not status["waiting"]

    wait(all_ended, 120 + rounds, "the end of all jobs")
    rows = client.sql(
        "SELECT run, count(*), count(DISTINCT step) FROM metrics_long WHERE metric = 'train/loss' GROUP BY run", limit=100_000
    )["rows"]
    stored = {str(run): (int(points), int(steps)) for run, points, steps in rows}
    count = Count(jobs=len(wanted), points=len(wanted) * POINTS)
    for run_id, (code, starts) in wanted.items():
        points, steps = stored.get(run_id, (0, 0))
        count.lost += POINTS - steps
        count.doubled += points - steps
        count.second_starts += max(0, len(starts.read_text().split()) - 1) if starts.exists() else 0
        try:
            run = client.run(run_id)
        except LlmopsError as error:
            count.unknown_runs += 1
            count.notes.append(f"{run_id}: {error}")
            continue
        if run["exit_code"] != code or run["state"] != ("succeeded" if code == 0 else "failed") or run["attempt"] != 1:
            count.wrong_exit_codes += 1
            count.notes.append(f"{run_id}: {run['state']} with exit code {run['exit_code']} in attempt {run['attempt']}: {run['reason']}")
    client.stop_engine()
    return count


def supervisord(rounds: int, rng: random.Random, root: Path) -> Count:
    """The same jobs under supervisord; it is killed and started again each round."""
    python = peer_python("supervisord", ["supervisor==4.3.0", "setuptools<81"])
    job = root / "job.py"
    job.write_text(JOB)
    count = Count()
    for number in range(rounds):
        place = root / f"round-{number}"
        place.mkdir()
        pid_file, log, socket = place / "pid", place / "supervisord.log", place / "s"
        programs = "".join(
            f"[program:job{code}]\ncommand={sys.executable} {job} {code} {POINTS} {PAUSE_SECONDS} {place}/starts-{code}\n"
            f"autorestart=false\nstartsecs=0\nstdout_logfile={place}/out-{code}\n\n"
            for code in EXIT_CODES
        )
        config = place / "supervisord.conf"
        config.write_text(
            f"[supervisord]\nlogfile={log}\npidfile={pid_file}\nnodaemon=true\n\n[unix_http_server]\nfile={socket}\n\n"
            "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n\n"
            f"[supervisorctl]\nserverurl=unix://{socket}\n\n{programs}"
        )
        argv = [str(python), "-m", "supervisor.supervisord", "-c", str(config)]
        first = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait(lambda place=place: all((place / f"starts-{code}").exists() for code in EXIT_CODES), 30, "supervisord's first start")
        time.sleep(rng.uniform(0.0, 1.0))
        first.kill()
        first.wait()
        second = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # The log is the only place where it tells an exit code; one line for each start it made itself.
        wait(lambda log=log: log.read_text().count("exited: job") >= len(EXIT_CODES), 30, "the end of supervisord's jobs")
        second.terminate()
        second.wait()
        count.jobs += len(EXIT_CODES)
        for code in EXIT_CODES:
            starts = len((place / f"starts-{code}").read_text().split())
            count.second_starts += starts - 1
            # Codes seen for the first start: the lines of the first daemon's life only.
            seen = sum(1 for line in log.read_text().splitlines() if f"exited: job{code} (exit status {code}" in line)
            count.wrong_exit_codes += max(0, starts - seen)
    return count


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="8 rounds instead of 50")
    parser.add_argument("--rounds", type=int, default=None)
    parser.add_argument("--seed", type=int, default=1, help="seed of the kill moments")
    options = parser.parse_args()
    rounds = options.rounds or (8 if options.quick else 50)
    with tempfile.TemporaryDirectory(prefix="kill-rounds-") as place:
        root = Path(place)
        (root / "ours").mkdir()
        (root / "peer").mkdir()
        mine = ours(rounds, random.Random(options.seed), root / "ours")
        peer_rounds = min(rounds, 8)
        peer = supervisord(peer_rounds, random.Random(options.seed), root / "peer")
    columns = ("kills", "jobs", "points", "lost", "doubled", "wrong or unknown exit codes", "second starts")
    print(f"{'':14}" + "".join(f"{name:>{len(name) + 3}}" for name in columns))
    for name, kills, count in (("llmops-tui", rounds, mine), ("supervisord", peer_rounds, peer)):
        points = (count.points, count.lost, count.doubled) if count.points else ("-", "-", "-")
        values = (kills, count.jobs, *points, count.wrong_exit_codes + count.unknown_runs, count.second_starts)
        print(f"{name:14}" + "".join(f"{value!s:>{len(column) + 3}}" for column, value in zip(columns, values, strict=True)))
    for note, times in Counter(mine.notes).items():
        print(f"  {note}" + (f" ({times} times)" if times > 1 else ""))
    ours_rate, peer_rate = mine.faults / rounds, peer.faults / peer_rounds
    holds = mine.faults == 0
    print(
        json.dumps(
            {
                "benchmark": "kill_rounds",
                "ours": ours_rate,
                "peer": peer_rate,
                "ratio": ours_rate / peer_rate if peer_rate else None,
                "bar": "0 faults a kill",
                "holds": holds,
            }
        )
    )
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
