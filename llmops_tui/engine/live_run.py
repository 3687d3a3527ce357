"""A run as the engine holds it in memory: what its directory says, folded into one value."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from llmops_tui.data.annotation import Annotation
from llmops_tui.data.masking import without_secrets
from llmops_tui.data.rundir import RunDir
from llmops_tui.data.usage import Usage
from llmops_tui.engine.jobs.adjustments import Adjustment
from llmops_tui.engine.ledger import Holding, resolved
from llmops_tui.engine.tariff import Tariff
from llmops_tui.specs.answers import Progress, RunSummary
from llmops_tui.specs.common import Resources, RunSpec
from llmops_tui.specs.filter_terms import search_text
from llmops_tui.specs.run_config import RunConfig
from llmops_tui.specs.states import ACTIVE

# Why the engine ends an attempt: the user said so (at once, or by itself after a checkpoint), it was silent for too long, or it is
# to go on later (paused by its user, preempted by a run of higher priority, or rolled back to before a fault by its watchers).
StopMode = Literal["", "checkpoint", "now", "hang", "pause", "preempt", "rollback"]
# The ways in which the job saves and ends by itself.
SAVING: frozenset[str] = frozenset({"checkpoint", "pause", "preempt", "rollback"})


@dataclass(eq=False)
class LiveRun:
    """Belongs to the event loop's thread. `attempt` is the current attempt, or the next one while the run waits."""

    dir: RunDir
    record: dict[str, Any]
    spec: RunSpec | None
    priority: int = 0
    order: float = 0.0
    state: str = "queued"
    reason: str = ""
    attempt: int = 1
    started_at: float | None = None
    ended_at: float | None = None
    exit_code: int | None = None
    gpu_uuids: list[str] = field(default_factory=list)
    cpu_slots: int = 0
    memory_bytes: int | None = None
    stop: StopMode = ""
    stop_told: bool = False
    # Why the engine itself stopped it: a trial that is not worth going on with.
    stop_why: str = ""
    # Where a rollback leads: the first step that is given up, and the scale of the learning rate from there on.
    rollback: tuple[int, float] | None = None
    # It runs, but keeps still with all its memory until it is resumed.
    held: bool = False
    # What its spec did not ask for: by attempt since when (after it ran out of memory), and as its user set it while it ran.
    adjusted: dict[int, Adjustment] = field(default_factory=dict)
    set_live: Adjustment = field(default_factory=Adjustment)
    retries_used: int = 0
    requeues: int = 0
    # On the monotonic clock: it is not started before, because starting it failed a moment ago.
    not_before: float = 0.0
    pid: int | None = None
    # Descriptors that hold its GPUs against other engines until its shim has inherited them (gpu_locks.py).
    gpu_locks: list[int] = field(default_factory=list)
    # What the user wrote to it after it was submitted.
    written: Annotation = field(default_factory=Annotation)
    usage: Usage = field(default_factory=Usage)
    tariff: Tariff = field(default_factory=Tariff)
    # How many entries this engine has appended to its journal.
    journaled: int = 0
    latest: dict[str, float] = field(default_factory=dict)
    progress: Progress | None = None
    # Serialises what is journaled about this run: its own life and the user's wishes.
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _searched: tuple[Annotation, str] | None = None
    # Set when the one who watches this run should look again.
    nudge: asyncio.Event = field(default_factory=asyncio.Event)

    @cached_property
    def id(self) -> str:
        return self.dir.id

    @cached_property
    def spec_values(self) -> dict[str, Any]:
        value = self.record.get("spec")
        return value if isinstance(value, dict) else {}

    @cached_property
    def config(self) -> RunConfig:
        """The spec's settings by dotted key, fit to be shown to everybody: secrets of its environment are masked."""
        return RunConfig(without_secrets(self.spec_values))

    @cached_property
    def predicted(self) -> dict[str, Any] | None:
        """What the estimator said of it when it was submitted."""
        prepared = self.record.get("prepared")
        found = prepared.get("estimate") if isinstance(prepared, dict) else None
        return found if isinstance(found, dict) else None

    def resources(self, spec: RunSpec) -> Resources:
        """What it asks for, with the predicted upper bound where it asked for as much."""
        high = (self.predicted or {}).get("memory_high")
        found = resolved(spec.resources, high if isinstance(high, int) else None)
        return found if self.given is None else found.model_copy(update=self.given)

    @cached_property
    def given(self) -> dict[str, Any] | None:
        """What its preparation decided it gets, where its spec leaves that open: the number of GPUs of a server."""
        prepared = self.record.get("prepared")
        found = prepared.get("resources") if isinstance(prepared, dict) else None
        return found if isinstance(found, dict) else None

    @cached_property
    def kind(self) -> str:
        return str(self.spec_values.get("kind", ""))

    @cached_property
    def name(self) -> str:
        return str(self.spec_values.get("name") or "")

    @cached_property
    def owner(self) -> str:
        return str(self.record.get("owner") or "")

    @cached_property
    def parent(self) -> str:
        """The run this one is a trial or a fold of; empty for one on its own."""
        return str(self.record.get("parent") or "")

    @cached_property
    def _spec_tags(self) -> list[str]:
        tags = self.spec_values.get("tags")
        return [str(tag) for tag in tags] if isinstance(tags, list) else []

    @property
    def tags(self) -> list[str]:
        return self._spec_tags if self.written.tags is None else self.written.tags

    @property
    def note(self) -> str:
        return str(self.spec_values.get("notes") or "") if self.written.note is None else self.written.note

    @property
    def baseline(self) -> bool:
        return bool(self.written.baseline)

    @property
    def search_text(self) -> str:
        """What a filter's bare words are looked for in."""
        if self._searched is None or self._searched[0] is not self.written:
            self._searched = (self.written, search_text(self.id, self.name, self.tags, self.note))
        return self._searched[1]

    @property
    def gpus(self) -> list[str]:
        """The GPUs it holds now, by UUID."""
        return list(self.gpu_uuids) if self.state in ACTIVE else []

    @cached_property
    def submitted_at(self) -> float:
        return float(self.record.get("submitted_at") or 0.0)

    @property
    def adjustment(self) -> Adjustment:
        """What the current attempt, or the next one, does otherwise than its spec says."""
        merged = Adjustment()
        for attempt in sorted(self.adjusted):
            if attempt <= self.attempt:
                merged.update(self.adjusted[attempt])
        merged.update(self.set_live)
        return merged

    @property
    def uid(self) -> int:
        """The submitter; the engine's own user where nobody noted it."""
        uid = self.record.get("uid")
        return uid if isinstance(uid, int) and not isinstance(uid, bool) else os.geteuid()

    def let_go_of_locks(self) -> None:
        """Close the engine's own copies; a shim that inherited them keeps the GPUs held."""
        locks, self.gpu_locks = self.gpu_locks, []
        for descriptor in locks:
            os.close(descriptor)

    def holding(self) -> Holding | None:
        """What the run holds of the box; nothing unless it is active."""
        if self.state not in ACTIVE:
            return None
        return Holding(self.id, list(self.gpu_uuids), self.memory_bytes, self.cpu_slots)

    def summary(self, queue_position: int | None, now: float | None = None) -> RunSummary:
        """As it is told; `now` (Unix seconds) is until when what it holds counts, unset: the present."""
        gpu_seconds, joules = self.usage.gpu_seconds_at(time.time() if now is None else now), self.usage.joules
        return RunSummary(
            id=self.id,
            kind=self.kind,
            name=self.name,
            state=self.state,
            reason=self.reason,
            attempt=self.attempt,
            priority=self.priority,
            queue_position=None if self.state == "paused" else queue_position,
            owner=self.owner,
            tags=list(self.tags),
            note=self.note,
            baseline=self.baseline,
            submitted_at=self.submitted_at,
            started_at=self.started_at,
            ended_at=self.ended_at,
            exit_code=self.exit_code,
            gpus=self.gpus,
            progress=self.progress,
            latest=dict(self.latest),
            gpu_seconds=gpu_seconds,
            energy_joules=joules,
            cost=self.tariff.cost(gpu_seconds, joules),
            parent=self.parent,
        )
