"""The palette: type a part of what is wanted; only what is possible here and now is offered, with its key to learn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.fuzzy import Matcher
from textual.widgets import Input

from llmops_tui.keys import bindings
from llmops_tui.screens.dialog import Dialog
from llmops_tui.screens.possible import Deed, deeds
from llmops_tui.screens.widgets.table import Column, Row, RowTable

if TYPE_CHECKING:
    from llmops_tui.app import LlmopsApp

_WIDTH, _HEIGHT = 72, 18


class ActionPalette(Dialog[None]):
    """Enter does the entry under the cursor, Up and Down move it, Esc leaves."""

    BINDINGS = bindings("command")

    def __init__(self, app: LlmopsApp) -> None:
        super().__init__()
        self._deeds = deeds(app)  # before this screen covers what they belong to
        self._offered: list[Deed] = self._deeds

    def compose(self) -> ComposeResult:
        """A line to type in, the entries below."""
        with Vertical(id="palette", classes="dialog") as box:
            box.border_title = "what to do"
            yield Input(placeholder="type a part of it", compact=True)
            table = RowTable((Column("", 0), Column("", 12, right=True)), "nothing like it; Esc leaves", id="deeds")
            table.can_focus = False
            yield table

    def on_mount(self) -> None:
        """As tall as the screen lets it."""
        box = self.query_one("#palette")
        box.styles.width, box.styles.height = min(_WIDTH, self.app.size.width - 2), min(_HEIGHT, self.app.size.height - 2)
        self.set_focus(self.query_one(Input))
        self.call_after_refresh(self._draw)

    def on_input_changed(self, message: Input.Changed) -> None:
        """The entries that match, best first."""
        query = message.value.strip()
        if query:
            matcher = Matcher(query)
            scored = [(matcher.match(f"{deed.words} {deed.key}"), deed) for deed in self._deeds]
            self._offered = [deed for score, deed in sorted(scored, key=lambda pair: -pair[0]) if score > 0]
        else:
            self._offered = self._deeds
        self._draw(first=True)

    def on_input_submitted(self) -> None:
        """The entry under the cursor."""
        self._do(self.query_one(RowTable).key)

    def on_row_table_row_chosen(self, message: RowTable.RowChosen) -> None:
        """A click."""
        self._do(message.key)

    def action_step(self, by: int) -> None:
        """The entry below or above."""
        self.query_one(RowTable).action_move(by)

    def action_leave(self) -> None:
        """Nothing is done."""
        self.dismiss()

    def _do(self, key: str | None) -> None:
        deed = self._offered[int(key)] if key is not None and int(key) < len(self._offered) else None
        self.dismiss()
        if deed is not None:
            self.app.call_later(deed.do)

    def _draw(self, first: bool = False) -> None:
        rows = [Row(str(at), ((deed.words, "text"), (deed.key, "key"))) for at, deed in enumerate(self._offered)]
        self.query_one(RowTable).show(rows, select="0" if first else None)
