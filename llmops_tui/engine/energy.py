"""How much energy a GPU drew between two readings, and whose it is. Pure.

The driver's counter is believed first: it goes on while no engine looks. Where a GPU has none, its power is integrated
over the time between two readings that lie close together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from llmops_tui.specs.answers import GpuSample

# Power told further apart says nothing about what was between.
LONGEST_POWER_GAP_SECONDS = 60.0
# No GPU draws so much: a counter that tells it has told nonsense.
_MOST_WATTS = 10_000.0
_SHORTEST_GAP_SECONDS = 10.0


@dataclass(frozen=True)
class Reading:
    """One look at a GPU: Unix seconds, joules since the driver's load, watts; None where it does not tell."""

    t: float
    joules: float | None
    watts: float | None

    def to_json(self) -> dict[str, float | None]:
        return {"t": self.t, "joules": self.joules, "watts": self.watts}


def reading_of(sample: GpuSample, t: float) -> Reading | None:
    """A look at a GPU that answers; a stalled one shows its last values, which are no news."""
    return Reading(t, sample["energy_joules"], sample["power_watts"]) if sample["health"] == "ok" else None


def reading_from_json(value: object) -> Reading | None:
    """What `to_json` gave; None for anything else."""
    if not isinstance(value, Mapping):
        return None
    t, joules, watts = (_number(value.get(key)) for key in ("t", "joules", "watts"))
    return None if t is None else Reading(t, joules, watts)


def drawn(before: Reading, after: Reading) -> float | None:
    """Joules drawn from one reading to a later one; None when neither counter nor power tells.

    A counter that is smaller than before began again at zero (driver reloaded, GPU reset): what it shows was drawn since, and
    what was drawn before that moment is lost.
    """
    seconds = max(0.0, after.t - before.t)
    if before.joules is not None and after.joules is not None:
        joules = after.joules - before.joules if after.joules >= before.joules else after.joules
        if 0.0 <= joules <= _MOST_WATTS * max(seconds, _SHORTEST_GAP_SECONDS):
            return joules
    if before.watts is not None and after.watts is not None and seconds <= LONGEST_POWER_GAP_SECONDS:
        return (before.watts + after.watts) / 2 * seconds
    return None


@dataclass
class Hold:
    """GPUs held by one run from `since` on. `weight` is the memory it was given on each; None: it has them to itself."""

    run_id: str
    gpus: Sequence[str]
    since: float
    until: float | None = None
    weight: int | None = None
    joules: float | None = None
    readings: dict[str, Reading] = field(default_factory=dict)

    def during(self, start: float, end: float) -> bool:
        """Whether it lasts all of this span."""
        return self.since <= start and (self.until is None or self.until >= end)

    def advance(self, gpu: str, reading: Reading, holds: Iterable[Hold]) -> None:
        """Take its part of what was drawn since its last reading of this GPU. `holds` are all of the box, this one among them."""
        before = self.readings.get(gpu)
        self.readings[gpu] = reading
        joules = None if before is None else drawn(before, reading)
        if before is not None and joules is not None:
            self.joules = (self.joules or 0.0) + joules * share(self, [hold for hold in holds if gpu in hold.gpus], before.t, reading.t)

    def to_json(self) -> dict[str, Any]:
        return {"joules": self.joules, "counters": {gpu: reading.to_json() for gpu, reading in self.readings.items()}}


def share(hold: Hold, holds: Sequence[Hold], start: float, end: float) -> float:
    """The part of a GPU's energy between two moments that is this holder's, 0–1.

    Runs that share a GPU share its energy as they share its memory: by what each was given, or equally where one was given no
    figure. Draw is taken as even over the span, so that one who ended in it (an engine was away) pays for its time only.
    """
    if end <= start:  # the clock was set back: as things stand now
        return _part(hold, holds)
    cuts = {start, end}
    for other in holds:
        cuts.update(t for t in (other.since, other.until) if t is not None and start < t < end)
    moments = sorted(cuts)
    mine = 0.0
    for first, last in pairwise(moments):
        if hold.during(first, last):
            mine += (last - first) * _part(hold, [other for other in holds if other.during(first, last)])
    return mine / (end - start)


def _part(hold: Hold, holds: Sequence[Hold]) -> float:
    weights = [other.weight for other in holds]
    total = sum(weight or 0 for weight in weights)
    if hold.weight is None or None in weights or not total:
        return 1.0 / max(1, len(weights))
    return hold.weight / total


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
