"""A page with a log: reads, searches and filters the run's output for its `LogPane`, now or as of the moment travelled to."""

from __future__ import annotations

from llmops_tui.errors import LlmopsError
from llmops_tui.keys import hints, keys_of, name_of
from llmops_tui.screens.calls import call
from llmops_tui.screens.run_actions import RunBoard
from llmops_tui.screens.widgets.lines import LineWidget
from llmops_tui.screens.widgets.log_filter import FilterAsk
from llmops_tui.screens.widgets.log_pane import LogPane
from llmops_tui.screens.widgets.log_search import BLOCK_BYTES, Ask
from llmops_tui.screens.widgets.panels import foot
from llmops_tui.specs.states import ACTIVE


class LogFeed(RunBoard):
    """Subclasses have one `LogPane`, and call `follow_log` now and then."""

    _log_busy = False
    _log_moment: float | None = None

    def draw_frame(self) -> None:
        """With the log in focus the foot tells the log's keys."""
        super().draw_frame()
        if isinstance(self.focused, LogPane) and self.state.live and not self.state.notice:
            own = hints("log")
            taken = {name_of(name) for key in keys_of("log") for name in key.keys}
            bottom = self.query_one("#foot", LineWidget)
            others = [hint for hint in hints("everywhere") if hint[0] not in taken]
            bottom.show_lines([foot([*own, *others], "", "text", bottom.size.width)])

    def follow_log(self) -> None:
        """What the run wrote since the last look; of an ended run once."""
        self.perform(self._read_tail)

    def on_log_pane_range_wanted(self, message: LogPane.RangeWanted) -> None:
        """Read a part of the output."""
        self.run_worker(self._read_log(message.pane, message.offset, message.limit))

    def on_log_pane_search_wanted(self, message: LogPane.SearchWanted) -> None:
        """Search a part of it."""
        self.run_worker(self._search_log(message.pane, message.ask))

    def on_log_pane_lines_wanted(self, message: LogPane.LinesWanted) -> None:
        """Filter a part of it."""
        self.run_worker(self._filter_log(message.pane, message.ask))

    def _read_tail(self) -> None:
        pane, moment = self.query_one(LogPane), self.state.moment
        run = self.summary_of(self.run_id() or "")
        if self._log_busy:
            return
        if moment != self._log_moment:
            self._log_busy = True
            self.run_worker(self._cut_log(pane, moment))
        elif pane.end < 0 or (moment is None and (run is None or run["state"] in ACTIVE)):
            self._log_busy = True
            self.run_worker(self._read_log(pane, pane.end, BLOCK_BYTES if pane.end >= 0 else 1, tail=True))

    async def _cut_log(self, pane: LogPane, moment: float | None) -> None:
        """End the log where it ended then."""
        try:
            limit = None if moment is None else await call(self.client.log_bytes_at, self.run_id() or "", moment) or 0
        except LlmopsError as error:
            if self.ready:
                pane.fail(0, str(error))
        else:
            self._log_moment = moment
            if self.ready:
                pane.limit_bytes = limit
        finally:
            self._log_busy = False

    async def _read_log(self, pane: LogPane, offset: int, limit: int, tail: bool = False) -> None:
        try:
            part = await call(self.client.log, self.run_id() or "", offset=offset, limit=limit)
        except LlmopsError as error:
            if self.ready:
                pane.fail(max(0, offset), str(error))
        else:
            if self.ready:
                pane.feed(part.offset, part.data, part.size, part.first_kept)
        finally:
            if tail:
                self._log_busy = False

    async def _search_log(self, pane: LogPane, ask: Ask) -> None:
        sought = ask.sought
        try:
            answer = await call(
                self.client.log_search, self.run_id() or "", sought.pattern, regex=sought.regex, ignore_case=sought.ignore_case,
                offset=ask.offset, until=ask.until, backward=ask.backward, limit=ask.limit,
            )  # fmt: skip
        except LlmopsError as error:
            if self.ready:
                pane.fail_search(ask, error.message)
        else:
            if self.ready:
                pane.take_hits(ask, answer)

    async def _filter_log(self, pane: LogPane, ask: FilterAsk) -> None:
        sought = ask.sought
        try:
            answer = await call(
                self.client.log_filter, self.run_id() or "", sought.pattern, regex=sought.regex, ignore_case=sought.ignore_case,
                offset=ask.offset, until=ask.until, backward=ask.backward, limit=ask.limit, context=ask.context,
            )  # fmt: skip
        except LlmopsError as error:
            if self.ready:
                pane.fail_filter(ask, error.message)
        else:
            if self.ready:
                pane.take_lines(ask, answer)
