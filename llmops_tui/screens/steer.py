"""What can be asked of a run while it goes on, as a list to choose from."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from textual.app import ComposeResult

from llmops_tui.keys import bindings, keys_of, name_of
from llmops_tui.screens.dialog import Dialog
from llmops_tui.screens.widgets.lines import LineWidget, Run
from llmops_tui.specs.control import LISTENS, SAVES

if TYPE_CHECKING:
    from llmops_tui.specs.answers import RunSummary

_WIDTH = 74
_HELD = "paused by "  # how the engine says that a running run is held


def offered(run: RunSummary) -> frozenset[str]:
    """The ids of the keys that mean something for this run now."""
    if run["state"] == "paused":
        return frozenset({"steer_resume"})
    if run["state"] != "running":
        return frozenset()
    found = {"steer_resume" if run["reason"].startswith(_HELD) else "steer_hold"}
    if run["kind"] in SAVES:
        found.add("steer_free")
    if run["kind"] in LISTENS:
        found |= {"steer_checkpoint", "steer_evaluate", "steer_sample", "steer_rate", "steer_save_every", "steer_evaluate_every"}
    return frozenset(found)


class SteerScreen(Dialog[str]):
    """Answers what is wished, "" for nothing: free, hold, resume, checkpoint, evaluate, sample, or the name of a setting."""

    BINDINGS = bindings("steer")

    def __init__(self, names: str, offered: Collection[str]) -> None:
        """`names` of the runs it is about; `offered` are ids of keys."""
        super().__init__()
        self._names = names
        self._offered = {*offered, "steer_leave"}

    def compose(self) -> ComposeResult:
        """One box."""
        box = LineWidget(id="question", classes="dialog")
        box.border_title = "steer"
        yield box

    def on_mount(self) -> None:
        """The choices come from the key table; those that mean nothing now are left out."""
        lines: list[list[Run]] = [[("", "text")], [(f"  {self._names}", "bright")], [("", "text")]]
        for key in keys_of("steer"):
            if key.id in self._offered:
                lines.append([(f"  {name_of(key.keys[0]):>4}  ", "title"), (key.help, "text")])
        box = self.query_one(LineWidget)
        box.styles.width, box.styles.height = min(_WIDTH, self.app.size.width), len(lines) + 3
        self.call_after_refresh(box.show_lines, lines)

    def action_answer(self, key_id: str, wish: str) -> None:
        """Leave with the wish, if it is offered."""
        if key_id in self._offered:
            self.dismiss(wish)
