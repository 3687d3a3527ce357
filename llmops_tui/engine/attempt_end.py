"""What follows when an attempt is over: the end, another attempt at once, or one that waits until it is resumed."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from llmops_tui.data.checkpoints import discard_from
from llmops_tui.engine.jobs.adjustments import Adjustment, adjusted
from llmops_tui.engine.live_run import LiveRun
from llmops_tui.engine.memory_retry import changes
from llmops_tui.engine.queue_rules import adjustment_after, another_attempt, memory_advice
from llmops_tui.engine.run_table import RunTable
from llmops_tui.engine.verdict import Verdict
from llmops_tui.specs.train import TrainSpec
from llmops_tui.specs.train_memory import OUT_OF_MEMORY_ADVICE

# Its user wants no further attempt.
_NO_MORE = frozenset({"now", "checkpoint", "pause"})


async def settle(table: RunTable, run: LiveRun, verdict: Verdict, ended_at: float) -> bool:
    """Journal it, and tell; returns whether another attempt follows. The run's lock is held. Raises OSError (full disk)."""
    if run.stop == "rollback" and run.rollback is not None and verdict.state in ("paused", "failed", "hung"):
        await _roll_back(table, run, run.rollback, ended_at)
        return True
    if verdict.state == "paused":
        await _go_on_later(table, run, ended_at)
        return True
    again, why = another_attempt(run, verdict)
    if again and run.stop not in _NO_MORE:
        if verdict.state == "out_of_memory":
            await _adjust(table, run, why)
        lost, memory = verdict.state == "lost", verdict.state == "out_of_memory"
        await table.queue_again(
            run,
            why,
            retries_used=run.retries_used + (0 if lost or memory else 1),
            requeues=run.requeues + (1 if lost else 0),
            ended_at=ended_at,
        )
        return True
    if verdict.state == "out_of_memory" and (advice := memory_advice(run)) is not None:
        told = verdict.reason.removesuffix(f"; {OUT_OF_MEMORY_ADVICE}")
        verdict = replace(verdict, reason=f"{told}; {advice.words}", advice=advice.settings)
    await table.end(run, verdict, ended_at)
    return False


async def _go_on_later(table: RunTable, run: LiveRun, ended_at: float) -> None:
    """It saved and ended because it was asked to: paused, or queued again by a preemption."""
    if run.stop == "preempt":
        state, reason = "queued", f"{run.reason}; goes on from its newest checkpoint when there is room"
    else:
        state, reason = "paused", f"{run.reason.partition(':')[0]}: goes on from its newest checkpoint when it is resumed"
    await table.queue_again(run, reason, retries_used=run.retries_used, requeues=run.requeues, ended_at=ended_at, state=state)


async def _roll_back(table: RunTable, run: LiveRun, rollback: tuple[int, float], ended_at: float) -> None:
    """Give up what was saved at or after the fault, then queue it again. Each part may be done twice: an engine may die in between."""
    before, scale = rollback
    kept = await asyncio.to_thread(discard_from, run.dir, before)
    to = Adjustment(learning_rate_scale=scale)
    was = {"learning_rate_scale": run.adjustment.get("learning_rate_scale", 1.0)}
    await table.journal_entry(run, "adjusted", None, run.reason, {"from": was, "to": dict(to)}, attempt=run.attempt + 1)
    run.adjusted[run.attempt + 1] = to
    if "learning_rate_scale" in run.set_live:  # what its user set would win over it
        await table.journal_entry(run, "control", None, run.reason, {"command": "set", "arguments": dict(to)})
        run.set_live.update(to)
    where = "the beginning" if kept is None else f"its checkpoint of step {kept}"
    reason = f"{run.reason}: goes on from {where}"
    await table.queue_again(run, reason, retries_used=run.retries_used, requeues=run.requeues, ended_at=ended_at)
    run.rollback = None


async def _adjust(table: RunTable, run: LiveRun, why: str) -> None:
    """Before the attempt is queued: an engine that dies in between comes to the same again, for the same attempt."""
    to = adjustment_after(run)
    assert to is not None and isinstance(run.spec, TrainSpec)  # noqa: PT018 - another_attempt said so
    before = changes(adjusted(run.spec, run.adjustment), to)
    await table.journal_entry(run, "adjusted", None, why, {"from": before, "to": dict(to)}, attempt=run.attempt + 1)
    run.adjusted[run.attempt + 1] = to
