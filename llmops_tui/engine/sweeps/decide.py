"""What a parent does next: begin a trial, end some, or come to its end. Pure: the conductor carries it out, the benchmark too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from llmops_tui.engine.sweeps.asha import cut
from llmops_tui.engine.sweeps.suggest import most_trials
from llmops_tui.engine.sweeps.trials import LIVE, Trial, best
from llmops_tui.specs.crossval import CrossvalSpec
from llmops_tui.specs.sweep import SweepSpec

ParentSpec = SweepSpec | CrossvalSpec
_JOULES_A_KWH = 3.6e6


@dataclass(frozen=True)
class Ended:
    """The state the parent ends in, and why."""

    state: Literal["succeeded", "failed", "cancelled"]
    reason: str


@dataclass(frozen=True)
class Next:
    """`begin`: the number of the trial to queue now. `prune`: run ids with the reason. `stop`: run ids that must end, and why."""

    begin: int | None = None
    prune: Mapping[str, str] | None = None
    stop: Sequence[str] = ()
    why: str = ""
    end: Ended | None = None


def decide(spec: ParentSpec, trials: Sequence[Trial], *, since: float, now: float, stopping: bool, room: bool) -> Next:
    """`since`: when the parent began (the newest time it was started); `room`: a trial queued now would start at once."""
    live = [trial for trial in trials if trial.state in LIVE]
    over, state = "", "cancelled"
    if stopping:
        over = f"stopped by the user; {_told(spec, trials)}"
    elif failure := _too_many_failures(spec, trials, since):
        over, state = failure, "failed"
    if over:
        if live:
            return Next(stop=[trial.run_id for trial in live], why=over.split(";")[0])
        return Next(end=Ended("failed" if state == "failed" else "cancelled", over))
    prune = _prunes(spec, trials)
    exhausted = spent(spec, trials, since, now)
    if exhausted:
        if live:
            return Next(prune=prune)
        return Next(end=_end(spec, trials, exhausted))
    number = max((trial.number for trial in trials), default=0) + 1
    return Next(begin=number if _may_begin(spec, live, room) else None, prune=prune)


def spent(spec: ParentSpec, trials: Sequence[Trial], since: float, now: float) -> str:
    """Which budget is used up, in words; empty while none is."""
    if isinstance(spec, CrossvalSpec):
        return f"all {spec.folds} folds are done" if len(trials) >= spec.folds else ""
    most = most_trials(spec)
    if len(trials) >= most:
        return f"all {most} trials are done"
    hours, kwh = spec.budget.hours, spec.budget.energy_kwh
    if hours is not None and now - since >= hours * 3600:
        return f"its {hours:g} h are over"
    used = energy_kwh(trials)
    if kwh is not None and used is not None and used >= kwh:
        return f"its {kwh:g} kWh are used"
    return ""


def energy_kwh(trials: Sequence[Trial]) -> float | None:
    """What the trials' GPUs drew together; None where none of them was metered."""
    joules = [trial.joules for trial in trials if trial.joules is not None]
    return sum(joules) / _JOULES_A_KWH if joules else None


def _may_begin(spec: ParentSpec, live: Sequence[Trial], room: bool) -> bool:
    if spec.parallel == "auto":
        # Without any the sweep would have no place in the queue, and whoever comes would overtake it.
        return (room or not live) and not any(trial.state == "waiting" for trial in live)
    return len(live) < spec.parallel


def _prunes(spec: ParentSpec, trials: Sequence[Trial]) -> dict[str, str]:
    if isinstance(spec, CrossvalSpec) or spec.pruner == "none":
        return {}
    found = {}
    for trial in trials:
        if trial.state == "running" and not trial.ending:
            reason = cut(trial, trials, eta=spec.asha.eta, first=spec.asha.first_tokens, least_wins=spec.least_wins, metric=spec.metric)
            if reason:
                found[trial.run_id] = reason
    return found


def _too_many_failures(spec: ParentSpec, trials: Sequence[Trial], since: float) -> str:
    """Those that failed before the parent was started again do not count."""
    ended = [trial for trial in trials if trial.state not in LIVE and trial.ended_at is not None and trial.ended_at >= since]
    ended.sort(key=lambda trial: (trial.ended_at or 0.0, trial.number))
    row: list[Trial] = []
    for trial in reversed(ended):
        if trial.state == "failed":
            row.append(trial)
        elif trial.state != "cancelled":
            break
    if len(row) < spec.max_failures:
        return ""
    noun = "fold" if isinstance(spec, CrossvalSpec) else "trial"
    last = f"{row[0].run_id or f'{noun} {row[0].number}'}: {row[0].reason or 'no reason told'}"
    return f"{len(row)} {noun}s in a row failed; the last, {last}" if len(row) > 1 else f"a {noun} failed: {last}"


def _end(spec: ParentSpec, trials: Sequence[Trial], exhausted: str) -> Ended:
    complete = [trial for trial in trials if trial.state == "complete"]
    if isinstance(spec, CrossvalSpec):
        if len(complete) == spec.folds:
            return Ended("succeeded", "")
        return Ended("failed", f"only {len(complete)} of {spec.folds} folds have a score: retry the others, then this")
    if not complete:
        return Ended("failed", f"{exhausted}, and none came to its end with a value of {spec.metric}")
    return Ended("succeeded", f"{exhausted}; {_told(spec, trials)}")


def _told(spec: ParentSpec, trials: Sequence[Trial]) -> str:
    """How many came to what, and the best of them."""
    counts = {state: sum(trial.state == state for trial in trials) for state in ("complete", "pruned", "failed", "cancelled")}
    words = ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "none begun"
    if isinstance(spec, CrossvalSpec):
        return words
    winner = best(trials, spec.least_wins)
    return words if winner is None else f"{words}; best {spec.metric} {winner.value:.4g} by {winner.run_id or f'trial {winner.number}'}"
