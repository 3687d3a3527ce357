"""A form of any number of fields as one widget: a line a field, one of them written in, with what may stand there under it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textual import events
from textual.app import ComposeResult
from textual.message import Message

from llmops_tui.keys import bindings
from llmops_tui.screens.offers import Offer, narrowed
from llmops_tui.screens.widgets.edit_line import EditLine
from llmops_tui.screens.widgets.focusing import take_keys
from llmops_tui.screens.widgets.form_lines import VALUE_INDENT, FormRow, label_width, offer_lines, row_line
from llmops_tui.screens.widgets.lines import LineWidget
from llmops_tui.screens.widgets.table import CURSOR_GROUND, CURSOR_IDLE_GROUND

_MOST_OFFERS = 8


class FieldLine(EditLine):
    """The line a field is written in."""

    DEFAULT_CSS = "FieldLine { position: absolute; height: 1; display: none; background: $ground-cursor; }"
    BINDINGS = bindings("field")

    @dataclass
    class Stepped(Message):
        """Through the offers, or with Tab to another field."""

        by: int
        leaves: bool

    def action_pick(self, by: int) -> None:
        """Another offer."""
        self.post_message(self.Stepped(by, False))

    def action_next(self, by: int) -> None:
        """Take what is offered, else go on."""
        self.post_message(self.Stepped(by, True))

    def action_editor(self) -> None:
        """The whole spec in an editor."""
        self.post_message(FormView.EditorWanted())


class FormView(LineWidget, can_focus=True):
    """Posts where the cursor is, what was asked of a field, what is typed, and what was written; shows what it is told."""

    DEFAULT_CSS = "FormView { height: 1fr; }"
    BINDINGS = bindings("fields")

    @dataclass
    class FieldReached(Message):
        """The cursor came to a field."""

        key: str

    @dataclass
    class FieldChosen(Message):
        """Enter, or a second click."""

        key: str

    @dataclass
    class FieldTurned(Message):
        """The next or previous of its choices, without writing."""

        key: str
        by: int

    @dataclass
    class FieldReset(Message):
        """What it began with, then its default."""

        key: str

    @dataclass
    class DigitTyped(Message):
        """A number may be meant for the field."""

        key: str
        digit: str

    @dataclass
    class EditorWanted(Message):
        """From within a field."""

    @dataclass
    class FieldTyped(Message):
        """The words are being written."""

        key: str
        words: str

    @dataclass
    class FieldWritten(Message):
        """Done with the field; `step` says where to go: 0 stays, others go on `step` fields and `open` writes there too."""

        key: str
        words: str
        step: int
        open: bool

    @dataclass
    class FieldDropped(Message):
        """Escape: the field stays as it was."""

        key: str

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._rows: tuple[FormRow, ...] = ()
        self._empty = ""
        self._cursor = 0
        self._top = 0
        self._editing = ""
        self._offers: list[Offer] = []
        self._shown: list[Offer] = []
        self._pick = -1
        self._fault = ""
        self._bound = False

    def compose(self) -> ComposeResult:
        """The line to write in, seen while a field is written."""
        yield FieldLine("")

    @property
    def key(self) -> str:
        """The field under the cursor."""
        return self._rows[self._cursor].key if self._rows else ""

    @property
    def editing(self) -> str:
        """The field being written, "" if none is."""
        return self._editing

    def show(self, rows: Sequence[FormRow], select: str | None = None, empty: str = "") -> None:
        """New rows; the cursor stays on its field or goes to `select`. `empty` is said where there are none."""
        wanted = select or self.key
        self._rows, self._empty = tuple(rows), empty
        at = next((number for number, row in enumerate(self._rows) if row.key and row.key == wanted), None)
        if at is None:
            self._cursor = max(0, min(self._cursor, len(self._rows) - 1))
            self._cursor = self._field_at(self._cursor, 1)
        else:
            self._cursor = at
        self._draw()

    def write(self, words: str, blank: str, offers: Sequence[Offer], bound: bool, pick: bool) -> None:
        """Write in the cursor's field. `bound`: only an offer may stand there; `pick`: the first offer is meant until one types."""
        self._editing, self._fault, self._bound = self.key, "", bound
        line = self.query_one(FieldLine)
        line.display = True
        line.open("", words, blank)
        self.offer(offers, typed="", pick=next((at for at, offer in enumerate(offers) if offer.words == words), 0 if pick else -1))

    def offer(self, offers: Sequence[Offer], typed: str, pick: int) -> None:
        """What may stand here: those that have `typed`."""
        self._offers = list(offers)
        self._shown = narrowed(offers, typed) if typed else list(offers)
        self._pick = min(pick, len(self._shown) - 1)
        self._draw()

    def blame(self, fault: str) -> None:
        """What is wrong with what is being written."""
        if fault != self._fault:
            self._fault = fault
            self._draw()

    def written(self) -> tuple[str, str] | None:
        """Stop writing and say the field and its words; None where nothing is being written."""
        if not self._editing:
            return None
        found = self._editing, self._words()
        self.stop_writing()
        return found

    def stop_writing(self) -> None:
        """The keys come back to the form."""
        self._editing, self._offers, self._shown, self._pick, self._fault = "", [], [], -1, ""
        line = self.query_one(FieldLine)
        if line.has_focus:
            take_keys(self)
        line.display = False
        self._draw()

    def action_move(self, rows: int) -> None:
        """Move by fields."""
        at = self._cursor
        for _ in range(abs(rows)):
            at = self._field_at(at + (1 if rows > 0 else -1), 1 if rows > 0 else -1, at)
        self._go(at)

    def action_page(self, pages: int) -> None:
        """Move by what is visible."""
        at = max(0, min(self._cursor + pages * max(1, self.size.height - 1), len(self._rows) - 1))
        self._go(self._field_at(at, pages, self._cursor))

    def action_end(self, last: bool) -> None:
        """The first or the last field."""
        self._go(self._field_at(len(self._rows) - 1 if last else 0, -1 if last else 1))

    def action_turn(self, by: int) -> None:
        """Another choice."""
        if self.key:
            self.post_message(self.FieldTurned(self.key, by))

    def action_reset(self) -> None:
        """As it began."""
        if self.key:
            self.post_message(self.FieldReset(self.key))

    def action_choose(self) -> None:
        """Write in the field, or do what the line says."""
        if self.key:
            self.post_message(self.FieldChosen(self.key))

    def on_edit_line_changed(self, message: EditLine.Changed) -> None:
        """Other offers, another verdict."""
        message.stop()
        if self._editing:
            self.offer(self._offers, message.text, 0 if self._bound else -1)
            self.post_message(self.FieldTyped(self._editing, message.text))

    def on_edit_line_submitted(self, message: EditLine.Submitted) -> None:
        """The picked offer, else what was typed."""
        message.stop()
        self._finish(1, False)

    def on_edit_line_left(self, message: EditLine.Left) -> None:
        """As it was."""
        message.stop()
        key = self._editing
        self.stop_writing()
        self.post_message(self.FieldDropped(key))

    def on_field_line_stepped(self, message: FieldLine.Stepped) -> None:
        """Through the offers; Tab takes one, then goes on."""
        message.stop()
        line = self.query_one(FieldLine)
        if not message.leaves:
            if self._shown:
                self._pick = (self._pick + message.by) % len(self._shown) if self._pick >= 0 or message.by > 0 else len(self._shown) - 1
                self._draw()
        elif message.by > 0 and self._shown and line.text != self._meant() and line.text:
            line.put(self._meant())
            self.offer(self._offers, self._meant(), -1)
            self.post_message(self.FieldTyped(self._editing, line.text))
        else:
            self._finish(message.by, True)

    def on_key(self, event: events.Key) -> None:
        """A digit begins a number."""
        if not self._editing and self.key and event.character is not None and event.character in "0123456789":
            event.stop()
            event.prevent_default()
            self.post_message(self.DigitTyped(self.key, event.character))

    def on_click(self, event: events.Click) -> None:
        """A click goes to a field, one on the cursor's field writes there, one on an offer takes it."""
        place = event.get_content_offset(self)
        if place is None:
            return
        if self._editing:
            at = place.y - self._offers_top()
            if event.widget is self and 0 <= at < len(self._visible_offers()):
                self._pick = self._first_offer() + at
                self._finish(0, False)
            return
        at = place.y + self._top
        if 0 <= at < len(self._rows) and self._rows[at].key:
            if at == self._cursor:
                self.action_choose()
            else:
                self._go(at)

    def on_mouse_scroll_down(self) -> None:
        """The wheel moves the cursor."""
        if not self._editing:
            self.action_move(1)

    def on_mouse_scroll_up(self) -> None:
        """The wheel moves the cursor."""
        if not self._editing:
            self.action_move(-1)

    def on_resize(self) -> None:
        """Everything depends on the size."""
        super().on_resize()
        self._draw()

    def on_focus(self) -> None:
        """The cursor is brighter with the focus."""
        self._draw()

    def on_blur(self) -> None:
        """And dimmer without."""
        self._draw()

    def _finish(self, step: int, open: bool) -> None:
        if (found := self.written()) is not None:
            self.post_message(self.FieldWritten(*found, step, open))

    def _words(self) -> str:
        return self._shown[self._pick].words if self._pick >= 0 else self.query_one(FieldLine).text

    def _meant(self) -> str:
        return self._shown[max(0, self._pick)].words

    def _field_at(self, at: int, by: int, otherwise: int | None = None) -> int:
        """The first row from `at` on, in a direction, that is no heading; `otherwise` where there is none."""
        step = 1 if by > 0 else -1
        while 0 <= at < len(self._rows):
            if self._rows[at].key:
                return at
            at += step
        return max(0, min(at, len(self._rows) - 1)) if otherwise is None else otherwise

    def _go(self, at: int) -> None:
        if self._rows and at != self._cursor:
            self._cursor = at
            self._draw()
            self.post_message(self.FieldReached(self.key))

    def _first_offer(self) -> int:
        return max(0, self._pick - _MOST_OFFERS + 1)

    def _visible_offers(self) -> list[Offer]:
        return self._shown[self._first_offer() :][:_MOST_OFFERS]

    def _offers_top(self) -> int:
        return self._cursor - self._top + 1 + bool(self._fault)

    def _draw(self) -> None:
        width, height = self.size
        if not width or not height:
            return
        if not self._rows:
            self.show_lines([[("", "text")], [(f" {self._empty}", "muted")]])
            return
        below = min(height // 2, len(self._visible_offers()) + bool(self._fault)) if self._editing else 0
        self._top = max(0, min(self._top, self._cursor, len(self._rows) - height + below))
        self._top = max(self._top, self._cursor - height + 1 + below)
        label = label_width(self._rows, width)
        shown = enumerate(self._rows[self._top : self._top + height], self._top)
        lines = [row_line(row, at == self._cursor, self.has_focus, label, width) for at, row in shown]
        grounds = {self._cursor - self._top: CURSOR_GROUND if self.has_focus or self._editing else CURSOR_IDLE_GROUND}
        if self._editing:
            first, offered = self._first_offer(), self._visible_offers()
            hidden = len(self._shown) - first - len(offered)
            under = offer_lines(offered, self._pick - first, hidden, self._fault, label, width)
            first = self._cursor - self._top + 1
            lines[first : first + len(under)] = under
            if self._pick >= 0:
                grounds[self._offers_top() + self._pick - self._first_offer()] = CURSOR_IDLE_GROUND
            line = self.query_one(FieldLine)
            left = label + VALUE_INDENT - 2  # the line begins its text two cells in
            line.styles.offset = (left, self._cursor - self._top)
            line.styles.width = max(4, width - left)
        self.show_lines(lines, grounds)
