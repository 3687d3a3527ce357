"""A question before something that can't be undone: it names what goes."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult

from llmops_tui.keys import bindings, keys_of, name_of
from llmops_tui.screens.dialog import Dialog
from llmops_tui.screens.widgets.lines import Line, LineWidget, Run

_WIDTH = 72


class ConfirmScreen(Dialog[bool]):
    """Answers whether `yes` (the words of what happens) is meant."""

    BINDINGS = bindings("confirm")

    def __init__(self, title: str, lines: Sequence[Line], yes: str, no: str) -> None:
        super().__init__()
        self._title = title
        self._asked = lines
        self._words = {"confirm_yes": yes, "confirm_no": no}

    def compose(self) -> ComposeResult:
        """One box."""
        box = LineWidget(id="question", classes="dialog")
        box.border_title = self._title
        yield box

    def on_mount(self) -> None:
        """What is asked, then the keys from the table."""
        answers: list[list[Run]] = []
        for key in keys_of("confirm"):
            answers.append([(f"  {name_of(key.keys[0]):>4}  ", "title"), (self._words[key.id], "text")])
        room = max(1, self.app.size.height - 6 - len(answers))
        asked = list(self._asked)
        if len(asked) > room:
            asked = [*asked[: room - 1], [(f"  … {len(asked) - room + 1} more", "muted")]]
        lines: list[Line] = [[("", "text")], *asked, [("", "text")], *answers]
        box = self.query_one(LineWidget)
        box.styles.width, box.styles.height = min(_WIDTH, self.app.size.width), len(lines) + 2
        self.call_after_refresh(box.show_lines, lines)

    def action_answer(self, yes: bool) -> None:
        """Leave with the answer."""
        self.dismiss(yes)
