"""A moment as a person types it, in the local time zone unless it names another."""

from __future__ import annotations

import argparse
import re
import time
from datetime import datetime, timedelta

from llmops_tui.specs.durations import duration_seconds

_CLOCK = re.compile(r"(?:(today|yesterday)\s+)?(\d{1,2}):(\d{2})(?::(\d{2}))?")
_UNIX = re.compile(r"\d{9,11}(\.\d+)?")
EXAMPLES = '14:30, "yesterday 14:30", 2026-11-23T14:30, "2h ago", -20m'


def parse_moment(text: str, now: float) -> float:
    """Unix seconds of `text`, seen from `now`: "now", "2h ago", "-1h30m", "2h", "14:30" (the last one), "yesterday 14:30", a date,
    an ISO time with or without a zone, or Unix seconds. Raises ValueError with what may be written."""
    words = " ".join(text.strip().lower().split())
    if words == "now":
        return now
    if (seconds := _seconds(words.removeprefix("-").removesuffix(" ago"))) is not None:
        return now - seconds
    if _UNIX.fullmatch(words):
        return float(words)
    if clock := _CLOCK.fullmatch(words):
        return _clock_time(clock, text, now)
    try:
        moment = datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError, OSError):
        raise _refusal(text) from None
    return moment


def moment(text: str) -> float:
    """An argument that is a moment, seen from now."""
    try:
        return parse_moment(text, time.time())
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def span(text: str) -> float:
    """An argument that is a length of time: "30m", "1h30m", "2d". In seconds."""
    if (seconds := _seconds(text)) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no length of time; write 30m, 2h, 1d12h")
    return seconds


def clock(t: float, now: float) -> str:
    """`14:30:07`, and the day before it when that is not today's."""
    day = "" if time.localtime(t)[:3] == time.localtime(now)[:3] else "%Y-%m-%d "
    return time.strftime(f"{day}%H:%M:%S", time.localtime(t))


def _seconds(text: str) -> float | None:
    return duration_seconds("".join(text.lower().split()))


def _clock_time(match: re.Match[str], text: str, now: float) -> float:
    day, hour, minute, second = match.groups()
    try:
        at = datetime.fromtimestamp(now).replace(hour=int(hour), minute=int(minute), second=int(second or 0), microsecond=0)
    except ValueError:
        raise _refusal(text) from None
    # Days and not 86,400 seconds: yesterday's 14:30 is 14:30 also where the clocks were changed in between.
    if day == "yesterday" or (day is None and at.timestamp() > now):
        at -= timedelta(days=1)
    return at.timestamp()


def _refusal(text: str) -> ValueError:
    return ValueError(f"{text!r} is no moment; write {EXAMPLES}")
