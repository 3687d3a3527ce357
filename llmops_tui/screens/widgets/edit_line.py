"""A line to write in: a filter, tags, a note. Under it stands what is wrong with it, at its character, or what Tab would make of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from textual import events
from textual.message import Message

from llmops_tui.keys import bindings
from llmops_tui.screens.widgets.editing import Editor, shown_part
from llmops_tui.screens.widgets.focusing import take_keys
from llmops_tui.screens.widgets.lines import LineWidget, Run, fit


@dataclass(frozen=True)
class Completion:
    """What Tab may put instead of the characters `[start, cursor)`, and what it means."""

    start: int
    text: str
    help: str = ""


Complete = Callable[[str, int], list[Completion]]
"""From the text and the cursor to what may stand there, best first."""


class EditLine(LineWidget, can_focus=True):
    """Holds the keys while it is edited. `label` stands before the text; `blank` is shown while there is none."""

    BINDINGS = bindings("edit")

    @dataclass
    class Changed(Message):
        """The text is another."""

        line: EditLine
        text: str

    @dataclass
    class Submitted(Message):
        """Enter."""

        line: EditLine
        text: str

    @dataclass
    class Left(Message):
        """Escape: the owner takes the keys back."""

        line: EditLine

    def __init__(self, label: str, blank: str = "", complete: Complete | None = None, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.editor = Editor()
        self.complete = complete
        self._label = label
        self._blank = blank
        self._note: tuple[str, str, int | None] = ("", "muted", None)
        self._choices: list[Completion] = []
        self._choice = -1
        self._typed = ("", 0)

    @property
    def text(self) -> str:
        """What stands in the line."""
        return self.editor.text

    def open(self, label: str, text: str, blank: str = "", complete: Complete | None = None) -> None:
        """Ask for another thing: the history goes, the keys come here."""
        self.editor = Editor(text)
        self._label, self._blank, self.complete = label, blank, complete
        self.tell("")
        self._forget_choices()
        take_keys(self)
        self._draw()

    def put(self, text: str) -> None:
        """Set the text from outside; says nothing."""
        self.editor.set(text)
        self._forget_choices()
        self._draw()

    def tell(self, note: str, role: str = "muted", position: int | None = None) -> None:
        """A word under the line; with a position it stands under that character."""
        if (note, role, position) != self._note:
            self._note = (note, role, position)
            self.set_class(role == "bad" and bool(note), "-wrong")
            self._draw()

    def check_consume_key(self, key: str, character: str | None) -> bool:
        """Every printable key is text here, whatever it means elsewhere."""
        return character is not None and character.isprintable()

    def on_key(self, event: events.Key) -> None:
        """Text goes into the line."""
        if event.is_printable and event.character is not None:
            event.stop()
            event.prevent_default()
            self._edit(lambda: self.editor.insert(event.character or ""))

    def on_paste(self, event: events.Paste) -> None:
        """Pasted text goes into the line, as one line."""
        event.stop()
        self._edit(lambda: self.editor.insert(event.text))

    def action_submit(self) -> None:
        """Done."""
        self.editor.keep()
        self._forget_choices()
        self.post_message(self.Submitted(self, self.text))

    def action_leave(self) -> None:
        """Give the keys back."""
        self._forget_choices()
        self.post_message(self.Left(self))

    def action_complete(self, by: int) -> None:
        """The next or the previous of what may stand here."""
        if not self._choices and self.complete is not None:
            self._typed = (self.editor.text, self.editor.at)
            self._choices = self.complete(*self._typed)
            self._choice = -1 if by > 0 else 0
        if self._choices:
            self._choice = (self._choice + by) % len(self._choices)
            chosen, (text, at) = self._choices[self._choice], self._typed
            self.editor.set(text[: chosen.start] + chosen.text + text[at:], chosen.start + len(chosen.text))
            if len(self._choices) == 1:
                self._choices = []  # the next Tab completes what now stands there
            self.post_message(self.Changed(self, self.text))
            self._draw()

    def action_recall(self, by: int) -> None:
        """A line written before."""
        self._edit(lambda: self.editor.recall(by))

    def action_go(self, by: int) -> None:
        """Move the cursor."""
        self.editor.at = max(0, min(self.editor.at + by, len(self.text)))
        self._draw()

    def action_go_word(self, by: int) -> None:
        """Move the cursor by words."""
        self.editor.at = self.editor.word_start() if by < 0 else self.editor.word_end()
        self._draw()

    def action_edge(self, last: bool) -> None:
        """To the beginning or the end."""
        self.editor.at = len(self.text) if last else 0
        self._draw()

    def action_rub(self, by: int) -> None:
        """Delete a character before or at the cursor."""
        at = self.editor.at
        self._edit(lambda: self.editor.rub_out(min(at, at + by), max(at, at + by)))

    def action_rub_word(self) -> None:
        """Delete the word before the cursor."""
        self._edit(lambda: self.editor.rub_out(self.editor.word_start(), self.editor.at))

    def action_rub_all(self) -> None:
        """Delete everything before the cursor."""
        self._edit(lambda: self.editor.rub_out(0, self.editor.at))

    def on_click(self, event: events.Click) -> None:
        """A click puts the cursor there."""
        left, room = self._label_width(), self._room()
        self.editor.at = max(0, min(event.x - left + shown_part(self.text, self.editor.at, room), len(self.text)))
        self._draw()

    def on_resize(self) -> None:
        """The part that is seen depends on the width."""
        super().on_resize()
        self._draw()

    def on_focus(self) -> None:
        """The cursor is seen."""
        self._draw()

    def on_blur(self) -> None:
        """And is not any more."""
        self._forget_choices()
        self._draw()

    def _edit(self, change: Callable[[], None]) -> None:
        before = self.text
        change()
        self._forget_choices()
        if self.text != before:
            self.post_message(self.Changed(self, self.text))
        self._draw()

    def _forget_choices(self) -> None:
        self._choices, self._choice = [], -1

    def _label_width(self) -> int:
        return len(self._label) + 2

    def _room(self) -> int:
        return max(4, self.size.width - self._label_width())

    def _draw(self) -> None:
        width = self.size.width
        if not width:
            return
        room, left = self._room(), self._label_width()
        text, at = self.text, self.editor.at
        first = shown_part(text, at, room)
        line: list[Run] = [(f" {self._label} ", "title" if self.has_focus else "muted")]
        if self.has_focus:
            under = text[at : at + 1] or " "
            line += [(text[first:at], "bright"), (under, "caret"), (text[at + 1 : first + room], "bright")]
            if not text:
                line.append((f" {self._blank}", "faint"))
        else:
            line.append((text[:room], "text") if text else (self._blank, "faint"))
        lines: list[list[Run]] = [line]
        if self.size.height > 1:
            lines.append(self._under(left, first, room))
        self.show_lines(lines)

    def _under(self, left: int, first: int, room: int) -> list[Run]:
        if self._choices:
            shown: list[Run] = [(" " * left, "text")]
            for number, choice in enumerate(self._choices[self._choice - self._choice % 8 :][:8], self._choice - self._choice % 8):
                shown.append((f"{choice.text.strip()}  ", "title" if number == self._choice else "muted"))
            return [*shown, (self._choices[self._choice].help, "faint")]
        note, role, position = self._note
        if position is None:
            return [(" " * left + note, role)] if note else []
        # The note stands right of its mark; where no room is left for it, left of it.
        place = max(0, min(position - first, room - 1))
        if place + len(note) + 2 <= room:
            return [(" " * (left + place), "text"), ("^ ", role), (note, role)]
        if len(note) + 1 <= left + place:
            return [(fit(note, left + place - 1, right=True) + " ", role), ("^", role)]
        return (
            [(fit(note, left + room - 2), role), (" ^", role)] if place > room // 2 else [(" " * left, "text"), ("^ ", role), (note, role)]
        )
