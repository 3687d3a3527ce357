"""A page of several panes: all at once where there is room, one at a time under a line of tabs where there is not."""

from __future__ import annotations

from typing import ClassVar

from textual.widget import Widget

from llmops_tui.screens.board import WIDE_COLUMNS
from llmops_tui.screens.run_actions import RunBoard
from llmops_tui.screens.widgets.focusing import take_keys
from llmops_tui.screens.widgets.lines import LineWidget, Run, spaced


class PanedBoard(RunBoard):
    """`PANES` in the order of Tab, with their titles and the side of the page (`left`, `right`) each stands on.

    `STACKED` panes share one place on a wide page: the one that was looked at last is shown there.
    """

    PANES: ClassVar[dict[str, tuple[str, str]]] = {}
    STACKED: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        super().__init__()
        self.pane = next(iter(self.PANES))
        self.stacked = self.STACKED[0] if self.STACKED else ""

    def prepare_panes(self) -> None:
        """The panes get their titles; the first has the keys."""
        for name, (title, _) in self.PANES.items():
            pane = self.query_one(f"#{name}")
            pane.add_class("panel", "pane")
            pane.set_class(name in self.STACKED, "stacked")
            pane.border_title = title
        self.action_show_pane(self.pane)

    def action_pane(self, by: int) -> None:
        """The next pane."""
        names = list(self.PANES)
        self.action_show_pane(names[(names.index(self.pane) + by) % len(names)])

    def action_show_pane(self, name: str) -> None:
        """Give a pane the keys, and where it shares its place the room."""
        self.pane = name
        self.stacked = name if name in self.STACKED else self.stacked
        self._place_panes()
        take_keys(self.query_one(f"#{name}", Widget))
        self.call_after_refresh(self.redraw)

    def on_descendant_focus(self) -> None:
        """A click gave another pane the keys."""
        super().on_descendant_focus()
        name = self.focused.id if self.focused is not None else None
        if name in self.PANES and name != self.pane and self.size.width >= WIDE_COLUMNS:
            self.pane = name
            self._place_panes()

    def draw_tabs(self) -> None:
        """The panes' names and numbers: over the one pane there is room for, on a wide page where some share a place."""
        tabs = self.query_one("#tabs", LineWidget)
        words: list[Run] = []
        short = sum(len(title) + 5 for title, _ in self.PANES.values()) > tabs.size.width
        for number, (name, (title, _)) in enumerate(self.PANES.items(), 1):
            here = name == self.pane
            words += [(f" {number} {title} " if here or not short else f" {number} {title[:5]} ", "badge-good" if here else "muted")]
        tabs.show_lines([spaced(words, [], tabs.size.width)])

    def _place_panes(self) -> None:
        for name in self.PANES:
            self.query_one(f"#{name}").set_class(name == self.pane, "-shown")
            self.query_one(f"#{name}").set_class(name in self.STACKED and name == self.stacked, "-top")
        for side in {side for _, side in self.PANES.values()}:
            self.query_one(f"#{side}").set_class(self.PANES[self.pane][1] == side, "-shown")
