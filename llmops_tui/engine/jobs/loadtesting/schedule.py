"""The stages of a load test and when their requests are due. Pure, and the same for the same seed."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from llmops_tui.specs.loadtest import LoadtestSpec

USUAL_CONCURRENCY = (1, 4, 8)


@dataclass(frozen=True)
class Stage:
    """One load. `workers` above 0: a closed loop of so many; else `due` are the seconds after its begin at which requests come."""

    name: str
    workers: int
    rate: float
    due: tuple[float, ...]
    requests: int


def stages_of(spec: LoadtestSpec, recorded: Sequence[float] = ()) -> list[Stage]:
    """In order. `recorded`: the times of recorded requests, Unix seconds, in order; used where they are the load."""
    if spec.prompts.replay_speed:
        due = replayed(recorded[: spec.requests], spec.prompts.replay_speed)
        return [Stage("replay", 0, len(due) / max(due[-1], 1e-9) if due else 0.0, due, len(due))]
    if spec.rate:
        found = []
        for number, rate in enumerate(spec.rate):
            draw = random.Random(f"{spec.seed}:{number}:arrivals")
            due = tuple(arrivals(rate, spec.requests, spec.arrivals == "poisson", spec.ramp_seconds, draw))
            found.append(Stage(f"{rate:g}/s", 0, rate, due, spec.requests))
        return found
    return [Stage(f"{workers} at once", workers, 0.0, (), spec.requests) for workers in spec.concurrency or USUAL_CONCURRENCY]


def arrivals(rate: float, count: int, random_pauses: bool, ramp_seconds: float, draw: random.Random) -> Iterator[float]:
    """Seconds after the begin at which `count` requests come, `rate` a second in the mean once the ramp is over.

    The ramp is linear: its expected number of arrivals until t is rate t² / (2 ramp), inverted here (Lewis & Shedler 1979, thinning
    replaced by the exact inverse).
    """
    work = 0.0
    for number in range(count):
        work = work + draw.expovariate(1.0) if random_pauses else float(number)
        ramped = rate * ramp_seconds / 2
        yield math.sqrt(2 * ramp_seconds * work / rate) if work < ramped else ramp_seconds + (work - ramped) / rate


def worker_starts(workers: int, ramp_seconds: float) -> list[float]:
    """When each worker of a closed loop begins."""
    return [ramp_seconds * number / workers for number in range(workers)]


def replayed(times: Sequence[float], speed: float) -> tuple[float, ...]:
    """The pace of recorded requests, so many times as fast."""
    return tuple((t - times[0]) / speed for t in times)
