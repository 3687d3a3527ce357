"""The chart as a pure function: curves in, rows of coloured text out. No I/O, no terminal, no clock.

Every dot column of a curve shows the smallest and the largest value that falls into it, so a spike of one point in a million
is visible; NaN is a gap and is never bridged. A cell holds 2 × 4 braille dots, or one character in the ASCII form.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import isfinite, log10
from textwrap import wrap

from llmops_tui.screens.widgets.axes import Scale, label, nice_ticks, value_text

Run = tuple[str, str]
"""Text and the role that colours it: "series-0" …, "axis", "mark", "text", "cross"."""

_LEFT = [sum(bit for row, bit in enumerate((0x01, 0x02, 0x04, 0x40)) if nibble >> row & 1) for nibble in range(16)]
_RIGHT = [sum(bit for row, bit in enumerate((0x08, 0x10, 0x20, 0x80)) if nibble >> row & 1) for nibble in range(16)]
_BRAILLE = [chr(0x2800 + dots) for dots in range(256)]
_DOTTED = int("10" * 256, 2)
_LARGEST = 4e307  # the span of the axis must be a finite number too
_GLYPHS = "*+o#"


@dataclass(frozen=True)
class Curve:
    """One series, ready to draw: x ascending, and the values at or around each x; `pieces` are the stretches without a gap."""

    name: str
    x: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    last: Sequence[float]
    pieces: tuple[tuple[int, int], ...]
    final: float | None
    not_positive: int

    @staticmethod
    def of(name: str, points: Iterable[tuple[float, float | None, float | None, float | None]]) -> Curve:
        """From `(x, low, high, last)`; None, NaN and infinities are gaps."""
        x: list[float] = []
        low: list[float] = []
        high: list[float] = []
        last: list[float] = []
        pieces: list[tuple[int, int]] = []
        begin, final, not_positive = 0, None, 0
        for at, least, most, ending in points:
            if least is None or most is None or not isfinite(least) or not isfinite(most):
                if begin < len(x):
                    pieces.append((begin, len(x)))
                begin, final = len(x), None
                continue
            broken = ending is None or not isfinite(ending)
            x.append(at)
            low.append(least)
            high.append(most)
            last.append(most if broken or ending is None else ending)
            final = None if broken else ending
            not_positive += least <= 0
            if broken:  # the newest value of the bucket is NaN: the curve stops here
                pieces.append((begin, len(x)))
                begin = len(x)
        if begin < len(x):
            pieces.append((begin, len(x)))
        return Curve(name, x, low, high, last, tuple(pieces), final, not_positive)

    @staticmethod
    def from_buckets(name: str, buckets: Sequence[Sequence[float | None]]) -> Curve:
        """From the engine's buckets `[step_first, step_last, count, minimum, maximum, mean, last, t_last]`."""
        return Curve.of(name, (((b[0] + b[1]) / 2, b[3], b[4], b[6]) for b in buckets if b[0] is not None and b[1] is not None))

    def near(self, x: float) -> float | None:
        """The last known value at or before `x`."""
        at = bisect_left(self.x, x)
        if at < len(self.x) and self.x[at] == x:
            return self.last[at]
        return self.last[at - 1] if at else None


@dataclass(frozen=True)
class Look:
    """How a chart is drawn. `marks` are x positions of dotted lines (checkpoints, alarms), `crosshair` one of a full line."""

    width: int
    height: int
    log_y: bool = False
    marks: tuple[float, ...] = ()
    crosshair: float | None = None
    ascii_only: bool = False
    empty: str = "no points yet"


@dataclass
class _Canvas:
    columns: int
    rows: int
    log_y: bool
    x_scale: Scale
    y_scale: Scale
    masks: list[list[int]] = field(default_factory=list)


