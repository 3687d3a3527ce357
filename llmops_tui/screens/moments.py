"""A moment as a person types it."""

from __future__ import annotations

import re
import time

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_AGO = re.compile(r"-?\s*(\d+(?:\.\d+)?)\s*([smhdw])(?:\s+ago)?")
_FORMS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y-%m-%d")
_CLOCK = ("%H:%M:%S", "%H:%M")


def duration_of(text: str) -> float:
    """Seconds of "90s", "20m", "2h" or "1.5d". Raises ValueError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no length of time; try 20m, 2h or 1d")
    return float(match.group(1)) * _UNITS[match.group(2)]


def moment_of(text: str, now: float) -> float:
    """Unix seconds of "-20m", "2h ago", "14:30" (the last time it was that), "2026-11-23 14:30" or Unix seconds. Raises ValueError."""
    text = text.strip()
    if match := _AGO.fullmatch(text):
        return now - float(match.group(1)) * _UNITS[match.group(2)]
    if re.fullmatch(r"\d{9,10}(\.\d+)?", text):
        return float(text)
    for form in _FORMS:
        try:
            return time.mktime(time.strptime(text, form))
        except (ValueError, OverflowError):
            continue
    for form in _CLOCK:
        try:
            clock = time.strptime(text, form)
        except ValueError:
            continue
        day = time.localtime(now)
        at = time.mktime((day.tm_year, day.tm_mon, day.tm_mday, clock.tm_hour, clock.tm_min, clock.tm_sec, 0, 0, -1))
        return at if at <= now else at - 86400.0
    raise ValueError(f"{text!r} is no moment; try 14:30, -20m or 2026-11-23 14:30")
