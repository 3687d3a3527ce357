"""What users ask of a run while it goes on: pause, resume, save, evaluate or sample now, other settings. Durable when it was answered.

Belongs to the event loop's thread. A pause that frees the memory is an end of the attempt like a stop with a checkpoint, told
apart by the journal alone, so that an engine that dies at any point of it comes to the same end. One that holds is kept by
the job itself (its trainer waits between two steps); a program that knows nothing of us is stopped by its signals.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Mapping
from typing import Any

from llmops_tui.data.rundir import append_line
from llmops_tui.engine.jobs.adjustments import Adjustment, is_count, is_scale
from llmops_tui.engine.live_run import LiveRun
from llmops_tui.engine.people import who_asks
from llmops_tui.engine.proc_tree import signal_tree
from llmops_tui.engine.run_table import RunTable
from llmops_tui.engine.same_data import changed_data
from llmops_tui.engine.supervisor import Supervisor
from llmops_tui.errors import ConflictError, LlmopsError, UsageError
from llmops_tui.paths import Home
from llmops_tui.specs.answers import RunSummary
from llmops_tui.specs.control import COMMANDS, LISTENS, SAVES, SETTABLE, WORDS
from llmops_tui.specs.states import CONDUCTED

Arguments = Mapping[str, Any]
log = logging.getLogger(__name__)


class Steering:
    """One wish at a time for each run: it holds that run's lock while it is journaled."""

    def __init__(self, home: Home, table: RunTable, supervisor: Supervisor) -> None:
        self._home = home
        self._table = table
        self._supervisor = supervisor

    async def control(self, run_id: str, command: str, arguments: Arguments | None = None, *, asker: str = "") -> RunSummary:
        """Ask for one of `specs.control.COMMANDS`. `asker` is who asks where no person does: a watcher's rule.

        `pause` takes `mode` (hold or free; unset: free where the job can save), `set` the settings. Raises NotFoundError,
        UsageError (no such command or value), ConflictError (the run is not in a state for it, or its job cannot do it),
        LlmopsError (the disk is full).
        """
        run = self._table.get(run_id)
        given = dict(arguments or {})
        if run.kind in CONDUCTED:
            raise ConflictError(f"{run.id} has no process of its own", f"ask its trials: `llmops-tui runs list --filter parent:{run.id}`")
        if command not in COMMANDS:
            raise UsageError(f"unknown command {command!r}", f"use one of: {', '.join(COMMANDS)}")
        who = asker or asker_of(run)
        try:
            async with run.lock:
                if command == "resume":
                    await self._resume(run, who)
                elif command == "pause" and _mode(run, given) == "free":
                    await self._pause_free(run, who)
                elif command == "pause":
                    await self._hold(run, who)
                else:
                    await self._ask_job(run, command, _settings(given) if command == "set" else Adjustment(), who)
            if command == "pause" and run.stop == "pause":
                await self._supervisor.request_stop(run, who_asks().uid, who)
        except OSError as error:
            raise LlmopsError(f"{run.id} was not asked: {error.strerror or error}", "make room in the state directory") from error
        return self._table.summary(run)

    async def preempt(self, run: LiveRun, by: LiveRun) -> None:
        """Make a running run save and go, and wait in the queue again, because `by` comes before it."""
        async with run.lock:
            if run.state != "running" or run.stop:
                return
            reason = f"makes room for {by.id}, whose priority {by.priority} is above its own {run.priority}"
            try:
                await self._table.journal(run, "stopping", reason, {"mode": "preempt", "for": by.id})
                run.stop, run.stop_told, run.held, run.state, run.reason = "preempt", False, False, "stopping", reason
                self._table.tell_state(run)
                await self._supervisor.request_stop(run, by.uid, by.id)
            except OSError as error:  # a full disk: it stays as it is until there is room for the wish
                log.warning("%s was not asked to make room: %s", run.id, error)

    async def roll_back(self, run_id: str, before: int, factor: float, *, asker: str) -> RunSummary:
        """End the attempt, give up its checkpoints of step `before` and later, and queue it again with `factor` of its learning rate.

        Raises NotFoundError, ConflictError (it does not run, or its job cannot go on from a checkpoint), OSError.
        """
        run = self._table.get(run_id)
        async with run.lock:
            if run.state != "running" or run.stop or run.kind not in SAVES:
                raise ConflictError(f"{run.id} cannot be rolled back: {run.state}", "only a training that runs can")
            scale = float(run.adjustment.get("learning_rate_scale", 1.0)) * factor
            reason = f"{asker} rolls it back to before step {before}, with {scale:g} of its learning rate"
            await self._table.journal(run, "stopping", reason, {"mode": "rollback", "before": before, "learning_rate_scale": scale})
            run.stop, run.stop_told, run.held, run.rollback = "rollback", False, False, (before, scale)
            run.state, run.reason = "stopping", reason
            self._table.tell_state(run)
            await self._supervisor.request_stop(run, who_asks().uid)
        return self._table.summary(run)

    async def _ask_job(self, run: LiveRun, command: str, settings: Adjustment, who: str) -> None:
        if run.state != "running":
            raise ConflictError(f"{run.id} does not run: {run.state}", "only a running job can be asked for that")
        if run.kind not in LISTENS:
            raise ConflictError(f"{run.id}: the job of a run of kind {run.kind!r} takes no such wishes", "it can be paused and stopped")
        told = ", ".join(f"{key}={'none' if value is None else value}" for key, value in settings.items())
        wish = f"go on with {told}" if settings else WORDS[command]
        await self._note(run, command, f"{who} asked it to {wish}", settings)
        run.set_live.update(settings)
        await self._tell(run, command, settings, who)

    async def _pause_free(self, run: LiveRun, who: str) -> None:
        if run.kind not in SAVES:
            raise ConflictError(
                f"{run.id}: a run of kind {run.kind!r} cannot save and go on later", "use --hold: it keeps still and keeps its memory"
            )
        if run.stop == "preempt":  # it goes on when its user says so, not when there is room
            run.stop = "pause"
        elif run.state not in ("starting", "running") or run.stop:
            raise ConflictError(f"{run.id} does not run: {run.state}", "only a running job can be paused")
        reason = f"{who} paused it: it saves a checkpoint and frees its memory"
        await self._table.journal(run, "stopping", reason, {"mode": "pause"})
        run.stop, run.stop_told, run.held = "pause", False, False
        run.state, run.reason = "stopping", reason
        self._table.tell_state(run)

    async def _hold(self, run: LiveRun, who: str) -> None:
        if run.state != "running":
            raise ConflictError(f"{run.id} does not run: {run.state}", "only a running job can be paused")
        if run.held:
            return
        reason = f"paused by {who}; it keeps its memory"
        await self._note(run, "pause", reason, {"mode": "hold"})
        run.held, run.reason = True, reason
        if run.kind in SAVES:
            await self._tell(run, "pause", {"mode": "hold"}, who)
        else:
            await asyncio.to_thread(signal_all, run, signal.SIGSTOP)
        self._table.tell_state(run)

    async def _resume(self, run: LiveRun, who: str) -> None:
        if run.state == "paused":
            if problem := await asyncio.to_thread(changed_data, run.record, self._home):
                raise ConflictError(f"{run.id} would go on with other rows: {problem}", "put the file back, or submit a new run")
            await self._table.queue_again(run, f"{who} resumed it", retries_used=run.retries_used, requeues=run.requeues)
            return
        if run.state != "running" or not run.held:
            what = "is still saving" if run.stop == "pause" else f"is not paused: {run.state}"
            raise ConflictError(f"{run.id} {what}", "resume it when its state is paused" if run.stop == "pause" else "nothing to resume")
        await self._note(run, "resume", f"{who} resumed it", {})
        run.held, run.reason = False, ""
        if run.kind in SAVES:
            await self._tell(run, "resume", {}, who)
        else:
            await asyncio.to_thread(signal_all, run, signal.SIGCONT)
        self._table.tell_state(run)

    async def _note(self, run: LiveRun, command: str, reason: str, arguments: Arguments) -> None:
        await self._table.journal_entry(run, "control", None, reason, {"command": command, "arguments": dict(arguments)})

    async def _tell(self, run: LiveRun, command: str, arguments: Arguments, who: str) -> None:
        line = {"t": time.time(), "command": command, **arguments, "by": who_asks().uid, "who": who}
        await asyncio.to_thread(append_line, run.dir.control, line, durable=True)


