"""A line of text being edited, with its history: pure, without a terminal."""

from __future__ import annotations

LONGEST_LINE = 2000
"""What is pasted beyond this many characters is left out: nobody meant a file."""


class Editor:
    """`text` and the cursor before character `at`."""

    def __init__(self, text: str = "") -> None:
        self.text = text
        self.at = len(text)
        self._history: list[str] = []
        self._step = 0  # how far back in the history; 0 is what is being typed
        self._draft = ""

    def set(self, text: str, at: int | None = None) -> None:
        """Another text; the cursor at its end unless said."""
        self.text = one_line(text)[:LONGEST_LINE]
        self.at = len(self.text) if at is None else max(0, min(at, len(self.text)))
        self._step = 0

    def insert(self, text: str) -> None:
        """Type or paste; line breaks and control characters become spaces."""
        fresh = one_line(text)[: max(0, LONGEST_LINE - len(self.text))]
        self.set(self.text[: self.at] + fresh + self.text[self.at :], self.at + len(fresh))

    def rub_out(self, first: int, last: int) -> None:
        """Take characters away; the cursor goes where they began."""
        first, last = max(0, first), min(len(self.text), last)
        self.set(self.text[:first] + self.text[last:], first)

    def word_start(self) -> int:
        """Where the word before the cursor begins."""
        at = self.at
        while at and self.text[at - 1] == " ":
            at -= 1
        while at and self.text[at - 1] != " ":
            at -= 1
        return at

    def word_end(self) -> int:
        """Where the word after the cursor ends."""
        at = self.at
        while at < len(self.text) and self.text[at] == " ":
            at += 1
        while at < len(self.text) and self.text[at] != " ":
            at += 1
        return at

    def keep(self) -> None:
        """Note the text in the history; the same text stands there once."""
        if self.text.strip():
            self._history = [line for line in self._history if line != self.text] + [self.text]
            del self._history[:-50]
        self._step = 0

    def recall(self, by: int) -> None:
        """An older (+1) or newer (-1) line of the history; past the newest is what was being typed."""
        step = max(0, min(self._step + by, len(self._history)))
        if step != self._step:
            self._draft = self.text if self._step == 0 else self._draft
            self.set(self._history[-step] if step else self._draft)
            self._step = step

    @property
    def history(self) -> list[str]:
        """The lines kept, oldest first."""
        return list(self._history)

    @history.setter
    def history(self, lines: list[str]) -> None:
        self._history = [one_line(line) for line in lines][-50:]


def one_line(text: str) -> str:
    """The text without line breaks and control characters."""
    return "".join(character if character.isprintable() else " " for character in text)


def shown_part(text: str, at: int, room: int) -> int:
    """The first character to show so that the cursor at `at` is seen in `room` cells."""
    return 0 if len(text) < room else max(0, min(at - room // 2, len(text) - room + 1))
