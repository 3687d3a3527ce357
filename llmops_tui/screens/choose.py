"""A short list to choose one thing from, by its letter or with Enter."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult

from llmops_tui.keys import bindings
from llmops_tui.screens.dialog import Dialog
from llmops_tui.screens.widgets.table import Column, Row, RowTable


class ChooseScreen(Dialog[str | None]):
    """Answers the key of the chosen entry, or None. `entries` are `(key, words)`."""

    BINDINGS = bindings("choose")

    def __init__(self, title: str, entries: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        self._title = title
        self._entries = entries

    def compose(self) -> ComposeResult:
        """One box with a table."""
        table = RowTable((Column("", 12), Column("", 0)), "", id="choices")
        table.add_class("dialog")
        table.border_title = self._title
        yield table

    def on_mount(self) -> None:
        """As tall as the entries."""
        table = self.query_one(RowTable)
        table.styles.width, table.styles.height = 60, min(len(self._entries) + 3, self.app.size.height - 2)
        self.set_focus(table)
        rows = [Row(key, ((key, "bright"), (words, "muted"))) for key, words in self._entries]
        self.call_after_refresh(table.show, rows)

    def on_row_table_row_chosen(self, message: RowTable.RowChosen) -> None:
        """That one."""
        self.dismiss(message.key)

    def action_leave(self) -> None:
        """None of them."""
        self.dismiss(None)
