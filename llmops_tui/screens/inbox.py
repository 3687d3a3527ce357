"""Inbox: what finished, failed, alarmed or was asked of one; unread first seen here, and one key to the moment it happened."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from textual.app import ComposeResult

from llmops_tui.errors import LlmopsError
from llmops_tui.keys import bindings
from llmops_tui.screens.board import Board
from llmops_tui.screens.calls import call
from llmops_tui.screens.widgets.axes import duration_text
from llmops_tui.screens.widgets.lines import LineWidget
from llmops_tui.screens.widgets.table import Column, Row, RowTable
from llmops_tui.specs.notable import TYPES, notable

if TYPE_CHECKING:
    from llmops_tui.specs.answers import EngineEvent

_COLUMNS = (
    Column("", 2),
    Column("when", 15),
    Column("ago", 7, right=True, rank=1),
    Column("what", 0),
)
_MOST = 500


class InboxScreen(Board):
    """Newest first; Enter opens the run, `J` travels to the moment."""

    BINDINGS = bindings("inbox", "pages")
    PLACES = ("inbox",)
    PAGE = "inbox"

    def __init__(self) -> None:
        super().__init__()
        self._older: list[EngineEvent] = []
        self._asked = False

    def compose(self) -> ComposeResult:
        """Header, list, foot."""
        yield LineWidget(id="header")
        table = RowTable(_COLUMNS, "nothing happened yet that you should hear of", id="notices")
        table.add_class("panel")
        yield table
        yield LineWidget(id="foot")

    def on_mount(self) -> None:
        """The list has the keys."""
        table = self.query_one(RowTable)
        table.border_title = "inbox"
        self.set_focus(table)

    def run_id(self) -> str | None:
        """The run of the notice under the cursor."""
        event = self._selected()
        return event["run"] if event is not None else None

    def remember(self) -> dict[str, Any]:
        """The notice under the cursor."""
        return {"key": self.query_one(RowTable).key}

    def recall(self, remembered: dict[str, Any]) -> None:
        """The cursor goes back to its notice."""
        if isinstance(key := remembered.get("key"), str):
            self.query_one(RowTable).show(self._rows(), select=key)

    def status_arrived(self) -> None:
        """What happened before the newest events the app keeps."""
        if not self._asked and self.state.live:
            self._asked = True
            self.run_worker(self._ask())

    def draw(self) -> None:
        """The list."""
        table = self.query_one(RowTable)
        rows = self._rows()
        table.show(rows)
        unread = self.state.unread()
        table.border_title = f"inbox {len(rows)}" + (f" · {unread} unread" if unread else "")

    def export_rows(self) -> tuple[list[str], list[list[Any]]]:
        """The notices as a table."""
        told = [(event, found) for event in self._events() if (found := notable(event)) is not None]
        return ["t", "level", "run", "title", "text"], [[e["t"], n.level, e["run"] or "", n.title, n.text] for e, n in told]

    def on_row_table_row_chosen(self, message: RowTable.RowChosen) -> None:
        """Into the run's page."""
        if run_id := self.run_id():
            self.llmops.open_run(run_id)

    def action_jump_to_moment(self) -> None:
        """Show every panel as it was then."""
        event = self._selected()
        if event is not None:
            self.llmops.enter_past(event["data"].get("moment") or event["t"], event["run"])

    def action_read_all(self) -> None:
        """Nothing is unread any more."""
        if self.state.status is not None and self.state.events:
            self.state.seen[self.state.status["engine"]["epoch"]] = self.state.events[-1]["seq"]
            self.redraw()

    def _events(self) -> list[EngineEvent]:
        """Newest first, each once."""
        known = {event["seq"]: event for event in [*self._older, *self.state.told()] if event["t"] <= self.state.clock() + 1}
        return [known[seq] for seq in sorted(known, reverse=True)]

    def _rows(self) -> list[Row]:
        seen = self.state.seen.get(self.state.status["engine"]["epoch"], 0) if self.state.status else 0
        now = self.state.clock()
        rows = []
        for event in self._events():
            if (found := notable(event)) is None:
                continue
            fresh = event["seq"] > seen
            role = found.level if found.level in ("good", "warn", "bad") else "accent"
            when = time.strftime("%m-%d %H:%M:%S", time.localtime(event["t"]))
            words = found.title + (f": {found.text}" if found.text else "")
            cells = (
                ("●" if fresh else "", role),
                (when, "muted"),
                (duration_text(max(0.0, now - event["t"])), "muted"),
                (words, role if fresh else "text"),
            )
            rows.append(Row(str(event["seq"]), cells))
        return rows

    def _selected(self) -> EngineEvent | None:
        key = self.query_one(RowTable).key
        return next((event for event in self._events() if str(event["seq"]) == key), None)

    async def _ask(self) -> None:
        try:
            self._older = (await call(lambda: self.client.events(limit=_MOST, newest=True, types=TYPES)))["events"]
        except LlmopsError as error:
            self.llmops.tell(str(error), "bad")
        if self.ready:
            self.redraw()
