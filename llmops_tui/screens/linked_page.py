"""What the GPUs and the host did while a run's curve moved: charts on one stretch of time with one crosshair."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual.app import ComposeResult

from llmops_tui.errors import LlmopsError
from llmops_tui.keys import bindings
from llmops_tui.screens.board import Board
from llmops_tui.screens.calls import call
from llmops_tui.screens.curves import fetch_curves
from llmops_tui.screens.facts import event_marks, title_line
from llmops_tui.screens.linked import LinkedCharts, LinkedGroup, history_groups, time_span
from llmops_tui.screens.widgets.chart import BrailleChart
from llmops_tui.screens.widgets.lines import LineWidget, as_title
from llmops_tui.specs.states import ACTIVE

if TYPE_CHECKING:
    from llmops_tui.screens.widgets.chart_view import Span
    from llmops_tui.specs.answers import RunDetail

_ASK_SECONDS = 5.0


class LinkedScreen(Board):
    """On top of a run's page; `moment` (unix seconds) is where the crosshair begins, None: at the spike of the first curve."""

    BINDINGS = bindings("linked")
    PLACES = ("linked",)

    def __init__(self, run_id: str, metrics: Sequence[str], moment: float | None) -> None:
        super().__init__()
        self._run_id = run_id
        self._metrics = tuple(metrics)
        self._start_moment = moment
        self._detail: RunDetail | None = None
        self._first: LinkedGroup | None = None
        self._window: Span | None = None
        self._busy = False
        self._asked: tuple[object, ...] = ()
        self._asked_at = 0.0

    def compose(self) -> ComposeResult:
        """Header, the run's line, the charts, foot."""
        yield LineWidget(id="header")
        yield LineWidget(id="title")
        yield LinkedCharts(id="linked", classes="panel")
        yield LineWidget(id="foot")

    def on_mount(self) -> None:
        """Ask for everything."""
        charts = self.query_one(LinkedCharts)
        charts.border_title = as_title(", ".join([*self._metrics, "GPUs and host"]))
        self.call_after_refresh(charts.focus_top)
        self.status_arrived()

    def run_id(self) -> str | None:
        """The run whose curve is on top."""
        return self._run_id

    def draw(self) -> None:
        """The run's line; the charts draw themselves."""
        title = self.query_one("#title", LineWidget)
        run = self.state.run(self._run_id) or self._detail
        title.show_lines([title_line(run, self._run_id, title.size.width, self.state.clock(), self.llmops.ascii_only)])

    def status_arrived(self) -> None:
        """Ask again for what goes on, every few seconds; of an ended run once."""
        run = self.state.run(self._run_id)
        goes_on = run is not None and run["state"] in ACTIVE
        wanted = (self.state.moment, run["state"] if run is not None else "")
        late = goes_on and time.monotonic() - self._asked_at > _ASK_SECONDS
        if not self._busy and (wanted != self._asked or late):
            self._busy, self._asked, self._asked_at = True, wanted, time.monotonic()
            self.run_worker(self._fetch())

    def action_back(self) -> None:
        """To the page before."""
        self.leave()

    def on_braille_chart_linked_wanted(self, message: BrailleChart.LinkedWanted) -> None:
        """The key that opened this page closes it."""
        message.stop()
        self.action_back()

    def on_linked_charts_history_wanted(self, message: LinkedCharts.HistoryWanted) -> None:
        """Another stretch is shown: its samples, finer."""
        self._window = (message.start, message.end)
        self.run_worker(self._fetch_history(None), exclusive=True, group="history")

    async def _fetch(self) -> None:
        points, until = max(100, 4 * self.size.width), self.state.moment
        try:
            self._detail = await call(self.client.run, self._run_id)
            curves = await fetch_curves(self.client, self._run_id, self._metrics, points, until) if self._metrics else []
        except LlmopsError as error:
            self._asked = ()  # the next good status asks again
            if self.ready and self.state.live:
                self.llmops.tell(str(error), "bad")
        else:
            self._first = LinkedGroup(" ".join(self._metrics) or "no metric", tuple(curves), tuple(event_marks(self._detail, until)))
            moment, self._start_moment = self._start_moment, None
            await self._fetch_history(moment)
        finally:
            self._busy = False
        if self.ready:
            self.redraw()

    async def _fetch_history(self, moment: float | None) -> None:
        first = self._first
        if first is None:
            return
        span = self._window or time_span(first.curves) or (self.state.clock() - 600.0, self.state.clock())
        try:
            history = await call(self.client.host_history, start=span[0], end=span[1], points=max(100, 2 * self.size.width))
        except LlmopsError as error:
            if self.ready and self.state.live:
                self.llmops.tell(str(error), "bad")
            return
        if self.ready:
            groups = [first, *history_groups(history, self._gpus())]
            self.perform(lambda: self.query_one(LinkedCharts).show(groups, self._run_id, moment))

    def _gpus(self) -> list[int] | None:
        """The run's own GPUs by index; None (all) where it has none or they are not known."""
        uuids = set(self._detail["gpus"]) if self._detail is not None else set()
        known = [gpu["index"] for gpu in self.state.status["gpus"] if gpu["uuid"] in uuids] if self.state.status else []
        return known or None