def draw(curves: Sequence[Curve], look: Look) -> list[list[Run]]:
    """`look.height` rows of runs, each row exactly `look.width` cells: legend, plot with axes, step labels."""
    width, height = look.width, look.height
    if width < 16 or height < 4:
        return [[(" " * width, "text")] for _ in range(height)]
    extent = _extent(curves, look)
    if extent is None:
        rows: list[list[Run]] = [[(" " * width, "text")] for _ in range(height)]
        told = wrap(look.empty, width - 2)[: height - 1]
        for at, text in enumerate(told, max(1, (height - len(told)) // 2)):
            rows[at] = [(text.center(width), "axis")]
        rows[0] = _legend(curves, look)
        return rows
    x_low, x_high, y_low, y_high = extent
    plot_rows = height - 3
    ticks = nice_ticks(y_low, y_high, plot_rows // 3 + 1, look.log_y)
    texts = [label(tick, ticks) for tick in ticks]
    gutter = max(map(len, texts)) + 1
    plot_columns = width - gutter - 1
    across, down = (1, 1) if look.ascii_only else (2, 4)
    columns, dot_rows = plot_columns * across, plot_rows * down
    canvas = _Canvas(columns, dot_rows, look.log_y, Scale(x_low, x_high, columns), Scale(y_low, y_high, dot_rows))
    canvas.masks = [_trace(curve, canvas) for curve in curves]
    if not look.ascii_only:
        canvas.masks = [_thick(mask, dot_rows - 1) if len(c.x) == 1 else mask for c, mask in zip(curves, canvas.masks, strict=True)]
    cells = _ascii_cells(canvas, look) if look.ascii_only else _braille_cells(canvas, look)
    tick_rows = {plot_rows - 1 - canvas.y_scale.dot(log10(t) if look.log_y else t) // down: s for t, s in zip(ticks, texts, strict=True)}
    wall, tick_wall = ("|", "+") if look.ascii_only else ("│", "┤")
    rows = [_legend(curves, look)]
    for number, cell_row in enumerate(cells):
        text = tick_rows.get(number, "")
        rows.append([(text.rjust(gutter) + (tick_wall if text else wall), "axis"), *cell_row])
    rows += _x_axis(canvas, look, gutter, plot_columns, across)
    return rows


def _extent(curves: Sequence[Curve], look: Look) -> tuple[float, float, float, float] | None:
    drawn = [c for c in curves if c.x]
    lows: list[float] = []
    highs: list[float] = []
    for curve in drawn:
        if look.log_y:
            positive = [v for v in curve.low if v > 0] or [v for v in curve.high if v > 0]
            if positive:
                lows.append(log10(min(positive)))
                highs.append(log10(max(curve.high)))
        else:
            lows.append(min(curve.low))
            highs.append(max(curve.high))
    if not lows:
        return None
    y_low, y_high = max(min(lows), -_LARGEST), min(max(highs), _LARGEST)
    room = (y_high - y_low) * 0.04 or abs(y_high) * 0.1 or 1.0
    x_low, x_high = min(c.x[0] for c in drawn), max(c.x[-1] for c in drawn)
    if x_low == x_high:
        x_low, x_high = x_low - 1, x_high + 1
    return x_low, x_high, y_low - room, y_high + room


def _trace(curve: Curve, canvas: _Canvas) -> list[int]:
    """One bit mask of dot rows a dot column, bit 0 at the top."""
    masks = [0] * canvas.columns
    top = canvas.rows - 1
    y_dot = canvas.y_scale.dot

    for begin, end in curve.pieces:
        before: tuple[int, int] | None = None
        for column, low, high, first, last in _columns(curve, canvas, begin, end):
            if canvas.log_y:
                if high <= 0:
                    before = None
                    continue
                low = low if low > 0 else high
                first, last = max(first, low), max(last, low)
                low, high, first, last = log10(low), log10(high), log10(first), log10(last)
            low_dot, high_dot, first_dot, last_dot = y_dot(low), y_dot(high), y_dot(first), y_dot(last)
            if before is not None:
                _join(masks, before, (column, first_dot), top)
            masks[column] |= ((1 << (high_dot - low_dot + 1)) - 1) << (top - high_dot)
            before = (column, last_dot)
    return masks


def _thick(masks: list[int], top: int) -> list[int]:
    """A block of 3 × 3 dots for a curve of a single point (the first evaluation): one dot alone is not seen."""
    tall = [(mask | mask << 1 | mask >> 1) & ((1 << (top + 1)) - 1) for mask in masks]
    return [left | here | right for left, here, right in zip([0, *tall[:-1]], tall, [*tall[1:], 0], strict=True)]


def _columns(curve: Curve, canvas: _Canvas, begin: int, end: int) -> Iterable[tuple[int, float, float, float, float]]:
    """`(dot column, low, high, first, last)` of a gapless stretch; many points of one column become one entry."""
    x, low, high, last = curve.x, curve.low, curve.high, curve.last
    x_dot, edge = canvas.x_scale.dot, canvas.x_scale.edge
    at = begin
    while at < end:
        column = x_dot(x[at])
        if at + 1 < end and x_dot(x[at + 1]) == column:
            after = max(at + 1, bisect_left(x, edge(column + 1), at, end)) if column + 1 < canvas.columns else end
            yield column, min(low[at:after]), max(high[at:after]), last[at], last[after - 1]
            at = after
        else:
            yield column, low[at], high[at], last[at], last[at]
            at += 1


def _join(masks: list[int], start: tuple[int, int], end: tuple[int, int], top: int) -> None:
    """A straight line between two dots, end points included."""
    (x0, y0), (x1, y1) = start, end
    span = x1 - x0
    if span <= 0:
        low, high = min(y0, y1), max(y0, y1)
        masks[x1] |= ((1 << (high - low + 1)) - 1) << (top - high)
        return
    slope = (y1 - y0) / span
    for column in range(x0, x1 + 1):
        here = y0 + slope * (column - x0)
        a = round(here if column == x0 else here - slope / 2)
        b = round(here if column == x1 else here + slope / 2)
        low, high = (a, b) if a <= b else (b, a)
        low, high = max(low, min(y0, y1)), min(high, max(y0, y1))
        if high >= low:
            masks[column] |= ((1 << (high - low + 1)) - 1) << (top - high)


def _overlays(canvas: _Canvas, look: Look) -> tuple[list[int], list[int]]:
    """Masks of the event lines and of the crosshair."""
    marks, cross = [0] * canvas.columns, [0] * canvas.columns
    full = (1 << canvas.rows) - 1
    for mark in look.marks:
        if canvas.x_scale.low <= mark <= canvas.x_scale.high:
            marks[canvas.x_scale.dot(mark)] |= _DOTTED & full
    if look.crosshair is not None and canvas.x_scale.low <= look.crosshair <= canvas.x_scale.high:
        cross[canvas.x_scale.dot(look.crosshair)] = full
    return marks, cross


def _braille_cells(canvas: _Canvas, look: Look) -> list[list[Run]]:
    marks, cross = _overlays(canvas, look)
    layers = [(mask, f"series-{number % 4}") for number, mask in enumerate(canvas.masks)]
    rows = canvas.rows // 4
    texts = [[" "] * (canvas.columns // 2) for _ in range(rows)]
    roles = [["text"] * (canvas.columns // 2) for _ in range(rows)]
    for cell in range(canvas.columns // 2):
        pairs = [(mask[2 * cell], mask[2 * cell + 1], role) for mask, role in layers if mask[2 * cell] or mask[2 * cell + 1]]
        under = [(marks[2 * cell], marks[2 * cell + 1], "mark"), (cross[2 * cell], cross[2 * cell + 1], "cross")]
        under = [pair for pair in under if pair[0] or pair[1]]
        if not pairs and not under:
            continue
        for row in range(rows):
            shift = 4 * row
            dots, owner = 0, ""
            for left, right, role in pairs:  # a cell has one colour: the last curve's that passes through it
                here = _LEFT[left >> shift & 15] | _RIGHT[right >> shift & 15]
                if here:
                    dots |= here
                    owner = role
            if not dots:
                for left, right, role in under:
                    here = _LEFT[left >> shift & 15] | _RIGHT[right >> shift & 15]
                    if here:
                        dots |= here
                        owner = role
            if dots:
                texts[row][cell] = _BRAILLE[dots]
                roles[row][cell] = owner
    return [_runs(text, role) for text, role in zip(texts, roles, strict=True)]


def _ascii_cells(canvas: _Canvas, look: Look) -> list[list[Run]]:
    marks, cross = _overlays(canvas, look)
    layers = [(cross, "|", "cross"), (marks, ":", "mark")]
    layers += [(mask, _GLYPHS[n % 4], f"series-{n % 4}") for n, mask in enumerate(canvas.masks)]
    texts = [[" "] * canvas.columns for _ in range(canvas.rows)]
    roles = [["text"] * canvas.columns for _ in range(canvas.rows)]
    for mask, glyph, role in layers:
        for column, bits in enumerate(mask):
            if bits:
                for row in range(canvas.rows):
                    if bits >> row & 1 or (role == "mark" and bits):
                        texts[row][column] = glyph
                        roles[row][column] = role
    return [_runs(text, role) for text, role in zip(texts, roles, strict=True)]


def _runs(texts: list[str], roles: list[str]) -> list[Run]:
    """One run a stretch of one colour; blanks take the colour before them, so that a gap does not cut a run."""
    runs: list[Run] = []
    begin, role = 0, ""
    for at, (text, here) in enumerate(zip(texts, roles, strict=True)):
        if text != " " and here != role:
            if role:
                runs.append(("".join(texts[begin:at]), role))
                begin = at
            role = here
    runs.append(("".join(texts[begin:]), role or "text"))
    return runs


def _legend(curves: Sequence[Curve], look: Look) -> list[Run]:
    runs: list[Run] = [(" ", "text")]
    room = look.width - 1
    for number, curve in enumerate(curves):
        sample = _GLYPHS[number % 4] if look.ascii_only else "━"
        value = curve.final if look.crosshair is None else curve.near(look.crosshair)
        shown = value_text(value) if value is not None else ("-" if not curve.x else "nan")
        name, value_part = f"{sample} {curve.name} ", f"{shown}  "
        if len(name) + len(value_part) > room:
            break
        runs += [(name, f"series-{number % 4}"), (value_part, "text")]
        room -= len(name) + len(value_part)
    hidden = sum(curve.not_positive for curve in curves) if look.log_y else 0
    notes = ["log y"] if look.log_y else []
    notes += [f"{hidden} with values ≤ 0 cut" if not look.ascii_only else f"{hidden} with values <= 0 cut"] if hidden else []
    if look.crosshair is not None:
        notes.insert(0, f"at step {label(look.crosshair, ())}")
    note = " · ".join(notes) if not look.ascii_only else ", ".join(notes)
    note = note[:room]
    runs += [(" " * (room - len(note)), "text"), (note, "axis")]
    return runs


def _x_axis(canvas: _Canvas, look: Look, gutter: int, plot_columns: int, across: int) -> list[list[Run]]:
    corner, floor, tick_mark, checkpoint = ("+", "-", "+", "^") if look.ascii_only else ("└", "─", "┬", "▴")
    line = [floor] * plot_columns
    texts = [" "] * (plot_columns + gutter + 1)
    ticks = nice_ticks(canvas.x_scale.low, canvas.x_scale.high, max(2, plot_columns // 12), False)
    free_from = 0
    for tick in ticks:
        cell = canvas.x_scale.dot(tick) // across
        text = label(tick, ticks)
        begin = min(max(gutter + 1 + cell - len(text) // 2, 0), len(texts) - len(text))
        if begin >= free_from:
            line[cell] = tick_mark
            texts[begin : begin + len(text)] = text
            free_from = begin + len(text) + 2
    runs: list[Run] = [(" " * gutter + corner, "axis")]
    roles = ["axis"] * plot_columns
    for mark in look.marks:
        if canvas.x_scale.low <= mark <= canvas.x_scale.high:
            cell = canvas.x_scale.dot(mark) // across
            line[cell], roles[cell] = checkpoint, "mark"
    runs += _runs(line, roles)
    return [runs, [("".join(texts), "axis")]]


def history_strip(values: Sequence[float | None], width: int, ascii_only: bool = False) -> str:
    """Fractions 0–1, newest last, as one row: two samples a braille cell, four levels each; unknown is blank."""
    if ascii_only:
        shown = [*([None] * width), *values][-width:]
        return "".join(" " if v is None else "_.-=#"[min(4, int(v * 5))] for v in shown)
    shown = [*([None] * (2 * width)), *values][-2 * width :]
    heights = [0 if v is None else max(1, min(4, round(v * 4 + 0.2))) for v in shown]
    bars = [0, 8, 12, 14, 15]  # nibbles with the lowest 0 to 4 dots set
    return "".join(_BRAILLE[_LEFT[bars[a]] | _RIGHT[bars[b]]] for a, b in zip(heights[::2], heights[1::2], strict=True))


def bar(fraction: float, width: int, ascii_only: bool = False) -> str:
    """A progress bar of `width` cells with eighths."""
    fraction = min(1.0, max(0.0, fraction))
    if ascii_only:
        full = int(fraction * width)
        return "#" * full + "." * (width - full)
    eighths = int(fraction * width * 8)
    full, part = divmod(eighths, 8)
    return "█" * full + ("" if full == width else "·▏▎▍▌▋▊▉"[part] + "·" * (width - full - 1))
