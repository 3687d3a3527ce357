"""The log on the screen: its keys, its line to type into, and the messages by which it asks for what is missing or to be searched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from textual.app import ComposeResult
from textual.message import Message

from llmops_tui.keys import bindings
from llmops_tui.screens.widgets.axes import bytes_text
from llmops_tui.screens.widgets.edit_line import EditLine
from llmops_tui.screens.widgets.focusing import take_keys
from llmops_tui.screens.widgets.lines import Run, spaced
from llmops_tui.screens.widgets.log_filter import CONTEXTS, FilterAsk
from llmops_tui.screens.widgets.log_search import BLOCK_BYTES, REGEX_SIGN, Ask, Search, Sought
from llmops_tui.screens.widgets.log_view import LogRow, LogView, Top
from llmops_tui.screens.widgets.scrolling import ScrollingLines
from llmops_tui.specs.log_text import PatternError, compiled

if TYPE_CHECKING:
    from llmops_tui.specs.answers import LogFilter, LogSearch

_SIDEWAYS_CELLS = 8
_EDIT_ROWS = 2


class LogPane(ScrollingLines, can_focus=True):
    """Follows the end until the user scrolls up; `f` or End follow again. Feed it, and answer what it asks for."""

    DEFAULT_CSS = "LogPane { height: 1fr; } LogPane EditLine { dock: bottom; display: none; }"
    BINDINGS = bindings("log")

    @dataclass
    class RangeWanted(Message):
        """A range of the file is needed: `feed` or `fail`."""

        pane: LogPane
        offset: int
        limit: int

    @dataclass
    class SearchWanted(Message):
        """The file is to be searched: `take_hits` or `fail_search`."""

        pane: LogPane
        ask: Ask

    @dataclass
    class LinesWanted(Message):
        """The file is to be filtered: `take_lines` or `fail_filter`."""

        pane: LogPane
        ask: FilterAsk

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._view = LogView()
        self._asked: set[int] = set()
        self._problem = ""
        self._editing = ""
        self._before: tuple[Top, bool, Search | None] = ((0, 0), True, None)
        self._histories: dict[str, list[str]] = {"/": [], "&": []}

    def compose(self) -> ComposeResult:
        """The line that is typed into, hidden until it is needed."""
        yield EditLine("/")

    @property
    def follow(self) -> bool:
        """Whether the end is shown, however long it grows."""
        return self._view.follow

    @property
    def end(self) -> int:
        """Where the next new bytes are expected; -1 (the last byte, for the size) before anything is known."""
        window = self._view.window
        return window.known_end(max(0, window.size - 1)) if window.size else -1

    @property
    def limit_bytes(self) -> int | None:
        """Where the log ends as of the moment shown; None: where the file ends."""
        return self._view.window.limit

    @limit_bytes.setter
    def limit_bytes(self, limit: int | None) -> None:
        window = self._view.window
        if limit != window.limit:
            before, window.limit = window.size, limit
            self._ask_search(self._view.sized(before))
            self.draw()

    def remember(self) -> dict[str, Any]:
        """Where it stands, as JSON values."""
        view = self._view
        return {
            "follow": view.follow, "top": view.top[0], "wrap": view.wrap, "context": view.context,
            "search": view.search.typed if view.search else "", "filter": view.filter.typed if view.filter else "",
        }  # fmt: skip

    def recall(self, remembered: object) -> None:
        """Stand as remembered; what is no such thing is left out."""
        if not isinstance(remembered, dict):
            return
        view, top = self._view, remembered.get("top")
        if isinstance(top, int) and top >= 0 and remembered.get("follow") is False:
            view.follow, view.top, view.cursor = False, (top, 0), top
        view.wrap = remembered.get("wrap") is True
        view.context = remembered["context"] if remembered.get("context") in CONTEXTS else view.context
        searched, filtered = (text if isinstance(text := remembered.get(name), str) else "" for name in ("search", "filter"))
        if sought := Sought.of(searched):
            view.search = Search(sought, searched, view.top[0], view.window.size)
        view.filter_by(filtered)

    def feed(self, offset: int, data: bytes, size: int, first_kept: int) -> None:
        """A range arrived."""
        self._asked.discard(offset - offset % BLOCK_BYTES)
        window = self._view.window
        before = window.size
        window.feed(offset, data, size, first_kept)
        self._problem = ""
        if window.size != before:
            self._ask_search(self._view.sized(before))
        self.draw()

    def fail(self, offset: int, reason: str) -> None:
        """A range could not be read; it is asked for again with the next drawing."""
        self._asked.discard(offset - offset % BLOCK_BYTES)
        self._problem = reason
        self._draw(ask=False)

    def take_hits(self, ask: Ask, answer: LogSearch) -> None:
        """A part was searched."""
        search = self._view.search
        if search is not None and ask.sought is search.sought:
            before = search.hit
            self._ask_search(search.take(ask, answer))
            if search.hit != before:
                self._view.show_hit()
            self.draw()

    def fail_search(self, ask: Ask, reason: str) -> None:
        """A part could not be searched."""
        search = self._view.search
        if search is not None and ask.sought is search.sought:
            search.fail(ask, reason)
            self._draw(ask=False)

    def take_lines(self, ask: FilterAsk, answer: LogFilter) -> None:
        """A part was filtered."""
        if self._view.filter is not None and self._view.filter.take(ask, answer):
            self.draw()

    def fail_filter(self, ask: FilterAsk, reason: str) -> None:
        """A part could not be filtered."""
        if self._view.filter is not None:
            self._view.filter.fail(ask, reason)
            self._draw(ask=False)

    def action_scroll_log(self, lines: int) -> None:
        """Scroll, upwards stops following; in a filter the cursor moves."""
        self._view.scroll(lines)
        self.draw()

    def action_page_log(self, pages: int) -> None:
        """Scroll by what is visible."""
        self.action_scroll_log(pages * max(1, self._view.rows - 1))

    def action_log_end(self, last: bool) -> None:
        """To the beginning, or to the end and follow."""
        self._view.go_end(last)
        self.draw()

    def action_log_search(self) -> None:
        """Ask what to look for; the first hit is shown while it is typed."""
        if self._view.filter is not None:
            self._view.leave_filter()
        search = self._view.search
        self._edit("/", search.typed if search else "", "text; or re: and a regular expression, searched by Enter")

    def action_log_filter(self) -> None:
        """Ask which lines to show."""
        filtered = self._view.filter
        self._edit("&", filtered.typed if filtered else "", "only lines with this text; or re: and a regular expression")

    def action_log_next(self, by: int) -> None:
        """The next or the previous hit; in a filter the next line that matches."""
        search = self._view.search
        if self._view.filter is not None:
            self._view.step_match(by)
        elif search is not None:
            if not self._view.hit_seen():
                search.start_at(self._view.top[0])
            self._ask_search(search.step(by))
        else:
            self._problem = "nothing is searched for: / begins"
        self.draw()

    def action_log_wrap(self) -> None:
        """Long lines in several rows, or cut."""
        view = self._view
        view.wrap, view.shift, view.top = not view.wrap, 0, (view.top[0], 0)
        self.draw()

    def action_log_sideways(self, by: int) -> None:
        """Other columns of long lines."""
        view = self._view
        view.shift = 0 if view.wrap else max(0, view.shift + by * _SIDEWAYS_CELLS)
        self.draw()

    def action_log_context(self) -> None:
        """More or fewer lines around those that match."""
        view = self._view
        view.context = CONTEXTS[(CONTEXTS.index(view.context) + 1) % len(CONTEXTS)]
        if view.filter is not None:
            view.filter_by(view.filter.typed)
        self.draw()

    def action_log_open(self) -> None:
        """The line under the cursor of a filter, among its neighbours."""
        self._view.leave_filter()
        self.draw()

    def action_log_back(self) -> None:
        """Leave what is at hand: a search that runs, the filter, the marks of a search."""
        search, filtered = self._view.search, self._view.filter
        if filtered is not None and filtered.busy:
            filtered.pause()
        elif filtered is not None:
            self._view.leave_filter()
        elif search is not None and search.looking:
            search.cancel()
        else:
            self._view.search = None
        self.draw()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Enter and Escape mean something here only while there is a filter or a search."""
        if action == "log_open":
            return self._view.filter is not None
        if action == "log_back":
            return self._view.filter is not None or self._view.search is not None
        return super().check_action(action, parameters)

    def on_edit_line_changed(self, message: EditLine.Changed) -> None:
        """Plain text is searched while it is typed; a regular expression is not, half of one means something else."""
        message.stop()
        message.line.tell("")
        if self._editing == "/":
            sought = Sought.of(message.text)
            self._search_for(message.text if sought and not sought.regex else "")

    def on_edit_line_submitted(self, message: EditLine.Submitted) -> None:
        """Search or filter; what is no pattern stays in the line with what is wrong under its character."""
        message.stop()
        sought = Sought.of(message.text)
        try:
            if sought is not None:
                compiled(sought.pattern, sought.regex, sought.ignore_case)
        except PatternError as error:
            message.line.tell(error.what, "bad", error.position + (len(REGEX_SIGN) if sought and sought.regex else 0))
            return
        sign, view = self._editing, self._view
        self._close(message.line)
        if sign == "&":
            view.filter_by(message.text)
        elif view.search is None or view.search.typed != message.text:
            self._search_for(message.text)
        self.draw()

    def on_edit_line_left(self, message: EditLine.Left) -> None:
        """As it was before."""
        message.stop()
        if self._editing == "/":
            self._view.top, self._view.follow, self._view.search = self._before
        self._close(message.line)
        self.draw()

    def wheel(self, rows: int) -> None:
        """The wheel scrolls."""
        self.action_scroll_log(rows)

    def draw(self) -> None:
        """Show what is known, ask for what is missing."""
        self._draw(ask=True)

    def _draw(self, ask: bool) -> None:
        width, height = self.size
        if not width or not height:
            return
        view = self._view
        view.width, view.rows = max(1, width - 1), max(1, height - 1 - (_EDIT_ROWS if self._editing else 0))
        view.place()
        rows = view.visible()
        if ask:
            self._ask(rows)
        lines: list[list[Run]] = [self._heading(width)]
        grounds = {}
        for at, row in enumerate(rows, 1):
            lines.append([self._sign(row), *row.runs])
            if view.filter is not None and row.line.offset == view.cursor:
                grounds[at] = "cursor" if self.has_focus else "cursor-idle"
        self.show_lines(lines, grounds)
        if self._editing == "/" and view.search is not None:
            self.query_one(EditLine).tell(view.search.words(), _word_role(view.search.problem))

    def _heading(self, width: int) -> list[Run]:
        view, size = self._view, self._view.window.size
        left: list[Run] = [(f" {bytes_text(size)}" if size else " no output yet", "muted")]
        if self._problem:
            left = [(f" {self._problem}", "bad")]
        if view.filter is not None:
            around = f" ±{view.context}" if view.context else ""
            left += [(f"  &{view.filter.typed}{around}", "title"), (f"  {view.filter.words()} ", _word_role(view.filter.problem))]
        elif view.search is not None and self._editing != "/":
            left += [(f"  /{view.search.typed}", "title"), (f"  {view.search.words()} ", _word_role(view.search.problem))]
        share = f"{100 * view.top[0] // max(1, size)} %"
        end = "its end then " if view.window.limit is not None else "following "
        where: Run = (end, "good") if view.follow else (f"{share}  f follows ", "warn")
        extra = "wrap  " if view.wrap else f"+{view.shift}  " if view.shift else ""
        return spaced(left, [(extra, "muted"), where], width)

    def _sign(self, row: LogRow) -> Run:
        """What tells the present line and those that match also without colours."""
        filtered = self._view.filter
        if filtered is None:
            return ("▸" if row.current else " "), "accent"
        if row.line.offset == self._view.cursor:
            return "▸", "accent"
        return ("│" if row.line.matched and filtered.context else " "), "muted"

    def _ask(self, rows: list[LogRow]) -> None:
        view = self._view
        for start in sorted(view.window.wanted - self._asked):
            self._asked.add(start)
            self.post_message(self.RangeWanted(self, start, BLOCK_BYTES))
        view.window.wanted.clear()
        if view.filter is not None:
            ask = view.filter.pop_wanted()
            if ask is not None:
                self.post_message(self.LinesWanted(self, ask))
        elif view.search is not None and rows:
            self._ask_search(view.search.wanted_marks(rows[0].line.offset, rows[-1].line.end))

    def _ask_search(self, asks: list[Ask]) -> None:
        for ask in asks:
            self.post_message(self.SearchWanted(self, ask))

    def _search_for(self, typed: str) -> None:
        self._ask_search(self._view.search_for(typed, *self._before[:2]))
        self.draw()

    def _edit(self, sign: str, text: str, blank: str) -> None:
        self._editing = sign
        self._before = (self._view.top, self._view.follow, self._view.search)
        line = self.query_one(EditLine)
        line.display = True
        line.open(sign, text, blank)
        line.editor.history = self._histories[sign]
        self.draw()

    def _close(self, line: EditLine) -> None:
        if self._editing:
            self._histories[self._editing] = line.editor.history
        self._editing, line.display = "", False
        take_keys(self)


def _word_role(problem: str) -> str:
    return "bad" if problem else "muted"
