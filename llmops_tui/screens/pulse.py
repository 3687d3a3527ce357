"""Pulse: the box, the runs, the selected run's curve, and what happened lately."""

from __future__ import annotations

from typing import Any

from textual.app import ComposeResult
from textual.containers import Container

from llmops_tui.errors import LlmopsError
from llmops_tui.keys import bindings
from llmops_tui.screens.board import WIDE_COLUMNS, Board
from llmops_tui.screens.curves import curve_groups, fetch_curves
from llmops_tui.screens.widgets.axes import duration_text
from llmops_tui.screens.widgets.chart import BrailleChart
from llmops_tui.screens.widgets.chart_view import ChartView
from llmops_tui.screens.widgets.curve import Curve
from llmops_tui.screens.widgets.lines import LineWidget
from llmops_tui.screens.widgets.panels import (
    elapsed_seconds,
    eta_of,
    event_line,
    gpu_panel,
    host_panel,
    loss_of,
    progress_run,
    serving_lines,
    state_run,
    worth_telling,
)
from llmops_tui.screens.widgets.table import Column, Row, RowTable
from llmops_tui.specs.answers import RunSummary
from llmops_tui.specs.states import ACTIVE, ENDED

_PROGRESS_CELLS = 15
_COLUMNS = (
    Column("run", 0, middle=True),
    Column("state", 15),
    Column("progress", _PROGRESS_CELLS, rank=3),
    Column("eta", 7, right=True, rank=1),
    Column("loss", 8, right=True),
    Column("time", 7, right=True, rank=2),
)
_PROGRESS_COLUMN = 2  # a waiting or failed run has nothing to its right: its reason takes the room
_NO_RUNS = "no runs yet: `llmops-tui run train -f spec.yaml`, or `llmops-tui demo` in another terminal"


