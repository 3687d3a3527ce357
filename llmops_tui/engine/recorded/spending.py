"""What a thousand tokens took of energy and money in the last hour: from counters that grow, looked at every ten seconds. Pure.

A version's servers are the runs that serve it; adapters ride on the servers of their base, and share what those draw by the tokens
they answered. What servers draw while nobody asks counts too: it was drawn so that somebody could.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

EVERY_SECONDS = 10.0
WINDOW_SECONDS = 3600.0
# Counters are noted at whole seconds, tokens when an answer is over: below this the ends weigh too much.
LEAST_SECONDS = 60.0


@dataclass(frozen=True)
class Counters:
    """One look. By version: tokens answered and money paid to providers. By run: joules (None: not told) and GPU seconds."""

    t: float
    tokens: Mapping[str, int] = field(default_factory=dict)
    paid: Mapping[str, float] = field(default_factory=dict)
    joules: Mapping[str, float | None] = field(default_factory=dict)
    gpu_seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Spent:
    """What one version's tokens took in `seconds`. `joules` and `gpu_seconds` are its share of its servers'."""

    seconds: float
    tokens: int
    paid: float
    joules: float | None
    gpu_seconds: float
    runs: int


class Spending:
    """The last hour of one endpoint's counters."""

    def __init__(self) -> None:
        self._looks: deque[Counters] = deque()

    def note(self, look: Counters) -> None:
        """One look more; a clock that was set back begins anew."""
        if self._looks and look.t <= self._looks[-1].t:
            self._looks.clear()
        self._looks.append(look)
        while self._looks[0].t < look.t - WINDOW_SECONDS:
            self._looks.popleft()

    @property
    def seconds(self) -> float:
        """How far back it goes."""
        return self._looks[-1].t - self._looks[0].t if self._looks else 0.0

    def of(self, version: str, riders: Mapping[str, str], homes: Mapping[str, str]) -> Spent:
        """What a version took. `riders`: an adapter's base by its name; `homes`: the version that a run serves."""
        home = riders.get(version, version)
        grown = self._grown("tokens")
        mine = grown.get(version, 0.0)
        together = sum(tokens for name, tokens in grown.items() if riders.get(name, name) == home)
        share = mine / together if together else 0.0
        runs = [run for run, serves in homes.items() if serves == home]
        joules = [found for run in runs if (found := self._joules(run)) is not None]
        held = self._grown("gpu_seconds")
        return Spent(
            seconds=self.seconds,
            tokens=int(mine),
            paid=self._grown("paid").get(version, 0.0),
            joules=sum(joules) * share if joules else None,
            gpu_seconds=sum(held.get(run, 0.0) for run in runs) * share,
            runs=len(runs),
        )

    def _grown(self, name: str) -> dict[str, float]:
        """How much each counter grew; one that is smaller than before began again at zero."""
        grown: dict[str, float] = {}
        last: dict[str, float] = {}
        for look in self._looks:
            for key, value in getattr(look, name).items():
                if key in last:
                    grown[key] = grown.get(key, 0.0) + (value - last[key] if value >= last[key] else value)
                elif look is not self._looks[0]:
                    grown[key] = grown.get(key, 0.0) + value  # it was not there before, and began at zero
                last[key] = value
        return grown

    def _joules(self, run: str) -> float | None:
        told = [found for look in self._looks if (found := look.joules.get(run)) is not None]
        if not told:
            return None
        began = self._looks[0].joules.get(run)
        return told[-1] - (began if began is not None else 0.0 if run not in self._looks[0].joules else told[0])
