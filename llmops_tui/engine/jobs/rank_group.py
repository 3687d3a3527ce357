"""The ranks of one box: processes that are started, watched and ended together. Standard library only.

Each leaves its `end` event in a file without a name (memfd) instead of in events.jsonl: whoever started them tells one end for all.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Protocol

from llmops_tui.engine.jobs.event_writer import END_DESCRIPTOR

_END_SECONDS = 5.0


@dataclass
class Rank:
    """One process. `code` is None while it lives (below 0: the signal that killed it); `end` is its own word on how it ended.

    `host` is the box it runs on, empty for this one; `lost` says why nothing more is heard of it, where its box was lost.
    """

    number: int
    host: str = ""
    ended_at: float | None = None
    code: int | None = None
    killed_by_us: bool = False
    end: dict[str, Any] = field(default_factory=dict)
    lost: str = ""

    @property
    def status(self) -> str:
        return str(self.end.get("status", "")) if self.end else ""


class RankGroup(Protocol):
    """Ranks of one box, here or elsewhere."""

    ranks: list[Rank]

    def poll(self) -> None:
        """Take up what became of them since the last call."""

    def terminate(self) -> None:
        """Hand TERM on to those that live."""

    def kill(self) -> None:
        """End those that live, at once."""


class LocalRanks:
    """Ranks of this box, from `first` on. `before`: called in each process before it becomes the job; `output`: where they print."""

    def __init__(self, first: int, before: Callable[[], None] | None = None, output: BinaryIO | None = None) -> None:
        self.ranks: list[Rank] = []
        self._first = first
        self._before = before
        self._output = output
        self._processes: list[subprocess.Popen[bytes]] = []
        self._descriptors: list[int] = []

    def start(self, kind: str, environment: Mapping[str, str]) -> None:
        """One more."""
        local = len(self.ranks)
        number = self._first + local
        descriptor = os.memfd_create(f"end-of-rank-{number}")
        process = subprocess.Popen(
            [sys.executable, "-m", f"llmops_tui.engine.jobs.{kind}"],
            env={**environment, "RANK": str(number), "LOCAL_RANK": str(local), END_DESCRIPTOR: str(descriptor)},
            pass_fds=(descriptor,),
            preexec_fn=self._before,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
        )
        self.ranks.append(Rank(number))
        self._processes.append(process)
        self._descriptors.append(descriptor)

    def poll(self) -> None:
        for rank, process, descriptor in zip(self.ranks, self._processes, self._descriptors, strict=True):
            if rank.code is None and (code := process.poll()) is not None:
                rank.code, rank.ended_at = code, time.time()
                rank.end = _left_in(descriptor)

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        for rank in self.ranks:
            rank.killed_by_us |= rank.code is None
        self._signal(signal.SIGKILL)

    def end(self) -> None:
        """End those that live, and see them gone."""
        self.kill()
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_END_SECONDS)

    def _signal(self, number: signal.Signals) -> None:
        for rank, process in zip(self.ranks, self._processes, strict=True):
            if rank.code is None:
                process.send_signal(number)


def environment_of(world: int, local: int, address: str, port: int) -> dict[str, str]:
    """What torchrun would give all ranks of a box."""
    return {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(local), "MASTER_ADDR": address, "MASTER_PORT": str(port)}


def _left_in(descriptor: int) -> dict[str, Any]:
    """A torn or missing end is none."""
    content = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    with contextlib.suppress(ValueError):
        end = json.loads(content)
        return end if isinstance(end, dict) else {}
    return {}
