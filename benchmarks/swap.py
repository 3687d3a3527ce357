"""What a change under load costs its users: a version swapped, rolled back, a replica stopped dead or killed. Real llama.cpp, real model.

Eight clients stream short answers without a pause through the gateway while
  1. a new version takes the old one's place (beside it): how many requests failed;
  2. it is rolled back: after how long every request that began was answered by the old version again;
  3. one of two replicas is frozen (SIGSTOP), later killed (SIGKILL): how long until it was found out, how long until no request went
     there any more, and how many requests failed beyond those that it was answering at that moment.
Peer: the same replica killed behind nothing but a client that retries nowhere: a bare llama.cpp server, whose users all fail until it
is back; and by hand: stop the server, start the other model, which is what a swap is without a gateway.

    python benchmarks/swap.py [--quick] [--gguf FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from serving_rig import Load, Served, bare_llamacpp, model_files, served

CLIENTS, SLOTS, CONTEXT = 8, 8, 256
TOKENS = 8
BAR_ROLLBACK, BAR_DETECTED = 1.0, 5.0


def main() -> int:
    """Exit code 0 only where every bar holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one swap instead of three, and shorter pauses")
    parser.add_argument("--gguf", default="", help="the model as GGUF; fetched where left out")
    options = parser.parse_args()
    gguf, _ = model_files(options.gguf, ".")
    pause, swaps = (1.5, 1) if options.quick else (5.0, 3)
    with tempfile.TemporaryDirectory(prefix="swap.") as scratch, served() as rig:
        other = Path(scratch) / "other.gguf"
        shutil.copyfile(gguf, other)
        serve = {"slots": SLOTS, "context": CONTEXT}
        rig.start("swapped", [{"model": str(gguf), "serve": serve}])
        failed, asked, rollback = swap_and_back(rig, [other, gguf], swaps, pause)
        rig.client.serving.stop("swapped")
        print(f"swaps and rollbacks: {asked} requests, {failed} failed; the slowest rollback held after {rollback:.2f} s")
        rig.start("two", [{"model": str(gguf), "replicas": 2, "serve": serve}])
        rig.until("two", lambda endpoint: endpoint["versions"][0]["ready"] == 2)
        lost = {name: lose_a_replica(rig, number, pause) for name, number in (("SIGSTOP", signal.SIGSTOP), ("SIGKILL", signal.SIGKILL))}
    by_hand = swap_by_hand(gguf, pause)
    for name, (detected, moved, extra, in_flight, asked_then) in lost.items():
        print(
            f"{name}: found out after {detected:.1f} s, the last request went there after {moved:.1f} s; of {asked_then} requests"
            f" {extra} failed beyond the {in_flight} it was answering"
        )
    print(f"by hand, without a gateway: {by_hand} requests failed in one swap")
    worst = max(detected for detected, *_ in lost.values())
    holds = failed == 0 and rollback <= BAR_ROLLBACK and worst <= BAR_DETECTED and all(extra <= 0 for _, _, extra, _, _ in lost.values())
    beyond = max(0, *(extra for _, _, extra, _, _ in lost.values()))
    result = {
        "benchmark": "swap",
        "ours": {
            "failed": failed, "rollback_seconds": round(rollback, 2), "detected_seconds": round(worst, 1),
            "failed_beyond_in_flight": beyond,
        },
        "peer": {"failed": by_hand},
        "ratio": None,
        "bar": {"failed": 0, "rollback_seconds": BAR_ROLLBACK, "detected_seconds": BAR_DETECTED, "failed_beyond_in_flight": 0},
        "holds": holds,
    }  # fmt: skip
    print(json.dumps(result))
    return 0 if holds else 1


def swap_and_back(rig: Served, models: list[Path], swaps: int, pause: float) -> tuple[int, int, float]:
    """Failed requests, all requests, and the slowest rollback."""
    slowest = 0.0
    with Load(rig.port, "swapped", CLIENTS, TOKENS) as load:
        time.sleep(pause)
        for number in range(swaps):
            before = leader(rig)
            rig.client.serving.swap("swapped", str(models[number % 2]))
            rig.until("swapped", lambda endpoint, before=before: endpoint["pending"] is None and leader(rig) != before)
            time.sleep(pause)
            asked = time.monotonic()
            rig.client.serving.rollback("swapped")
            time.sleep(pause)
            late = [answer for answer in load.answers if answer.began > asked and answer.version and answer.version != before]
            slowest = max([slowest, *(answer.began - asked for answer in late)])
    return len(load.failed), len(load.answers), slowest


def leader(rig: Served) -> str:
    return str(max(rig.client.serving.endpoint("swapped")["versions"], key=lambda version: version["weight"])["name"])


def lose_a_replica(rig: Served, number: signal.Signals, pause: float) -> tuple[float, float, int, int, int]:
    """Seconds until it was found out and until the last request went there, failures beyond those in flight, those, and all requests."""
    victim = rig.client.serving.endpoint("two")["replicas"][0]["run"]
    pid = rig.server_pid(victim)
    with Load(rig.port, "two", CLIENTS, TOKENS) as load:
        time.sleep(pause)
        in_flight = next(one["outstanding"] for one in rig.client.serving.endpoint("two")["replicas"] if one["run"] == victim)
        at = time.monotonic()
        os.kill(pid, number)
        detected = rig.until("two", lambda endpoint: not answers(endpoint, victim)) - at
        time.sleep(2 * pause)
    if number == signal.SIGSTOP:
        os.kill(pid, signal.SIGKILL)  # its keeper starts another in its place
    rig.until("two", lambda endpoint: endpoint["versions"][0]["ready"] == 2)
    bad = [answer for answer in load.failed if answer.ended > at]
    # What began after the loss and failed was sent to it although it was gone; what began before was in its hands.
    late = [answer for answer in bad if answer.began > at]
    moved = max([0.0, *(answer.began - at for answer in late)])
    return detected, moved, len(late), max(in_flight, len(bad) - len(late)), len(load.answers)


def answers(endpoint: object, run: str) -> bool:
    """Whether the endpoint's replica is told of as one that answers."""
    replicas = endpoint["replicas"]  # type: ignore[index]
    return any(one["run"] == run and one["state"] == "ready" and one["healthy"] for one in replicas)


def swap_by_hand(gguf: Path, pause: float) -> int:
    """One server ended, then the other started on its port: the requests that failed meanwhile."""
    with contextlib.ExitStack() as first:
        port, _ = first.enter_context(bare_llamacpp(gguf, SLOTS, CONTEXT, 1))
        with Load(port, "bare", CLIENTS, TOKENS) as load:
            time.sleep(pause)
            first.close()
            with bare_llamacpp(gguf, SLOTS, CONTEXT, 1, port):
                time.sleep(pause)
    return len(load.failed)


if __name__ == "__main__":
    sys.exit(main())
