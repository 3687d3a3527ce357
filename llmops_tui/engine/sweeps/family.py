"""A parent and its trials, put together from their run directories: what a restarted engine finds is what it knew."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from llmops_tui.engine.live_run import LiveRun
from llmops_tui.engine.sweeps.reports import ReportReader
from llmops_tui.engine.sweeps.trials import PRUNED, Trial, TrialState
from llmops_tui.specs.states import ENDED, QUEUED

REFUSED = "trial"  # the entry of the parent's journal about a trial that could not be queued


def ties(run: LiveRun, runs: Iterable[LiveRun]) -> str:
    """Why a run cannot be deleted because of its family; empty when it can."""
    if run.parent:
        parent = next((other for other in runs if other.id == run.parent), None)
        return f"{run.id} is a part of {run.parent}, which goes on and learns from it" if parent and parent.state not in ENDED else ""
    living = [other.id for other in runs if other.parent == run.id and other.state not in ENDED]
    return f"{', '.join(living[:3])}{' and more' if len(living) > 3 else ''} of {run.id} still goes on" if living else ""


class Mark(NamedTuple):
    """What a trial's record says of its place: its number from 1, and the settings that were varied."""

    number: int
    params: dict[str, Any]

    @classmethod
    def of(cls, values: object) -> Mark:
        """From a record or a journal. Raises ValueError or TypeError for nonsense."""
        if not isinstance(values, Mapping):
            raise TypeError("no mark of a trial")
        params = values.get("params")
        return cls(int(values["number"]), dict(params) if isinstance(params, Mapping) else {})


class Family:
    """The trials of one parent. Belongs to the event loop; the files are read in threads, one at a time."""

    def __init__(self, parent: LiveRun, metric: str) -> None:
        self.parent = parent
        self._metric = metric
        self._readers: dict[str, ReportReader] = {}
        self._final: set[str] = set()
        self._refused: dict[int, Trial] | None = None
        self._reading = asyncio.Lock()

    async def trials(self, runs: Iterable[LiveRun]) -> list[Trial]:
        """All of them by number, with what they have told until now. Raises OSError."""
        own = [run for run in runs if run.parent == self.parent.id]
        shown = [(run, run.state, run.reason) for run in own]
        async with self._reading:
            await asyncio.to_thread(self._read, [(run, state in ENDED) for run, state, _ in shown])
        found = {trial.number: trial for trial in (self._trial(run, state, reason) for run, state, reason in shown)}
        return [found[number] for number in sorted(found)] if not self._refused else _with(found, self._refused)

    def refuse(self, number: int, params: Mapping[str, Any], reason: str, t: float) -> None:
        """A trial that could not be queued has failed; its journal entry stands already."""
        if self._refused is None:
            self._refused = {}
        self._refused[number] = _refused(number, params, reason, t)

    def _read(self, runs: list[tuple[LiveRun, bool]]) -> None:
        if self._refused is None:
            self._refused = dict(_refused_of(self.parent.dir.read_journal()))
        for run, ended in runs:
            if run.id in self._final:
                if ended:
                    continue
                self._final.discard(run.id)  # it was retried
            reader = self._readers.get(run.id)
            if reader is None:
                reader = self._readers[run.id] = ReportReader(run.dir.events, self._metric)
            reader.read()
            if ended:
                self._final.add(run.id)

    def _trial(self, run: LiveRun, state: str, reason: str) -> Trial:
        reader = self._readers[run.id]
        mark = Mark.of(run.record.get("trial"))
        trial = Trial(
            number=mark.number,
            run_id=run.id,
            state=_state(state, reason),
            params=mark.params,
            reports=tuple(reader.reports),
            tokens=reader.tokens,
            reason=reason,
            ending=run.stop in ("now", "hang"),
            joules=run.usage.joules,
            submitted_at=run.submitted_at,
            started_at=run.started_at,
            ended_at=run.ended_at,
        )
        if trial.state == "complete" and trial.value is None:
            said = f"it told no {self._metric}" if not trial.reports else f"its {self._metric} is no number"
            return Trial(**{**trial.__dict__, "state": "failed", "reason": said})
        return trial


def _state(state: str, reason: str) -> TrialState:
    if state in QUEUED:
        return "waiting"
    if state == "succeeded":
        return "complete"
    if state == "cancelled":
        return "pruned" if reason.startswith(PRUNED) else "cancelled"
    return "failed" if state in ENDED else "running"


def _refused_of(journal: Iterable[Mapping[str, Any]]) -> Iterable[tuple[int, Trial]]:
    for entry in journal:
        if entry.get("entry") == REFUSED:
            mark = Mark.of(entry.get("data"))
            yield mark.number, _refused(mark.number, mark.params, str(entry.get("reason") or ""), float(entry.get("t") or 0.0))


def _refused(number: int, params: Mapping[str, Any], reason: str, t: float) -> Trial:
    return Trial(number, "", "failed", dict(params), reason=reason, submitted_at=t, ended_at=t)


def _with(found: Mapping[int, Trial], refused: Mapping[int, Trial]) -> list[Trial]:
    every = {**refused, **found}
    return [every[number] for number in sorted(every)]
