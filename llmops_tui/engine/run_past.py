"""The runs as they stood at a past moment: journals folded until then, read only where the present does not tell."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from llmops_tui.data.rundir import number_of
from llmops_tui.engine.live_run import LiveRun
from llmops_tui.engine.queue_rules import dependencies, obstacle
from llmops_tui.engine.recovery import apply_entry
from llmops_tui.specs.states import ENDED, WAITING

Entry = Mapping[str, Any]


class Moment(NamedTuple):
    """The runs of a moment: those that had come to their end for good, and those whose journals tell how they stood."""

    ended: list[LiveRun]
    open: list[LiveRun]


def runs_at(runs: Iterable[LiveRun], t: float) -> Moment:
    """The runs that were there at `t` (Unix seconds). From memory; call it on the event loop."""
    moment = Moment([], [])
    for run in runs:
        if run.submitted_at <= t:
            over = run.state in ENDED and run.ended_at is not None and run.ended_at <= t
            (moment.ended if over else moment.open).append(run)
    return moment


@dataclass
class _Journal:
    """A run's entries by when they were so, and the run as the last moment asked for had it."""

    run: LiveRun
    length: int
    entries: list[tuple[float, Entry]]
    applied: list[bool] = field(default_factory=list)
    folded: LiveRun | None = None


class Journals:
    """What the engine decided about each run; kept in memory until a journal grows. One thread at a time."""

    def __init__(self) -> None:
        self._known: dict[str, _Journal] = {}

    def fold(self, run: LiveRun, t: float) -> LiveRun:
        """The run as it stood at `t`, without metrics and progress; good until the next fold. Reads its journal once. Raises OSError.

        Tags, note and baseline are today's: they are what its user says of the run, not what happened to it.
        """
        journal = self._journal(run)
        applied = [known_at <= t for known_at, _ in journal.entries]
        past = journal.folded
        # One that waits for others is changed by what became of them; all else stands as it did while nothing is added.
        if past is None or applied != journal.applied or dependencies(run):
            past = LiveRun(run.dir, run.record, run.spec, priority=run.spec.priority if run.spec else 0, order=float(number_of(run.id)))
            for told, (_, entry) in zip(applied, journal.entries, strict=True):
                if told and entry.get("entry") != "annotate":
                    apply_entry(past, entry)
                    past.usage.apply(entry)
            if past.usage.held_since is not None:  # what the attempt had drawn by then stands nowhere
                past.usage.energy_joules = None
            journal.applied, journal.folded = applied, past
        past.written, past.tariff, past.latest, past.progress = run.written, run.tariff, {}, None
        return past

    def forget_all_but(self, runs: Collection[str]) -> None:
        """Runs that were removed take no more memory."""
        for run_id in self._known.keys() - set(runs):
            del self._known[run_id]

    def _journal(self, run: LiveRun) -> _Journal:
        known = self._known.get(run.id)
        if known is None or known.run is not run or known.length != run.journaled:
            # The number first: what is appended while we read makes us read again.
            length = run.journaled
            known = self._known[run.id] = _Journal(run, length, [(_true_since(entry), entry) for entry in run.dir.read_journal()])
        return known


def see_obstacles(past: Mapping[str, LiveRun], present: Mapping[str, LiveRun]) -> None:
    """Why a run waits is not journaled where it follows from others: it follows from them again. Changes the runs of `past`.

    `present` holds the runs that had ended for good.
    """
    every = ChainMap(dict(past), dict(present))
    for run in past.values():
        if run.state in WAITING and dependencies(run):
            reason = obstacle(run, every)
            if isinstance(reason, str) and reason:
                run.state, run.reason = "blocked", reason


def _true_since(entry: Entry) -> float:
    """When it was so; the engine may have noted it later, having been away."""
    noted, data = entry.get("t"), entry.get("data")
    times = [noted, *((data.get("started_at"), data.get("ended_at")) if isinstance(data, dict) else ())]
    return min((float(time) for time in times if isinstance(time, int | float)), default=0.0)