class PulseScreen(Board):
    """The first screen; the cursor's run is drawn in the chart."""

    BINDINGS = bindings("pulse", "pages")
    PLACES = ("pulse",)
    PAGE = "pulse"

    def __init__(self) -> None:
        super().__init__()
        self._group = 0
        self._fetching = False
        self._fetched: tuple[object, ...] = ()
        self._curves: dict[tuple[str, tuple[str, ...]], list[Curve]] = {}

    def compose(self) -> ComposeResult:
        """Header, box, runs and chart, events, foot."""
        yield LineWidget(id="header")
        yield LineWidget(id="box", classes="panel")
        with Container(id="middle"):
            table = RowTable(_COLUMNS, "connecting to the engine…", id="runs")
            table.add_class("panel")
            yield table
            chart = BrailleChart(id="loss")
            chart.add_class("panel")
            chart.can_focus = False
            yield chart
        yield LineWidget(id="events", classes="panel")
        yield LineWidget(id="foot")

    def on_mount(self) -> None:
        """The table has the keys."""
        self.query_one("#runs").border_title = "runs"
        self.query_one("#events").border_title = "events"
        self.query_one("#box").border_title = "box"
        self.set_focus(self.query_one(RowTable))

    def run_id(self) -> str | None:
        """The run under the cursor."""
        return self.state.selected

    def remember(self) -> dict[str, Any]:
        """The run under the cursor, and its curves as they were looked at."""
        return {"selected": self.state.selected, "group": self._group, "chart": self.query_one(BrailleChart).view.to_json()}

    def export_rows(self) -> tuple[list[str], list[list[Any]]]:
        """What runs, waits and ended lately."""
        columns = ["id", "kind", "name", "state", "owner", "submitted_at", "started_at", "ended_at", "reason"]
        return columns, [[run.get(name) for name in columns] for run in self.state.runs()]

    def recall(self, remembered: dict[str, Any]) -> None:
        """The cursor back on its run, the chart as it was."""
        if isinstance(selected := remembered.get("selected"), str):
            self.state.selected = selected
        if isinstance(group := remembered.get("group"), int):
            self._group = group
        self.query_one(BrailleChart).restore(ChartView.from_json(remembered.get("chart")))

    def draw_frame(self) -> None:
        """Header and foot; an engine that never answered says why where the runs would be, whole."""
        super().draw_frame()
        if self.state.status is None and self.state.reason:
            self.query_one(RowTable).show([], empty=self.state.reason)

    def draw(self) -> None:
        """Everything below the header."""
        self._draw_box()
        self._draw_runs()
        self._draw_chart()
        self._draw_events()

    def status_arrived(self) -> None:
        """The chart follows what the run reached."""
        run = self.state.run(self.state.selected)
        if run is not None:
            self._want_curves(run)

    def on_row_table_row_highlighted(self, message: RowTable.RowHighlighted) -> None:
        """Another run is meant."""
        if message.key != self.state.selected:
            self.state.selected = message.key
            self._group = 0
            self._draw_chart()
            self.status_arrived()

    def on_row_table_row_chosen(self, message: RowTable.RowChosen) -> None:
        """Into the run's page."""
        self.llmops.open_run(message.key)

    def action_cycle_metric(self, by: int) -> None:
        """Other curves of the selected run."""
        self._group += by
        self._draw_chart()
        self.status_arrived()

    def action_toggle_log(self) -> None:
        """Linear or logarithmic."""
        self.query_one(BrailleChart).toggle_log()

    def _draw_box(self) -> None:
        box = self.query_one("#box", LineWidget)
        gpus = self.state.status["gpus"] if self.state.status else []
        wide = self.size.width >= WIDE_COLUMNS
        lines = gpu_panel(self.state, gpus, box.size.width, box.ascii_only) if gpus else []
        if not gpus or (wide and self.size.height >= 35):
            lines = host_panel(self.state, box.size.width, box.ascii_only) + lines
        told = serving_lines(self.state)
        most = max(3, self.size.height // 3)
        shown = lines[:most]
        height = max(3, len(shown)) + len(told) + 1
        if box.styles.height is None or box.styles.height.value != height:
            box.styles.height = height
        box.border_title = "box" if len(lines) > len(gpus) else "gpus"
        if len(lines) > most:
            shown[-1] = [(f" … {len(lines) - most + 1} more: `llmops-tui gpus`", "muted")]
        box.show_lines([*shown, *told])

    def _draw_runs(self) -> None:
        table = self.query_one(RowTable)
        runs = self.state.runs()
        now = self.state.clock()
        if self.state.selected is None or self.state.run(self.state.selected) is None:
            active = next((run for run in runs if run["state"] in ACTIVE), None) or next(iter(runs), None)
            if active is not None and table.key is None:
                self.state.selected = active["id"]
        rows = [Row(run["id"], self._cells(run, now), wide=_PROGRESS_COLUMN) for run in runs]
        table.show(
            rows, empty=_NO_RUNS if self.state.status else self.state.reason or "connecting to the engine…", select=self.state.selected
        )
        table.border_title = f"runs {len(rows)}" if rows else "runs"

    def _cells(self, run: RunSummary, now: float) -> tuple[tuple[str, str], ...]:
        ascii_only = self.llmops.ascii_only
        role = "bright" if run["state"] in ACTIVE else "text"
        explained = run["state"] in ("queued", "blocked") or (run["state"] in ENDED - {"succeeded"} and run["progress"] is None)
        return (
            (run["id"], role),
            state_run(run["state"]),
            (run["reason"], "muted") if explained and run["reason"] else progress_run(run, _PROGRESS_CELLS, ascii_only),
            (eta_of(run), "text"),
            (loss := loss_of(run), "bad" if loss in ("nan", "inf", "-inf") else "text"),
            (duration_text(elapsed_seconds(run, now)), "muted"),
        )

    def _metrics(self, run: RunSummary) -> tuple[str, ...]:
        groups = curve_groups(run["latest"])
        return groups[self._group % len(groups)] if groups else ()

    def _draw_chart(self) -> None:
        chart = self.query_one(BrailleChart)
        run = self.state.run(self.state.selected)
        if run is None:
            chart.border_title = "curve"
            chart.show([], empty="")
            return
        metrics = self._metrics(run)
        chart.border_title = f"{run['id']}: {' '.join(metrics)}" if metrics else run["id"]
        chart.show(self._curves.get((run["id"], metrics), []), empty=_why_empty(run), of=run["id"])

    def _want_curves(self, run: RunSummary) -> None:
        metrics = self._metrics(run)
        chart = self.query_one(BrailleChart)
        points = max(100, 4 * chart.size.width)
        reached = (run["id"], metrics, points, tuple(run["latest"].items()), run["state"], self.state.moment)
        if metrics and not self._fetching and reached != self._fetched:
            self._fetching, self._fetched = True, reached
            self.run_worker(self._fetch(run["id"], metrics, points))

    async def _fetch(self, run_id: str, metrics: tuple[str, ...], points: int) -> None:
        try:
            curves = await fetch_curves(self.client, run_id, metrics, points, self.state.moment)
            self._curves = {(run_id, metrics): curves}
        except LlmopsError:
            self._fetched = ()  # the header says that the engine is gone; the next status asks again
        finally:
            self._fetching = False
        if self.ready:
            self.perform(self._draw_chart)
            run = self.state.run(self.state.selected)
            if run is not None and self._fetched[:2] not in ((), (run["id"], self._metrics(run))):
                self.perform(self.status_arrived)  # the selection moved on meanwhile

    def _draw_events(self) -> None:
        box = self.query_one("#events", LineWidget)
        rows = max(1, box.size.height)
        told = [event for event in self.state.told() if worth_telling(event)][-rows:]
        box.show_lines([event_line(event) for event in told] or [[(" nothing yet", "muted")]])


def _why_empty(run: RunSummary) -> str:
    if run["state"] in ("queued", "blocked"):
        return run["reason"] or "waiting for its turn"
    return "no points yet" if run["state"] in ACTIVE else run["reason"] or "this run reported no metrics"
