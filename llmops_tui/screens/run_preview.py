"""The preview beside the runs table: the curve of the run under the cursor, and what to know of it before it is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import Container

from llmops_tui.errors import LlmopsError
from llmops_tui.screens.board import WIDE_COLUMNS
from llmops_tui.screens.calls import call
from llmops_tui.screens.curves import curve_groups, fetch_curves
from llmops_tui.screens.run_actions import RunBoard
from llmops_tui.screens.run_cells import preview_lines
from llmops_tui.screens.widgets.chart import BrailleChart
from llmops_tui.screens.widgets.curve import Curve
from llmops_tui.screens.widgets.lines import LineWidget

if TYPE_CHECKING:
    from llmops_tui.specs.answers import RunDetail

_PREVIEWS = 8


class PreviewBoard(RunBoard):
    """A page with a cursor on runs (`run_id`, `summary_of`); on a wide screen the run under it is shown beside the list."""

    def __init__(self) -> None:
        super().__init__()
        self._previews: dict[str, tuple[RunDetail, list[Curve]]] = {}
        self._preview_seen: tuple[object, ...] = ()
        self._previewing = False

    def compose_preview(self) -> ComposeResult:
        """Its two panels."""
        with Container(id="preview"):
            chart = BrailleChart(id="preview-chart")
            chart.add_class("panel")
            chart.can_focus = False
            yield chart
            yield LineWidget(id="preview-facts", classes="panel")

    def forget_previews(self) -> None:
        """The runs may be others now."""
        self._previews.clear()

    def want_preview(self) -> None:
        """Ask for the cursor's run, if there is room to show it and it is not known as it is now."""
        run_id = self.run_id()
        if not self.ready or self._previewing or run_id is None or self.size.width < WIDE_COLUMNS:
            return
        run = self.summary_of(run_id)
        if run is None:
            return
        seen = (run_id, self.state.moment, run["state"], tuple(run["latest"].items()))
        if seen != self._preview_seen or run_id not in self._previews:
            self._previewing, self._preview_seen = True, seen
            self.run_worker(self._fetch_preview(run_id))

    async def _fetch_preview(self, run_id: str) -> None:
        try:
            detail = await call(self.client.run, run_id)
            groups = curve_groups(detail["metrics"])
            points = max(100, 4 * self.query_one("#preview-chart").size.width)
            curves = await fetch_curves(self.client, run_id, groups[0], points, until=self.state.moment) if groups else []
            self._previews[run_id] = (detail, curves)
            for old in list(self._previews)[:-_PREVIEWS]:
                del self._previews[old]
        except LlmopsError as error:
            if self.state.live and self.ready:
                self.llmops.tell(str(error), "bad")
        finally:
            self._previewing = False
        if self.ready:
            self.perform(self.draw_preview)
            if self.run_id() != run_id:
                self.perform(self.want_preview)  # the cursor moved on meanwhile

    def draw_preview(self) -> None:
        """The cursor's run: its curve, and what to know of it."""
        if self.size.width < WIDE_COLUMNS:
            return
        chart, facts = self.query_one("#preview-chart", BrailleChart), self.query_one("#preview-facts", LineWidget)
        run_id = self.run_id()
        run = self.summary_of(run_id) if run_id else None
        if run is None or run_id is None:
            chart.border_title = facts.border_title = ""
            chart.show([], empty="")
            facts.show_lines([])
            return
        detail, curves = self._previews.get(run_id, (None, []))
        chart.border_title = " ".join(curve.name for curve in curves) or "curve"
        facts.border_title = run_id
        empty = "asking the engine…" if detail is None else run["reason"] or "this run reported no metrics"
        chart.show(curves, empty=empty, of=run_id)
        facts.show_lines(preview_lines(run, detail, self.state.clock(), facts.size.width))
