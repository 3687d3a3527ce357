"""What every screen reads: the newest answers of the engine and what the user selected. The app writes it, screens draw it."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmops_tui.specs.states import ACTIVE

if TYPE_CHECKING:
    from llmops_tui.specs.answers import EngineEvent, HostHistory, RunSummary, Status

HISTORY_SAMPLES = 600
# The status comes once a second; later than this the engine is said to be silent, though its socket may still be open.
SILENT_SECONDS = 4.0


@dataclass
class ViewState:
    """`live` is false from the first failed call until the next good answer; the old answers stay, marked as old."""

    host: str
    status: Status | None = None
    live: bool = False
    reason: str = ""
    arrived_at: float = 0.0
    selected: str | None = None
    notice: str = ""
    notice_role: str = "text"
    history: dict[str, deque[float | None]] = field(default_factory=dict)
    events: deque[EngineEvent] = field(default_factory=lambda: deque(maxlen=200))

    @property
    def connection(self) -> str:
        """LIVE, CONNECTING (never answered), RECONNECTING or SILENT."""
        if self.status is None:
            return "CONNECTING"
        if not self.live:
            return "RECONNECTING"
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
        """What goes on when the viewer leaves."""
        return [run for run in self.runs() if run["state"] in ACTIVE]

    def take_status(self, status: Status) -> None:
        """A new answer."""
        host = status["host"]
        if self.status is None:
            self._remember(status)
        self._note("host/cpu", host["cpu"])
        self._note("host/memory", host["memory_used_bytes"] / max(1, host["memory_total_bytes"]))
        for gpu in status["gpus"]:
            self._note(f"gpu/{gpu['index']}/utilisation", gpu["utilisation"])
        self.status, self.live, self.reason, self.arrived_at = status, True, "", time.monotonic()

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

    def lose(self, reason: str) -> None:
        """The engine did not answer."""
        self.live, self.reason = False, reason

    def _note(self, name: str, value: float | None) -> None:
        self.history.setdefault(name, deque(maxlen=HISTORY_SAMPLES)).append(value)

    def _remember(self, status: Status) -> None:
        """The stream begins now; what happened before is told from the runs themselves."""
        past: list[EngineEvent] = []
        for run in [*status["recent"], *status["running"], *status["waiting"]]:
            for at, state in ((run["submitted_at"], "queued"), (run["started_at"], "running"), (run["ended_at"], run["state"])):
                if at is not None:
                    past.append({"seq": 0, "t": at, "type": "run.state", "run": run["id"], "data": {"state": state}})
        self.events.extend(sorted(past, key=lambda event: event["t"])[-20:])
