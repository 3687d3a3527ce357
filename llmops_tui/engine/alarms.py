"""The alarms of all runs. Each run's stand in its directory, alarms.jsonl, where the engine alone writes: they outlive the database.

A line an entry: `alarm` (all of it), `acted` (what was done about it), `ack` (who has seen it). An alarm's id is made of what it
is about, so that one that is raised again by an engine that was killed in the middle is known already.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any, cast

from llmops_tui.data.rundir import RunDir, append_line, list_runs, read_lines
from llmops_tui.engine.watchers.rule import Firing
from llmops_tui.errors import LlmopsError, NotFoundError
from llmops_tui.specs.answers_watch import Alarm
from llmops_tui.specs.watch_rules import RULES, Action, RuleName

log = logging.getLogger(__name__)


def make_alarm(run_id: str, attempt: int, rule: RuleName, action: Action, firing: Firing) -> Alarm:
    """The alarm of a firing. The same firing makes the same alarm."""
    return Alarm(
        id=f"{run_id}.{attempt}.{rule}.{firing.step}",
        run=run_id,
        attempt=attempt,
        rule=rule,
        step=firing.step,
        since=firing.step if firing.since is None else min(firing.since, firing.step),
        t=firing.t,
        value=_finite(firing.value),
        threshold=_finite(firing.threshold),
        words=firing.words,
        action=action,
        wrong=RULES[rule].wrong,
        acted="",
        acked_by="",
        acked_at=None,
    )


class AlarmBook:
    """Belongs to the event loop's thread; files are read and written in others."""

    def __init__(self, runs: Path) -> None:
        self._runs = runs
        self._known: dict[str, dict[str, Alarm]] = {}
        self._lock = asyncio.Lock()

    async def load(self) -> None:
        """Read every run's alarms. Call it once, before anything is raised."""
        self._known = await asyncio.to_thread(lambda: {run.id: found for run in list_runs(self._runs) if (found := _read(run))})

    async def add(self, alarm: Alarm) -> bool:
        """Keep it, durably; False when it is known already. Raises OSError: then it is not kept."""
        async with self._lock:
            known = self._known.setdefault(alarm["run"], {})
            if alarm["id"] in known:
                return False
            await self._write(alarm["run"], {"entry": "alarm", **alarm})
            known[alarm["id"]] = alarm
            return True

    async def acted(self, alarm: Alarm, what: str) -> None:
        """Note what was done about it. Raises OSError."""
        async with self._lock:
            await self._write(alarm["run"], {"entry": "acted", "id": alarm["id"], "t": time.time(), "what": what})
            alarm["acted"] = what

    async def ack(self, identity: str, by: str) -> Alarm:
        """Note that somebody has seen it; the first one stays. Raises NotFoundError, LlmopsError (the disk is full)."""
        async with self._lock:
            alarm = self.get(identity)
            if not alarm["acked_by"]:
                now = time.time()
                try:
                    await self._write(alarm["run"], {"entry": "ack", "id": identity, "t": now, "by": by})
                except OSError as error:
                    raise LlmopsError(
                        f"{identity} was not acknowledged: {error.strerror or error}", "make room in the state directory"
                    ) from error
                alarm["acked_by"], alarm["acked_at"] = by, now
            return alarm

    def get(self, identity: str) -> Alarm:
        """One alarm. Raises NotFoundError."""
        found = self._known.get(identity.rsplit(".", 3)[0], {}).get(identity)
        if found is None:
            raise NotFoundError(f"no alarm {identity!r}", "see `llmops-tui alarms list`")
        return found

    def of(self, run_id: str) -> list[Alarm]:
        """A run's alarms in the order they were raised."""
        return list(self._known.get(run_id, {}).values())

    def find(self, runs: Collection[str], *, since: float | None = None, acked: bool | None = None) -> list[Alarm]:
        """Alarms of these runs, the oldest first."""
        return sorted(
            (
                alarm
                for run_id in runs
                for alarm in self._known.get(run_id, {}).values()
                if (since is None or alarm["t"] >= since) and (acked is None or bool(alarm["acked_by"]) is acked)
            ),
            key=lambda alarm: alarm["t"],
        )

    async def _write(self, run_id: str, entry: dict[str, Any]) -> None:
        await asyncio.to_thread(append_line, self._runs / run_id / "alarms.jsonl", entry, durable=True)


def _read(run: RunDir) -> dict[str, Alarm]:
    """Fold a run's file."""
    found: dict[str, Alarm] = {}
    try:
        lines = read_lines(run.path / "alarms.jsonl")
    except OSError as error:
        log.warning("%s: its alarms cannot be read: %s", run.id, error)
        return found
    for line in lines:
        identity = str(line.get("id"))
        if line.get("entry") == "alarm" and Alarm.__annotations__.keys() <= line.keys():
            found.setdefault(identity, cast(Alarm, {name: line[name] for name in Alarm.__annotations__}))
        elif identity in found and line.get("entry") == "acted":
            found[identity]["acted"] = str(line.get("what"))
        elif identity in found and line.get("entry") == "ack":
            found[identity]["acked_by"], found[identity]["acked_at"] = str(line.get("by")), float(line.get("t") or 0.0)
    return found


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
