"""A table of fixed column widths whose cursor stays on its row's key when rows come, go or move.

It draws only what is visible, so its size does not matter: rows are given whole (`show`), or a part of a list of any length at a time
(`show_part`), and what it lacks it asks for by `PageWanted`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap

from textual import events
from textual.message import Message

from llmops_tui.keys import bindings
from llmops_tui.screens.widgets.lines import Run, fit, fit_middle
from llmops_tui.screens.widgets.row_store import RowStore
from llmops_tui.screens.widgets.scrolling import ScrollingLines

CURSOR_GROUND = "cursor"
CURSOR_IDLE_GROUND = "cursor-idle"


@dataclass(frozen=True)
class Column:
    """A heading; `width` cells, 0 takes what is left; columns of a higher `rank` leave first when room is short.

    `middle`: a text too long loses its middle, because its end tells it from the others. `sort`: what the owner sorts by, "" where it
    can't; `falls`: the first choice of this column is the largest first. `least`: the cells that a column of width 0 takes at least.
    """

    title: str
    width: int
    right: bool = False
    rank: int = 0
    middle: bool = False
    sort: str = ""
    falls: bool = False
    least: int = 12


@dataclass(frozen=True)
class Row:
    """A key that stays and a cell a column; the cell at `wide` also takes the room of the empty ones right after it.

    `title`: a heading between other rows; its first cell takes the whole line and the cursor passes it.
    """

    key: str
    cells: tuple[Run, ...]
    wide: int = -1
    title: bool = False


class RowTable(ScrollingLines, can_focus=True):
    """Rows under a heading; posts what the user did with them. `markable`: space marks rows."""

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

    @dataclass
    class MarksChanged(Message):
        """Rows were marked or unmarked."""

        table: RowTable

    @dataclass
    class SortChanged(Message):
        """Another order is wanted; `table.sort` and `table.descending` say which."""

        table: RowTable

    @dataclass
    class PageWanted(Message):
        """Rows that are visible are not here."""

        table: RowTable
        offset: int
        limit: int

    def __init__(self, columns: Sequence[Column], empty: str, *, markable: bool = False, id: str | None = None) -> None:
        super().__init__(id=id)
        self.sort = ""
        self.descending = False
        self.marks: dict[str, None] = {}
        self._markable = markable
        self._lead = 2 if markable else 1  # the cursor's sign and the mark's
        self._columns = tuple(columns)
        self._empty = empty
        self._store = RowStore[Row]()
        self._cursor = 0
        self._top = 0

    @property
    def key(self) -> str | None:
        """The key under the cursor; None in an empty table and where the row is still on its way."""
        row = self._store.at(self._cursor)
        return row.key if row is not None and not row.title else None

    @property
    def cursor(self) -> int:
        """The place of the cursor, counted from 0."""
        return self._cursor

    @property
    def total(self) -> int:
        """How many rows there are, seen or not."""
        return self._store.total

    @property
    def columns(self) -> tuple[Column, ...]:
        """The headings."""
        return self._columns

    def set_columns(self, columns: Sequence[Column]) -> None:
        """Other columns; the rows that fit them come next."""
        if tuple(columns) != self._columns:
            self._columns = tuple(columns)
            self.draw()

    def show(self, rows: Sequence[Row], empty: str | None = None, select: str | None = None) -> None:
        """All rows. The cursor stays on its key (or goes to `select`); if the key is gone it stays at its place."""
        wanted, before = select or self.key, self.key
        self._empty = self._empty if empty is None else empty
        self._store.fill(rows)
        self._settle(wanted, before)

    def show_part(
        self,
        offset: int,
        rows: Sequence[Row],
        total: int,
        *,
        renew: bool,
        home: bool = False,
        select: str | None = None,
        empty: str | None = None,
    ) -> None:
        """The rows from place `offset` on, of `total`. `renew`: they answer a new question, so what was here is old.

        `home`: a row that is not among them any more leaves the cursor at the first row, not at its place.
        """
        wanted, before = select or self.key, self.key
        self._empty = self._empty if empty is None else empty
        if renew:
            self._store.begin(offset, rows, total)
            self._cursor = 0 if home and self._store.place(wanted) is None else self._cursor
        else:
            self._store.add(offset, rows, total)
        self._settle(wanted, before)

    def replace_rows(self, rows: dict[str, Row]) -> None:
        """Newer cells of rows that are here, by key; places stay."""
        for place, row in list(self._store.known()):
            if row.key in rows:
                self._store.add(place, [rows[row.key]], self._store.total)
        self.draw()

    def missing(self) -> tuple[int, int] | None:
        """`(offset, limit)` of the rows to ask for; None while everything visible is here."""
        return self._store.missing(self._top, self._visible())

    def window(self) -> tuple[int, int]:
        """`(offset, limit)` around what is visible: what to ask for when all of it may have changed."""
        return max(0, self._top - self._visible()), 3 * self._visible()

    def known_keys(self) -> list[str]:
        """The keys of the rows that are here, in order."""
        return [row.key for _, row in self._store.known()]

    def export_rows(self) -> tuple[list[str], list[list[str]]]:
        """`(columns, rows)` of the rows that are here, as they read, hidden columns too."""
        rows = [[text for text, _ in row.cells[: len(self._columns)]] for _, row in self._store.known() if not row.title]
        return [column.title for column in self._columns], [row + [""] * (len(self._columns) - len(row)) for row in rows]

    def action_move(self, rows: int) -> None:
        """Move the cursor."""
        self._go(self._cursor + rows)

    def action_page(self, pages: int) -> None:
        """Move the cursor by what is visible."""
        self._go(self._cursor + pages * max(1, self._visible() - 1))

    def action_end(self, last: bool) -> None:
        """The first or the last row."""
        self._go(self._store.total - 1 if last else 0)

    def action_choose(self) -> None:
        """Open the row."""
        if self.key is not None:
            self.post_message(self.RowChosen(self, self.key))

    def action_mark(self) -> None:
        """Mark or unmark the row, and go on to the next."""
        if self._markable and self.key is not None:
            if self.key in self.marks:
                del self.marks[self.key]
            else:
                self.marks[self.key] = None
            self.post_message(self.MarksChanged(self))
            self.draw()
        self._go(self._cursor + 1)

    def action_unmark_all(self) -> None:
        """No row is marked."""
        if self.marks:
            self.marks.clear()
            self.post_message(self.MarksChanged(self))
            self.draw()

    def action_next_sort(self) -> None:
        """Sort by the next column that is shown and can be sorted by."""
        sortable = [column for column, width in zip(self._columns, self._widths(), strict=True) if column.sort and width]
        if sortable:
            names = [column.sort for column in sortable]
            at = (names.index(self.sort) + 1) % len(names) if self.sort in names else 0
            self.sort_by(sortable[at].sort, sortable[at].falls)

    def action_reverse_sort(self) -> None:
        """The other direction."""
        if self.sort:
            self.sort_by(self.sort, not self.descending)

    def sort_by(self, sort: str, descending: bool) -> None:
        """Show this order in the heading and tell the owner."""
        if (sort, descending) != (self.sort, self.descending):
            self.sort, self.descending = sort, descending
            self.draw()
            self.post_message(self.SortChanged(self))

    def on_click(self, event: events.Click) -> None:
        """A click selects, a click on the selected row opens it, a click on a heading sorts by it."""
        place = event.get_content_offset(self)
        if place is None:
            return
        if place.y < self._head_rows():
            self._click_heading(place.x)
            return
        at = place.y - self._head_rows() + self._top
        if at < self._store.total:
            if at == self._cursor:
                self.action_choose()
            else:
                self._go(at)

    def wheel(self, rows: int) -> None:
        """The wheel moves the cursor."""
        self._go(self._cursor + rows)

    def _settle(self, wanted: str | None, before: str | None) -> None:
        place = self._store.place(wanted)
        last = max(0, self._store.total - 1)
        if place is None:
            self._cursor = min(self._cursor, last)
        else:
            # What is read moves with its row: rows that come above do not push it away. At the very top one waits for what is new.
            self._top += place - self._cursor if self._top else 0
            self._cursor = place
        self._skip_title(1)
        self.draw()
        if self.key is not None and self.key != before:
            self.post_message(self.RowHighlighted(self, self.key))

    def _skip_title(self, step: int) -> None:
        """A heading between the rows can't be chosen: the cursor goes on to the row after or before it."""
        at, begin = self._cursor, self._cursor
        while (row := self._store.at(at)) is not None and row.title:
            at += step
        if self._store.at(at) is None and at != begin:
            at = begin - step
            while (row := self._store.at(at)) is not None and row.title:
                at -= step
        if 0 <= at < self._store.total:
            self._cursor = at

    def _go(self, at: int) -> None:
        before, step = self._cursor, 1 if at > self._cursor else -1
        at = max(0, min(at, self._store.total - 1))
        if self._store.total and at != before:
            self._cursor = at
            self._skip_title(step)
            if self._cursor <= 1 and step < 0:
                self._top = 0  # a heading above the first row is seen again
            self.draw()
            if self.key is not None and self._cursor != before:
                self.post_message(self.RowHighlighted(self, self.key))

    def _click_heading(self, x: int) -> None:
        left = self._lead
        for column, width in zip(self._columns, self._widths(), strict=True):
            if width and left <= x <= left + width and column.sort:
                self.sort_by(column.sort, not self.descending if column.sort == self.sort else column.falls)
                return
            left += width + 1 if width else 0

    def _head_rows(self) -> int:
        """The heading gives way where there is hardly room for a row."""
        return 1 if self.size.height > 2 else 0

    def _visible(self) -> int:
        return max(1, self.size.height - self._head_rows())

    def _widths(self) -> list[int]:
        """0 hides a column."""
        room = self.size.width - self._lead
        widths = [column.width or column.least for column in self._columns]
        for rank in sorted({column.rank for column in self._columns if column.rank}, reverse=True):
            if sum(w + 1 for w in widths if w) <= room:
                break
            widths = [0 if column.rank == rank else w for column, w in zip(self._columns, widths, strict=True)]
        left = room - sum(w + 1 for w in widths if w)
        flexible = [at for at, column in enumerate(self._columns) if column.width == 0 and widths[at]]
        for at in flexible:
            widths[at] = max(6, widths[at] + left // len(flexible) + (at == flexible[0]) * max(0, left) % len(flexible))
        return widths

    def _cells(self, row: Row, widths: list[int]) -> list[Run]:
        widths = list(widths)
        if row.wide >= 0 and widths[row.wide]:
            for at in range(row.wide + 1, len(widths)):
                if at < len(row.cells) and row.cells[at][0]:
                    break
                widths[row.wide] += widths[at] + 1 if widths[at] else 0
                widths[at] = 0
        # A row that came before its column was added has no cell for it yet.
        return [
            ((fit_middle(text, cells) if column.middle and len(text) > cells else fit(text, cells, column.right)) + " ", role)
            for (text, role), column, cells in zip(row.cells, self._columns, widths, strict=False)
            if cells
        ]

    def _heading(self, column: Column, width: int) -> Run:
        if not self.sort or column.sort != self.sort:
            return fit(column.title, width, column.right) + " ", "muted"
        title = fit(column.title, min(len(column.title), width - 2)).rstrip()
        return fit(f"{title} {'▼' if self.descending else '▲'}", width, column.right) + " ", "title"

    def draw(self) -> None:
        """The heading, and the rows around the cursor."""
        width, height = self.size
        if not width or not height:
            return
        widths, visible = self._widths(), self._visible()
        self._top = max(0, min(self._top, self._cursor, self._store.total - visible))
        self._top = max(self._top, self._cursor - visible + 1)
        heading = [self._heading(column, cells) for column, cells in zip(self._columns, widths, strict=True) if cells]
        lines: list[list[Run]] = [[(" " * self._lead, "muted"), *heading]] if self._head_rows() else []
        if not self._store.total:
            lines += [[("", "text")], *([(f" {text}", "muted")] for text in wrap(self._empty, max(8, width - 2)))]
        for at in range(self._top, min(self._store.total, self._top + visible)):
            lines.append(self._line(at, widths))
        ground = CURSOR_GROUND if self.has_focus else CURSOR_IDLE_GROUND
        self.show_lines(lines, {self._cursor - self._top + self._head_rows(): ground} if self._store.total else {})
        wanted = self.missing()
        if wanted is not None:
            self.post_message(self.PageWanted(self, *wanted))

    def _line(self, at: int, widths: list[int]) -> list[Run]:
        row = self._store.at(at)
        marked = row is not None and row.key in self.marks
        # The signs say where the cursor is and what is marked on terminals whose sixteen colours lose the background.
        line: list[Run] = [("▸" if at == self._cursor else " ", "accent" if self.has_focus else "muted")]
        if self._markable:
            line.append(("*" if marked else " ", "warn"))
        if row is None:
            return [*line, ("…", "faint")]
        if row.title:
            return [*line, row.cells[0]]
        cells = self._cells(row, widths)
        if marked:
            cells = [(text, "warn" if number == 0 else role) for number, (text, role) in enumerate(cells)]
        return [*line, *cells]
