"""The chart as a pure function: curves in, rows of coloured text out. No I/O, no terminal, no clock.

Every dot column of a curve shows the smallest and the largest value that falls into it, so a spike of one point in a million
is visible; NaN is a gap and is never bridged. A cell holds 2 × 4 braille dots, or one character in the ASCII form.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log10, nan
from textwrap import wrap

from llmops_tui.screens.widgets.axes import Scale, label, nice_ticks, span_text, time_label, time_ticks, value_text
from llmops_tui.screens.widgets.cells import Canvas, ascii_cells, braille_cells, runs
from llmops_tui.screens.widgets.curve import ELAPSED, STEP, TIME, Curve, time_of_step
from llmops_tui.screens.widgets.legend import GLYPHS, SERIES, Entry, Run, legend_rows, range_text
from llmops_tui.screens.widgets.marks import PlacedMark
from llmops_tui.screens.widgets.plot_columns import LARGEST, Column, columns_of, extent_of, outliers, usual_range

_LEAST_WIDTH, _LEAST_HEIGHT = 16, 4
_LEAST_PLOT = 5
_GUTTER = 5  # of a chart with room: the plot does not move sideways when its numbers get a digit more
_POWERS = (-323.0, 308.25)  # of ten, that a float has


@dataclass(frozen=True)
class Look:
    """How a chart is drawn.

    `window`: the x shown, None for all. `crosshair`: x of a full line, whose values the legend tells. `selection`: x of both ends of what
    the mouse drags over. `clip`: outliers may leave the plot, and are told. `smoothing`: the weight of the averages that `draw` was given.
    `gutter`: cells left of the axis at least, so that charts on one time axis stand one above the other. `x_axis`: whether it is drawn.
    `digits`: curves are told apart without colours. `caption`: what the legend says of the whole, in place of where the crosshair is.
    """

    width: int
    height: int
    log_y: bool = False
    marks: tuple[PlacedMark, ...] = ()
    crosshair: float | None = None
    ascii_only: bool = False
    empty: str = "no points yet"
    axis: str = STEP
    window: tuple[float, float] | None = None
    selection: tuple[float, float] | None = None
    clip: bool = False
    smoothing: float = 0.0
    gutter: int = 0
    x_axis: bool = True
    digits: bool = False
    caption: str = ""


@dataclass(frozen=True)
class Drawing:
    """`height` rows, each exactly `width` cells; where the plot lies in them (cells), the x of its first and last dot, the y of its edges.

    With a logarithmic axis y is in powers of ten.
    """

    rows: list[list[Run]]
    left: int = 0
    columns: int = 0
    x_low: float = 0.0
    x_high: float = 0.0
    y_low: float = 0.0
    y_high: float = 0.0

    def x_at(self, cell: int) -> float:
        """The x under a column of the screen; outside of the plot that of its edge."""
        share = (cell - self.left + 0.5) / self.columns if self.columns else 0.0
        return self.x_low + (self.x_high - self.x_low) * min(1.0, max(0.0, share))


def draw(curves: Sequence[Curve], look: Look, smooth: Sequence[Curve] = ()) -> Drawing:
    """Legend, plot with axes, labels of x. `smooth`: a moving average a curve, drawn over the curves, which become faint."""
    if look.width < _LEAST_WIDTH or look.height < _LEAST_HEIGHT:
        return _only_values(curves, look)
    window = look.window or span_of(curves)
    plots: list[list[list[Column]]] = []
    averages: list[list[list[Column]]] = []
    cut, y_span = 0, None
    if window is not None:
        across = 1 if look.ascii_only else 2
        rough = Scale(*window, (look.width - max(look.gutter, _GUTTER) - 1) * across)  # the true gutter is known when the values are
        for curve in curves:
            pieces, lost = columns_of(curve, rough, look.log_y)
            plots.append(pieces)
            cut += lost
        y_span = extent_of(plots)
    if window is None or y_span is None:
        return _nothing(curves, look)
    notes = ["no outliers"] if look.clip else []
    usual = usual_range(curves, window, look.log_y) if look.clip else None
    if usual is not None:
        y_span, notes = _clipped(curves, plots, y_span, usual, look)
    y_low, y_high = y_span
    room = (y_high - y_low) * 0.04 or (0.1 if look.log_y else abs(y_high) * 0.1) or 1.0
    y_low, y_high = y_low - room, y_high + room
    if look.log_y:
        y_low, y_high = max(y_low, _POWERS[0]), min(y_high, _POWERS[1])
    legend = _legend(curves, smooth, look, window, cut, notes)
    plot_rows = look.height - len(legend) - (2 if look.x_axis else 0)
    ticks = nice_ticks(y_low, y_high, max(2, plot_rows // 3 + 1), look.log_y) if plot_rows > 1 else []  # one number alone gives no scale
    texts = [label(tick, ticks) for tick in ticks]
    gutter = max(max(map(len, texts), default=-1) + 1, look.gutter, _GUTTER if look.width >= 40 else 0)
    gutter = min(gutter, look.width - _LEAST_PLOT)
    plot_columns = look.width - gutter - 1
    across, down = (1, 1) if look.ascii_only else (2, 4)
    canvas = Canvas(Scale(*window, plot_columns * across), Scale(y_low, y_high, plot_rows * down), down)
    if canvas.x_scale.dots != rough.dots:
        plots = [columns_of(curve, canvas.x_scale, look.log_y)[0] for curve in curves]
    if smooth:
        averages = [columns_of(curve, canvas.x_scale, look.log_y)[0] for curve in smooth]
    for number, (curve, pieces) in enumerate(zip(curves, plots, strict=True)):
        canvas.add(
            pieces,
            "faint" if smooth else f"series-{number % SERIES}",
            "." if smooth else GLYPHS[number % SERIES],
            bool(smooth),
            curve.apart,
        )
    for number, pieces in enumerate(averages):
        canvas.add(pieces, f"series-{number % SERIES}", GLYPHS[number % SERIES], False, False)
    for x, mark in look.marks:
        if window[0] <= x <= window[1]:
            canvas.upright(x, mark.role, True)
    for cross in (look.crosshair, *(look.selection or ())):
        if cross is not None and window[0] <= cross <= window[1]:
            canvas.upright(cross, "cross", False)
    cells, roles = ascii_cells(canvas) if look.ascii_only else braille_cells(canvas)
    if look.digits and not look.ascii_only:
        _number(canvas, averages or plots, cells, roles)
    marks = _label_marks(canvas, look, cells[0], roles[0], across)
    tick_rows = {plot_rows - 1 - canvas.y_scale.dot(log10(t) if look.log_y else t) // down: s for t, s in zip(ticks, texts, strict=True)}
    wall, tick_wall = ("|", "+") if look.ascii_only else ("│", "┤")
    rows = legend
    for number, (text_row, role_row) in enumerate(zip(cells, roles, strict=True)):
        text = tick_rows.get(number, "")[: max(0, gutter)]
        rows.append([(text.rjust(gutter) + (tick_wall if text else wall), "axis"), *runs(text_row, role_row)])
    if look.x_axis:
        rows += _x_axis(canvas, look, marks, gutter, plot_columns, across)
    return Drawing(rows, gutter + 1, plot_columns, *window, y_low, y_high)


def span_of(curves: Sequence[Curve]) -> tuple[float, float] | None:
    """First and last x of all curves; one x alone gets room to both sides."""
    drawn = [curve for curve in curves if curve.x]
    if not drawn:
        return None
    low, high = min(curve.x[0] for curve in drawn), max(curve.x[-1] for curve in drawn)
    if low == high:
        room = max(1.0, abs(low) * 1e-9)
        return low - room, high + room
    return max(low, -LARGEST), min(high, LARGEST)


def x_text(x: float, look_axis: str, span: float) -> str:
    """A place on the axis, for the legend."""
    if look_axis == TIME:
        return time_label(x, 0.0, False) if span < 86400 else time_label(x, 0.0, False) + time.strftime(" on %b %d", time.localtime(x))
    if look_axis == ELAPSED:
        return span_text(x)
    return f"step {x:.0f}" if look_axis == STEP else value_text(x)


def _clipped(
    curves: Sequence[Curve],
    plots: Sequence[Sequence[Sequence[Column]]],
    y_span: tuple[float, float],
    usual: tuple[float, float],
    look: Look,
) -> tuple[tuple[float, float], list[str]]:
    """The y shown without outliers, and what is left out."""
    low, high = max(y_span[0], usual[0]), min(y_span[1], usual[1])
    counts = [outliers(curve, pieces, low, high, look.log_y) for curve, pieces in zip(curves, plots, strict=True)]
    below, above = sum(count for count, _ in counts), sum(count for _, count in counts)
    back: Callable[[float], float] = (lambda power: 10.0 ** min(power, _POWERS[1])) if look.log_y else (lambda value: value)
    told = [f"{above} above {value_text(float(f'{back(high):.3g}'))}"] if above else []
    told += [f"{below} below {value_text(float(f'{back(low):.3g}'))}"] if below else []
    return (low, high), told or ["no outliers"]


def _legend(
    curves: Sequence[Curve], smooth: Sequence[Curve], look: Look, window: tuple[float, float], cut: int, notes: list[str]
) -> list[list[Run]]:
    span = window[1] - window[0]
    cross = look.crosshair if look.crosshair is not None and window[0] <= look.crosshair <= window[1] else None
    grain = span / max(1, look.width - 8)
    entries: list[Entry] = []
    for number, curve in enumerate(curves):
        average = smooth[number] if smooth else None
        extra = ""
        if cross is None:
            value = curve.final if curve.final is not None or not (curve.x or curve.gaps) else nan
            smoothed = average.final if average is not None else None
        else:
            reading = curve.read(cross, grain)
            value = reading.value if reading is not None else None
            mean = average.read(cross, grain) if average is not None else None
            smoothed = mean.value if mean is not None else None
            extra = range_text(reading.low, reading.high, look.ascii_only) if reading is not None else ""
        shown = value_text(value) + (f" ~{value_text(smoothed)}" if smoothed is not None and value is not None else "")
        sample = GLYPHS[number % SERIES] if look.ascii_only else str(number % SERIES + 1) if look.digits else "━"
        name = "".join(character if character.isprintable() else " " for character in curve.name)
        entries.append(Entry(sample, f"series-{number % SERIES}", name, shown, extra))
    told = [look.caption] if look.caption else []
    if cross is not None and not look.caption:
        told.append(f"at {x_text(cross, look.axis, span)}")
        told += [mark.told for x, mark in look.marks if abs(x - cross) <= grain]
    if cut:
        told.append(f"{cut} with values <= 0 cut" if look.ascii_only else f"{cut} with values ≤ 0 cut")
    told += notes
    told += ["log y"] if look.log_y else []
    broken = sum(window[0] <= x <= window[1] for curve in curves for x in curve.gaps)
    told += [f"{broken} not finite"] if broken else []
    needed = len(told)
    told += [f"ema {look.smoothing:g}"] if look.smoothing else []
    if cross is not None and look.axis == STEP and not look.caption:
        moment = next((moment for curve in curves if (moment := time_of_step(curve, cross)) is not None), None)
        told += [time_label(moment, 0.0, False)] if moment is not None else []
    most = 1 if look.height < 10 else 2 if look.height < 16 else 3 if look.height < 30 else 4
    return legend_rows(entries, told, look.width, most, needed, look.ascii_only)


def _only_values(curves: Sequence[Curve], look: Look) -> Drawing:
    """Where no plot fits: what the legend would say."""
    blank: list[Run] = [(" " * look.width, "text")]
    if look.width < 1 or look.height < 1:
        return Drawing([blank for _ in range(look.height)])
    if span_of(curves) is None:
        return Drawing([[(look.empty[: look.width].ljust(look.width), "axis")], *[blank for _ in range(look.height - 1)]])
    rows = _legend(curves, (), look, look.window or span_of(curves) or (0.0, 1.0), 0, [])
    return Drawing([*rows, *[blank for _ in range(look.height)]][: look.height])


def _nothing(curves: Sequence[Curve], look: Look) -> Drawing:
    """The reason in the middle, the legend on top."""
    rows: list[list[Run]] = [[(" " * look.width, "text")] for _ in range(look.height)]
    hidden = sum(len(curve.x) for curve in curves) if look.log_y else 0
    reason = f"{hidden} points, none above 0: the key y shows them on a linear axis" if hidden else look.empty
    if not hidden and any(curve.x for curve in curves):
        reason = "no points in this window"
    elif not hidden and any(curve.gaps for curve in curves):
        reason = "every value is nan or infinite"
    told = wrap(reason, look.width - 2)[: look.height - 1]
    for at, text in enumerate(told, max(1, (look.height - len(told)) // 2)):
        rows[at] = [(text.center(look.width), "axis")]
    if curves:
        window = look.window or span_of(curves) or (0.0, 1.0)
        rows[0] = _legend(curves, (), look, window, 0, [])[0]
    return Drawing(rows)


def _number(canvas: Canvas, plots: Sequence[Sequence[Sequence[Column]]], cells: list[list[str]], roles: list[list[str]]) -> None:
    """Each curve's digit on it, where colours say nothing; each at a place of its own along x."""
    for number, pieces in enumerate(plots):
        target = canvas.x_scale.dots * (2 * number + 1) // (2 * len(plots))
        every = [column for piece in pieces for column in piece]
        if every:
            column, _, _, _, _, _, last = min(every, key=lambda column: abs(column[0] - target))
            row = len(cells) - 1 - canvas.y_scale.dot(last) // canvas.down
            cells[row][column // 2], roles[row][column // 2] = str(number % SERIES + 1), f"series-{number % SERIES}"


def _label_marks(canvas: Canvas, look: Look, texts: list[str], roles: list[str], across: int) -> list[tuple[int, str]]:
    """Names at the top of the event lines, where nothing is drawn; the answer is each line's cell and role."""
    placed: list[tuple[int, str]] = []
    low, high = canvas.x_scale.low, canvas.x_scale.high
    lines = sorted(((canvas.x_scale.dot(x) // across, mark) for x, mark in look.marks if low <= x <= high), key=lambda line: line[0])
    cross = None if look.crosshair is None else canvas.x_scale.dot(look.crosshair) // across
    for at, (cell, mark) in enumerate(lines):
        placed.append((cell, mark.role))
        free = next((other for other, _ in lines[at + 1 :] if other > cell), len(texts))
        for text in (f"{mark.short} {mark.text}", mark.short, mark.short[:1]):
            begin, end = cell + 1, cell + 1 + len(text)
            crossed = cross is not None and begin <= cross < end
            if text.strip() and end < free and not crossed and all(character in " \u2800" for character in texts[begin:end]):
                texts[begin:end] = text if text.isprintable() else " " * len(text)
                roles[begin:end] = [mark.role] * len(text)
                break
    return placed


def _x_axis(canvas: Canvas, look: Look, marks: Sequence[tuple[int, str]], gutter: int, plot_columns: int, across: int) -> list[list[Run]]:
    corner, floor, tick_mark, sign = ("+", "-", "+", "^") if look.ascii_only else ("└", "─", "┬", "▴")
    line = [floor] * plot_columns
    texts = [" "] * (plot_columns + gutter + 1)
    low, high = canvas.x_scale.low, canvas.x_scale.high
    timed = look.axis in (TIME, ELAPSED)
    most = max(2, plot_columns // (13 if timed else 12))
    ticks = time_ticks(low, high, most, look.axis == ELAPSED) if timed else nice_ticks(low, high, most, False)
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 0.0
    free_from = 0
    for tick in ticks:
        cell = canvas.x_scale.dot(tick) // across
        text = time_label(tick, high - low, look.axis == ELAPSED, step) if timed else label(tick, ticks)
        begin = min(max(gutter + 1 + cell - len(text) // 2, 0), len(texts) - len(text))
        if begin >= free_from:
            line[cell] = tick_mark
            texts[begin : begin + len(text)] = text
            free_from = begin + len(text) + 2
    roles = ["axis"] * plot_columns
    for cell, role in marks:
        line[cell], roles[cell] = sign, role
    return [[(" " * gutter + corner, "axis"), *runs(line, roles)], [("".join(texts), "axis")]]
