"""How often and how soon a server that died is started again. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True)
class RestartRule:
    """As specs/serve.py's RestartChoice."""

    limit: int
    window_seconds: float
    first_seconds: float
    most_seconds: float


class Restarts:
    """Counts deaths within the window."""

    def __init__(self, rule: RestartRule) -> None:
        self._rule = rule
        self._deaths: deque[float] = deque()

    def after_death(self, now: float) -> float | None:
        """Seconds until the next start; None where the bound is reached. The pause doubles with each death in the window."""
        while self._deaths and now - self._deaths[0] > self._rule.window_seconds:
            self._deaths.popleft()
        self._deaths.append(now)
        if len(self._deaths) > self._rule.limit:
            return None
        return min(self._rule.most_seconds, self._rule.first_seconds * 2.0 ** (len(self._deaths) - 1))

    @property
    def deaths(self) -> int:
        """How many lie within the window, as counted at the last one."""
        return len(self._deaths)
