"""The states of a run and which of them are over. Standard library only: the TUI imports this."""

from __future__ import annotations

from typing import Literal

State = Literal[
    "queued", "blocked", "paused", "starting", "running", "stopping",
    "succeeded", "failed", "cancelled", "out_of_memory", "hung", "lost",
]  # fmt: skip

# In the queue, to be started as soon as it can be; and what is not started before somebody resumes it.
QUEUED: frozenset[str] = frozenset({"queued", "blocked"})
WAITING: frozenset[str] = QUEUED | {"paused"}
ACTIVE: frozenset[str] = frozenset({"starting", "running", "stopping"})
ENDED: frozenset[str] = frozenset({"succeeded", "failed", "cancelled", "out_of_memory", "hung", "lost"})
STATES: tuple[str, ...] = (*sorted(WAITING), *sorted(ACTIVE), *sorted(ENDED))

# Kinds without a process: the engine conducts their runs, whose trials are runs of their own.
CONDUCTED: frozenset[str] = frozenset({"sweep", "crossval"})

JOB_KINDS: tuple[str, ...] = (
    "train",
    "evaluate",
    "merge",
    "combine",
    "prune",
    "quantize",
    "serve",
    "loadtest",
    "command",
    "sweep",
    "crossval",
)
