"""Several processes that train one model, as one job: `python -m llmops_tui.engine.jobs.ranks COUNT KIND`. Standard library only.

It gives each rank what torchrun would (RANK, WORLD_SIZE, MASTER_ADDR …), hands TERM on, and tells one end for all. Unlike
torchrun it imports no torch, and knows why a rank ended: each leaves its `end` event in a file without a name (memfd) instead of
in events.jsonl, and the rank that failed first is told, not those that then lost their peer. Once a rank is gone that the others
need, they have a few seconds. Killed itself, the shim sweeps up the ranks with everything else below it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from llmops_tui.engine.jobs.event_writer import END_DESCRIPTOR, EventWriter

# How long the others may go on once one is gone that they need: long enough to write why they end.
_ALONE_SECONDS = 5.0


@dataclass
class _Rank:
    """One process. `ended_at` and `code` are None while it lives; `end` is its own word on how it ended."""

    number: int
    process: subprocess.Popen[bytes]
    descriptor: int
    ended_at: float | None = None
    code: int | None = None
    killed_by_us: bool = False
    end: dict[str, Any] = field(default_factory=dict)

    def read_end(self) -> None:
        """Take up what it left; a torn or missing end is none."""
        content = os.pread(self.descriptor, os.fstat(self.descriptor).st_size, 0)
        with contextlib.suppress(ValueError):
            self.end = json.loads(content)

    @property
    def status(self) -> str:
        return str(self.end.get("status", "")) if self.end else ""


def main(arguments: list[str]) -> int:
    """Run the ranks to their end; returns the job's exit code."""
    count, kind = int(arguments[0]), arguments[1]
    ranks: list[_Rank] = []
    asked_to_end = False

    def hand_on(_signal: int, _frame: FrameType | None) -> None:
        nonlocal asked_to_end
        asked_to_end = True
        for rank in ranks:
            if rank.code is None:
                rank.process.send_signal(signal.SIGTERM)

    signal.signal(signal.SIGTERM, hand_on)
    environment = _environment(count)
    for number in range(count):
        ranks.append(_start(number, kind, environment))
        if asked_to_end:
            ranks[-1].process.send_signal(signal.SIGTERM)
    _wait(ranks)
    end, code = _told(ranks, asked_to_end)
    events = EventWriter(Path(os.environ["LLMOPS_RUN_DIR"]))
    events.write("end", **end)
    events.close()
    return code


def _environment(count: int) -> dict[str, str]:
    """What all ranks share. The threads that were granted are divided; gloo keeps to the loopback, where they all are."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    threads = os.environ.get("OMP_NUM_THREADS", "")
    shared = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if threads.isdecimal():
        shared["OMP_NUM_THREADS"] = str(max(1, int(threads) // count))
    return {"GLOO_SOCKET_IFNAME": "lo", **os.environ, **shared}


def _start(number: int, kind: str, environment: dict[str, str]) -> _Rank:
    descriptor = os.memfd_create(f"end-of-rank-{number}")
    process = subprocess.Popen(
        [sys.executable, "-m", f"llmops_tui.engine.jobs.{kind}"],
        env={**environment, "RANK": str(number), "LOCAL_RANK": str(number), END_DESCRIPTOR: str(descriptor)},
        pass_fds=(descriptor,),
    )
    return _Rank(number, process, descriptor)


def _wait(ranks: list[_Rank]) -> None:
    """Until all are gone. Rank 0 saves after the others are done, so their success is no reason to end it."""
    deadline: float | None = None
    while living := [rank for rank in ranks if rank.code is None]:
        for rank in living:
            if (code := rank.process.poll()) is None:
                continue
            rank.code, rank.ended_at = code, time.time()
            rank.read_end()
            if deadline is None and (rank.number == 0 or rank.status != "succeeded"):
                deadline = time.monotonic() + _ALONE_SECONDS
        if deadline is not None and time.monotonic() >= deadline:
            for rank in living:
                if rank.code is None:
                    rank.killed_by_us = True
                    rank.process.kill()
        time.sleep(0.05)


def _told(ranks: list[_Rank], asked_to_end: bool) -> tuple[dict[str, Any], int]:
    """The fields of the one end event, and the exit code: rank 0's, unless another is the reason."""
    first = ranks[0]
    if first.status == "succeeded":
        return _fields(first.end), int(first.code or 0)
    silent = [rank for rank in ranks if not rank.end and not rank.killed_by_us]
    if silent and not asked_to_end:
        rank = min(silent, key=lambda rank: rank.ended_at or 0.0)
        code = rank.code or 1
        how = f"was killed by {_signal_name(-code)}" if code < 0 else f"ended with code {code} and without a word"
        error = f"rank {rank.number} of {len(ranks)} {how}; the other ranks were ended; see the log, then resume from the last checkpoint"
        return {"status": "failed", "summary": {}, "error": error}, 128 - code if code < 0 else code
    for wanted in ("out_of_memory", "stopped", "failed"):
        of_it = [rank for rank in ranks if rank.status == wanted]
        if of_it:
            rank = min(of_it, key=lambda rank: (float(rank.end["t"]), rank.number))
            if wanted == "stopped":
                return _fields(first.end if first.status == "stopped" else rank.end), 0
            fields = _fields(rank.end)
            return {**fields, "error": f"rank {rank.number} of {len(ranks)}: {fields['error']}"}, rank.code or 1
    return {"status": "stopped", "summary": {}, "error": ""}, 0  # TERM before any of them could tell


def _fields(end: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in end.items() if name not in ("t", "seq", "attempt", "type")}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
