"""What the box did while the loss moved: charts one above the other on one stretch of time, with one crosshair."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import Container
from textual.message import Message

from llmops_tui.screens.widgets.chart import BrailleChart
from llmops_tui.screens.widgets.chart_view import Span
from llmops_tui.screens.widgets.crosshair import CrosshairGroup
from llmops_tui.screens.widgets.curve import TIME, Curve
from llmops_tui.screens.widgets.focusing import take_keys
from llmops_tui.screens.widgets.legend import SERIES
from llmops_tui.screens.widgets.lines import LineWidget
from llmops_tui.screens.widgets.marks import Mark

if TYPE_CHECKING:
    from llmops_tui.specs.answers import HostHistory

_MOST = 6
_LEAST_ROWS = 4
_TOP_ROWS = 8
_TOP_SHARE = 0.4
_AXIS_ROWS = 2
_GUTTER = 7
_SPIKE_WINDOW = 15
_HOLE = 5.0  # samples further apart than so many times the usual distance: nobody sampled in between

_POWER = ("power", "W", 1.0, "power_watts", "")
_LOAD = ("load", "%", 100.0, "utilisation", "host/cpu")
_MEMORY = ("memory", "GiB", 2.0**-30, "memory_used_bytes", "host/memory_used_bytes")


@dataclass(frozen=True)
class LinkedGroup:
    """One chart: its curves have times."""

    title: str
    curves: tuple[Curve, ...]
    marks: tuple[Mark, ...] = ()
    empty: str = "no points yet"


def history_groups(history: HostHistory, gpus: Sequence[int] | None = None) -> list[LinkedGroup]:
    """Power, load and memory of the GPUs (all, or those named by index) and of the host, as charts; without a GPU the host alone."""
    names = history["series"]
    known = sorted({int(name.split("/")[1]) for name in names if name.startswith("gpu/") and name.split("/")[1].isdigit()})
    chosen = [index for index in known if gpus is None or index in gpus][: SERIES - 1]
    groups = []
    for title, unit, scale, gpu_series, host_series in (_POWER, _LOAD, _MEMORY):
        wanted = [(f"GPU{index} {unit}", f"gpu/{index}/{gpu_series}") for index in chosen]
        wanted += [(f"host {unit}", host_series)] if host_series else []
        curves = tuple(_sampled(label, history["t"], names[name], scale) for label, name in wanted if name in names)
        if curves:
            groups.append(LinkedGroup(title, curves, empty="nothing sampled at that time"))
    return groups


def _sampled(name: str, t: Sequence[float], values: Sequence[float | None], scale: float) -> Curve:
    """A history as a curve; where nobody sampled (the engine was down) it has a gap."""
    distances = [after - before for before, after in pairwise(t)]
    usual = median(distances) if distances else 0.0
    times: list[float] = []
    scaled: list[float | None] = []
    for at, (moment, value) in enumerate(zip(t, values, strict=True)):
        if at and usual and moment - t[at - 1] > _HOLE * usual:
            times.append((t[at - 1] + moment) / 2)
            scaled.append(None)
        times.append(moment)
        scaled.append(None if value is None else value * scale)
    return Curve.from_points(name, times, scaled, TIME)


def spike(curve: Curve) -> float | None:
    """x of the point that stands highest above the median of those before it; None where nothing rises."""
    best, place = 0.0, None
    for at in range(3, len(curve.x)):
        rise = curve.high[at] - median(curve.last[max(0, at - _SPIKE_WINDOW) : at])
        if rise > best:
            best, place = rise, curve.x[at]
    return place


def time_span(curves: Iterable[Curve]) -> Span | None:
    """First and last moment (unix seconds) of curves that know their times."""
    timed = [curve.on(TIME) for curve in curves]
    known = [curve for curve in timed if curve.axis == TIME and curve.x]
    if not known:
        return None
    low, high = min(curve.x[0] for curve in known), max(curve.x[-1] for curve in known)
    return (low, high) if high > low else (low - 1.0, high + 1.0)


class LinkedCharts(Container):
    """The first group is the large chart on top and has the keys; as many of the others as there are rows for follow it.

    Crosshair and window are shared by all. The x of all is the first group's stretch of time.
    """

    DEFAULT_CSS = """
    LinkedCharts { layout: vertical; overflow: hidden; }
    LinkedCharts BrailleChart { height: 4; }
    LinkedCharts .untold { height: 1; }
    """

    class HistoryWanted(Message):
        """Another stretch of time is shown (unix seconds): its samples are wanted, finer than those of the whole."""

        def __init__(self, linked: LinkedCharts, start: float, end: float) -> None:
            super().__init__()
            self.linked, self.start, self.end = linked, start, end

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.group = CrosshairGroup()
        self._groups: tuple[LinkedGroup, ...] = ()
        self._bounds: Span | None = None
        self._of = ""

    def compose(self) -> ComposeResult:
        """A fixed set of charts; those without a group are hidden."""
        for number in range(_MOST):
            chart = BrailleChart(id=f"linked-{number}", axes=(TIME,), gutter=_GUTTER)
            chart.can_focus = number == 0
            chart.display = False
            yield chart
        yield LineWidget(classes="untold")

    def on_mount(self) -> None:
        """All charts are one group, and this widget hears what stretch they show."""
        for chart in self.charts:
            chart.group = self.group
            self.group.join(chart)
        self.group.join(self)

    @property
    def charts(self) -> list[BrailleChart]:
        """From top to bottom."""
        return list(self.query(BrailleChart))

    def show(self, groups: Sequence[LinkedGroup], of: str = "", moment: float | None = None) -> None:
        """New data. `of`: whose (a run's id); of another one everything is shown.

        The crosshair goes to `moment` (unix seconds); without one, of another run, to the spike of the first curve.
        """
        self._groups = tuple(groups[:_MOST])
        self._bounds = time_span(groups[0].curves) if groups else None
        if self._bounds is None:
            self._bounds = time_span(curve for group in groups for curve in group.curves)
        self._arrange()
        for number, (chart, group) in enumerate(zip(self.charts, self._groups, strict=False)):
            chart.show(group.curves, group.marks, group.empty, of, self._bounds, group.title if number else "")
        if of != self._of or moment is not None:
            self._of = of
            first = groups[0].curves[0].on(TIME) if groups and groups[0].curves else None
            self.group.move(None, spike(first) if moment is None and first is not None else moment)

    def focus_top(self) -> None:
        """Give the large chart the keys."""
        take_keys(self.charts[0])

    def share_moment(self, moment: float | None) -> None:
        """Nothing is fetched for a crosshair."""

    def share_window(self, window: Span | None) -> None:
        """The charts show another stretch."""
        window = window or self._bounds
        if window is not None:
            self.post_message(self.HistoryWanted(self, *window))

    def on_resize(self) -> None:
        """As many charts as there are rows for."""
        self._arrange()

    def _arrange(self) -> None:
        heights = chart_rows(len(self._groups), self.size.height)
        for number, chart in enumerate(self.charts):
            chart.display = number < len(heights)
            if chart.display:
                chart.x_axis = number == len(heights) - 1
                chart.styles.height = heights[number]
        hidden = [group.title for group in self._groups[len(heights) :]]
        line = self.query_one(".untold", LineWidget)
        line.display = bool(hidden)
        line.show_lines([[(f" with more rows also: {', '.join(hidden)}", "muted")]])


def chart_rows(count: int, rows: int) -> list[int]:
    """The height of each chart that fits, the first the largest, the last with the labels of time; a row is left where one does not fit."""
    for shown in range(count, 0, -1):
        room = rows - (shown < count) - _AXIS_ROWS
        if shown == 1:
            return [rows - (shown < count)]
        if room >= _TOP_ROWS + (shown - 1) * _LEAST_ROWS:
            top = max(_TOP_ROWS, min(int(room * _TOP_SHARE), room - (shown - 1) * _LEAST_ROWS))
            each, over = divmod(room - top, shown - 1)
            heights = [top + over, *[each] * (shown - 1)]
            heights[-1] += _AXIS_ROWS
            return heights
    return []
