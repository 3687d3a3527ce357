"""What the feed tells the app: small facts; of the status only the newest matters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.message import Message

if TYPE_CHECKING:
    from llmops_tui.specs.answers import EngineEvent, HostHistory, Status


@dataclass
class StatusArrived(Message):
    """A good answer."""

    status: Status

    def can_replace(self, message: Message) -> bool:
        """A later status makes an unread one pointless."""
        return isinstance(message, StatusArrived)


@dataclass
class PastArrived(Message):
    """How everything was at a moment: the status, the minutes before it, and the newest events by then."""

    moment: float
    status: Status
    history: HostHistory
    events: list[EngineEvent]

    def can_replace(self, message: Message) -> bool:
        """While scrubbing only the newest picture matters."""
        return isinstance(message, PastArrived)


@dataclass
class HistoryArrived(Message):
    """What the engine sampled before, and the newest events."""

    history: HostHistory
    events: list[EngineEvent]


@dataclass
class Refused(Message):
    """The engine lives and said no: it has no picture of the moment asked for, or is of another version."""

    reason: str


@dataclass
class EngineLost(Message):
    """A call failed; `reason` is the error's one line."""

    reason: str


@dataclass
class EngineEventArrived(Message):
    """One event of the engine's stream."""

    event: EngineEvent
