"""All runs of one state directory in memory. What changes here is first in the run's journal, then told to the world.

Belongs to the event loop's thread. The run directories are the truth; the database row of a run only follows.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Sequence
from typing import Any, cast

import duckdb

from llmops_tui.data import queries
from llmops_tui.data.checkpoints import complete_checkpoints
from llmops_tui.data.event_store import decode_latest
from llmops_tui.data.store import Store
from llmops_tui.engine.attempt_files import told_at_the_end
from llmops_tui.engine.capsule import newest_capsule
from llmops_tui.engine.comparison import check_number, compare
from llmops_tui.engine.estimate.history import measured
from llmops_tui.engine.hub import Hub
from llmops_tui.engine.ledger import Holding
from llmops_tui.engine.live_run import LiveRun
from llmops_tui.engine.queue_rules import obstacle, queue_key
from llmops_tui.engine.tariff import Tariff
from llmops_tui.engine.verdict import Verdict
from llmops_tui.errors import LlmopsError, NotFoundError
from llmops_tui.specs.answers import Comparison, EstimateAnswer, Progress, RunDetail, RunSummary
from llmops_tui.specs.states import ACTIVE, ENDED, QUEUED, WAITING

log = logging.getLogger(__name__)


class RunTable:
    """The runs by id, oldest first. `wake` is set whenever the queue should be looked through again, `changed` at every change of a run."""

    def __init__(self, store: Store, hub: Hub, tariff: Tariff) -> None:
        self.by_id: dict[str, LiveRun] = {}
        self.tariff = tariff
        self.wake = asyncio.Event()
        self.changed = asyncio.Event()
        self._store = store
        self._hub = hub

    def get(self, run_id: str) -> LiveRun:
        """One run. Raises NotFoundError."""
        try:
            return self.by_id[run_id]
        except KeyError:
            raise NotFoundError(f"no run {run_id!r}", "see `llmops-tui runs list`") from None

    def waiting(self) -> list[LiveRun]:
        """The queue, first who is next."""
        return sorted((run for run in self.by_id.values() if run.state in QUEUED), key=queue_key)

    def summary(self, run: LiveRun) -> RunSummary:
        """One run as it is told; from memory."""
        place_in_queue = None
        if run.state in WAITING:
            place_in_queue = 1 + sum(other.state in WAITING and queue_key(other) < queue_key(run) for other in list(self.by_id.values()))
        return run.summary(place_in_queue)

    def summaries(self) -> list[RunSummary]:
        """Every run, oldest first; from memory."""
        places = {run.id: number for number, run in enumerate(self.waiting(), 1)}
        return [run.summary(places.get(run.id)) for run in self.by_id.values()]

    def detail(self, run_id: str) -> RunDetail:
        """One run with what its directory holds. Reads the disk: call it in a thread. Raises NotFoundError."""
        run = self.get(run_id)
        return RunDetail(
            **self.summary(run),
            directory=str(run.dir.path),
            cwd=str(run.record.get("cwd") or "/"),
            spec=run.spec_values,
            journal=[
                {
                    "t": float(entry.get("t") or 0.0),
                    "entry": str(entry.get("entry") or ""),
                    "state": entry.get("state"),
                    "attempt": int(entry.get("attempt") or 0),
                    "reason": str(entry.get("reason") or ""),
                    "data": entry.get("data") or {},
                }
                for entry in run.dir.read_journal()
            ],
            checkpoints=complete_checkpoints(run.dir),
            capsule=newest_capsule(run.dir, run.attempt),
            metrics=sorted(run.latest),
            predicted=cast(EstimateAnswer | None, run.predicted),
            measured=measured(run.dir, run.attempt, str((run.predicted or {}).get("device"))) if run.state in ENDED else None,
            outcome=told_at_the_end(run.dir, run.attempt) if run.state in ENDED else {},
        )

    async def compare(self, run_ids: Sequence[str]) -> Comparison:
        """Runs side by side. Raises NotFoundError, UsageError (fewer than 2, more than 16)."""
        runs = [self.get(run_id) for run_id in check_number(run_ids)]
        return await compare(self._store, runs, [self.summary(run) for run in runs])

    def holdings(self) -> list[Holding]:
        """What active runs hold of GPUs and CPU slots."""
        return [holding for run in self.by_id.values() if (holding := run.holding()) is not None]

    def add(self, run: LiveRun) -> None:
        """A run that was just submitted."""
        run.tariff = self.tariff
        self.by_id[run.id] = run
        blocked = obstacle(run, self.by_id)
        if isinstance(blocked, str) and blocked:
            run.state, run.reason = "blocked", blocked
        spec = run.spec_values
        self._hub.publish_soon("run.submitted", run.id, {"state": run.state, "kind": spec.get("kind"), "name": spec.get("name")})
        self.store_soon(run)
        self.wake.set()
        self.changed.set()

    async def forget(self, run: LiveRun) -> None:
        """Its directory is gone: nobody hears of it again."""
        with contextlib.suppress(LlmopsError, duckdb.Error):  # `doctor --rebuild` forgets it too
            await asyncio.wrap_future(self._store.write(lambda con: queries.forget_run(con, run.id)))
        self._hub.publish_soon("run.state", run.id, {"state": "removed", "reason": "", "attempt": run.attempt})

    async def journal(self, run: LiveRun, state: str, reason: str, data: dict[str, Any]) -> None:
        """Append a change of state, durably. Raises OSError (full disk): then nothing has changed."""
        await self.journal_entry(run, "state", state, reason, data)

    async def journal_entry(
        self, run: LiveRun, entry: str, state: str | None, reason: str, data: dict[str, Any], attempt: int | None = None
    ) -> None:
        """Append one entry, durably. Raises OSError."""
        line = {"t": time.time(), "entry": entry, "state": state, "attempt": attempt or run.attempt, "reason": reason, "data": data}
        await asyncio.to_thread(run.dir.append_journal, line)
        run.journaled += 1

    def tell_state(self, run: LiveRun) -> None:
        """Its state changed: events, database and queue."""
        data = {
            "state": run.state, "reason": run.reason, "attempt": run.attempt, "exit_code": run.exit_code, "gpus": list(run.gpu_uuids),
            "priority": run.priority,
        }  # fmt: skip
        self._hub.publish_soon("run.state", run.id, data)
        self.store_soon(run)
        self.wake.set()
        self.changed.set()

    def tell_annotated(self, run: LiveRun) -> None:
        """The user wrote something to it: events and database."""
        self._hub.publish_soon("run.annotated", run.id, {"tags": list(run.tags), "note": run.note, "baseline": run.baseline})
        self.store_soon(run)

    async def end(self, run: LiveRun, verdict: Verdict, ended_at: float | None = None) -> None:
        """The run's lock is held. A final state follows from the attempt's files, so a full disk does not hold it up.

        `ended_at` is when the job ended, which may be long before an engine was there to say so; unset means now.
        """
        was_active = run.state in ACTIVE
        ended_at = time.time() if ended_at is None else ended_at
        data: dict[str, Any] = {"exit": verdict.exit_code, "ended_at": ended_at, **_used(run)}
        if verdict.advice:
            data["advice"] = dict(verdict.advice)
        try:
            await self.journal(run, verdict.state, verdict.reason, data)
        except OSError as error:
            # Where its directory was deleted from outside there is no journal to keep, and nothing that could start again.
            if not was_active and not isinstance(error, FileNotFoundError):
                raise LlmopsError(f"{run.id} was not cancelled: {error}", "make room in the state directory") from error
            log.warning("%s: its end is not in the journal: %s", run.id, error)
        run.state, run.reason, run.exit_code, run.ended_at = verdict.state, verdict.reason, verdict.exit_code, ended_at
        run.gpu_uuids, run.cpu_slots, run.not_before, run.held = [], 0, 0.0, False
        self.tell_state(run)
        self.wake.set()

    async def queue_again(
        self, run: LiveRun, reason: str, *, retries_used: int, requeues: int, ended_at: float | None = None, state: str = "queued"
    ) -> None:
        """The run's lock is held. One entry says both that the attempt is over and that another follows.

        `state` is `paused` where that one waits for somebody to resume it. `ended_at` is when the attempt ended, where that is
        not known already: an engine that was away notes it late.
        """
        attempt = run.attempt + 1 if await asyncio.to_thread(run.dir.attempt(run.attempt).exists) else run.attempt
        data = {"retries_used": retries_used, "requeues": requeues, "after": run.state, **_used(run)}
        if ended_at is not None:
            data["ended_at"] = ended_at
        await self.journal_entry(run, "state", state, reason, data, attempt=attempt)
        run.attempt, run.state, run.reason = attempt, state, reason
        run.retries_used, run.requeues, run.stop, run.held = retries_used, requeues, "", False
        run.gpu_uuids, run.cpu_slots, run.ended_at, run.exit_code, run.pid = [], 0, None, None, None
        self.tell_state(run)
        self.wake.set()

    def store_soon(self, run: LiveRun) -> None:
        """The row SQL users see; the directory is the truth, so nobody waits for it."""
        summary, spec = self.summary(run), run.spec_values
        with contextlib.suppress(LlmopsError):  # the store closes before the last run's news
            self._store.write(lambda con: queries.upsert_run(con, summary, spec)).add_done_callback(_log_failure)

    def store_usage_soon(self, runs: Sequence[LiveRun]) -> None:
        """What these runs have used so far, for SQL users."""
        now = time.time()
        used = [(run.id, run.usage.gpu_seconds_at(now), run.usage.joules) for run in runs]
        with contextlib.suppress(LlmopsError):
            self._store.write(lambda con: queries.note_usage(con, used)).add_done_callback(_log_failure)

    async def store_all(self, runs: Sequence[LiveRun]) -> None:
        """Bring the rows of these runs up to date after a start; most are."""
        rows = [(self.summary(run), run.spec_values) for run in runs]

        def write(con: duckdb.DuckDBPyConnection) -> None:
            columns = ("state", "attempt", "reason", "tags", "note", "baseline", "gpu_seconds", "energy_joules")
            stored = {row[0]: row[1:] for row in con.execute(f"SELECT id, {', '.join(columns)} FROM runs").fetchall()}
            for summary, spec in rows:
                if stored.get(summary["id"]) != tuple(summary[column] for column in columns):  # type: ignore[literal-required]
                    queries.upsert_run(con, summary, spec)

        with contextlib.suppress(LlmopsError):
            self._store.write(write).add_done_callback(_log_failure)

    def stored_progress(self) -> dict[str, tuple[dict[str, float], Progress | None]]:
        """The newest values and progress that were stored, by run. Reads the database: call it in a thread."""
        rows = self._store.read(
            lambda con: con.execute("SELECT id, latest, progress FROM ingest_offsets JOIN runs USING (run_key)").fetchall()
        )
        return {str(row[0]): (decode_latest(row[1]), json.loads(row[2]) if row[2] else None) for row in rows}


def _used(run: LiveRun) -> dict[str, float]:
    """The sums over all its attempts, for the journal; nothing for a run that never held a GPU."""
    used = run.usage
    if not used.gpu_seconds:
        return {}
    return {"gpu_seconds": used.gpu_seconds, **({} if used.energy_joules is None else {"energy_joules": used.energy_joules})}


def _log_failure(future: Any) -> None:
    if not future.cancelled() and (error := future.exception()):
        log.warning("a run's row in the database is behind: %s", error)
