"""A moment as a person types it, in the local time zone unless it names another."""

from __future__ import annotations

import argparse
import re
import time
from datetime import datetime, timedelta

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_SPAN = re.compile(r"(?:\d+(?:\.\d+)?\s*[smhdw]\s*)+")
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_CLOCK = re.compile(r"(?:(today|yesterday)\s+)?(\d{1,2}):(\d{2})(?::(\d{2}))?")
_UNIX = re.compile(r"\d{9,11}(\.\d+)?")
EXAMPLES = '14:30, "yesterday 14:30", 2026-11-23T14:30, "2h ago", -20m'


def parse_moment(text: str, now: float) -> float:
    """Unix seconds of `text`, seen from `now`: "now", "2h ago", "-1h30m", "2h", "14:30" (the last one), "yesterday 14:30", a date,
    an ISO time with or without a zone, or Unix seconds. Raises ValueError with what may be written."""
    words = " ".join(text.strip().lower().split())
    if words == "now":
        return now
    span = words.removeprefix("-").removesuffix(" ago").strip()
    if _SPAN.fullmatch(span):
        return now - sum(float(count) * _UNITS[unit] for count, unit in _PART.findall(span))
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
    words = "".join(text.strip().lower().split())
    if not _SPAN.fullmatch(words):
        raise argparse.ArgumentTypeError(f"{text!r} is no length of time; write 30m, 2h, 1d12h")
    return sum(float(count) * _UNITS[unit] for count, unit in _PART.findall(words))


def clock(t: float, now: float) -> str:
    """`14:30:07`, and the day before it when that is not today's."""
    day = "" if time.localtime(t)[:3] == time.localtime(now)[:3] else "%Y-%m-%d "
    return time.strftime(f"{day}%H:%M:%S", time.localtime(t))


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
