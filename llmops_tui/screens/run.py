"""A run's page: its curves, metrics, output, what the model said, checkpoints, and what it was asked to do."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import ComposeResult
from textual.containers import Container, Horizontal

from llmops_tui.errors import LlmopsError, NotFoundError
from llmops_tui.keys import bindings
from llmops_tui.screens.calls import call
from llmops_tui.screens.curves import curve_groups, fetch_curves
from llmops_tui.screens.facts import CHECKPOINT_COLUMNS, capsule_rows, checkpoint_rows, event_marks, fact_rows, title_line
from llmops_tui.screens.fit_lines import fit_rows
from llmops_tui.screens.log_feed import LogFeed
from llmops_tui.screens.panes import PanedBoard
from llmops_tui.screens.watch_rows import WATCH_COLUMNS, alarm_marks, alarm_of, open_alarms, told_of, watch_rows
from llmops_tui.screens.widgets.axes import value_text
from llmops_tui.screens.widgets.chart import BrailleChart
from llmops_tui.screens.widgets.chart_view import ChartView
from llmops_tui.screens.widgets.curve import Curve
from llmops_tui.screens.widgets.edit_line import EditLine
from llmops_tui.screens.widgets.lines import LineWidget, Run
from llmops_tui.screens.widgets.log_pane import LogPane
from llmops_tui.screens.widgets.log_search import BLOCK_BYTES
from llmops_tui.screens.widgets.sample_pane import Sample, SamplePane
from llmops_tui.screens.widgets.table import Column, Row, RowTable
from llmops_tui.specs.states import ACTIVE

if TYPE_CHECKING:
    from llmops_tui.specs.answers import RunDetail, RunSummary, Series
    from llmops_tui.specs.answers_watch import AlarmRows, WatchState

_ASK_SECONDS = 2.0
_SAMPLES_AT_ONCE = 1000
_METRIC_COLUMNS = (Column("metric", 0), Column("last", 10, right=True), Column("min", 10, right=True), Column("max", 10, right=True))
FACT_COLUMNS = (Column("what", 20), Column("value", 0))


class RunScreen(LogFeed, PanedBoard):
    """Panes: on a wide screen four at once, the last of them in turn; one at a time on a narrow one."""

    BINDINGS = bindings("run", "run_actions")
    PLACES = ("run", "run_actions")
    PAGE = "run"
    PANES = {  # noqa: RUF012  # as the base class has it
        "chart": ("curves", "left"),
        "metrics": ("metrics", "right"),
        "log": ("log", "left"),
        "samples": ("samples", "right"),
        "checkpoints": ("checkpoints", "right"),
        "facts": ("spec", "right"),
        "capsule": ("capsule", "right"),
        "watchers": ("watchers", "right"),
        "memory": ("memory", "right"),
    }
    STACKED: ClassVar[tuple[str, ...]] = ("facts", "samples", "checkpoints", "capsule", "watchers", "memory")

    def __init__(self, run_id: str, pane: str = "") -> None:
        super().__init__()
        self._run_id = run_id
        self._asked_pane = pane
        self._chosen: tuple[str, ...] | None = None
        self._detail: RunDetail | None = None
        self._curves: dict[tuple[str, ...], list[Curve]] = {}
        self._ranges: dict[str, Series] = {}
        self._samples: list[Sample] = []
        self._samples_end = 0
        self._samples_known = False
        self._watch: WatchState | None = None
        self._batch: AlarmRows | None = None  # the rows behind the alarm under the cursor
        self._batch_of = ""
        self._busy = False
        self._seen: tuple[object, ...] = ()
        self._asked_at = 0.0

    def compose(self) -> ComposeResult:
        """Header, the run's line, tabs, panes, the line that asks, foot."""
        yield LineWidget(id="header")
        yield LineWidget(id="title")
        yield LineWidget(id="tabs")
        with Horizontal(id="panes"):
            with Container(id="left"):
                yield BrailleChart(id="chart")
                yield LogPane(id="log")
            with Container(id="right"):
                yield RowTable(_METRIC_COLUMNS, "no metrics yet", id="metrics")
                yield SamplePane(id="samples")
                yield RowTable(CHECKPOINT_COLUMNS, "no checkpoint yet", id="checkpoints")
                yield RowTable(FACT_COLUMNS, "asking the engine…", id="facts")
                yield RowTable(FACT_COLUMNS, "asking the engine…", id="capsule")
                yield RowTable(WATCH_COLUMNS, "asking the engine…", id="watchers")
                yield RowTable(FACT_COLUMNS, "nothing was predicted for this run", id="memory")
        yield EditLine("", id="ask")
        yield LineWidget(id="foot")

    def on_mount(self) -> None:
        """Ask for everything."""
        self.query_one("#ask").display = False
        self.prepare_panes()
        if self._asked_pane in self.PANES:  # after what is remembered of the page before
            self.call_after_refresh(self.action_show_pane, self._asked_pane)
        self.status_arrived()
        self.set_interval(1.0, self.follow_log)
        self.call_after_refresh(self.follow_log)

    def run_id(self) -> str | None:
        """This page's run."""
        return self._run_id

    def summary_of(self, run_id: str) -> RunSummary | None:
        """From the status, else from the run's own answer: old runs are in no status."""
        return self.state.run(run_id) or (self._detail if run_id == self._run_id else None)

    def draw(self) -> None:
        """Everything below the header."""
        run, moment = self.summary_of(self._run_id), self.state.moment
        title = self.query_one("#title", LineWidget)
        title.show_lines([title_line(run, self._run_id, title.size.width, self.state.clock(), self.llmops.ascii_only)])
        self.draw_tabs()
        self._draw_chart()
        self.draw_metrics(self.query_one("#metrics", RowTable))
        currency = self.state.status["currency"] if self.state.status else ""
        self.query_one("#facts", RowTable).show(fact_rows(self._detail, run, currency, moment))
        losses = [curve for curves in self._curves.values() for curve in curves]
        checkpoints = self.query_one("#checkpoints", RowTable)
        checkpoints.show(checkpoint_rows(self._detail, losses, moment))
        checkpoints.border_title = f"checkpoints {checkpoints.total}" if checkpoints.total else "checkpoints"
        capsule = "asking the engine…" if self._detail is None else "written when the run starts"
        self.query_one("#capsule", RowTable).show(capsule_rows(self._detail), empty=capsule)
        self._draw_watchers()
        self.draw_memory(self.query_one("#memory", RowTable))
        self.query_one("#samples", SamplePane).show(self._samples, self._why_no_samples(run))

    def draw_metrics(self, metrics: RowTable) -> None:
        """What was reported, by name."""
        rows = [Row(name, self._metric_cells(name)) for group in curve_groups(self._metric_names()) for name in group]
        metrics.show(rows)
        metrics.border_title = f"metrics {len(rows)}" if rows else "metrics"

    def draw_memory(self, memory: RowTable) -> None:
        """What was predicted and what it took."""
        predicted = self._detail.get("predicted") if self._detail else None  # an engine of before tells none
        memory.show(fit_rows(predicted, self._detail.get("measured") if self._detail else None))

    def status_arrived(self) -> None:
        """Ask again for what a running run changes."""
        run = self.state.run(self._run_id)
        reached = ("old",) if run is None else (run["state"], run["attempt"], run["reason"], tuple(run["latest"].items()))
        wanted = (*reached, self.state.moment, self._metrics())
        # Three questions a second for curves that grow by a point would be the engine's main work.
        same = self._seen[-2:] == wanted[-2:] and self._seen[:1] == wanted[:1]
        soon = same and time.monotonic() - self._asked_at < _ASK_SECONDS
        if not self._busy and wanted != self._seen and not soon:
            self._busy, self._seen, self._asked_at = True, wanted, time.monotonic()
            self.run_worker(self._fetch())
        if self.state.moment != self._log_moment:
            self.follow_log()

    def remember(self) -> dict[str, Any]:
        """The pane, the curves and what the chart shows of them, the log's place, search and filter."""
        chart, log = self.query_one(BrailleChart).view.to_json(), self.query_one(LogPane).remember()
        return {"run": self._run_id, "pane": self.pane, "metrics": list(self._chosen or ()), "chart": chart, "log": log}

    def recall(self, remembered: dict[str, Any]) -> None:
        """The pane of any run's page; the curves and the window only of the same run's."""
        if remembered.get("pane") in self.PANES:
            self.action_show_pane(str(remembered["pane"]))
        if remembered.get("run") == self._run_id:
            names = remembered.get("metrics")
            self._chosen = tuple(name for name in names if isinstance(name, str)) or None if isinstance(names, list) else None
            self.query_one(BrailleChart).restore(ChartView.from_json(remembered.get("chart")))
            self.query_one(LogPane).recall(remembered.get("log"))

    def export_rows(self) -> tuple[list[str], list[list[Any]]] | None:
        """The table in focus, else the metrics."""
        table = self.query_one(f"#{self.pane}")
        return (table if isinstance(table, RowTable) else self.query_one("#metrics", RowTable)).export_rows()

    def runs_changed(self) -> None:
        """Tags, a note, a state; a run that is gone has no page."""
        super().runs_changed()
        self._seen = ()
        self.status_arrived()

    def action_back(self) -> None:
        """To the page before."""
        self.leave()

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

    def action_panels(self) -> None:
        """What the GPU and the host did meanwhile."""
        self.query_one(BrailleChart).action_linked()

    def action_follow(self) -> None:
        """The log's end."""
        pane = self.query_one(LogPane)
        if pane.follow:
            pane.action_scroll_log(-1)
        else:
            pane.action_log_end(True)
            self.run_worker(self._read_log(pane, pane.end, BLOCK_BYTES))

    def on_row_table_row_chosen(self, message: RowTable.RowChosen) -> None:
        """A metric goes into the chart."""
        if message.table.id == "metrics":
            self.metric_chosen(message.key)
        elif message.table.id == "watchers" and (alarm := alarm_of(self._watch, message.key)):
            self._chosen = None  # the losses
            self.action_show_pane("chart")
            self.query_one(BrailleChart).cross_at(float(alarm["step"]))
            self.status_arrived()

    def metric_chosen(self, key: str) -> None:
        """Into the chart."""
        self._chosen = (key,)
        self.action_show_pane("chart")
        self.status_arrived()

    def on_row_table_row_highlighted(self, message: RowTable.RowHighlighted) -> None:
        """What the row under the cursor does not say itself."""
        if message.table.id == "watchers":
            self._draw_watchers()

    def action_ack_alarms(self) -> None:
        """The run's alarms were seen."""
        self.run_worker(self._ack_alarms())

    def on_braille_chart_linked_wanted(self, message: BrailleChart.LinkedWanted) -> None:
        """What else went on at that time."""
        from llmops_tui.screens.linked_page import LinkedScreen

        self.app.push_screen(LinkedScreen(self._run_id, self._metrics(), message.moment))

    def on_braille_chart_window_wanted(self, message: BrailleChart.WindowWanted) -> None:
        """A stretch of the curves in finer buckets."""
        self.run_worker(self._refine(message.first, message.last))

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
        empty = "asking the engine…" if self._detail is None else "this run reported no metrics" if not metrics else "no points yet"
        marks = [*event_marks(self._detail, self.state.moment), *alarm_marks(self._watch, self.state.moment)]
        chart.show(self._curves.get(metrics, []), marks, empty)

    async def _ack_alarms(self) -> None:
        waiting = open_alarms(self._watch)
        try:
            for identity in waiting:
                await call(self.client.ack_alarm, identity)
        except LlmopsError as error:
            self.llmops.tell(str(error), "bad")
        else:
            told = f"acknowledged: {len(waiting)} alarm{'s' if len(waiting) > 1 else ''}" if waiting else "no alarm is open"
            self.llmops.tell(told, "good" if waiting else "muted")
        self._seen = ()
        self.status_arrived()

    def _draw_watchers(self) -> None:
        table = self.query_one("#watchers", RowTable)
        empty = "asking the engine…" if self._watch is None else "a run of this kind is not watched"
        table.show(watch_rows(self._watch, self.state.moment, self._batch, table.size.width or None), empty=empty)
        alarm = alarm_of(self._watch, table.key) if table.key and not table.key.startswith("rule ") and self.pane == "watchers" else None
        if alarm is not None and alarm["id"] != self._batch_of:
            self._batch_of = alarm["id"]
            self.run_worker(self._fetch_batch(alarm["id"]))
        count = len(open_alarms(self._watch))
        told = told_of(self._watch, table.key)
        table.border_title = "watchers" + (f" {count} open" if count else "") + (f": {told}" if told else "")

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

    def _why_no_samples(self, run: RunSummary | None) -> str:
        if not self._samples_known:
            return "asking the engine…"
        if run is not None and run["state"] in ACTIVE:
            return "no samples yet: a train run writes them before it begins, every sample_every steps, and at its end"
        return "this run wrote no samples: a train run writes them, of sample_prompts or of held-out rows"

    async def _fetch(self) -> None:
        points, until = max(100, 4 * self.size.width), self.state.moment
        try:
            self._detail = await call(self.client.run, self._run_id)
            metrics = self._metrics()
            if metrics:
                self._curves[metrics] = await fetch_curves(self.client, self._run_id, metrics, points, until)
                ranges = await call(self.client.series, self._run_id, self._metric_names(), points=1, until=until)
                self._ranges = {series["metric"]: series for series in ranges}
            await self._fetch_samples(until)
            await self._fetch_watch()
        except NotFoundError as error:
            if self.ready and self.app.screen is self:
                self.llmops.tell(error.message, "warn")  # never was, or was removed: no page stays of it
                self.action_back()
        except LlmopsError as error:
            self._seen = ()  # the next good status asks again
            if self.state.live and self.ready:
                self.llmops.tell(str(error), "bad")
        finally:
            self._busy = False
        if self.ready:
            self.redraw()
            if self._seen and self._seen[-1] != self._metrics():
                self.status_arrived()  # other curves were chosen meanwhile

    async def _fetch_batch(self, identity: str) -> None:
        try:
            batch = await call(self.client.alarm_rows, identity)
        except LlmopsError as error:
            if self.state.live and self.ready:
                self.llmops.tell(str(error), "bad")
            return
        if self.ready and identity == self._batch_of:
            self._batch = batch
            self._draw_watchers()

    async def _fetch_watch(self) -> None:
        try:
            self._watch = await call(self.client.watchers, self._run_id)
        except NotFoundError:  # an engine of an earlier version: the run itself was told just now
            self._watch = {"run": self._run_id, "rules": [], "alarms": []}

    async def _fetch_samples(self, until: float | None) -> None:
        """What was said since the last look; all of it again when the moment shown is another."""
        begin = self._samples_end if until is None and self._samples_known else 0
        fresh = [] if begin == 0 else list(self._samples)
        while True:
            told = await call(self.client.run_events, self._run_id, after=begin, types=("sample",), limit=_SAMPLES_AT_ONCE)
            for event in told:
                if until is None or event["t"] <= until:
                    fresh.append(Sample(int(event.get("step") or 0), str(event.get("prompt", "")), str(event.get("text", ""))))
                begin = int(event["offset"])
            if len(told) < _SAMPLES_AT_ONCE:
                break
        self._samples, self._samples_end, self._samples_known = fresh, begin if until is None else 0, True

    async def _refine(self, first: int, last: int) -> None:
        metrics = self._metrics()
        points = max(100, 4 * self.size.width)
        try:
            answers = await call(
                self.client.series, self._run_id, metrics, points=points, step_first=max(0, first), step_last=last, until=self.state.moment
            )
        except LlmopsError as error:
            if self.state.live and self.ready:
                self.llmops.tell(str(error), "bad")
        else:
            if self.ready and metrics == self._metrics():
                self.query_one(BrailleChart).refine([Curve.from_buckets(series["metric"], series["buckets"]) for series in answers])
