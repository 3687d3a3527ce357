"""From a curve to the columns of a plot: what each column shows at least and at most, so that no point is lost however many share it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from math import log10

from llmops_tui.screens.widgets.axes import Scale
from llmops_tui.screens.widgets.curve import Curve

Column = tuple[int, int, int, float, float, float, float]
"""Column number, index range of its points, then their low, high, first and last value. At an edge of the window the range is empty."""

LARGEST = 4e307
"""The span of an axis must be a finite number too."""
_SAMPLES = 1000
_WIDE, _REACH = 0.05, 0.5  # outlier: further from the middle nine tenths than half their span (3.3 σ of noise)
_FEWEST = 20


def columns_of(curve: Curve, scale: Scale, log_y: bool) -> tuple[list[list[Column]], int]:
    """A list of columns for each stretch without a gap, over the x of `scale`; with `log_y` in powers of ten.

    The second value counts the points that a logarithmic axis can't show.
    """
    pieces: list[list[Column]] = []
    cut = 0
    for begin, end in curve.pieces:
        columns = _piece(curve, scale, begin, end, log_y)
        if not log_y:
            pieces.append(columns)
            continue
        for stretch, lost in _positive(curve, columns):
            cut += lost
            if stretch:
                pieces.append(stretch)
    return pieces, cut


def _piece(curve: Curve, scale: Scale, begin: int, end: int, log_y: bool) -> list[Column]:
    x, low, high, last = curve.x, curve.low, curve.high, curve.last
    left, right = scale.low, scale.high
    inside, after = bisect_left(x, left, begin, end), bisect_right(x, right, begin, end)
    found: list[Column] = []
    if begin < inside < end:  # the line from the last point before the window
        found.append(_edge(curve, inside, left, 0, log_y))
    dots, factor = scale.dots, scale.factor
    at = inside
    if after - inside > 2 * dots:
        for column in range(dots):
            to = bisect_left(x, scale.edge(column + 1), at, after) if column + 1 < dots else after
            if to > at:
                found.append((column, at, to, min(low[at:to]), max(high[at:to]), last[at], last[to - 1]))
                at = to
    else:
        while at < after:
            column = int((x[at] - left) * factor + 0.5)
            to = at + 1
            while to < after and int((x[to] - left) * factor + 0.5) <= column:
                to += 1
            if to == at + 1:
                found.append((column, at, to, low[at], high[at], last[at], last[at]))
            else:
                found.append((column, at, to, min(low[at:to]), max(high[at:to]), last[at], last[to - 1]))
            at = to
    if begin < after < end:  # and to the first point behind it
        found.append(_edge(curve, after, right, dots - 1, log_y))
    return found


def _edge(curve: Curve, after: int, x: float, column: int, log_y: bool) -> Column:
    """Where the line to the point `after` passes x."""
    x0, x1, y0, y1 = curve.x[after - 1], curve.x[after], curve.last[after - 1], curve.last[after]
    share = (x - x0) / (x1 - x0) if x1 > x0 else 0.0
    if log_y and y0 > 0 and y1 > 0:
        value = 10 ** (log10(y0) + (log10(y1) - log10(y0)) * share)
    else:
        value = y0 * (1 - share) + y1 * share
    return (column, after, after, value, value, value, value)


def _positive(curve: Curve, columns: Sequence[Column]) -> list[tuple[list[Column], int]]:
    """Stretches of what a logarithm has, and how many points before the end of each it has not."""
    stretches: list[tuple[list[Column], int]] = []
    stretch: list[Column] = []
    cut = 0
    for column, begin, end, low, high, first, last in columns:
        if low <= 0:
            cut += sum(value <= 0 for value in curve.low[begin:end])
            if high <= 0:
                stretches.append((stretch, cut))
                stretch, cut = [], 0
                continue
            pairs = zip(curve.low[begin:end], curve.high[begin:end], strict=True)
            low = min((least if least > 0 else most for least, most in pairs if most > 0), default=high)
            first, last = max(first, low), max(last, low)
        low_log = log10(low)
        if low == high == first == last:
            stretch.append((column, begin, end, low_log, low_log, low_log, low_log))
        else:
            stretch.append((column, begin, end, low_log, log10(high), log10(first), log10(last)))
    return [*stretches, (stretch, cut)]


def extent_of(plots: Sequence[Sequence[Sequence[Column]]]) -> tuple[float, float] | None:
    """The smallest and the largest value of all columns."""
    lows = [column[3] for pieces in plots for piece in pieces for column in piece]
    if not lows:
        return None
    return max(min(lows), -LARGEST), min(max(column[4] for pieces in plots for piece in pieces for column in piece), LARGEST)


def usual_range(curves: Sequence[Curve], window: tuple[float, float], log_y: bool) -> tuple[float, float] | None:
    """The y outside of which a value is an outlier, over all curves; None without a value.

    Each curve's middle nine tenths, and half their span to both sides.
    """
    bounds: list[tuple[float, float]] = []
    for curve in curves:
        begin, end = bisect_left(curve.x, window[0]), bisect_right(curve.x, window[1])
        values = curve.last[begin : end : max(1, (end - begin) // _SAMPLES)]
        sample = sorted(log10(value) for value in values if value > 0) if log_y else sorted(values)
        if not sample:
            continue
        if len(sample) < _FEWEST:  # too few to call one of them unusual
            bounds.append((sample[0], sample[-1]))
            continue
        low, high = sample[int(len(sample) * _WIDE)], sample[-1 - int(len(sample) * _WIDE)]
        reach = min(LARGEST, (high - low) * _REACH) or abs(high) * 0.1 or 1.0
        bounds.append((low - reach, high + reach))
    return (min(low for low, _ in bounds), max(high for _, high in bounds)) if bounds else None


def outliers(curve: Curve, pieces: Sequence[Sequence[Column]], low: float, high: float, log_y: bool) -> tuple[int, int]:
    """How many points of the columns lie below and above; the bounds in powers of ten with `log_y`."""
    least, most = (10.0 ** max(low, -323), 10.0 ** min(high, 308)) if log_y else (low, high)
    below = above = 0
    for piece in pieces:
        for _, begin, end, bottom, top, _, _ in piece:
            if bottom < low:
                below += sum((value > 0 or not log_y) and value < least for value in curve.low[begin:end])
            if top > high:
                above += sum(value > most for value in curve.high[begin:end])
    return below, above
