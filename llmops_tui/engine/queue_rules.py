"""Who waits for whom, who is next, and who comes again. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from llmops_tui.data.rundir import number_of
from llmops_tui.engine.estimate.saving import share_saved
from llmops_tui.engine.jobs.adjustments import Adjustment, adjusted
from llmops_tui.engine.live_run import LiveRun
from llmops_tui.engine.memory_retry import Advice, advice, next_adjustment, words
from llmops_tui.engine.verdict import Verdict
from llmops_tui.specs.states import ENDED
from llmops_tui.specs.train import TrainSpec

_MOST_REQUEUES = 5


@dataclass(frozen=True)
class Doomed:
    """A dependency ended so that this run will never start."""

    reason: str


def queue_key(run: LiveRun) -> tuple[bool, int, float, int]:
    """Higher priority first, then the order given by moves, then the order of submission; what is paused has no place and comes last."""
    return (run.state == "paused", -run.priority, run.order, number_of(run.id))


def dependencies(run: LiveRun) -> list[str]:
    """The runs this one waits for."""
    values = run.spec_values
    return [str(name) for key in ("after_ok", "after_any") for name in values.get(key) or []]


def obstacle(run: LiveRun, runs: Mapping[str, LiveRun]) -> str | Doomed:
    """What the run waits for besides resources; empty when nothing."""
    for name in run.spec_values.get("after_ok") or []:
        other = runs.get(str(name))
        if other is None:
            return Doomed(f"{name}, which had to succeed first, does not exist any more")
        if other.state in ENDED and other.state != "succeeded":
            return Doomed(f"{name}, which had to succeed first, ended as {other.state}")
    unfinished = [name for name in dependencies(run) if (other := runs.get(name)) is not None and other.state not in ENDED]
    return f"waits for {', '.join(unfinished[:3])}{' and more' if len(unfinished) > 3 else ''}" if unfinished else ""


def place_between(moving: LiveRun, others: Sequence[LiveRun], position: int) -> tuple[int, float] | None:
    """The priority and order that put `moving` at `position` (1 is first) among `others`, which are in queue order.

    The priority changes only where the place lies outside the run's own. None when there is no number left between the
    neighbours' orders: number them anew first.
    """
    index = max(0, min(len(others), position - 1))
    before = others[index - 1] if index > 0 else None
    after = others[index] if index < len(others) else None
    priority = moving.priority
    if before is not None:
        priority = min(priority, before.priority)
    if after is not None:
        priority = max(priority, after.priority)
    low = before.order if before is not None and before.priority == priority else None
    high = after.order if after is not None and after.priority == priority else None
    if low is not None and high is not None:
        middle = (low + high) / 2
        return (priority, middle) if low < middle < high else None
    if low is not None:
        return priority, low + 1.0
    if high is not None:
        return priority, high - 1.0
    return priority, moving.order


def dependents(run_id: str, runs: Iterable[LiveRun]) -> list[str]:
    """The runs that have not ended and name this one."""
    return [run.id for run in runs if run.state not in ENDED and run_id in dependencies(run)]


def another_attempt(run: LiveRun, verdict: Verdict) -> tuple[bool, str]:
    """Whether the spec asks for one more attempt after this end, and how to say so."""
    spec = run.spec
    if spec is None or not verdict.again:
        return False, ""
    if verdict.state == "lost" and spec.on_lost == "requeue" and run.requeues < _MOST_REQUEUES:
        return True, f"queued again after it was lost: {verdict.reason}"
    if verdict.state == "out_of_memory" and (to := adjustment_after(run)):
        return True, f"another attempt with {words(to)} after: {verdict.reason}"
    if verdict.state in ("failed", "hung") and run.retries_used < spec.retries:
        return True, f"retry {run.retries_used + 1} of {spec.retries} after: {verdict.reason}"
    return False, ""


def adjustment_after(run: LiveRun) -> Adjustment | None:
    """What the attempt after one that ran out of memory does otherwise; None where none follows."""
    spec = run.spec
    made = [to for attempt, to in run.adjusted.items() if attempt <= run.attempt]
    if not isinstance(spec, TrainSpec) or len(made) >= spec.out_of_memory.retries:
        return None
    return next_adjustment(adjusted(spec, run.adjustment), halved=any("micro_batch" in to for to in made))


def memory_advice(run: LiveRun) -> Advice | None:
    """What a new run could do where the attempts of this one are used up."""
    prepared = run.record.get("prepared")
    estimate = prepared.get("estimate") if isinstance(prepared, dict) else None
    if not isinstance(run.spec, TrainSpec):
        return None
    last = adjusted(run.spec, run.adjustment)
    found = advice(
        last,
        estimate if isinstance(estimate, dict) else None,
        lambda other: share_saved(prepared, last, other) if isinstance(prepared, dict) else None,
    )
    if found is None:
        return None
    kept = {name: value for name, value in run.adjustment.items() if name in ("micro_batch", "accumulation", "gradient_checkpointing")}
    return replace(found, settings={**kept, **found.settings})
