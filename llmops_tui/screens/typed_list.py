"""A list over a page that is narrowed by typing: a line to write in, what matches below, Enter takes the one marked."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Input

from llmops_tui.keys import bindings
from llmops_tui.screens.dialog import Dialog
from llmops_tui.screens.widgets.lines import Run
from llmops_tui.screens.widgets.table import Column, Row, RowTable

E = TypeVar("E")
A = TypeVar("A")


class TypedList(Dialog[A | None], Generic[E, A]):
    """Of entries `E`, answered with an `A`, or None. A subclass says what matches, how an entry looks, and what taking it means."""

    BINDINGS = bindings("command")
    COLUMNS: tuple[Column, ...]
    ASKS = "type a part of it"
    NOTHING = "nothing like it; Esc leaves"
    SIZE = (72, 18)

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = title
        self._shown: Sequence[E] = ()

    @abstractmethod
    def matching(self, typed: str) -> Sequence[E]:
        """What is offered for these words, the best first; all of it for none."""

    @abstractmethod
    def cells(self, entry: E) -> tuple[Run, ...]:
        """Its row."""

    @abstractmethod
    def take(self, entry: E) -> None:
        """It was chosen: close with the answer."""

    def compose(self) -> ComposeResult:
        """A line to type in, the entries below."""
        with Vertical(id="palette", classes="dialog") as box:
            box.border_title = self._title
            yield Input(placeholder=self.ASKS, compact=True)
            table = RowTable(self.COLUMNS, self.NOTHING, id="matching")
            table.can_focus = False
            yield table

    def on_mount(self) -> None:
        """As tall as the screen lets it."""
        box = self.query_one("#palette")
        width, height = self.SIZE
        box.styles.width, box.styles.height = min(width, self.app.size.width - 2), min(height, self.app.size.height - 2)
        self.set_focus(self.query_one(Input))
        self.call_after_refresh(self._draw, "")

    def on_input_changed(self, message: Input.Changed) -> None:
        """The entries that match."""
        self._draw(message.value.strip())

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

    def nothing(self) -> str:
        """What stands there where nothing matches."""
        return self.NOTHING

    def _take(self, key: str | None) -> None:
        if key is not None and int(key) < len(self._shown):
            self.take(self._shown[int(key)])

    def _draw(self, typed: str) -> None:
        self._shown = self.matching(typed)
        rows = [Row(str(at), self.cells(entry)) for at, entry in enumerate(self._shown)]
        self.query_one(RowTable).show(rows, empty=self.nothing(), select="0" if rows else None)
