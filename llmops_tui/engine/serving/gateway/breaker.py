"""A circuit breaker: a replica that fails again and again gets no requests for a while, then one, and all again when that one succeeds."""

from __future__ import annotations

FAILURES_TO_OPEN = 5
FIRST_SECONDS = 1.0
MOST_SECONDS = 30.0


class Breaker:
    """State of one replica's circuit; `now` is the monotonic clock in seconds."""

    __slots__ = ("_opened", "_trial", "_wait", "failures", "state")

    def __init__(self) -> None:
        self.state = "closed"
        self.failures = 0  # in a row
        self._wait = 0.0
        self._opened = 0.0
        self._trial = False

    def allows(self, now: float) -> bool:
        """Whether a request may go there: always when closed, never when open, one at a time when half open."""
        if self.state == "closed":
            return True
        if self.state == "open":
            if now - self._opened < self._wait:
                return False
            self.state = "half_open"
            self._trial = False
        return not self._trial

    def taken(self) -> None:
        """A request goes there; in the half-open state it is the trial."""
        if self.state == "half_open":
            self._trial = True

    def succeeded(self) -> None:
        self.failures = 0
        if self.state != "closed":
            self.state = "closed"
            self._wait = 0.0
            self._trial = False

    def failed(self, now: float) -> None:
        self.failures += 1
        if self.state == "half_open" or (self.state == "closed" and self.failures >= FAILURES_TO_OPEN):
            self.state = "open"
            self._opened = now
            self._trial = False
            self._wait = min(MOST_SECONDS, max(FIRST_SECONDS, self._wait * 2))

    def abandoned(self) -> None:
        """The trial ended without a verdict, as when its client went away: the next request is the trial."""
        self._trial = False
