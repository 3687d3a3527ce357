"""Which rows of a log are seen: all of it or a filter, scrolled, wrapped or shifted, around the present hit. Without a terminal."""

from __future__ import annotations

from dataclasses import dataclass

from llmops_tui.screens.widgets.lines import Run
from llmops_tui.screens.widgets.log_filter import CONTEXTS, FilterWindow
from llmops_tui.screens.widgets.log_lines import LogLine, Span, characters, painted, rows_of, shown
from llmops_tui.screens.widgets.log_search import Ask, Search, Sought
from llmops_tui.screens.widgets.log_window import LogWindow
from llmops_tui.specs.log_text import PIECE_BYTES

Top = tuple[int, int]
"""A line's offset and which of its rows is the first that is seen."""


@dataclass(frozen=True)
class LogRow:
    """One row of the screen; `current`: the present hit is in it."""

    line: LogLine
    number: int
    runs: list[Run]
    current: bool


class LogView:
    """`rows` and `width` are the room there is; `place` and then `visible` say what stands in it. In a filter one line has the cursor."""

    def __init__(self) -> None:
        self.window = LogWindow()
        self.search: Search | None = None
        self.filter: FilterWindow | None = None
        self.follow = True
        self.top: Top = (0, 0)
        self.cursor = 0
        self.wrap = False
        self.shift = 0
        self.context = CONTEXTS[0]
        self.rows = self.width = 1
        self._reveal: int | None = None

    @property
    def source(self) -> LogWindow | FilterWindow:
        """Where the lines come from."""
        return self.filter if self.filter is not None else self.window

    def visible(self) -> list[LogRow]:
        """The rows from the top on."""
        return self._layout(self.top, self.rows)

    def place(self) -> None:
        """Where the first row is, when that follows from something else."""
        if self.follow:
            self.top = self._up((self.source.size, 0), self.rows)
            if self.filter is not None:
                self.cursor = self.filter.back(self.source.size, 1)
        elif self.filter is not None:
            self._place_cursor(self.filter)
        elif self._reveal is not None:
            self._place_hit(self._reveal)

    def scroll(self, rows: int) -> None:
        """So many rows down (negative: up, which stops following); in a filter the cursor moves."""
        self._reveal = None
        if self.filter is not None:
            self._move_cursor(self.filter, rows)
        elif rows < 0:
            self.follow = False
            self.top = self._up(self.top, -rows)
        elif not self.follow:
            ahead = self._layout(self.top, rows + self.rows)
            if len(ahead) > self.rows:
                row = ahead[min(rows, len(ahead) - self.rows)]
                self.top = (row.line.offset, row.number)
            elif not self.window.wanted:
                self.follow = True

    def go_end(self, last: bool) -> None:
        """To the beginning, or to the end and follow."""
        self.follow, self._reveal = last, None
        self.top, self.cursor = (0, 0), 0
        if self.filter is not None:
            self.filter_by(self.filter.typed)

    def sized(self, before: int) -> list[Ask]:
        """The log grew, shrank, or ends at another moment; what is to be searched because of it."""
        size = self.window.size
        if self.filter is not None and (not before or size < before):
            self.filter_by(self.filter.typed)
        elif self.filter is not None:
            self.filter.size = size
        if self.top[0] > size:
            self.top, self.follow = (0, 0), True
        return self.search.grew(size) if self.search is not None else []

    def search_for(self, typed: str, top: Top, follow: bool) -> list[Ask]:
        """Look from a place on, where the end is followed for the newest hit. Nothing typed: for nothing."""
        sought = Sought.of(typed)
        self.search = None
        if sought is None:
            return []
        self.search = Search(sought, typed, self.window.size if follow else top[0], self.window.size)
        return self.search.step(-1) if follow else self.search.begin()

    def show_hit(self) -> None:
        """Bring the present hit onto the screen; where it is seen already, nothing moves up or down."""
        search = self.search
        if search is None or search.hit is None:
            return
        self.follow = False
        begin = search.hit[0]
        row = next((row for row in self.visible() if row.line.offset <= begin < row.line.end and not row.line.note), None)
        if row is not None and not self.wrap:
            self._show_column(row.line)
        elif row is None or not any(row.current for row in self.visible()):
            self._reveal = search.hit_line + (begin - search.hit_line) // PIECE_BYTES * PIECE_BYTES

    def hit_seen(self) -> bool:
        """Whether the present hit is on the screen, or on its way there."""
        return self._reveal is not None or any(row.current for row in self.visible())

    def filter_by(self, typed: str) -> None:
        """Only the lines that match, from the present place on; nothing typed ends it."""
        sought = Sought.of(typed)
        if sought is None:
            self.leave_filter()
            return
        place = self.window.size if self.follow else self.cursor if self.filter is not None else self.top[0]
        self.filter = FilterWindow(sought, typed, self.context, place, self.window.size)
        self.top, self.cursor = (place, 0), place

    def leave_filter(self) -> None:
        """The whole log, around the line under the cursor."""
        filtered, self.filter = self.filter, None
        line = filtered.line_at(self.cursor) if filtered is not None else None
        if line is not None:
            self.follow, self._reveal, self.top = False, line.offset, (line.offset, 0)

    def step_match(self, by: int) -> None:
        """In a filter: the cursor to the next (+1) or previous (-1) line that matches."""
        if self.filter is not None:
            self.filter.pause(False)
            place = self.filter.match_from(self.cursor, by)
            if place is not None:
                self.follow, self.cursor = False, place

    def _layout(self, top: Top, count: int) -> list[LogRow]:
        found: list[LogRow] = []
        for line in self.source.lines(top[0], count + top[1]):
            text, marks, current = self._marked(line)
            role = "muted" if line.note or (self.filter is not None and not line.matched) else "text"
            for number, (begin, end) in enumerate(rows_of(text, self.width, self.wrap, self.shift)):
                if line.offset != top[0] or number >= top[1]:
                    runs = painted(text, (begin, end), self.width, marks, current, role)
                    found.append(LogRow(line, number, runs, current >= 0 and (not self.wrap or begin <= marks[current][0] < end)))
            if len(found) >= count:
                break
        return found[:count]

    def _marked(self, line: LogLine) -> tuple[str, list[Span], int]:
        """A line's text as shown, the hits in it, and which of them is the present one."""
        if line.note:
            return line.text, [], -1
        if self.filter is not None:
            return (*shown(line.text, [line.span] if line.span else [], line.span[0] if line.span else -1), -1)
        search = self.search
        hits = search.marks(line.offset, line.end) if search is not None else []
        if search is None or not hits:
            return shown(line.text)[0], [], -1
        raw = self.window.raw(line)
        spans = [(characters(raw, begin - line.offset), characters(raw, end - line.offset)) for begin, end in hits]
        current = hits.index(search.hit) if search.hit in hits else -1
        return (*shown(line.text, spans, spans[current][0] if current >= 0 else -1), current)

    def _up(self, top: Top, rows: int) -> Top:
        """So many rows before a place; as far as known."""
        offset, number = top
        if not self.wrap:
            return self.source.back(offset, rows), 0
        while rows > number:
            before = self.source.back(offset, 1)
            if before == offset:
                return offset, 0
            rows -= number + 1
            offset = before
            line = next(iter(self.source.lines(offset, 1)), None)
            number = len(rows_of(self._marked(line)[0], self.width, True)) - 1 if line is not None else 0
        return offset, number - rows

    def _place_cursor(self, filtered: FilterWindow) -> None:
        line = filtered.line_at(self.cursor)
        self.cursor = line.offset if line is not None else self.cursor
        if self.cursor <= self.top[0]:
            self.top = (self.cursor, 0)
        rows = self.visible()
        if not rows or rows[-1].line.offset < self.cursor:
            self.top = self._up((self.cursor, 0), self.rows - 1)
        elif len(rows) < self.rows and filtered.high >= filtered.size:
            self.top = self._up((filtered.size, 0), self.rows)

    def _place_hit(self, place: int) -> None:
        """A line at a third of the height, once what lies around it is known."""
        self.window.wanted.clear()
        line = next(iter(self.window.lines(place, 1)), None)
        number = 0
        if self.wrap and line is not None:
            text, marks, current = self._marked(line)
            begins = [begin for begin, _ in rows_of(text, self.width, True)] if current >= 0 else []
            number = max(0, sum(begin <= marks[current][0] for begin in begins) - 1)
        self.top = self._up((place, number), self.rows // 3)
        self.visible()
        if not self.window.wanted:
            self._reveal = None
            if line is not None:
                self._show_column(line)

    def _show_column(self, line: LogLine) -> None:
        """Scroll sideways so far that the present hit is seen."""
        _, marks, current = self._marked(line)
        if not self.wrap and current >= 0:
            begin, end = marks[current]
            if begin < self.shift or end > self.shift + self.width - 1:
                self.shift = 0 if end < self.width else max(0, begin - self.width // 2)

    def _move_cursor(self, filtered: FilterWindow, lines: int) -> None:
        filtered.pause(False)
        if lines < 0:
            self.follow = False
            self.cursor = filtered.back(self.cursor, -lines)
            return
        ahead = filtered.lines(self.cursor, lines + 1)
        self.cursor = ahead[-1].offset if ahead else self.cursor
        self.follow = self.follow or (len(ahead) <= lines and filtered.high >= filtered.size)
