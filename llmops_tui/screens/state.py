"""What every screen reads: the newest answers of the engine and what the user selected. The app writes it, screens draw it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmops_tui import __version__
from llmops_tui.specs.notable import Notable, notable
from llmops_tui.specs.states import ACTIVE

if TYPE_CHECKING:
    from llmops_tui.specs.answers import EngineEvent, HostHistory, RunSummary, Status

HISTORY_SAMPLES = 600
_EVENTS = 200
_NOTICES = 500
# The status comes once a second; later than this the engine is said to be silent, though its socket may still be open.
SILENT_SECONDS = 4.0


@dataclass
class ViewState:
    """`live` is false from the first failed call until the next good answer; the old answers stay, marked as old.

    `events` are the newest of all but the jobs' progress; `heard` those that somebody should hear of, which daily life can't push out.

    `host` is the box's name, ssh's name for it where it is `remote`. `moment` is the past moment that is shown, None for now; every screen
    draws `status`, `history` and `events` all the same.
    """

    host: str
    remote: bool = False
    status: Status | None = None
    present: Status | None = None
    live: bool = False
    reason: str = ""
    arrived_at: float = 0.0
    selected: str | None = None
    notice: str = ""
    notice_role: str = "text"
    history: dict[str, deque[float | None]] = field(default_factory=dict)
    events: deque[EngineEvent] = field(default_factory=lambda: deque(maxlen=_EVENTS))
    heard: deque[EngineEvent] = field(default_factory=lambda: deque(maxlen=_NOTICES))
    moment: float | None = None
    past_events: list[EngineEvent] = field(default_factory=list)
    seen: dict[str, int] = field(default_factory=dict)
    slow: bool = False
    now: Callable[[], float] = time.time

    def clock(self) -> float:
        """The moment shown: now, or the one travelled to. Unix seconds."""
        return self.now() if self.moment is None else self.moment

    def told(self) -> list[EngineEvent]:
        """The events up to the moment shown, oldest first."""
        return list(self.events) if self.moment is None else self.past_events

    def other_version(self) -> str:
        """The engine's version where it is not the viewer's own; "" where it is."""
        version = self.status["engine"]["version"] if self.status else __version__
        return "" if version == __version__ else version

    def you(self) -> str:
        """The user that the engine takes one for; "" before it said so."""
        told = self.status["engine"].get("you") if self.status else None
        return told["user"] if told else ""

    def notices(self) -> list[tuple[EngineEvent, Notable]]:
        """What of the events somebody should hear of, oldest first."""
        told = self.heard if self.moment is None else self.past_events
        return [(event, found) for event in told if (found := notable(event)) is not None]

    def unread(self) -> int:
        """How many of the notices came after the last reading."""
        seen = self.seen.get(self.status["engine"]["epoch"], 0) if self.status else 0
        return sum(event["seq"] > seen for event, _ in self.notices())

    @property
    def connection(self) -> str:
        """LIVE, PAST, CONNECTING (never answered), RECONNECTING or SILENT."""
        if self.status is None:
            return "CONNECTING"
        if not self.live:
            return "RECONNECTING"
        if self.moment is not None:
            return "PAST"
        return "LIVE" if time.monotonic() - self.arrived_at < SILENT_SECONDS else "SILENT"

    def runs(self) -> list[RunSummary]:
        """Running, then waiting, then recent runs; each once."""
        if self.status is None:
            return []
        seen: dict[str, RunSummary] = {}
        for group in (self.status["running"], self.status["waiting"], self.status["recent"]):
            for run in group:
                seen.setdefault(run["id"], run)
        return list(seen.values())

    def run(self, run_id: str | None) -> RunSummary | None:
        """A run of the last status."""
        return next((run for run in self.runs() if run["id"] == run_id), None)

    def still_running(self) -> list[RunSummary]:
        """What goes on when the viewer leaves, by the newest answer."""
        return [run for run in self.present["running"] if run["state"] in ACTIVE] if self.present else []

    def take_status(self, status: Status) -> None:
        """A new answer."""
        host = status["host"]
        self._note("host/cpu", host["cpu"])
        used = host["memory_used_bytes"]
        self._note("host/memory", None if used is None else used / max(1, host["memory_total_bytes"]))
        for gpu in status["gpus"]:
            self._note(f"gpu/{gpu['index']}/utilisation", gpu["utilisation"])
        self.status = self.present = status
        self.live, self.reason, self.arrived_at = True, "", time.monotonic()

    def take_event(self, event: EngineEvent) -> None:
        """One more of the stream, which tells some again after a break. A job's progress stands in the status."""
        if event["type"] == "stream.reset":  # a rebuilt database counts from the start again
            self.events.clear()
            self.heard.clear()
        elif event["type"] != "run.progress":
            self.take_events([event])

    def take_events(self, events: list[EngineEvent]) -> None:
        """Events the engine keeps, oldest first; those that the stream brought meanwhile are among them, or newer."""
        _merge(self.events, events)
        _merge(self.heard, [event for event in events if notable(event) is not None])

    def take_history(self, history: HostHistory) -> None:
        """What the engine sampled before the viewer came; older than anything noted here."""
        total = self.status["host"]["memory_total_bytes"] if self.status else 0
        for name, values in history["series"].items():
            key, scale = name, 1.0
            if name == "host/memory_used_bytes":
                key, scale = "host/memory", 1.0 / total if total else 0.0
            if key in ("host/cpu", "host/memory") or key.endswith("/utilisation"):
                past = [None if value is None else value * scale for value in values]
                self.history[key] = deque([*past, *self.history.get(key, ())], maxlen=HISTORY_SAMPLES)

    def travel(self, moment: float | None) -> None:
        """Mean another moment; what is shown follows when its picture arrives. None is now."""
        if moment is None and self.moment is not None:
            self.history, self.past_events, self.status = {}, [], self.present
        self.moment = moment

    def take_past(self, status: Status, history: HostHistory, events: list[EngineEvent]) -> None:
        """The picture of the moment."""
        self.status, self.live, self.reason, self.arrived_at = status, True, "", time.monotonic()
        self.history, self.past_events = {}, events
        self.take_history(history)

    def lose(self, reason: str) -> None:
        """The engine did not answer."""
        self.live, self.reason = False, reason

    def _note(self, name: str, value: float | None) -> None:
        self.history.setdefault(name, deque(maxlen=HISTORY_SAMPLES)).append(value)


def _merge(kept: deque[EngineEvent], events: list[EngineEvent]) -> None:
    """Each once, in the order of their numbers; an engine's next event is simply the last."""
    if len(events) == 1 and (not kept or events[0]["seq"] > kept[-1]["seq"]):
        kept.append(events[0])
        return
    known = {event["seq"]: event for event in [*events, *kept]}
    kept.clear()
    kept.extend(known[seq] for seq in sorted(known))
