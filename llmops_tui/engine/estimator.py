"""The estimates of this engine: this box's devices and prices, corrected by the runs that finished here.

Belongs to the event loop's thread; what reads the disk runs in threads.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Collection, Sequence
from typing import Any

from llmops_tui.engine.estimate.calibration import Calibration, Outcome
from llmops_tui.engine.estimate.estimate import Box, estimate, least_memory
from llmops_tui.engine.estimate.facts import Facts, read_model
from llmops_tui.engine.estimate.history import measured, outcome
from llmops_tui.engine.estimate.workload import RowFacts
from llmops_tui.engine.live_run import LiveRun
from llmops_tui.engine.tariff import Tariff
from llmops_tui.errors import InsufficientResourcesError, UsageError
from llmops_tui.specs.answers import EstimateAnswer, GpuSample, HostSample
from llmops_tui.specs.common import RunSpec
from llmops_tui.specs.train import TrainSpec
from llmops_tui.specs.train_continued import following

# Older runs say little of today's libraries, and reading them takes time.
_MOST_RUNS = 500
# Of a GPU's power limit, what training draws where nobody has measured it.
_USUAL_POWER_SHARE = 0.75


log = logging.getLogger(__name__)


class Estimator:
    """`runs` gives every run, oldest first."""

    def __init__(self, runs: Callable[[], Collection[LiveRun]], tariff: Tariff) -> None:
        self._runs = runs
        self._tariff = tariff
        self._calibration = Calibration()
        self._seen: set[str] = set()

    async def estimate(self, spec: TrainSpec, facts: Facts, gpus: Sequence[GpuSample], host: HostSample) -> EstimateAnswer:
        """What the wish will take. Raises UsageError where the model's configuration does not say."""
        await self.learn()
        spec = following(spec, facts.get("continued"))
        try:
            box, rows = box_for(spec, gpus, host), RowFacts(**facts["rows"])
            return estimate(spec, read_model(facts["model"]), rows, box, self._calibration, self._tariff)
        except ValueError as error:
            raise UsageError(f"model: {error}", "name a model with safetensors", [{"field": "model", "message": str(error)}]) from None

    async def complete(self, spec: RunSpec, prepared: dict[str, Any], gpus: Sequence[GpuSample], host: HostSample) -> dict[str, Any]:
        """`prepared` with its `estimate`, and a warning where it does not fit. Raises what `complete_now` raises."""
        await self.learn()
        return self.complete_now(spec, prepared, gpus, host)

    def complete_now(self, spec: RunSpec, prepared: dict[str, Any], gpus: Sequence[GpuSample], host: HostSample) -> dict[str, Any]:
        """The same with what is known already; for any thread.

        Raises InsufficientResourcesError where not even one row a pass can fit the largest GPU.
        """
        facts = prepared.get("facts")
        if not isinstance(spec, TrainSpec) or not isinstance(facts, dict):
            return prepared
        spec = following(spec, prepared.get("continued"))
        box, rows = box_for(spec, gpus, host), RowFacts(**facts["rows"])
        try:
            model = read_model(facts["model"])
            found = estimate(spec, model, rows, box, self._calibration, self._tariff)
        except (ValueError, UsageError) as error:
            log.info("no estimate for %s: %s", spec.model, error)
            return {**prepared, "estimate": None}
        capacity = found["capacity_bytes"]
        if capacity is not None and box.device == "cuda" and least_memory(spec, model, rows, box, self._calibration) > capacity:
            raise InsufficientResourcesError(
                f"{spec.model} needs more than {_gib(capacity)}, which is what {box.name} has, even with one row a pass",
                "choose a smaller model, adaptation=qlora, a smaller max_length, or another box",
                [{"field": "model", "message": f"does not fit a GPU of {_gib(capacity)}"}],
            )
        warnings = [*prepared.get("warnings", []), *_fit_warnings(found)]
        return {**prepared, "estimate": found, "warnings": warnings}

    async def learn(self) -> None:
        """Take in the runs that finished since; after a start, all that lie in the state directory."""
        fresh = [run for run in self._runs() if run.id not in self._seen and run.state == "succeeded" and run.predicted][-_MOST_RUNS:]
        for run in fresh:
            self._seen.add(run.id)
        for found in await asyncio.to_thread(lambda: [_outcome(run) for run in fresh]) if fresh else []:
            if found is not None:
                self._calibration.add(found)


def _fit_warnings(found: EstimateAnswer) -> list[str]:
    if found["fits"] != "no" or found["capacity_bytes"] is None:
        return []
    batch, length = found["largest_micro_batch"], found["largest_max_length"]
    instead = f"micro_batch {batch}" if batch else f"max_length {length}" if length else "gradient_checkpointing or a smaller model"
    peak, capacity = _gib(found["memory_bytes"]), _gib(found["capacity_bytes"])
    return [f"the predicted peak of {peak} is more than {found['device_name']} has ({capacity}): {instead} would fit"]


def box_for(spec: TrainSpec, gpus: Sequence[GpuSample], host: HostSample) -> Box:
    """The device the run would get: the largest healthy GPU where it wants one, else the processor."""
    usable = [gpu for gpu in gpus if gpu["health"] != "lost"]
    wanted = spec.resources.gpus
    if wanted == 0 or (wanted == "auto" and not usable):
        threads = spec.threads or len(os.sched_getaffinity(0))
        return Box("cpu", f"{threads} thread{'s' if threads > 1 else ''}", host["memory_total_bytes"], threads)
    if not usable:
        return Box("cuda", "a GPU", None, 1, wanted if isinstance(wanted, int) else 1)
    largest = max(usable, key=lambda gpu: gpu["memory_total_bytes"] or 0)
    limit = largest["power_limit_watts"]
    watts = None if limit is None else limit * _USUAL_POWER_SHARE
    return Box("cuda", largest["name"], largest["memory_total_bytes"], 1, wanted if isinstance(wanted, int) else 1, watts)


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"


def _outcome(run: LiveRun) -> Outcome | None:
    predicted = run.predicted or {}
    found = measured(run.dir, run.attempt, str(predicted.get("device")))
    return None if found is None else outcome(predicted, found)
