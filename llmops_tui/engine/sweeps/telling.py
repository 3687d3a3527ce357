"""What a parent tells of its trials, in its own events.jsonl: so charts, filters, exports and `--follow` know it as any run's.

One metric record a trial that ended (the step counts them), a line of log with it, a heartbeat when the number of live ones changed.
What stands in the file was told: after a restart nothing is told twice. Blocking; one thread at a time.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmops_tui.data.rundir import RunDir, read_lines
from llmops_tui.engine.jobs.event_writer import EventWriter
from llmops_tui.engine.sweeps.decide import ParentSpec
from llmops_tui.engine.sweeps.fold_scores import together
from llmops_tui.engine.sweeps.suggest import most_trials
from llmops_tui.engine.sweeps.trials import LIVE, Trial, best, eta_seconds
from llmops_tui.specs.crossval import CrossvalSpec

if TYPE_CHECKING:
    from llmops_tui.engine.verdict import Verdict

TRIAL, VALUE, BEST, TOKENS = "sweep/trial", "sweep/value", "sweep/best", "sweep/tokens"


class Telling:
    """The events of one parent."""

    def __init__(self, run: RunDir, spec: ParentSpec) -> None:
        self._run = run
        self._spec = spec
        self._noun = "fold" if isinstance(spec, CrossvalSpec) else "trial"
        self._total = spec.folds if isinstance(spec, CrossvalSpec) else most_trials(spec)
        self._told: set[int] | None = None
        self._events: EventWriter | None = None
        self._progress: tuple[int, int] | None = None
        self._trials: Sequence[Trial] = ()

    def tell(self, trials: Sequence[Trial]) -> None:
        """Add what is new. Raises OSError."""
        events = self._open()
        assert self._told is not None
        self._trials = trials
        ended = [trial for trial in trials if trial.state not in LIVE]
        for trial in sorted(ended, key=lambda trial: (trial.ended_at or 0.0, trial.number)):
            if trial.number not in self._told:
                self._tell_end(events, trial, [other for other in ended if other.number in self._told or other is trial])
        progress = (len(ended), len(trials) - len(ended))
        if progress != self._progress:
            self._progress = progress
            events.heartbeat(f"{progress[1]} running", len(ended), self._total, f"{self._noun}s", eta_seconds(trials, self._total))

    def end(self, verdict: Verdict) -> None:
        """The last word, with the summary. Raises OSError."""
        events = self._open()
        events.write("end", status=verdict.state, summary=summary(self._spec, self._trials), error=verdict.reason)

    def close(self) -> None:
        """Let go of the file. Raises OSError."""
        if self._events is not None:
            self._events.close()
            self._events = None

    def _open(self) -> EventWriter:
        if self._events is None:
            if self._told is None:
                self._told = {int(event["values"][TRIAL]) for event in read_lines(self._run.events) if TRIAL in (event.get("values") or {})}
            self._events = EventWriter(self._run.path)
        return self._events

    def _tell_end(self, events: EventWriter, trial: Trial, so_far: Sequence[Trial]) -> None:
        assert self._told is not None
        values = {TRIAL: float(trial.number), TOKENS: float(trial.tokens)}
        if trial.value is not None:
            values[VALUE] = trial.value
        if not isinstance(self._spec, CrossvalSpec) and (winner := best(so_far, self._spec.least_wins)) and winner.value is not None:
            values[BEST] = winner.value
        shown = "" if trial.value is None else f", {self._spec.metric} {trial.value:.4g}"
        why = f": {trial.reason}" if trial.state != "complete" and trial.reason else ""
        settings = json.dumps(dict(trial.params), separators=(", ", " ")).strip("{}").replace('"', "")
        message = f"{self._noun} {trial.number} {trial.state}{shown} ({settings}){why}"
        events.write("log", level="warning" if trial.state == "failed" else "info", message=message)
        events.metrics(len(self._told) + 1, values)
        self._told.add(trial.number)


def summary(spec: ParentSpec, trials: Sequence[Trial]) -> dict[str, object]:
    """What came of it, for the end event."""
    counts: dict[str, object] = {
        state: sum(trial.state == state for trial in trials) for state in ("complete", "pruned", "failed", "cancelled")
    }
    if isinstance(spec, CrossvalSpec):
        scores = [trial.value for trial in trials if trial.state == "complete" and trial.value is not None]
        found = together(scores, 1 / (spec.folds - 1))
        if found is None:
            return counts
        return {"metric": spec.metric, "mean": found.mean, "low": found.low, "high": found.high, "folds": len(scores), **counts}
    winner = best(trials, spec.least_wins)
    told: dict[str, object] = {"metric": spec.metric, **counts, "tokens": sum(trial.tokens for trial in trials)}
    if winner is not None:
        told.update(best=winner.value, best_run=winner.run_id, best_trial=winner.number)
        told.update({f"best.{key}": value for key, value in winner.params.items()})
    return told
