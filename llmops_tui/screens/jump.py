"""Jump labels: a letter over every panel and every tab; pressing it gives that panel the keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual import events
from textual.app import ComposeResult
from textual.widget import Widget

from llmops_tui.keys import bindings
from llmops_tui.screens.dialog import Dialog
from llmops_tui.screens.widgets.lines import LineWidget

if TYPE_CHECKING:
    from llmops_tui.screens.board import Board

_LETTERS = "asdfgjklewruiocmnvt"


class JumpLabels(Dialog[None]):
    """A letter jumps, anything else leaves. The labels stand where the panels begin."""

    BINDINGS = bindings("jump")
    DEFAULT_CSS = "JumpLabels { background: transparent; } JumpLabels LineWidget { position: absolute; width: 3; height: 1; }"

    def __init__(self, board: Board) -> None:
        super().__init__()
        panels = [widget for widget in board.query(".panel") if isinstance(widget, Widget) and widget.focusable and widget.region.area]
        self._targets = dict(zip(_LETTERS, panels, strict=False))

    def compose(self) -> ComposeResult:
        """A label a panel."""
        for letter in self._targets:
            yield LineWidget(id=f"label-{letter}")

    def on_mount(self) -> None:
        """Each at its panel's corner."""
        for letter, widget in self._targets.items():
            label = self.query_one(f"#label-{letter}", LineWidget)
            label.styles.offset = (widget.region.x + 1, widget.region.y)
            label.call_after_refresh(label.show_lines, [[(f" {letter} ", "badge-warn")]])

    def on_key(self, event: events.Key) -> None:
        """To the panel, or away."""
        event.stop()
        target = self._targets.get(event.character or "")
        self.dismiss()
        if target is not None:
            self.app.call_later(target.focus)

    def action_leave(self) -> None:
        """Stay where one was."""
        self.dismiss()
