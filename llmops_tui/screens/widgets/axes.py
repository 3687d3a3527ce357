"""Scales, ticks and the short texts of numbers: pure functions for the chart and the tables."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise
from math import ceil, floor, isfinite, log10

_LONGEST = 11
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_TIME_STEPS = (
    1, 2, 5, 10, 15, 30, _MINUTE, 2 * _MINUTE, 5 * _MINUTE, 10 * _MINUTE, 15 * _MINUTE, 30 * _MINUTE,
    _HOUR, 2 * _HOUR, 3 * _HOUR, 6 * _HOUR, 12 * _HOUR, _DAY, 2 * _DAY, 7 * _DAY, 14 * _DAY, 30 * _DAY, 90 * _DAY, 365 * _DAY,
)  # fmt: skip


class Scale:
    """A linear map from values to dots `0 … dots-1`; values outside are clamped. `factor`: dots a unit."""

    def __init__(self, low: float, high: float, dots: int) -> None:
        self.low, self.high, self.dots = low, high, dots
        self.factor = (dots - 1) / (high - low) if high > low else 0.0

    def dot(self, value: float) -> int:
        """The dot of a value."""
        if value <= self.low:
            return 0
        return self.dots - 1 if value >= self.high else int((value - self.low) * self.factor + 0.5)

    def edge(self, dot: int) -> float:
        """The smallest value of a dot."""
        return self.low + (dot - 0.5) / self.factor if self.factor else self.low


def nice_ticks(low: float, high: float, most: int, log_scale: bool) -> list[float]:
    """At most about `most` ticks of steps 1, 2 or 5 × 10ⁿ within the span. With `log_scale` the span is in powers of ten."""
    if not (isfinite(low) and isfinite(high)) or high <= low:
        return [low]
    if log_scale:
        first, last = ceil(low), floor(high)
        if last - first >= 1:
            every = max(1, ceil((last - first + 1) / most))
            return [10.0**power for power in range(first, last + 1, every)]
        within = [factor * 10.0**power for power in range(floor(low), ceil(high)) for factor in (1, 2, 5)]
        within = [tick for tick in within if low <= log10(tick) <= high]
        if len(within) >= 2:  # less than two decades: 2, 5, 10, 20 where equal steps would crowd at the top
            return within[:: max(1, (len(within) - 1) // max(1, most - 1))]
        return nice_ticks(10**low, 10**high, most, False)
    rough = (high - low) / max(1, most)
    power = 10.0 ** floor(log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first = ceil(low / step)
    ticks = [float(f"{index * step:.12g}") for index in range(first, floor(high / step + 1e-9) + 1)]
    if len(ticks) == 1 and most > 1:  # one number gives no scale: a finer step has at least two
        return nice_ticks(low, high, 2 * most, False)
    return ticks or [low]


def time_ticks(low: float, high: float, most: int, elapsed: bool) -> list[float]:
    """At most about `most` round moments (of local time) or round spans, in seconds; below a second as `nice_ticks`."""
    if not (isfinite(low) and isfinite(high)) or high <= low:
        return [low]
    rough = (high - low) / max(1, most)
    if rough <= 0.5:
        return nice_ticks(low, high, most, False)
    step = next((step for step in _TIME_STEPS if step >= rough * 0.999), 0) or 365 * _DAY * ceil(rough / (365 * _DAY))
    shift = 0 if elapsed else _utc_offset(low)
    first = ceil((low + shift) / step)
    return [index * step - shift for index in range(first, floor((high + shift) / step + 1e-9) + 1)] or [low]


def _utc_offset(moment: float) -> int:
    try:
        return time.localtime(moment).tm_gmtoff
    except (ValueError, OverflowError, OSError):  # no calendar knows that year
        return 0


def time_label(value: float, span: float, elapsed: bool, step: float = 0.0) -> str:
    """A moment's or a span's text, as exact as `span` (seconds between the axis's ends) asks for; `step` is the distance of the ticks."""
    if elapsed:
        return span_text(value) if step == 0 or step >= 1 else f"{value:.{max(0, -floor(log10(step)))}f}s"
    form = "%b %d" if step >= _DAY else "%d. %H:%M" if span > 1.5 * _DAY else "%H:%M" if step >= _MINUTE else "%H:%M:%S"
    try:
        text = time.strftime(form, time.localtime(value))
    except (ValueError, OverflowError, OSError):
        return f"{value:.4g}"
    return text if step == 0 or step >= 1 else f"{text}{value % 1:.2f}".replace("0.", ".")


def span_text(seconds: float) -> str:
    """A span without empty parts: `90m` is `1h30m`, `60s` is `1m`; below a second with its digits."""
    if seconds < 0:
        return "-" + span_text(-seconds)
    whole = int(seconds + 0.5)
    if seconds < 1:
        return "0" if seconds == 0 else f"{seconds:.3g}s"
    parts = ((whole // _DAY, "d"), (whole % _DAY // _HOUR, "h"), (whole % _HOUR // _MINUTE, "m"), (whole % _MINUTE, "s"))
    return "".join(f"{count}{unit}" for count, unit in parts if count)


def label(value: float, ticks: Sequence[float]) -> str:
    """A tick's text: thousands as k, M and G, and as many digits as tell the ticks apart; at most eleven characters."""
    text = _label(value, ticks)
    return text if len(text) <= _LONGEST else f"{value:.4g}"


def _label(value: float, ticks: Sequence[float]) -> str:
    size = abs(value)
    gaps = [abs(b - a) for a, b in pairwise(ticks)]
    step = min(gaps, default=0.0)
    if gaps and max(gaps) > 1.5 * step:  # a logarithmic axis: each tick has the digits of its own number
        step = 10.0 ** floor(log10(size)) if size else 0.0
    if 0 < size < 1e-3 or size >= 1e12:
        digits = max(0, floor(log10(size)) - floor(log10(step) + 1e-9)) if 0 < step < size else 2
        mantissa, power = f"{value:.{min(digits, 12)}e}".split("e")
        return f"{mantissa.rstrip('0').removesuffix('.') if '.' in mantissa else mantissa}e{int(power)}"
    for unit, sign in ((1e9, "G"), (1e6, "M")):
        if unit <= size < 1e12:
            return _short(value / unit, step / unit) + sign
    if size >= 1e4 or (size >= 1e3 and step >= 100):
        return _short(value / 1e3, step / 1e3) + "k"
    return _short(value, step)


def _short(value: float, step: float) -> str:
    digits = 0 if not step else max(0, -floor(log10(step) + 1e-9))
    text = f"{value:.{digits}f}" if step else f"{value:.4g}"
    return "0" if text.strip("-0.") == "" else text


def value_text(value: float | None) -> str:
    """A metric's value in at most eight characters, nine where it is below 0 and very large or small; "-" where unknown."""
    if value is None:
        return "-"
    if value != value:
        return "nan"
    size = abs(value)
    if size in (0, float("inf")):
        return "0" if size == 0 else ("inf" if value > 0 else "-inf")
    if size >= 1e12 or size < 1e-3:
        mantissa, power = f"{value:.3e}".split("e")
        return f"{mantissa if abs(int(power)) < 10 else f'{value:.2e}'.split('e')[0]}e{int(power)}"
    if size >= 1e9:
        return f"{value / 1e9:.2f}G"
    if size >= 1e6:
        return f"{value / 1e6:.2f}M"
    if float(value).is_integer() and size < 1e6:
        return str(int(value))
    if size >= 1e4:
        return f"{value:.0f}" if size >= 99999 else f"{value:.1f}"
    digits = (5 if size >= 1e-2 else 4) - (value < 0 and size < 1)  # the sign takes a digit's place
    return f"{value:.{digits}g}"


def bytes_text(count: float | None) -> str:
    """A size in binary units, three digits."""
    if count is None:
        return "-"
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def duration_text(seconds: float | None) -> str:
    """A span in two units: `1h02m`, `3m20s`, `12s`; "-" where unknown."""
    if seconds is None or seconds != seconds or seconds < 0:
        return "-"
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"
