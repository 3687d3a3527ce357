"""The question before a run is stopped."""

from __future__ import annotations

from textual.app import ComposeResult

from llmops_tui.keys import bindings, keys_of, name_of
from llmops_tui.screens.dialog import Dialog
from llmops_tui.screens.widgets.lines import LineWidget, Run
from llmops_tui.specs.states import WAITING

_WIDTH = 58


class StopScreen(Dialog[str]):
    """Answers "now", "checkpoint" or "" (keep it running)."""

    BINDINGS = bindings("stop")

    def __init__(self, run_id: str, state: str) -> None:
        super().__init__()
        self._run_id = run_id
        self._waiting = state in WAITING

    def compose(self) -> ComposeResult:
        """One box."""
        box = LineWidget(id="question", classes="dialog")
        box.border_title = "stop?"
        yield box

    def on_mount(self) -> None:
        """The choices come from the key table."""
        lines: list[list[Run]] = [[("", "text")], [(f"  {self._run_id}", "bright")], [("", "text")]]
        for key in keys_of("stop"):
            if self._waiting and key.id == "stop_checkpoint":
                continue
            words = "take it out of the queue" if self._waiting and key.id == "stop_now" else key.help
            words = "leave it in the queue" if self._waiting and key.id == "stop_keep" else words
            lines.append([(f"  {name_of(key.keys[0]):>4}  ", "title"), (words, "text")])
        box = self.query_one(LineWidget)
        box.styles.width, box.styles.height = _WIDTH, len(lines) + 3
        self.call_after_refresh(box.show_lines, lines)

    def action_answer(self, mode: str) -> None:
        """Leave with the answer."""
        if not (self._waiting and mode == "checkpoint"):
            self.dismiss(mode)
