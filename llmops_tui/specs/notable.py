"""Which of the engine's events a person wants to hear of, and in what words: for the inbox, the bell, the hook and the webhook.

Pure, standard library only. Whoever shows or sends the words makes them safe for its own medium.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from llmops_tui.specs.watch_rules import EVENT_TYPES

if TYPE_CHECKING:
    from llmops_tui.specs.answers import EngineEvent

Level = Literal["good", "warn", "bad", "note"]
# What the settings choose from: runs that failed, runs that ended otherwise, the box and its GPUs, people who ask.
Topic = Literal["failed", "finished", "alarm", "asked"]
TOPICS: tuple[Topic, ...] = ("failed", "finished", "alarm", "asked")
# The types of event that `notable` can say something of, to ask an engine for them.
TYPES: tuple[str, ...] = (
    "run.state", "gpu.xid", "gpu.lost", "gpu.stalled", "gpu.hidden_memory", "ingest.paused", "note.asked", "notify.failed", *EVENT_TYPES,
)  # fmt: skip

_LONGEST_TEXT = 2000
_ENDS: dict[str, tuple[Topic, Level, str]] = {
    "succeeded": ("finished", "good", "finished"),
    "cancelled": ("finished", "note", "was cancelled"),
    "failed": ("failed", "bad", "failed"),
    "out_of_memory": ("failed", "bad", "ran out of memory"),
    "hung": ("failed", "bad", "hung and was stopped"),
    "lost": ("failed", "bad", "is lost"),
}


@dataclass(frozen=True)
class Notable:
    """`title` is one short line, `text` what more there is to say (often empty)."""

    topic: Topic
    level: Level
    title: str
    text: str


def notable(event: EngineEvent) -> Notable | None:
    """What to tell of this event; None for daily life."""
    data, kind = event["data"], event["type"]
    if kind == "run.state":
        return _end(event["run"] or "a run", data)
    if kind == "note.asked":
        return Notable("asked", "note", f"{_word(data, 'from', 'somebody')} asks about {event['run'] or 'a run'}", _word(data, "message"))
    if kind == "ingest.paused":
        why = _word(data, "state", "paused").removeprefix("paused: ")
        return Notable("alarm", "bad", "the engine stores nothing for now", f"{why}; jobs go on and lose nothing, and it goes on by itself")
    if kind == "notify.failed":
        return Notable("alarm", "warn", f"the {_word(data, 'channel', 'notification')} does not work", _word(data, "reason"))
    if kind.startswith("gpu."):
        return _gpu(kind, data)
    if kind.startswith("alarm.") and data.get("action") != "note":  # a note stands on the chart and in the list alone
        title = _word(data, "title") or _word(data, "name") or kind.removeprefix("alarm.").replace("_", " ")
        return Notable("alarm", _level(data), title, _word(data, "text") or _word(data, "reason"))
    return None


def _end(run: str, data: Mapping[str, Any]) -> Notable | None:
    end = _ENDS.get(str(data.get("state")))
    if end is None:
        return None
    topic, level, verb = end
    return Notable(topic, level, f"{run} {verb}", _word(data, "reason"))


def _gpu(kind: str, data: Mapping[str, Any]) -> Notable | None:
    name = f"GPU {data.get('gpu', '?')}"
    match kind:
        case "gpu.xid":
            return Notable("alarm", "bad", f"{name}: Xid {data.get('xid', '?')}", _word(data, "meaning"))
        case "gpu.lost":
            return Notable("alarm", "bad", f"{name} is lost", _word(data, "reason"))
        case "gpu.stalled":
            return Notable("alarm", "warn", f"{name} does not answer", _word(data, "reason"))
        case "gpu.hidden_memory":
            return Notable("alarm", "warn", f"{name}: memory in use without a process", _word(data, "reason"))
    return None


def _level(data: Mapping[str, Any]) -> Level:
    return "bad" if data.get("level") in ("bad", "critical") else "warn"


def _word(data: Mapping[str, Any], key: str, otherwise: str = "") -> str:
    value = data.get(key)
    return str(value)[:_LONGEST_TEXT] if value not in (None, "") else otherwise
