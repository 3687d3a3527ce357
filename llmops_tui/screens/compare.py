"""Several runs side by side: their curves over each other, their metrics with the best marked, and what differs between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from textual.app import ComposeResult
from textual.containers import Container, Horizontal

from llmops_tui.commands.comparison_text import markdown
from llmops_tui.commands.grouped_text import footnote, grouped_markdown, heads
from llmops_tui.errors import LlmopsError
from llmops_tui.keys import bindings
from llmops_tui.screens.calls import call
from llmops_tui.screens.curves import curve_groups, fetch_curves
from llmops_tui.screens.differences import compare_columns, difference_rows, group_rows, metric_rows, short_ids, value_columns
from llmops_tui.screens.panes import PanedBoard
from llmops_tui.screens.widgets.chart import BrailleChart
from llmops_tui.screens.widgets.chart_view import ChartView
from llmops_tui.screens.widgets.curve import Curve
from llmops_tui.screens.widgets.edit_line import EditLine
from llmops_tui.screens.widgets.lines import LineWidget, Run, spaced
from llmops_tui.screens.widgets.table import RowTable
from llmops_tui.specs.run_groups import Grouped, group, keys_to_group_by

if TYPE_CHECKING:
    from llmops_tui.specs.answers import Comparison, RunSummary


class CompareScreen(PanedBoard):
    """Up to eight runs, the baseline first; the cursor's run of the tables has the keys that act on runs."""

    BINDINGS = bindings("compare", "run_actions")
    PLACES = ("compare",)
    PAGE = "compare"
    PANES = {"chart": ("curves", "left"), "metrics": ("metrics", "left"), "facts": ("differences", "right")}  # noqa: RUF012  # as the base class has it

    def __init__(self, run_ids: Sequence[str]) -> None:
        super().__init__()
        self._ids = list(run_ids)
        self._every = False
        self._by = ""
        self._metric = ""
        self._comparison: Comparison | None = None
        self._curves: dict[str, list[Curve]] = {}
        self._seen: tuple[object, ...] = ()
        self._busy = False

    def compose(self) -> ComposeResult:
        """Header, the runs' line, tabs (narrow), panes, foot."""
        yield LineWidget(id="header")
        yield LineWidget(id="title")
        yield LineWidget(id="tabs")
        with Horizontal(id="panes"):
            with Container(id="left"):
                yield BrailleChart(id="chart")
                yield RowTable((), "no metrics to compare", id="metrics")
            with Container(id="right"):
                yield RowTable((), "asking the engine…", id="facts")
        yield EditLine("", id="ask")
        yield LineWidget(id="foot")

    def on_mount(self) -> None:
        """Ask for everything."""
        self.query_one("#ask").display = False
        self.prepare_panes()
        self.status_arrived()

    def run_id(self) -> str | None:
        """The keys mean no single run here."""
        return None

    def targets(self) -> list[str]:
        """All that are compared."""
        return list(self._ids)

    def summary_of(self, run_id: str) -> RunSummary | None:
        """From the status, else from the comparison: old runs are in no status."""
        compared = self._comparison["runs"] if self._comparison is not None else []
        return self.state.run(run_id) or next((run for run in compared if run["id"] == run_id), None)

    def draw(self) -> None:
        """Everything below the header."""
        title = self.query_one("#title", LineWidget)
        words: list[Run] = [(" ", "text")]
        pinned = {run["id"] for run in self._comparison["runs"] if run["baseline"]} if self._comparison else set()
        for number, (run_id, short) in enumerate(zip(self._ids, short_ids(self._ids), strict=True)):
            name = run_id if sum(map(len, self._ids)) + 6 * len(self._ids) < title.size.width else short
            sign = "" if self.llmops.ascii_only else "● "  # without colours the chart's legend tells the signs
            words += [(sign, f"series-{number % 8}"), (name, "bright"), (" baseline  " if run_id in pinned else "  ", "accent")]
        title.show_lines([spaced(words, [], title.size.width)])
        self.draw_tabs()
        self._draw_chart()
        self._draw_tables()

    def status_arrived(self) -> None:
        """Ask again for what running runs change."""
        reached = tuple((run["id"], run["state"], tuple(run["latest"].items())) for run in self.state.runs() if run["id"] in self._ids)
        wanted = (reached, self.state.moment, self._metric)
        if not self._busy and wanted != self._seen:
            self._busy, self._seen = True, wanted
            self.run_worker(self._fetch())

    def remember(self) -> dict[str, Any]:
        """Which metric, and whether all is told."""
        return {"metric": self._metric, "every": self._every, "pane": self.pane, "chart": self.query_one(BrailleChart).view.to_json()}

    def recall(self, remembered: dict[str, Any]) -> None:
        """Stand as before, whichever runs are compared now."""
        metric = remembered.get("metric")
        self._metric = metric if isinstance(metric, str) else ""
        self._every = remembered.get("every") is True
        self.query_one(BrailleChart).restore(ChartView.from_json(remembered.get("chart")))
        if remembered.get("pane") in self.PANES:
            self.action_show_pane(str(remembered["pane"]))

    def export_rows(self) -> tuple[list[str], list[list[Any]]] | None:
        """The table in focus, else what differs."""
        name = self.pane if self.pane in ("metrics", "facts") else "facts"
        return self.query_one(f"#{name}", RowTable).export_rows()

    def export_markdown(self) -> str | None:
        """The comparison as it is shown: only what differs, or everything."""
        if self._comparison is None:
            return None
        grouped = self._grouped()
        return markdown(self._comparison, self._every) + (f"\n{grouped_markdown(grouped)}" if grouped is not None else "")

    def action_back(self) -> None:
        """To the page before."""
        self.leave()

    def action_toggle_all(self) -> None:
        """Only what differs, or everything."""
        self._every = not self._every
        self._draw_tables()

    def action_cycle_group(self) -> None:
        """Runs put together by the next setting that puts two of them together; after the last one each run by itself again."""
        keys = keys_to_group_by(self._comparison) if self._comparison is not None else []
        if not keys:
            self.llmops.tell("no setting puts two of these runs together and two apart", "warn")
            return
        order = ["", *keys]
        self._by = order[(order.index(self._by) + 1) % len(order)] if self._by in order else keys[0]
        self._draw_tables()
        if (grouped := self._grouped()) is not None:
            self.llmops.tell(footnote(grouped), "muted")
            self.action_show_pane("metrics")

    def _grouped(self) -> Grouped | None:
        """As it was chosen; None for each run by itself, and where these runs have no such setting any more."""
        if self._comparison is None or self._by not in keys_to_group_by(self._comparison):
            return None
        return group(self._comparison, self._by)

    def action_cycle_metric(self, by: int) -> None:
        """Another metric in the chart."""
        names = self._metrics()
        if names:
            at = names.index(self._metric) if self._metric in names else 0
            self._metric = names[(at + by) % len(names)]
            self._draw_chart()
            self.status_arrived()

    def on_row_table_row_chosen(self, message: RowTable.RowChosen) -> None:
        """A metric goes into the chart."""
        if message.table.id == "metrics" and message.key in self._metrics():
            self._metric = message.key
            self.action_show_pane("chart")
            self.status_arrived()

    def on_braille_chart_linked_wanted(self) -> None:
        """GPUs and host go with one run."""
        self.llmops.tell("GPUs and host are shown beside one run: p on its own page", "warn")

    def on_braille_chart_window_wanted(self, message: BrailleChart.WindowWanted) -> None:
        """A stretch of the curves in finer buckets."""
        self.run_worker(self._refine(message.first, message.last))

    def runs_changed(self) -> None:
        """Tags, notes or states are others now."""
        super().runs_changed()
        self._seen = ()
        self.status_arrived()

    def _metrics(self) -> list[str]:
        """Those that a run has, losses first."""
        known = [metric["metric"] for metric in self._comparison["metrics"]] if self._comparison else []
        return [name for group in curve_groups(known) for name in group]

    def _draw_chart(self) -> None:
        chart = self.query_one("#chart", BrailleChart)
        names = self._metrics()
        chart.border_title = (
            f"{self._metric} ({names.index(self._metric) + 1} of {len(names)})" if self._metric in names else self._metric or "curves"
        )
        empty = (
            "asking the engine…" if self._comparison is None else "none of these runs reported a metric" if not names else "no points yet"
        )
        chart.show(self._curves.get(self._metric, []), empty=empty, of=" ".join(self._ids))

    def _draw_tables(self) -> None:
        metrics, facts = self.query_one("#metrics", RowTable), self.query_one("#facts", RowTable)
        if self._comparison is None:
            return
        for table, first, rows in (
            (metrics, "last value", metric_rows(self._comparison)),
            (facts, "key", difference_rows(self._comparison, self._every)),
        ):
            table.set_columns(compare_columns(self._ids, table.size.width, first, rows))
            table.show(rows)
        metrics.border_title = "metrics, the best marked *"
        if (grouped := self._grouped()) is not None:
            told = group_rows(grouped)
            metrics.set_columns(value_columns(heads(grouped), metrics.size.width, "mean", told))
            metrics.show(told)
            metrics.border_title = f"metrics by {grouped.key}, mean ± 95 % interval, * better beyond it"
        facts.border_title = "everything, d shows what differs" if self._every else "what differs, d shows everything"

    async def _fetch(self) -> None:
        try:
            self._comparison = await call(self.client.compare, self._ids)
            names = self._metrics()
            if self._metric not in names:
                self._metric = names[0] if names else ""
            if self._metric:
                await self._fetch_curves(self._metric)
        except LlmopsError as error:
            if self.state.live and self.ready:
                self.llmops.tell(str(error), "bad")
            self._seen = ()  # the next good status asks again
        finally:
            self._busy = False
        if self.ready:
            self.redraw()
            if self._seen and self._seen[-1] != self._metric:
                self.perform(self.status_arrived)  # another metric was chosen meanwhile

    async def _refine(self, first: int, last: int) -> None:
        metric, points = self._metric, max(100, 4 * self.query_one("#chart").size.width)
        curves = []
        try:
            for run_id, short in zip(self._ids, short_ids(self._ids), strict=True):
                answers = await call(
                    self.client.series, run_id, [metric], points=points, step_first=max(0, first), step_last=last, until=self.state.moment
                )
                curves += [Curve.from_buckets(short, series["buckets"]) for series in answers]
        except LlmopsError as error:
            if self.state.live and self.ready:
                self.llmops.tell(str(error), "bad")
        else:
            if self.ready and metric == self._metric:
                self.query_one("#chart", BrailleChart).refine(curves)

    async def _fetch_curves(self, metric: str) -> None:
        points = max(100, 4 * self.query_one("#chart").size.width)
        curves = []
        for run_id, short in zip(self._ids, short_ids(self._ids), strict=True):
            for curve in await fetch_curves(self.client, run_id, [metric], points, until=self.state.moment):
                curves.append(replace(curve, name=short))
        self._curves[metric] = curves
