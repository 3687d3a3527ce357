"""The meter: what each run's GPUs draw while it holds them, whatever becomes of the engine meanwhile.

The readings at the start stand in the run's journal, later ones every five seconds in `attempt-N/energy.json`, the sums in
the journal's entry of the end. An engine that comes back takes the last reading that was noted, and the counter covers the time
between.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from llmops_tui.data.usage import meter_file, read_meter
from llmops_tui.engine.attempt_files import end_time, look
from llmops_tui.engine.energy import Hold, Reading, reading_from_json, reading_of
from llmops_tui.engine.live_run import LiveRun
from llmops_tui.specs.answers import GpuSample

_SAVE_SECONDS = 5.0
_FIRST_ANSWER_SECONDS = 30.0
_FRESH_SECONDS = 5.0
_POLL_SECONDS = 0.1
log = logging.getLogger(__name__)


class Gpus(Protocol):
    """What is asked of the GPU monitor. `ready` once the driver has answered for the first time."""

    @property
    def ready(self) -> bool: ...

    def snapshot(self) -> Sequence[GpuSample]: ...


class Meter:
    """Belongs to the event loop's thread."""

    def __init__(self, gpus: Gpus) -> None:
        self._gpus = gpus
        self._newest: dict[str, Reading] = {}
        self._runs: dict[str, LiveRun] = {}
        self._holds: dict[str, Hold] = {}
        # Over, and still needed: a hold whose last reading is older shares the time before with it.
        self._over: list[Hold] = []
        self._saved_at = time.monotonic()
        self._save_failed = False

    def begin(self, run: LiveRun) -> dict[str, Any]:
        """The run holds its GPUs from now on. What belongs into its journal, so that no crash forgets the start."""
        since = time.time()
        self.tick(self._gpus.snapshot(), since)  # what was drawn since the last tick is not this run's
        readings = {gpu: _as_of(since, self._newest[gpu]) for gpu in run.gpu_uuids if gpu in self._newest}
        counters = {gpu: reading.to_json() for gpu, reading in readings.items()}
        usage = run.usage
        usage.held_since, usage.gpus, usage.counters = (since if run.gpu_uuids else None), len(run.gpu_uuids), counters
        usage.open_joules = None
        if run.gpu_uuids:
            self._take(run, Hold(run.id, list(run.gpu_uuids), since, None, run.memory_bytes, None, readings))
        return {"held_since": since, "counters": counters} if run.gpu_uuids else {}

    def forget(self, run: LiveRun) -> None:
        """It did not start after all."""
        run.usage.drop()
        self._holds.pop(run.id, None)
        self._runs.pop(run.id, None)

    async def adopt(self, run: LiveRun) -> None:
        """Go on with a run that held GPUs when the last engine went; one that ended since is charged until its end alone."""
        if run.usage.held_since is None:
            return
        noted: dict[str, Any] = {}
        try:
            noted = await asyncio.to_thread(read_meter, run.dir, run.attempt)
        except OSError as error:
            log.warning("%s: what it has drawn so far cannot be read: %s", run.id, error)
        joules, counters = noted.get("joules"), noted.get("counters")
        last_told = counters if isinstance(counters, dict) else run.usage.counters
        readings = {gpu: reading_from_json(value) for gpu, value in last_told.items()}
        hold = Hold(run.id, list(run.gpu_uuids), run.usage.held_since, None, run.memory_bytes)
        hold.joules = float(joules) if isinstance(joules, int | float) else None
        hold.readings = {gpu: reading for gpu, reading in readings.items() if reading is not None}
        seen = await asyncio.to_thread(look, run.dir, run.attempt)
        if seen.exit_record is not None:
            hold.until = await asyncio.to_thread(end_time, run.dir, run.attempt, run.started_at)
        elif seen.rebooted:  # it went with the box; nobody pays for the time that the box was off
            hold.until = max((reading.t for reading in hold.readings.values()), default=hold.since)
        run.usage.open_joules = hold.joules
        self._take(run, hold)

    def tick(self, samples: Sequence[GpuSample], t: float) -> None:
        """Every GPU as sampled at `t`, Unix seconds."""
        everyone = [*self._holds.values(), *self._over]
        for sample in samples:
            reading = reading_of(sample, t)
            if reading is None:
                continue
            self._newest[sample["uuid"]] = reading
            for hold in self._holds.values():
                if sample["uuid"] in hold.gpus:
                    hold.advance(sample["uuid"], reading, everyone)
        for run_id, hold in self._holds.items():
            self._runs[run_id].usage.open_joules = hold.joules
        oldest = min((reading.t for hold in self._holds.values() for reading in hold.readings.values()), default=t)
        self._over = [hold for hold in self._over if hold.until is None or hold.until > oldest]

    async def close(self, run: LiveRun, ended_at: float) -> None:
        """The run's GPUs are given back; its sums are final. Once more changes nothing."""
        hold = self._holds.get(run.id)
        if hold is None:
            run.usage.close(ended_at)
            return
        hold.until = max(hold.since, min(ended_at, time.time(), hold.until or ended_at))
        # An engine that just came back has not heard from a slow driver yet, and the counter is all that knows of the gap.
        waits_until = time.monotonic() + _FIRST_ANSWER_SECONDS
        while not self._gpus.ready and time.monotonic() < waits_until:  # noqa: ASYNC110 - the driver's thread sets no event
            await asyncio.sleep(_POLL_SECONDS)
        self.tick(self._gpus.snapshot(), time.time())
        run.usage.open_joules = hold.joules
        run.usage.close(hold.until)
        del self._holds[run.id], self._runs[run.id]
        self._over.append(hold)

    async def save(self) -> list[LiveRun]:
        """Every five seconds: note how far each run is. The runs that were noted; none in between."""
        if time.monotonic() - self._saved_at < _SAVE_SECONDS:
            return []
        self._saved_at = time.monotonic()
        noted = [(self._runs[run_id], hold.to_json()) for run_id, hold in self._holds.items()]
        try:
            await asyncio.to_thread(_write, noted)
        except OSError as error:
            if not self._save_failed:
                log.warning("what runs draw is not noted until there is room: %s", error)
            self._save_failed = True
            return []
        self._save_failed = False
        return [run for run, _ in noted]

    def _take(self, run: LiveRun, hold: Hold) -> None:
        self._runs[run.id], self._holds[run.id] = run, hold


def _as_of(t: float, reading: Reading) -> Reading:
    """The newest sample stands for the moment of the start: else a part of what the run draws would be its predecessor's."""
    return replace(reading, t=t) if 0 <= t - reading.t <= _FRESH_SECONDS else reading


def _write(noted: list[tuple[LiveRun, dict[str, Any]]]) -> None:
    for run, value in noted:
        path = meter_file(run.dir, run.attempt)
        temporary = path.with_name(f".{path.name}.tmp")
        if path.parent.is_dir():  # else not there yet, or deleted from outside
            # Without fsync, which may take seconds beside a job that writes: a power cut ends the run anyway, and the journal
            # has the readings at its start.
            temporary.write_text(json.dumps(value))
            os.replace(temporary, path)
