"""A table of fixed column widths whose cursor stays on its row's key when rows come, go or move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap

from textual import events
from textual.message import Message

from llmops_tui.keys import bindings
from llmops_tui.screens.widgets.lines import LineWidget, Run, fit, fit_middle

CURSOR_GROUND = "#1f3047"
CURSOR_IDLE_GROUND = "#1a212b"


@dataclass(frozen=True)
class Column:
    """A heading; `width` cells, 0 takes what is left; columns of a higher `rank` leave first when room is short.

    `middle`: a text too long loses its middle, because its end tells it from the others.
    """

    title: str
    width: int
    right: bool = False
    rank: int = 0
    middle: bool = False


@dataclass(frozen=True)
class Row:
    """A key that stays and a cell a column; the cell at `wide` also takes the room of the empty ones right after it."""

    key: str
    cells: tuple[Run, ...]
    wide: int = -1


class RowTable(LineWidget, can_focus=True):
    """Rows under a heading; posts `RowHighlighted` and `RowChosen`."""

    DEFAULT_CSS = "RowTable { height: 1fr; }"
    BINDINGS = bindings("table")

    @dataclass
    class RowHighlighted(Message):
        """The cursor came to a row."""

        table: RowTable
        key: str

    @dataclass
    class RowChosen(Message):
        """Enter or a second click on a row."""

        table: RowTable
        key: str

    def __init__(self, columns: Sequence[Column], empty: str, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._columns = tuple(columns)
        self._empty = empty
        self._rows: tuple[Row, ...] = ()
        self._cursor = 0
        self._top = 0

    @property
    def key(self) -> str | None:
        """The key under the cursor."""
        return self._rows[self._cursor].key if self._rows else None

    def show(self, rows: Sequence[Row], empty: str | None = None, select: str | None = None) -> None:
        """New rows. The cursor stays on its key (or goes to `select`); if the key is gone it stays at its place."""
        wanted = select or self.key
        before = self.key
        self._rows = tuple(rows)
        self._empty = self._empty if empty is None else empty
        place = next((at for at, row in enumerate(self._rows) if row.key == wanted), None)
        self._cursor = max(0, min(self._cursor, len(self._rows) - 1)) if place is None else place
        self._draw()
        if self.key is not None and self.key != before:
            self.post_message(self.RowHighlighted(self, self.key))

    def action_move(self, rows: int) -> None:
        """Move the cursor."""
        self._go(self._cursor + rows)

    def action_page(self, pages: int) -> None:
        """Move the cursor by what is visible."""
        self._go(self._cursor + pages * max(1, self.size.height - 2))

    def action_end(self, last: bool) -> None:
        """The first or the last row."""
        self._go(len(self._rows) - 1 if last else 0)

    def action_choose(self) -> None:
        """Open the row."""
        if self.key is not None:
            self.post_message(self.RowChosen(self, self.key))

    def on_click(self, event: events.Click) -> None:
        """A click selects, a click on the selected row opens it."""
        at = event.y - 1 + self._top
        if 0 <= at < len(self._rows):
            if at == self._cursor:
                self.action_choose()
            else:
                self._go(at)

    def on_mouse_scroll_down(self) -> None:
        """The wheel moves the cursor."""
        self._go(self._cursor + 1)

    def on_mouse_scroll_up(self) -> None:
        """The wheel moves the cursor."""
        self._go(self._cursor - 1)

    def on_resize(self) -> None:
        """Columns depend on the width."""
        super().on_resize()
        self._draw()

    def on_focus(self) -> None:
        """The cursor is brighter with the focus."""
        self._draw()

    def on_blur(self) -> None:
        """And dimmer without."""
        self._draw()

    def _go(self, at: int) -> None:
        at = max(0, min(at, len(self._rows) - 1))
        if self._rows and at != self._cursor:
            self._cursor = at
            self._draw()
            self.post_message(self.RowHighlighted(self, self._rows[at].key))

    def _widths(self) -> list[int]:
        """0 hides a column."""
        room = self.size.width - 1
        widths = [column.width or 12 for column in self._columns]
        for rank in sorted({column.rank for column in self._columns if column.rank}, reverse=True):
            if sum(w + 1 for w in widths if w) <= room:
                break
            widths = [0 if column.rank == rank else w for column, w in zip(self._columns, widths, strict=True)]
        left = room - sum(w + 1 for w in widths if w)
        flexible = [at for at, column in enumerate(self._columns) if column.width == 0 and widths[at]]
        for at in flexible:
            widths[at] = max(6, widths[at] + left // len(flexible))
        return widths

    def _cells(self, row: Row, widths: list[int]) -> list[Run]:
        widths = list(widths)
        if row.wide >= 0 and widths[row.wide]:
            for at in range(row.wide + 1, len(widths)):
                if row.cells[at][0]:
                    break
                widths[row.wide] += widths[at] + 1 if widths[at] else 0
                widths[at] = 0
        return [
            ((fit_middle(text, cells) if column.middle else fit(text, cells, column.right)) + " ", role)
            for (text, role), column, cells in zip(row.cells, self._columns, widths, strict=True)
            if cells
        ]

    def _draw(self) -> None:
        width, height = self.size
        if not width or not height:
            return
        widths = self._widths()
        visible = max(1, height - 1)
        self._top = max(0, min(self._top, self._cursor, len(self._rows) - visible))
        self._top = max(self._top, self._cursor - visible + 1)
        heading = " " + " ".join(fit(c.title, w, c.right) for c, w in zip(self._columns, widths, strict=True) if w)
        lines: list[list[Run]] = [[(heading, "muted")]]
        if not self._rows:
            lines += [[("", "text")], *([(f" {text}", "muted")] for text in wrap(self._empty, max(8, width - 2)))]
        for at, row in enumerate(self._rows[self._top : self._top + visible], self._top):
            # The sign says where the cursor is on terminals whose sixteen colours lose the background.
            line: list[Run] = [("▸" if at == self._cursor else " ", "accent" if self.has_focus else "muted")]
            line += self._cells(row, widths)
            lines.append(line)
        grounds = {self._cursor - self._top + 1: CURSOR_GROUND if self.has_focus else CURSOR_IDLE_GROUND} if self._rows else {}
        self.show_lines(lines, grounds)
