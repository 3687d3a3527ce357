"""Scales, ticks and the short texts of numbers: pure functions for the chart and the tables."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil, floor, isfinite, log10


class Scale:
    """A linear map from values to dots `0 … dots-1`; values outside are clamped."""

    def __init__(self, low: float, high: float, dots: int) -> None:
        self.low, self.high, self.dots = low, high, dots
        self._factor = (dots - 1) / (high - low) if high > low else 0.0

    def dot(self, value: float) -> int:
        """The dot of a value."""
        if value <= self.low:
            return 0
        return self.dots - 1 if value >= self.high else int((value - self.low) * self._factor + 0.5)

    def edge(self, dot: int) -> float:
        """The smallest value of a dot."""
        return self.low + (dot - 0.5) / self._factor if self._factor else self.low


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


def label(value: float, ticks: Sequence[float]) -> str:
    """A tick's text: thousands as k, M and G, and as many digits as tell the ticks apart."""
    size = abs(value)
    step = min((abs(b - a) for a, b in pairwise(ticks)), default=0.0)
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
    """A metric's value in at most nine characters; "-" where unknown."""
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
    return f"{value:.5g}" if size >= 1e-2 else f"{value:.4g}"


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
