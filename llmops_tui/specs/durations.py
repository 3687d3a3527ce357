"""A length of time as a person writes it: `90s`, `1h30m`, `1.5d`. Standard library only."""

from __future__ import annotations

import re

_UNIT_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+")


def duration_seconds(text: str) -> float | None:
    """Seconds of a number with a unit (s, m, h, d, w), or of several in a row; None for anything else."""
    if _WHOLE.fullmatch(text) is None:
        return None
    return sum(float(count) * _UNIT_SECONDS[unit] for count, unit in _PART.findall(text))
