"""A conversation as one reads it: questions, answers as they come, two of them beside each other where there is room, and their figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len
from textual.message import Message

from llmops_tui.keys import bindings
from llmops_tui.screens.widgets.lines import Run
from llmops_tui.screens.widgets.markdown_lines import MarkdownText, wrapped
from llmops_tui.screens.widgets.scrolling import ScrollingLines
from llmops_tui.specs.chat_answer import shown_text

if TYPE_CHECKING:
    from textual import events

    from llmops_tui.screens.chat_session import Answered, Conversation, Turn

_BESIDE_COLUMNS = 90
_BETWEEN = " │ "
_RATINGS = {"up": ("✓ good", "good"), "down": ("✗ bad", "bad")}


@dataclass(frozen=True)
class Laid:
    """The lines, and of each answer (turn, column) the lines it takes `[first, last)`."""

    lines: list[list[Run]]
    places: dict[tuple[int, int], tuple[int, int]]


class ChatPane(ScrollingLines, can_focus=True):
    """Follows the answer while it comes, unless one scrolled away from it. `chosen` is the answer that the keys mean."""

    DEFAULT_CSS = "ChatPane { height: 1fr; }"
    BINDINGS = bindings("chat_pane")

    @dataclass
    class Chosen(Message):
        """Another answer is meant."""

        pane: ChatPane

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._conversation: Conversation | None = None
        self._texts: dict[tuple[int, int, str], MarkdownText] = {}
        self._empty: list[list[Run]] = []
        self._laid = Laid([], {})
        self._top = 0
        self._follows = True
        self.chosen: tuple[int, int] | None = None

    def show(self, conversation: Conversation, empty: list[list[Run]]) -> None:
        """Another conversation, or another state of it; `empty` stands there before the first question."""
        if conversation is not self._conversation:
            self._conversation, self._texts, self.chosen = conversation, {}, None
            self._follows = True
        self._empty = empty
        self.draw()

    def follow(self) -> None:
        """To the newest answer, and on with it."""
        self._follows, self.chosen = True, None
        self.draw()

    def answered(self) -> tuple[int, int, Answered] | None:
        """The answer that is meant: the chosen one, else the first of the last turn."""
        turns = self._conversation.turns if self._conversation else []
        if self.chosen is not None and self.chosen[0] < len(turns) and self.chosen[1] < len(turns[self.chosen[0]].answers):
            row, column = self.chosen
            return row, column, turns[row].answers[column]
        if turns and turns[-1].answers:
            return len(turns) - 1, 0, turns[-1].answers[0]
        return None

    def action_scroll(self, lines: int) -> None:
        """A line down or up; at the end it follows again."""
        most = max(0, len(self._laid.lines) - self.size.height)
        self._top = max(0, min(self._top + lines, most))
        self._follows = self._top >= most
        self.draw()

    def action_page(self, pages: int) -> None:
        """By what is visible."""
        self.action_scroll(pages * max(1, self.size.height - 2))

    def action_end(self, last: bool) -> None:
        """The beginning, or the end, and follow it."""
        self._follows = last
        self._top = 1 << 30 if last else 0
        self.draw()

    def action_answer(self, by: int) -> None:
        """The next answer, or the one before."""
        every = list(self._laid.places)
        now = self.answered()
        if not every or now is None:
            return
        at = max(0, min(every.index((now[0], now[1])) + by, len(every) - 1))
        self.chosen = every[at]
        first, last = self._laid.places[self.chosen]
        if first < self._top or last > self._top + self.size.height:
            self._top, self._follows = max(0, first - 2), False
        self.post_message(self.Chosen(self))
        self.draw()

    def wheel(self, rows: int) -> None:
        """The wheel scrolls."""
        self.action_scroll(rows)

    def on_click(self, event: events.Click) -> None:
        """A click means the answer under it."""
        line, right = self._top + event.y, event.x > self.size.width // 2
        under = [place for place, (first, last) in self._laid.places.items() if first <= line < last]
        if under:
            self.chosen = under[-1] if right else under[0]
            self.post_message(self.Chosen(self))
            self.draw()

    def draw(self) -> None:
        """As much as fits."""
        width, height = self.size
        if not width or not height:
            return
        if self._conversation is None or not self._conversation.turns:
            self._laid = Laid(self._empty, {})
        else:
            self._laid = self._lay_out(self._conversation, width)
        most = max(0, len(self._laid.lines) - height)
        self._top = most if self._follows else max(0, min(self._top, most))
        self.show_lines(self._laid.lines[self._top : self._top + height])

    def _lay_out(self, conversation: Conversation, width: int) -> Laid:
        lines: list[list[Run]] = []
        places: dict[tuple[int, int], tuple[int, int]] = {}
        now = self.answered()
        meant = (now[0], now[1]) if now is not None else None
        for row, turn in enumerate(conversation.turns):
            if lines:
                lines.append([])
            lines += [[(" > ", "accent"), *line] for line in wrapped([(shown_text(turn.prompt), "bright")], width - 4)]
            lines.append([])
            if len(turn.answers) == 2 and width >= _BESIDE_COLUMNS:
                half = (width - len(_BETWEEN)) // 2
                columns = [self._answer(row, column, turn, half, meant) for column in range(2)]
                begin = len(lines)
                lines += _beside(columns, half)
                places |= {(row, column): (begin, len(lines)) for column in range(2)}
            else:
                for column in range(len(turn.answers)):
                    if column:
                        lines.append([])
                    begin = len(lines)
                    lines += self._answer(row, column, turn, width, meant)
                    places[row, column] = (begin, len(lines))
        return Laid(lines, places)

    def _answer(self, row: int, column: int, turn: Turn, width: int, meant: tuple[int, int] | None) -> list[list[Run]]:
        each = turn.answers[column]
        answer = each.answer
        here = (row, column) == meant
        head: list[Run] = [(f" {answer.version or 'as routed'} ", "badge-good" if here and self.has_focus else "title")]
        if each.correction:
            head.append((" corrected", "warn"))
        lines: list[list[Run]] = [head]
        inside = width - 2
        if answer.thinking:
            thought = wrapped([(shown_text(answer.thinking.strip()), "muted")], inside - 2)
            lines += [[(" │ ", "faint"), *line] for line in thought] + [[]]
        if answer.text:
            lines += [[(" ", "text"), *line] for line in self._markdown(row, column, "text", answer.text, inside)]
        elif not answer.over:
            lines.append([(" waits for the first token…", "muted")])
        if answer.error:
            lines += [[(" ", "text"), *line] for line in wrapped([(answer.error, "bad")], inside)]
        if each.correction:
            lines.append([(" what it should have been:", "warn")])
            lines += [[(" ", "text"), *line] for line in self._markdown(row, column, "correction", each.correction, inside)]
        if answer.over and (told := answer.figures()):
            figures: list[Run] = [(told, "accent" if here and self.has_focus else "muted")]
            if each.rating:
                figures.append((f"  {_RATINGS[each.rating][0]}", _RATINGS[each.rating][1]))
            lines += [[(" ", "text"), *line] for line in wrapped(figures, inside)]
        return lines

    def _markdown(self, row: int, column: int, what: str, text: str, width: int) -> list[list[Run]]:
        kept = self._texts.setdefault((row, column, what), MarkdownText())
        return kept.lines(text, width)


def _beside(columns: list[list[list[Run]]], half: int) -> list[list[Run]]:
    """Two columns of lines as lines of both."""
    lines: list[list[Run]] = []
    for at in range(max(len(columns[0]), len(columns[1]))):
        left = columns[0][at] if at < len(columns[0]) else []
        right = columns[1][at] if at < len(columns[1]) else []
        blank = " " * max(0, half - sum(cell_len(text) for text, _ in left))
        lines.append([*left, (blank, "text"), (_BETWEEN, "faint"), *right])
    return lines
