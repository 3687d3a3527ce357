"""A run's page: its curves, its metrics, its output, and what it was asked to do."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import Container, Horizontal
from textual.widget import Widget

from llmops_tui.errors import LlmopsError
from llmops_tui.keys import bindings
from llmops_tui.screens.board import WIDE_COLUMNS, Board
from llmops_tui.screens.calls import call
from llmops_tui.screens.curves import curve_groups, fetch_curves
from llmops_tui.screens.facts import fact_rows, title_line
from llmops_tui.screens.widgets.axes import value_text
from llmops_tui.screens.widgets.chart import BrailleChart
from llmops_tui.screens.widgets.curve import Curve
from llmops_tui.screens.widgets.lines import LineWidget, Run, spaced
from llmops_tui.screens.widgets.log_pane import LogPane
from llmops_tui.screens.widgets.log_window import BLOCK_BYTES
from llmops_tui.screens.widgets.marks import Mark
from llmops_tui.screens.widgets.table import Column, Row, RowTable
from llmops_tui.specs.states import ACTIVE

if TYPE_CHECKING:
    from llmops_tui.specs.answers import RunDetail, RunSummary, Series

PANES = ("chart", "metrics", "log", "facts")
_TITLES = {"chart": "curves", "metrics": "metrics", "log": "log", "facts": "spec"}
_SIDES = {"chart": "left", "log": "left", "metrics": "right", "facts": "right"}
_ASK_SECONDS = 2.0
_METRIC_COLUMNS = (Column("metric", 0), Column("last", 10, right=True), Column("min", 10, right=True), Column("max", 10, right=True))
_FACT_COLUMNS = (Column("what", 20), Column("value", 0))


class RunScreen(Board):
    """Four panes: side by side where there is room, one at a time on a narrow screen."""

    BINDINGS = bindings("run")
    PLACES = ("run",)

    def __init__(self, run_id: str) -> None:
        super().__init__()
        self._run_id = run_id
        self._pane = "chart"
        self._chosen: tuple[str, ...] | None = None
        self._detail: RunDetail | None = None
        self._curves: dict[tuple[str, ...], list[Curve]] = {}
        self._ranges: dict[str, Series] = {}
        self._busy = False
        self._seen: tuple[object, ...] = ()
        self._asked_at = 0.0
        self._log_busy = False

    def compose(self) -> ComposeResult:
        """Header, the run's line, tabs (narrow), panes, foot."""
        yield LineWidget(id="header")
        yield LineWidget(id="title")
        yield LineWidget(id="tabs")
        with Horizontal(id="panes"):
            with Container(id="left"):
                yield BrailleChart(id="chart")
                yield LogPane(id="log")
            with Container(id="right"):
                yield RowTable(_METRIC_COLUMNS, "no metrics yet", id="metrics")
                yield RowTable(_FACT_COLUMNS, "asking the engine…", id="facts")
        yield LineWidget(id="foot")

    def on_mount(self) -> None:
        """Ask for everything."""
        for name in PANES:
            pane = self.query_one(f"#{name}")
            pane.add_class("panel", "pane")
            pane.border_title = _TITLES[name]
        self.action_show_pane("chart")
        self.status_arrived()
        self.set_interval(1.0, self._follow_log)
        self.call_after_refresh(self._follow_log)

    def run_id(self) -> str | None:
        """This page's run."""
        return self._run_id

    def summary(self) -> RunSummary | None:
        """From the status, else from the run's own answer: old runs are in no status."""
        return self.state.run(self._run_id) or self._detail

    def draw(self) -> None:
        """Everything below the header."""
        now = time.time()
        title = self.query_one("#title", LineWidget)
        run = self.summary()
        title.show_lines([title_line(run, self._run_id, title.size.width, now, self.llmops.ascii_only)])
        tabs = self.query_one("#tabs", LineWidget)
        words: list[Run] = []
        for number, name in enumerate(PANES, 1):
            words += [(f" {number} {_TITLES[name]} ", "badge-good" if name == self._pane else "muted"), (" ", "text")]
        tabs.show_lines([spaced(words, [], tabs.size.width)])
        self._draw_chart()
        rows = [Row(name, self._metric_cells(name)) for group in curve_groups(self._metric_names()) for name in group]
        metrics = self.query_one("#metrics", RowTable)
        metrics.show(rows)
        metrics.border_title = f"{_TITLES['metrics']} {len(rows)}" if rows else _TITLES["metrics"]
        self.query_one("#facts", RowTable).show(fact_rows(self._detail, run))

    def status_arrived(self) -> None:
        """Ask again for what a running run changes."""
        run = self.state.run(self._run_id)
        reached = ("old",) if run is None else (run["state"], run["attempt"], run["reason"], tuple(run["latest"].items()))
        wanted = (*reached, self._metrics())
        # Three questions a second for curves that grow by a point would be the engine's main work.
        soon = time.monotonic() - self._asked_at < _ASK_SECONDS and self._seen[-1:] == wanted[-1:] and self._seen[:1] == wanted[:1]
        if not self._busy and wanted != self._seen and not soon:
            self._busy, self._seen, self._asked_at = True, wanted, time.monotonic()
            self.run_worker(self._fetch())

    def action_back(self) -> None:
        """To the page before."""
        self.app.pop_screen()

    def action_pane(self, by: int) -> None:
        """The next pane."""
        self.action_show_pane(PANES[(PANES.index(self._pane) + by) % len(PANES)])

    def action_show_pane(self, name: str) -> None:
        """Give a pane the keys, and on a narrow screen the room."""
        self._pane = name
        for other in PANES:
            self.query_one(f"#{other}").set_class(other == name, "-shown")
        for side in ("left", "right"):
            self.query_one(f"#{side}").set_class(_SIDES[name] == side, "-shown")
        self.call_after_refresh(self.query_one(f"#{name}", Widget).focus)
        self.call_after_refresh(self.redraw)

    def action_cycle_metric(self, by: int) -> None:
        """Other curves."""
        groups = curve_groups(self._metric_names())
        if groups:
            at = groups.index(self._metrics()) if self._metrics() in groups else 0
            self._chosen = groups[(at + by) % len(groups)]
            self.draw()
            self.status_arrived()

    def action_toggle_log(self) -> None:
        """Linear or logarithmic."""
        self.query_one(BrailleChart).toggle_log()

    def action_follow(self) -> None:
        """The log's end."""
        pane = self.query_one(LogPane)
        if pane.follow:
            pane.action_scroll_log(-1)
        else:
            pane.action_log_end(True)
            self.run_worker(self._read_log(pane.end, BLOCK_BYTES))

    def on_descendant_focus(self) -> None:
        """A click gave another pane the keys."""
        name = self.focused.id if self.focused is not None else None
        if name in PANES and name != self._pane and self.size.width >= WIDE_COLUMNS:
            self._pane = name

    def on_row_table_row_chosen(self, message: RowTable.RowChosen) -> None:
        """A metric goes into the chart."""
        if message.table.id == "metrics":
            self._chosen = (message.key,)
            self.action_show_pane("chart")
            self.status_arrived()

    def on_log_pane_range_wanted(self, message: LogPane.RangeWanted) -> None:
        """Read a part of the output."""
        self.run_worker(self._read_log(message.offset, message.limit))

    def _metric_names(self) -> list[str]:
        run = self.state.run(self._run_id)
        return sorted({*(self._detail["metrics"] if self._detail else ()), *(run["latest"] if run else ())})

    def _metrics(self) -> tuple[str, ...]:
        groups = curve_groups(self._metric_names())
        return self._chosen or (groups[0] if groups else ())

    def _draw_chart(self) -> None:
        chart = self.query_one(BrailleChart)
        metrics = self._metrics()
        chart.border_title = " ".join(metrics) or "curves"
        saved = self._detail["checkpoints"] if self._detail else []
        marks = [Mark("checkpoint", float(checkpoint["step"]), checkpoint["t"], str(checkpoint["step"])) for checkpoint in saved]
        empty = "asking the engine…" if self._detail is None else "this run reported no metrics" if not metrics else "no points yet"
        chart.show(self._curves.get(metrics, []), marks, empty)

    def _metric_cells(self, name: str) -> tuple[Run, ...]:
        run = self.state.run(self._run_id)
        buckets = self._ranges[name]["buckets"] if name in self._ranges else []
        least = most = last = None
        if buckets:
            least, most, last = buckets[0][3], buckets[0][4], buckets[-1][6]
        if run is not None and name in run["latest"]:
            last = run["latest"][name]
        role = "accent" if name in self._metrics() else "text"
        return (name, role), (value_text(last), "bright"), (value_text(least), "muted"), (value_text(most), "muted")

    async def _fetch(self) -> None:
        points = max(100, 4 * self.size.width)
        try:
            self._detail = await call(self.client.run, self._run_id)
            metrics = self._metrics()
            if metrics:
                self._curves[metrics] = await fetch_curves(self.client, self._run_id, metrics, points)
                ranges = await call(self.client.series, self._run_id, self._metric_names(), points=1)
                self._ranges = {series["metric"]: series for series in ranges}
        except LlmopsError as error:
            self._seen = ()  # the next good status asks again
            if self.state.live:
                self.llmops.tell(str(error), "bad")
        finally:
            self._busy = False
        if self.ready:
            self.redraw()
            if self._seen and self._seen[-1] != self._metrics():
                self.status_arrived()  # other curves were chosen meanwhile

    def _follow_log(self) -> None:
        """What the run wrote since the last look; of an ended run once."""
        self.perform(self._read_tail)

    def _read_tail(self) -> None:
        pane = self.query_one(LogPane)
        run = self.summary()
        if not self._log_busy and (pane.end < 0 or run is None or run["state"] in ACTIVE):
            self._log_busy = True
            self.run_worker(self._read_log(pane.end, BLOCK_BYTES if pane.end >= 0 else 1, tail=True))

    async def _read_log(self, offset: int, limit: int, tail: bool = False) -> None:
        pane = self.query_one(LogPane)
        try:
            part = await call(self.client.log, self._run_id, offset=offset, limit=limit)
        except LlmopsError as error:
            if self.ready:
                pane.fail(max(0, offset), str(error))
        else:
            if self.ready:
                pane.feed(part.offset, part.data, part.size, part.first_kept)
        finally:
            if tail:
                self._log_busy = False
