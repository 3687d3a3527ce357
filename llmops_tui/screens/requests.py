"""Requests: what was asked of the endpoints, newest first; a filter in one line, Enter shows one with its text and its timings."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from textual.app import ComposeResult

from llmops_tui.errors import LlmopsError
from llmops_tui.keys import bindings
from llmops_tui.screens.calls import call
from llmops_tui.screens.request_cells import EXPORTED, request_columns, request_row
from llmops_tui.screens.request_filter import RequestFilterError, begins_key, read, suggest
from llmops_tui.screens.run_actions import RunBoard
from llmops_tui.screens.widgets.edit_line import Completion, EditLine
from llmops_tui.screens.widgets.focusing import take_keys
from llmops_tui.screens.widgets.lines import LineWidget
from llmops_tui.screens.widgets.table import RowTable

if TYPE_CHECKING:
    from llmops_tui.specs.answers_requests import RequestPage, RequestRow

_PAGE = 100
_DAY = 86_400.0
_ASK_SECONDS = 5.0
_TYPING_SECONDS = 0.08
_TERM_SECONDS = 0.6  # the beginning of a term is not wrong yet
_AHEAD = 30  # rows below the cursor: fewer, and the next page is asked for
_MOST_EXPORTED = 1_000_000
_EXPORT_PAGE = 1000
_BLANK = "status:error slower:500 version:v4 key:web since:-1h   Tab completes, Esc back"
_NOTHING = "no request yet: y on the Serve page copies a line that asks"


class RequestsScreen(RunBoard):
    """On top of the page before. Pages come as they are scrolled to; new requests while the cursor is on the first row."""

    BINDINGS = bindings("requests")
    PLACES = ("requests",)
    PAGE = "requests"

    def __init__(self, text: str = "") -> None:
        super().__init__()
        self._filter = text.strip()
        self._rows: dict[str, RequestRow] = {}
        self._total: int | None = None
        self._next: float | None = None
        self._known = False
        self._asking = self._again = False
        self._asked_at = 0.0
        self._moment: float | None = None
        self._typing = 0

    def compose(self) -> ComposeResult:
        """Header, filter, table, foot."""
        yield LineWidget(id="header")
        yield EditLine("/", "filter: / then status:error, slower:500, version:v4, …", self._suggest, id="filter")
        table = RowTable(request_columns(False), "asking the engine…", id="requests")
        table.add_class("panel")
        yield table
        yield EditLine("", id="ask")
        yield LineWidget(id="foot")

    def on_mount(self) -> None:
        """The table has the keys."""
        self.query_one("#ask").display = False
        self.query_one("#filter", EditLine).put(f"{self._filter} " if self._filter else "")
        self.query_one(RowTable).border_title = "requests"
        take_keys(self.query_one(RowTable))
        self.call_after_refresh(self._begin)

    def remember(self) -> dict[str, Any]:
        """Earlier filters."""
        return {"history": self.query_one("#filter", EditLine).editor.history[-20:]}

    def recall(self, remembered: dict[str, Any]) -> None:
        """Earlier filters can be fetched back with Up."""
        history = remembered.get("history")
        if isinstance(history, list):
            self.query_one("#filter", EditLine).editor.history = [line for line in history if isinstance(line, str)]

    def export_rows(self) -> tuple[list[str], list[list[Any]]] | None:
        """What was looked at."""
        return list(EXPORTED), [[row.get(name) for name in EXPORTED] for row in self._rows.values()]

    async def whole_table(self) -> tuple[list[str], list[list[Any]]]:
        """Every request that the filter finds, newest first."""
        asked, before = self._asked(), None
        rows: list[list[Any]] = []
        while len(rows) < _MOST_EXPORTED:
            page = await call(self.client.serving.requests, **asked, before=before, limit=_EXPORT_PAGE)
            rows += [[row.get(name) for name in EXPORTED] for row in page["rows"]]
            before = page["next"]
            if before is None:
                break
        return list(EXPORTED), rows

    def neighbour(self, request_id: str, by: int) -> str:
        """The request after (-1) or before (1) one in the list; "" at its ends."""
        ids = list(self._rows)
        at = ids.index(request_id) + by if request_id in self._rows else -1
        if at >= len(ids) - _AHEAD:
            self._more()
        return ids[at] if 0 <= at < len(ids) else ""

    def draw(self) -> None:
        """The rows that came."""
        table = self.query_one(RowTable)
        slowest = max((row["total_ms"] or 0.0 for row in self._rows.values()), default=0.0)
        empty = "asking the engine…" if not self._known else "no request matches the filter" if self._filter else _NOTHING
        oldest = min((row["t"] for row in self._rows.values()), default=self.state.clock())
        dated = self.state.clock() - oldest > _DAY
        table.set_columns(request_columns(dated))
        table.show([request_row(row, slowest, dated, self.llmops.ascii_only) for row in self._rows.values()], empty=empty)
        count = "" if self._total is None else f" {self._total:,} match" if self._filter else f" {self._total:,}"
        shown = f", {len(self._rows):,} looked at" if self._total is not None and self._total > len(self._rows) else ""
        table.border_title = f"requests{count}{shown}"

    def status_arrived(self) -> None:
        """While the newest are looked at: the newer ones."""
        if self.state.moment != self._moment:
            self._moment = self.state.moment
            self._renew()
        elif self.query_one(RowTable).cursor == 0 and time.monotonic() - self._asked_at >= _ASK_SECONDS and self._moment is None:
            self._renew()

    # The keys.

    def action_filter(self) -> None:
        """Write the filter."""
        line = self.query_one("#filter", EditLine)
        take_keys(line)
        if not line.text:
            line.tell(_BLANK)

    def action_back(self) -> None:
        """Every request again; then to the page before."""
        line = self.query_one("#filter", EditLine)
        if line.text:
            line.put("")
            self._readable("")
            self._take("")
        else:
            self.leave()

    def action_ask_again(self) -> None:
        """Now."""
        self._renew()

    def on_row_table_row_chosen(self, message: RowTable.RowChosen) -> None:
        """One request."""
        from llmops_tui.screens.request import RequestScreen

        self.app.push_screen(RequestScreen(message.key, self))

    def on_row_table_row_highlighted(self, message: RowTable.RowHighlighted) -> None:
        """Rows that will be scrolled to."""
        if message.table.cursor >= len(self._rows) - _AHEAD:
            self._more()

    def on_edit_line_changed(self, message: EditLine.Changed) -> None:
        """The filter works as it is typed."""
        if message.line.id != "filter":
            return
        self._typing += 1
        number, text = self._typing, message.text
        self._readable(text)

        def rested() -> None:
            if number == self._typing:
                self._take(text)

        self.set_timer(_TERM_SECONDS if begins_key(text) else _TYPING_SECONDS, rested)

    def on_edit_line_submitted(self, message: EditLine.Submitted) -> None:
        """Back to the table with this filter."""
        super().on_edit_line_submitted(message)
        if message.line.id == "filter":
            self._take(message.text)
            take_keys(self.query_one(RowTable))

    def on_edit_line_left(self, message: EditLine.Left) -> None:
        """Back to the table; the last filter that could be read holds."""
        super().on_edit_line_left(message)
        if message.line.id == "filter":
            self._take(message.line.text)
            message.line.editor.keep()
            take_keys(self.query_one(RowTable))

    # How rows come.

    def _begin(self) -> None:
        if not self._readable(self._filter):
            self._filter = ""
        self._moment = self.state.moment
        self._renew()

    def _take(self, text: str) -> None:
        self._typing += 1
        text = text.strip()
        if text != self._filter and self._readable(text):
            self._filter = text
            self._rows, self._known = {}, False
            self.query_one(RowTable).action_end(False)
            self._renew()

    def _readable(self, text: str) -> bool:
        line = self.query_one("#filter", EditLine)
        try:
            read(text, self.state.clock())
        except RequestFilterError as error:
            words = self._suggest(text, len(text)) if begins_key(text) and line.has_focus else []
            if words:  # not wrong, only not written yet
                line.tell(" ".join(word.text.strip() for word in words), "muted", error.position)
            else:
                line.tell(error.fields[0]["message"] + (f"; {error.next_step}" if error.next_step else ""), "bad", error.position)
            return False
        line.tell("")
        return True

    def _suggest(self, text: str, at: int) -> list[Completion]:
        seen = {name: {row[name] for row in self._rows.values() if row[name]} for name in ("endpoint", "version", "key")}
        return suggest(text, at, seen)

    def _asked(self) -> dict[str, Any]:
        asked = read(self._filter, self.state.clock())
        if self.state.moment is not None:
            asked["until"] = min(asked.get("until", self.state.moment), self.state.moment)
        return asked

    def _renew(self) -> None:
        self._ask(None)

    def _more(self) -> None:
        if self._next is not None and not self._asking:
            self._ask(self._next)

    def _ask(self, before: float | None) -> None:
        if self._asking:
            self._again = self._again or before is None
            return
        self._asking, self._asked_at = True, time.monotonic()
        self.run_worker(self._fetch(before))

    async def _fetch(self, before: float | None) -> None:
        text = self._filter
        try:
            page = await call(self.client.serving.requests, **self._asked(), before=before, limit=_PAGE, count=before is None)
        except LlmopsError as error:
            if self.ready:
                self._known = True
                self.llmops.tell(str(error), "bad")
        else:
            if text == self._filter:
                self._store(page, before)
        finally:
            self._asking = False
        if self.ready:
            self.redraw()
            if self._again:
                self._again = False
                self._renew()

    def _store(self, page: RequestPage, before: float | None) -> None:
        fresh = {row["id"]: row for row in page["rows"]}
        if before is not None:
            self._rows, self._next = {**self._rows, **fresh}, page["next"]
        elif any(each in self._rows for each in fresh):  # they join what is here: older pages stay
            older = {each: row for each, row in self._rows.items() if each not in fresh}
            self._rows = {**fresh, **older}
        else:
            self._rows, self._next = fresh, page["next"]
        self._total = page["total"] if page["total"] is not None else self._total
        self._known = True
