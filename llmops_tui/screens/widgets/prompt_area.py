"""Where a question is written: several lines, Enter sends it, Ctrl+J begins another line, Up and Down reach what was asked before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textual import events
from textual.message import Message
from textual.widgets import TextArea

from llmops_tui.keys import bindings

_LONGEST = 1 << 18


class PromptArea(TextArea, inherit_bindings=False):
    """As tall as what is written. `asked` is what was asked before, the oldest first."""

    DEFAULT_CSS = "PromptArea { height: auto; max-height: 10; border: none; padding: 0 1; }"
    BINDINGS = bindings("prompt")

    @dataclass
    class Sent(Message):
        """Enter."""

        area: PromptArea
        text: str

    @dataclass
    class EditorWanted(Message):
        """It is to be written in an editor."""

        area: PromptArea

    @dataclass
    class Left(Message):
        """Escape: the page takes the keys."""

        area: PromptArea

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, compact=True, show_line_numbers=False, soft_wrap=True, highlight_cursor_line=False)
        self.cursor_blink = False
        self.asked: Sequence[str] = ()
        self._back = 0  # how far back in what was asked; 0 is what is being written
        self._draft = ""

    def put(self, text: str) -> None:
        """Another text, the cursor behind it."""
        self._back = 0
        self._put(text)

    def action_send(self) -> None:
        """Done."""
        self.post_message(self.Sent(self, self.text))

    def action_newline(self) -> None:
        """Another line."""
        self.insert("\n")

    def action_edit(self) -> None:
        """In the user's own editor."""
        self.post_message(self.EditorWanted(self))

    def action_leave(self) -> None:
        """Give the keys back."""
        self.post_message(self.Left(self))

    def action_older(self) -> None:
        """A line up; on the first one what was asked before this."""
        if self.wrapped_document.location_to_offset(self.cursor_location).y > 0:
            self.action_cursor_up()
        else:
            self._recall(1)

    def action_newer(self) -> None:
        """A line down; on the last one what was asked after this."""
        if self.wrapped_document.location_to_offset(self.cursor_location).y < self.wrapped_document.height - 1:
            self.action_cursor_down()
        else:
            self._recall(-1)

    def on_paste(self, event: events.Paste) -> None:
        """It goes here alone; Textual's own handler puts it in."""
        event.stop()

    def on_text_area_changed(self) -> None:
        """What is longer than anybody writes is cut: nobody meant a file."""
        if len(self.text) > _LONGEST:
            self.put(self.text[:_LONGEST])

    def _recall(self, by: int) -> None:
        step = max(0, min(self._back + by, len(self.asked)))
        if step != self._back:
            self._draft = self.text if self._back == 0 else self._draft
            self._put(self.asked[-step] if step else self._draft)
            self._back = step

    def _put(self, text: str) -> None:
        self.text = text
        self.move_cursor(self.document.end)
