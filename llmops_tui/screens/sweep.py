"""The page of a sweep or a cross-validation: its trials best first, the best so far or slices, and which settings matter."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from textual.app import ComposeResult
from textual.containers import Container, Horizontal

from llmops_tui.errors import LlmopsError
from llmops_tui.keys import bindings
from llmops_tui.screens.calls import call
from llmops_tui.screens.facts import title_line
from llmops_tui.screens.panes import PanedBoard
from llmops_tui.screens.sweep_rows import chart_title, charts_of, curves_of, matter_rows, trial_columns, trial_rows
from llmops_tui.screens.widgets.chart import BrailleChart
from llmops_tui.screens.widgets.edit_line import EditLine
from llmops_tui.screens.widgets.lines import LineWidget
from llmops_tui.screens.widgets.table import Column, RowTable
from llmops_tui.specs.states import ENDED

if TYPE_CHECKING:
    from llmops_tui.specs.answers_sweep import SweepAnswer

_ASK_SECONDS = 2.0


class SweepScreen(PanedBoard):
    """Enter on a trial opens its page; the keys that act on runs mean the sweep, which takes its trials with it."""

    BINDINGS = bindings("sweep", "run_actions")
    PLACES = ("sweep",)
    PAGE = "sweep"
    PANES = {"trials": ("trials", "left"), "chart": ("chart", "right"), "facts": ("what matters", "right")}  # noqa: RUF012  # as the base class has it

    def __init__(self, run_id: str) -> None:
        super().__init__()
        self._sweep_id = run_id
        self._sweep: SweepAnswer | None = None
        self._shown = ""
        self._asked: tuple[object, ...] = ()
        self._asked_at = 0.0
        self._busy = False

    def compose(self) -> ComposeResult:
        """Header, the sweep's line, tabs (narrow), panes, foot."""
        yield LineWidget(id="header")
        yield LineWidget(id="title")
        yield LineWidget(id="tabs")
        with Horizontal(id="panes"):
            with Container(id="left"):
                yield RowTable((), "asking the engine…", id="trials")
            with Container(id="right"):
                yield BrailleChart(id="chart")
                yield RowTable((Column("setting", 26), Column("", 0)), "asking the engine…", id="facts")
        yield EditLine("", id="ask")
        yield LineWidget(id="foot")

    def on_mount(self) -> None:
        """Ask for everything."""
        self.query_one("#ask").display = False
        self.prepare_panes()
        self.status_arrived()

    def run_id(self) -> str | None:
        """The sweep: stopping or deleting is done to all of it."""
        return self._sweep_id

    def draw(self) -> None:
        """Everything below the header."""
        title = self.query_one("#title", LineWidget)
        run = self.state.run(self._sweep_id)
        line = title_line(run, self._sweep_id, title.size.width, self.state.clock(), self.llmops.ascii_only)
        if run is None and self._sweep is not None:  # it ended long ago
            line = [(f" {self._sweep_id}  ", "bright"), (self._sweep["state"], "text"), (f"  {self._sweep['reason']}", "muted")]
        title.show_lines([line])
        self.draw_tabs()
        if self._sweep is not None:
            self._draw_sweep(self._sweep)

    def status_arrived(self) -> None:
        """Ask again while it goes on."""
        run = self.state.run(self._sweep_id)
        goes_on = run is None or run["state"] not in ENDED
        wanted = (run["state"] if run is not None else "", tuple(run["latest"].items()) if run is not None else ())
        late = goes_on and time.monotonic() - self._asked_at > _ASK_SECONDS
        if not self._busy and (late or wanted != self._asked):
            self._busy, self._asked, self._asked_at = True, wanted, time.monotonic()
            self.run_worker(self._fetch())

    def remember(self) -> dict[str, Any]:
        """Which pane and chart."""
        return {"pane": self.pane, "shown": self._shown}

    def recall(self, remembered: dict[str, Any]) -> None:
        """Stand as before; another sweep may have other settings."""
        self._shown = str(remembered.get("shown") or "")
        if remembered.get("pane") in self.PANES:
            self.action_show_pane(str(remembered["pane"]))

    def export_rows(self) -> tuple[list[str], list[list[Any]]] | None:
        """The table in focus, else the trials."""
        name = self.pane if self.pane in ("trials", "facts") else "trials"
        return self.query_one(f"#{name}", RowTable).export_rows()

    def action_back(self) -> None:
        """To the page before."""
        self.leave()

    def action_cycle_metric(self, by: int) -> None:
        """The best so far, or the metric over another setting."""
        if self._sweep is not None:
            names = charts_of(self._sweep)
            at = names.index(self._shown) if self._shown in names else 0
            self._shown = names[(at + by) % len(names)]
            self._draw_sweep(self._sweep)

    def on_row_table_row_chosen(self, message: RowTable.RowChosen) -> None:
        """A trial's page; a setting goes into the chart."""
        if message.table.id == "trials":
            if message.key.startswith("#"):
                self.llmops.tell("this trial could not be queued: the reason stands in its row", "warn")
            else:
                self.llmops.open_run(message.key)
        elif self._sweep is not None and message.key.removeprefix("cfg.") in charts_of(self._sweep):
            self._shown = message.key.removeprefix("cfg.")
            self.action_show_pane("chart")

    def on_braille_chart_linked_wanted(self) -> None:
        """GPUs and host go with one run."""
        self.llmops.tell("GPUs and host are shown beside one run: p on a trial's own page", "warn")

    def runs_changed(self) -> None:
        """The sweep was stopped, retried or written to."""
        super().runs_changed()
        self._asked = ()
        self.status_arrived()

    def _draw_sweep(self, sweep: SweepAnswer) -> None:
        trials, facts = self.query_one("#trials", RowTable), self.query_one("#facts", RowTable)
        trials.set_columns(trial_columns(sweep, trials.size.width))
        trials.show(trial_rows(sweep))
        noun = "folds" if sweep["kind"] == "crossval" else "trials"
        trials.border_title = f"{sweep['budget']['trials_used']} of {sweep['budget']['trials']} {noun}, best first" + (
            f", by {sweep['metric']}" if self.size.width > 100 else ""
        )
        facts.show(matter_rows(sweep))
        names = charts_of(sweep)
        if self._shown not in names:
            self._shown = names[0]
        chart = self.query_one("#chart", BrailleChart)
        chart.border_title = chart_title(sweep, self._shown)
        chart.show(curves_of(sweep, self._shown), empty="no trial has ended with a value yet", of=f"{self._sweep_id} {self._shown}")

    async def _fetch(self) -> None:
        try:
            self._sweep = await call(self.client.sweep, self._sweep_id)
        except LlmopsError as error:
            if self.state.live and self.ready:
                self.llmops.tell(str(error), "bad")
            self._asked = ()  # the next good status asks again
        finally:
            self._busy = False
        if self.ready:
            self.redraw()