def asker_of(run: LiveRun) -> str:
    """Its user, or the one who may do it to another's run."""
    person = who_asks()
    return "the user" if person.uid == run.uid else person.user


def signal_all(run: LiveRun, number: signal.Signals) -> None:
    """Every process of the run, and once more those that were born while the first were told."""
    reached = set(signal_tree(run.dir, number))
    while fresh := set(signal_tree(run.dir, number)) - reached:
        reached |= fresh


def _mode(run: LiveRun, given: Arguments) -> str:
    mode = given.get("mode") or ("free" if run.kind in SAVES else "hold")
    if mode not in ("hold", "free"):
        raise UsageError(f"unknown way to pause {mode!r}", "use hold or free")
    return str(mode)


def _settings(given: Arguments) -> Adjustment:
    """Raises UsageError naming the setting."""
    if not given:
        raise UsageError("nothing is set", f"set one of: {', '.join(SETTABLE)}")
    settings = Adjustment()
    for name, value in given.items():
        if name not in SETTABLE:
            message = f"{name!r} cannot be set while the run goes on"
            raise UsageError(message, f"set one of: {', '.join(SETTABLE)}", [{"field": name, "message": message}])
        good = is_scale(value) if name == "learning_rate_scale" else value is None or is_count(value)
        if not good:
            raise UsageError(f"{name}: {value!r} is not {SETTABLE[name]}", "", [{"field": name, "message": f"must be {SETTABLE[name]}"}])
        settings[name] = value  # type: ignore[literal-required]
    return settings
