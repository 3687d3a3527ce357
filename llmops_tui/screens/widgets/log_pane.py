"""The log view: the lines of a `LogWindow` on the screen; missing ranges are asked for by message."""

from __future__ import annotations

from dataclasses import dataclass

from textual.message import Message

from llmops_tui.keys import bindings
from llmops_tui.screens.widgets.axes import bytes_text
from llmops_tui.screens.widgets.lines import LineWidget, Run, fit, spaced
from llmops_tui.screens.widgets.log_window import BLOCK_BYTES, LogWindow

_WHEEL_LINES = 3


class LogPane(LineWidget, can_focus=True):
    """Follows the end until the user scrolls up; `f` or End follow again."""

    DEFAULT_CSS = "LogPane { height: 1fr; }"
    BINDINGS = bindings("log")

    @dataclass
    class RangeWanted(Message):
        """A range of the file is needed."""

        pane: LogPane
        offset: int
        limit: int

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.follow = True
        self._window = LogWindow()
        self._top = 0
        self._asked: set[int] = set()
        self._problem = ""

    @property
    def end(self) -> int:
        """Where the next new bytes are expected; -1 (the last byte, for the size) before anything is known."""
        return self._window.known_end(max(0, self._window.size - 1)) if self._window.size else -1

    def feed(self, offset: int, data: bytes, size: int, first_kept: int) -> None:
        """A range arrived."""
        self._asked.discard(offset - offset % BLOCK_BYTES)
        self._window.feed(offset, data, size, first_kept)
        self._problem = ""
        self._draw()

    def fail(self, offset: int, reason: str) -> None:
        """A range could not be read; it is asked for again with the next drawing."""
        self._asked.discard(offset - offset % BLOCK_BYTES)
        self._problem = reason
        self._draw(ask=False)

    def action_scroll_log(self, lines: int) -> None:
        """Scroll; upwards stops following."""
        if lines < 0:
            self.follow = False
            self._top = self._window.back(self._top, -lines)
        elif not self.follow:
            ahead = self._window.lines(self._top, lines + self._rows())
            if len(ahead) > self._rows():
                self._top = ahead[min(lines, len(ahead) - self._rows())][0]
            elif not self._window.wanted:
                self.follow = True
        self._draw()

    def action_page_log(self, pages: int) -> None:
        """Scroll by what is visible."""
        self.action_scroll_log(pages * max(1, self._rows() - 1))

    def action_log_end(self, last: bool) -> None:
        """To the beginning, or to the end and follow."""
        self.follow = last
        self._top = 0
        self._draw()

    def on_mouse_scroll_down(self) -> None:
        """The wheel."""
        self.action_scroll_log(_WHEEL_LINES)

    def on_mouse_scroll_up(self) -> None:
        """The wheel."""
        self.action_scroll_log(-_WHEEL_LINES)

    def on_resize(self) -> None:
        """More or fewer lines fit."""
        super().on_resize()
        self._draw()

    def on_focus(self) -> None:
        """The heading shows the focus."""
        self._draw()

    def on_blur(self) -> None:
        """The heading shows the focus."""
        self._draw()

    def _rows(self) -> int:
        return max(1, self.size.height - 1)

    def _draw(self, ask: bool = True) -> None:
        width, height = self.size
        if not width or not height:
            return
        if self.follow:
            self._top = self._window.back(self._window.size, self._rows())
        lines = self._window.lines(self._top, self._rows())
        if ask:
            self._ask()
        share = f"{100 * self._top // max(1, self._window.size)} %"
        where: Run = ("following ", "good") if self.follow else (f"{share}  f follows ", "warn")
        size = "no output yet" if not self._window.size else bytes_text(self._window.size)
        left: Run = (f" {self._problem}", "bad") if self._problem else (f" {size}", "muted")
        body: list[list[Run]] = [[(" " + fit(text, width - 1), "text")] for _, text in lines]
        self.show_lines([spaced([left], [where], width), *body])

    def _ask(self) -> None:
        for start in sorted(self._window.wanted - self._asked):
            self._asked.add(start)
            self.post_message(self.RangeWanted(self, start, BLOCK_BYTES))
        self._window.wanted.clear()
