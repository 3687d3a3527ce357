"""Progress of a job for those who watch: phases, a heartbeat at most once a second, log lines, and the end."""

from __future__ import annotations

import time

from llmops_tui.engine.jobs.control import ControlChannel
from llmops_tui.engine.jobs.event_writer import EventWriter

_BEAT_SECONDS = 1.0


class Reporter:
    """One phase at a time. Every beat also looks whether the user wants the run to stop."""

    def __init__(self, events: EventWriter, control: ControlChannel) -> None:
        self.events = events
        self.control = control
        self._phase = ""
        self._unit = "steps"
        self._began = 0.0
        self._began_at = 0.0
        self._beaten = 0.0
        self._held_seconds = 0.0

    def phase(self, name: str, *, done: float = 0, total: float | None = None, unit: str = "steps") -> None:
        """Begin a part of the work."""
        self._phase, self._unit = name, unit
        self._began = self._beaten = time.monotonic()
        self._began_at = done
        self.events.phase(name, done=done, total=total, unit=unit)
        print(f"[{name}]", flush=True)

    def beat(self, done: float, total: float | None, *, may_stop: bool = True, at_once: bool = False) -> None:
        """Say how far the phase is, with the time left at the rate so far; raises StoppedError where asked to stop.

        `at_once` says it though a second has not passed: a step that is done is never shown as still to do.
        """
        now = time.monotonic()
        if at_once or now - self._beaten >= _BEAT_SECONDS:
            self._beaten = now
            self.events.heartbeat(self._phase, done, total, self._unit, self._eta(done, total, now))
        if may_stop:
            self.control.raise_if_stopped()

    def hold(self, step: int, total: float | None) -> None:
        """Keep still until the run is resumed or stopped, with a sign of life a second; then it trains on."""
        self.phase("paused", done=step, total=total)
        self._held_seconds += self.control.wait_while_held(lambda: self.beat(step, total, may_stop=False))
        self.phase("training", done=step, total=total)

    def take_held_seconds(self) -> float:
        """How long it was held since the last call: time that is no work."""
        seconds, self._held_seconds = self._held_seconds, 0.0
        return seconds

    def log(self, message: str, level: str = "info") -> None:
        """A line for a person, in the events and in the log."""
        self.events.write("log", level=level, message=message)
        print(message, flush=True)

    def _eta(self, done: float, total: float | None, now: float) -> float | None:
        fresh = done - self._began_at
        if total is None or fresh <= 0:
            return None
        return round((now - self._began) / fresh * max(0.0, total - done), 1)
