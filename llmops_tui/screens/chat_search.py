"""Earlier conversations: type words of a question or an answer, Enter takes one up again."""

from __future__ import annotations

import time

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Input

from llmops_tui.keys import bindings
from llmops_tui.screens.chat_history import ChatHistory
from llmops_tui.screens.chat_session import Conversation
from llmops_tui.screens.dialog import Dialog
from llmops_tui.screens.widgets.editing import one_line
from llmops_tui.screens.widgets.table import Column, Row, RowTable

_WIDTH, _HEIGHT, _MOST = 100, 24, 200


class ChatSearch(Dialog[Conversation | None]):
    """Answers the conversation, or None."""

    BINDINGS = bindings("command")

    def __init__(self, history: ChatHistory) -> None:
        super().__init__()
        self._history = history
        self._found: list[Conversation] = []

    def compose(self) -> ComposeResult:
        """A line to type in, the conversations below."""
        with Vertical(id="palette", classes="dialog") as box:
            box.border_title = "earlier conversations"
            yield Input(placeholder="words of a question or an answer", compact=True)
            columns = (Column("", 16), Column("", 14), Column("", 0))
            table = RowTable(columns, "none like it; Esc leaves", id="deeds")
            table.can_focus = False
            yield table

    def on_mount(self) -> None:
        """As tall as the screen lets it."""
        box = self.query_one("#palette")
        box.styles.width, box.styles.height = min(_WIDTH, self.app.size.width - 2), min(_HEIGHT, self.app.size.height - 2)
        self.set_focus(self.query_one(Input))
        self.call_after_refresh(self._draw, "")

    def on_input_changed(self, message: Input.Changed) -> None:
        """Those that match, the newest first."""
        self._draw(message.value)

    def on_input_submitted(self) -> None:
        """The one under the cursor."""
        self._take(self.query_one(RowTable).key)

    def on_row_table_row_chosen(self, message: RowTable.RowChosen) -> None:
        """A click."""
        self._take(message.key)

    def action_step(self, by: int) -> None:
        """The one below or above."""
        self.query_one(RowTable).action_move(by)

    def action_leave(self) -> None:
        """None of them."""
        self.dismiss(None)

    def _take(self, key: str | None) -> None:
        self.dismiss(self._found[int(key)] if key is not None and int(key) < len(self._found) else None)

    def _draw(self, words: str) -> None:
        self._found = [each for each in self._history.search(words) if each.turns][:_MOST]
        rows = [
            Row(
                str(at),
                (
                    (time.strftime("%Y-%m-%d %H:%M", time.localtime(each.began)), "muted"),
                    (each.endpoint, "text"),
                    (f"{one_line(each.title)}  ({len(each.turns)})", "bright"),
                ),
            )
            for at, each in enumerate(self._found)
        ]
        self.query_one(RowTable).show(rows, select="0" if rows else None)
