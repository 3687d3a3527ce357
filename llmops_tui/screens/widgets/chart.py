"""The chart widget: curves in, the raster's rows on the screen. Draws again only when something changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from textual import events
from textual.message import Message

from llmops_tui.keys import bindings
from llmops_tui.screens.widgets.chart_view import SMOOTHINGS, ChartView, Span
from llmops_tui.screens.widgets.crosshair import CrosshairGroup
from llmops_tui.screens.widgets.curve import ELAPSED, STEP, TIME, Curve, spliced, step_of_time, time_of_step
from llmops_tui.screens.widgets.lines import LineWidget
from llmops_tui.screens.widgets.marks import Mark, PlacedMark
from llmops_tui.screens.widgets.raster import Drawing, Look, draw, span_of

_ZOOM = 0.5
_WHEEL_ZOOM = 0.8
_PAN = 0.25
_LEAST_STEPS = 4.0  # a window of fewer steps shows nothing more
_LEAST_SECONDS = 0.01
_DRAG_CELLS = 2
_COARSE = 0.1  # of the window: less than that is only the newest points of a window that follows them
_MARGIN = 0.5  # of the window's width to each side: fetched too, so that a pan has it


class BrailleChart(LineWidget, can_focus=True):
    """Curves and marks come through `show`; keys, mouse and size changes redraw by themselves.

    `axes`: what `w` goes through, None for all that the curves have. `gutter`, `x_axis`: see `Look`.
    """

    BINDINGS = bindings("chart")
    DEFAULT_CSS = "BrailleChart { height: 1fr; }"

    class WindowWanted(Message):
        """The window shows less than the fetched buckets tell: these steps are wanted in finer ones, by `refine`."""

        def __init__(self, chart: BrailleChart, first: int, last: int) -> None:
            super().__init__()
            self.chart, self.first, self.last = chart, first, last

    class LinkedWanted(Message):
        """What else went on at that time is asked for; `moment` (unix seconds) is the crosshair's, None without one."""

        def __init__(self, chart: BrailleChart, moment: float | None) -> None:
            super().__init__()
            self.chart, self.moment = chart, moment

    def __init__(self, *, id: str | None = None, axes: Sequence[str] | None = None, gutter: int = 0, x_axis: bool = True) -> None:
        super().__init__(id=id)
        self.view = ChartView(axis=axes[0]) if axes else ChartView()
        self.group: CrosshairGroup | None = None
        self._allowed = axes
        self._gutter, self._x_axis, self._caption = gutter, x_axis, ""
        self._of = ""
        self._names: frozenset[str] = frozenset()
        self._whole: tuple[Curve, ...] = ()
        self._fine: dict[str, Curve] = {}
        self._asked: tuple[int, int] | None = None
        self._base: list[Curve] = []
        self._curves: list[Curve] = []
        self._smooth: list[Curve] = []
        self._begin = 0.0
        self._marks: tuple[Mark, ...] = ()
        self._empty = "no points yet"
        self._bounds: Span | None = None
        self._extent: Span = (0.0, 1.0)
        self._drawing = Drawing([])
        self._dragged: tuple[float, float] | None = None
        self._drag_cell: int | None = None
        self._drag_ended = False

    def show(
        self,
        curves: Sequence[Curve],
        marks: Sequence[Mark] = (),
        empty: str = "no points yet",
        of: str = "",
        bounds: Span | None = None,
        caption: str = "",
    ) -> None:
        """New data; the same data costs nothing.

        `of`: whose curves these are (a run's id). Those of another are shown whole, another metric of the same keeps the window.
        `bounds`: the ends of the time axis (unix seconds), of charts that share one. `caption`: see `Look`.
        """
        fresh = tuple(curves)
        if (fresh, tuple(marks), empty, of, bounds, caption) == (
            self._whole, self._marks, self._empty, self._of, self._bounds, self._caption,
        ):  # fmt: skip
            return
        names = frozenset(curve.name for curve in fresh)
        if of != self._of or names != self._names:
            self._fine.clear()
            self._asked = None
        if self._of and of != self._of:
            self.view = replace(self.view.reset(), crosshair=None)
        self._of, self._names, self._caption = of, names, caption
        self._whole, self._marks, self._empty, self._bounds = fresh, tuple(marks), empty, bounds
        self._prepare()
        self._ask()
        self._draw()

    def refine(self, curves: Sequence[Curve]) -> None:
        """The steps that were wanted, in finer buckets; nothing where they could not be fetched, and they are asked for again."""
        if not curves:
            self._asked = None
        names = {curve.name for curve in self._whole}
        self._fine.update({curve.name: curve for curve in curves if curve.name in names})
        self._prepare()
        self._draw()

    def restore(self, view: ChartView) -> None:
        """Show what was shown: of an earlier session, say. What the curves can't show is left out when they come."""
        self.view = view
        self._prepare()
        self._ask()
        self._draw()

    @property
    def moment(self) -> float | None:
        """The crosshair in unix seconds; None without one or without times."""
        return None if self.view.crosshair is None else self._to_time(self.view.crosshair)

    @property
    def x_axis(self) -> bool:
        """Whether the axis of x is drawn."""
        return self._x_axis

    @x_axis.setter
    def x_axis(self, drawn: bool) -> None:
        if drawn != self._x_axis:
            self._x_axis = drawn
            self._draw()

    @property
    def log_y(self) -> bool:
        """Whether the y axis is logarithmic."""
        return self.view.log_y

    def toggle_log(self) -> None:
        """Between a linear and a logarithmic y axis."""
        self._change(replace(self.view, log_y=not self.view.log_y))

    def action_toggle_log(self) -> None:
        """Between a linear and a logarithmic y axis."""
        self.toggle_log()

    def action_cross(self, columns: int) -> None:
        """Move the crosshair by so many columns; the first move begins at the newest place."""
        if self._curves:
            low, high = self.view.shown(self._extent)
            a_column = (high - low) / max(1, self._drawing.columns)
            self._change(self.view.crossed(columns * a_column, self._extent, whole=self.view.axis == STEP))

    def cross_at(self, step: float) -> None:
        """The crosshair at a step; where a window is shown that it lies outside of, everything is shown."""
        if self.view.axis != STEP:
            self._turn_to(STEP)
        low, high = self.view.shown(self._extent)
        view = self.view if low <= step <= high else self.view.reset()
        self._change(replace(view, crosshair=step))

    def action_cross_off(self) -> None:
        """Take the crosshair away."""
        self._change(replace(self.view, crosshair=None))

    def action_next_mark(self, by: int) -> None:
        """The crosshair to the next event line, or to the one before."""
        low, high = self.view.shown(self._extent)
        places = sorted({x for x, _ in self._placed() if low <= x <= high})
        here = self.view.crosshair if self.view.crosshair is not None else (low - 1 if by > 0 else high + 1)
        beyond = [x for x in places if (x - here) * by > 0]
        if beyond:
            self._change(replace(self.view, crosshair=beyond[0] if by > 0 else beyond[-1]))

    def action_zoom(self, by: int) -> None:
        """Half the window, or twice."""
        self._change(self.view.zoomed(_ZOOM**by, self._extent, self._least()))

    def action_zoom_all(self) -> None:
        """Everything."""
        self._change(self.view.reset())

    def action_pan(self, by: int) -> None:
        """A quarter of the window to the side."""
        self._change(self.view.panned(by * _PAN, self._extent))

    def action_next_axis(self) -> None:
        """Steps, wall time, elapsed time: the same stretch on the next axis."""
        axes = self._axes()
        if len(axes) > 1:
            target = axes[(axes.index(self.view.axis) + 1) % len(axes)] if self.view.axis in axes else axes[0]
            self._turn_to(target)
            self._ask()
            self._draw()

    def action_toggle_clip(self) -> None:
        """Let outliers leave the plot, or show them all."""
        self._change(replace(self.view, clip=not self.view.clip))

    def action_smooth(self) -> None:
        """The next smoothing."""
        at = SMOOTHINGS.index(self.view.smoothing) if self.view.smoothing in SMOOTHINGS else 0
        self.view = replace(self.view, smoothing=SMOOTHINGS[(at + 1) % len(SMOOTHINGS)])
        self._prepare()
        self._draw()

    def action_linked(self) -> None:
        """Ask for what else went on."""
        self.post_message(self.LinkedWanted(self, self.moment))

    def share_moment(self, moment: float | None) -> None:
        """Another chart of the group moved the crosshair."""
        self._set(replace(self.view, crosshair=None if moment is None else self._from_time(moment)))

    def share_window(self, window: Span | None) -> None:
        """Another chart of the group shows another stretch of time."""
        if window is None:
            self._set(self.view.reset())
            return
        low, high = self._from_time(window[0]), self._from_time(window[1])
        if low is not None and high is not None and low < high:
            self._set(self.view.selected(low, high, self._extent))

    def on_resize(self) -> None:
        """The raster depends on the size."""
        super().on_resize()
        self._ask()
        self._draw()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Zoom in around the pointer."""
        self._wheel(event, _WHEEL_ZOOM)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Zoom out around the pointer."""
        self._wheel(event, 1 / _WHEEL_ZOOM)

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """The beginning of a click or of a drag."""
        if self._drawing.columns and event.button == 1:
            self._drag_cell, self._drag_ended = self._cell(event), False
            self.capture_mouse()

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Show the stretch dragged over."""
        if self._drag_cell is not None and (self._dragged or abs(self._cell(event) - self._drag_cell) >= _DRAG_CELLS):
            self._dragged = (self._drawing.x_at(self._drag_cell), self._drawing.x_at(self._cell(event)))
            self._draw()

    def on_mouse_up(self, event: events.MouseUp) -> None:
        """The end of a drag: its stretch is the window."""
        if self._drag_cell is None:
            return
        self._drag_cell = None
        self.release_mouse()
        if self._dragged is not None:
            first, last = self._dragged
            self._dragged, self._drag_ended = None, True
            self._change(self.view.selected(first, last, self._extent, self._least()))

    def on_click(self, event: events.Click) -> None:
        """The crosshair; twice: everything."""
        if event.chain >= 2:
            self._change(self.view.reset())
        elif self._drawing.columns and not self._drag_ended:
            x = self._drawing.x_at(self._cell(event))
            self._change(replace(self.view, crosshair=float(round(x)) if self.view.axis == STEP else x))

    def _wheel(self, event: events.MouseEvent, factor: float) -> None:
        if self._drawing.columns:
            around = self._drawing.x_at(self._cell(event))
            self._change(self.view.zoomed(factor, self._extent, self._least(), around))
            event.stop()

    def _cell(self, event: events.MouseEvent) -> int:
        return event.get_content_offset_capture(self).x

    def _least(self) -> float:
        if self.view.axis == STEP:
            return min(_LEAST_STEPS, self._extent[1] - self._extent[0])
        return _LEAST_SECONDS if self.view.axis in (TIME, ELAPSED) else 0.0

    def _change(self, view: ChartView) -> None:
        """The user's wish: shown here, told to the group and to who fetches."""
        before = self.view
        self._set(view)
        if self.group is not None:
            if view.crosshair != before.crosshair:
                self.group.move(self, self.moment)
            if view.window != before.window:
                window = view.window
                ends = None if window is None else (self._to_time(window[0]), self._to_time(window[1]))
                whole = ends is None or ends[0] is None or ends[1] is None
                self.group.frame(self, None if whole or ends is None else (ends[0] or 0.0, ends[1] or 0.0))

    def _set(self, view: ChartView) -> None:
        if view != self.view:
            self.view = view
            self._ask()
            self._draw()

    def _axes(self) -> tuple[str, ...]:
        common = None
        for curve in self._whole:
            if curve.x or curve.gaps:
                common = curve.axes() if common is None else tuple(axis for axis in common if axis in curve.axes())
        return tuple(axis for axis in common or (self.view.axis,) if self._allowed is None or axis in self._allowed)

    def _prepare(self) -> None:
        """What follows from the data: the curves on the axis, their averages, their extent, and the window that follows it."""
        axes = self._axes()
        if axes and self.view.axis not in axes and any(curve.x for curve in self._whole):
            self.view = replace(self.view.reset(), axis=axes[0], crosshair=None)
        self._base = [spliced(curve, self._fine[curve.name]) if curve.name in self._fine else curve for curve in self._whole]
        self._begin = min((t for curve in self._base if (t := curve.first_time()) is not None), default=0.0)
        self._curves = [curve.on(self.view.axis, self._begin) for curve in self._base]
        self._smooth = [curve.smoothed(self.view.smoothing) for curve in self._curves] if self.view.smoothing else []
        extent = span_of(self._curves)
        if self._bounds is not None and self.view.axis in (TIME, ELAPSED):
            shift = self._begin if self.view.axis == ELAPSED else 0.0
            extent = (self._bounds[0] - shift, self._bounds[1] - shift)
        if extent is not None:
            self.view = self.view.followed(extent)
            self._extent = extent

    def _turn_to(self, axis: str) -> None:
        """The same stretch and the same place on another axis."""
        window, cross = self.view.window, self.view.crosshair
        times = [None if x is None else self._to_time(x) for x in (*(window or (None, None)), cross)]
        self.view = replace(self.view.reset(), axis=axis, crosshair=None)
        self._prepare()
        first, last, place = (None if moment is None else self._from_time(moment) for moment in times)
        if first is not None and last is not None and first < last:
            self.view = self.view.selected(first, last, self._extent)
        self.view = replace(self.view, crosshair=place)

    def _to_time(self, x: float) -> float | None:
        if self.view.axis == STEP:
            return self._first_known(time_of_step, x)
        return x if self.view.axis == TIME else x + self._begin if self.view.axis == ELAPSED else None

    def _from_time(self, moment: float) -> float | None:
        if self.view.axis == STEP:
            return self._first_known(step_of_time, moment)
        return moment if self.view.axis == TIME else moment - self._begin if self.view.axis == ELAPSED else None

    def _first_known(self, convert: Callable[[Curve, float], float | None], x: float) -> float | None:
        """By the curve with the most points: the finest clock."""
        return next((y for curve in sorted(self._base, key=lambda c: -len(c.x)) if (y := convert(curve, x)) is not None), None)

    def _placed(self) -> list[PlacedMark]:
        placed: list[PlacedMark] = []
        for mark in self._marks:
            if self.view.axis == STEP:
                x = mark.step if mark.step is not None or mark.t is None else self._from_time(mark.t)
            elif mark.t is not None:
                x = self._from_time(mark.t)
            else:
                t = None if mark.step is None else self._first_known(time_of_step, mark.step)
                x = None if t is None else self._from_time(t)
            if x is not None:
                placed.append((x, mark))
        return placed

    def _ask(self) -> None:
        """Finer buckets, where a dot column of the window has not one of its own and the buckets hold more points than one."""
        if self.view.window is None or not self._base or not self.size.width:
            return
        window: tuple[float | None, float | None] = self.view.window
        if self.view.axis != STEP:
            moments = [self._to_time(x) for x in self.view.window]
            window = (
                None if moments[0] is None else self._first_known(step_of_time, moments[0]),
                None if moments[1] is None else self._first_known(step_of_time, moments[1]),
            )
        low, high = window
        if low is None or high is None or not any(_coarse(curve, low, high, self.size.width) for curve in self._base):
            return
        room = _MARGIN * (high - low)
        wanted = (int(low - room), int(high + room) + 1)
        if self._asked is None or wanted != self._asked:
            self._asked = wanted
            self.post_message(self.WindowWanted(self, *wanted))

    def _draw(self) -> None:
        width, height = self.size
        if width and height:
            view = self.view
            look = Look(
                width, height, log_y=view.log_y, marks=tuple(self._placed()), crosshair=view.crosshair, ascii_only=self.ascii_only,
                empty=self._empty, axis=view.axis, window=view.shown(self._extent) if any(curve.x for curve in self._curves) else None,
                selection=self._dragged, clip=view.clip, smoothing=view.smoothing, gutter=self._gutter, x_axis=self._x_axis,
                digits=bool(self.app.no_color), caption=self._caption,
            )  # fmt: skip
            self._drawing = draw(self._curves, look, self._smooth)
            self.show_lines(self._drawing.rows)


def _coarse(curve: Curve, low: float, high: float, columns: int) -> bool:
    """Whether buckets of many points take a good part of the window, and fewer of them than columns are there."""
    inside = [b for b in curve.buckets if b[0] is not None and b[1] is not None and b[1] >= low and b[0] <= high]
    steps = sum((b[1] or 0.0) - (b[0] or 0.0) for b in inside if (b[2] or 0.0) > 1)
    return len(inside) < columns and steps > _COARSE * (high - low)
