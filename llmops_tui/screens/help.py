"""The help: the key table, told by place; the places that one can press keys in right now come first."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult

from llmops_tui.keys import PLACES, bindings, in_force, name_of
from llmops_tui.screens.dialog import Dialog
from llmops_tui.screens.widgets.lines import LineWidget, Run, fit
from llmops_tui.screens.widgets.scrolling import PlainScroll
from llmops_tui.specs.console import CustomCommand

_ID_COLUMN = 58


def help_lines(first: Sequence[str] = (), custom: Sequence[CustomCommand] = ()) -> list[list[Run]]:
    """Every key of the table, once, under its place, with the id that the settings know it by."""
    lines: list[list[Run]] = []
    keys = in_force()
    for place in sorted(PLACES, key=lambda place: first.index(place) if place in first else len(first)):
        own = [key for key in keys if key.where == place]
        lines.append([(f" {PLACES[place]}", "title")])
        for key in own:
            names = " ".join(name_of(name) for name in key.keys)
            words = f"  {names:<18} "
            lines.append([(words, "key"), (fit(key.help, max(len(key.help), _ID_COLUMN - len(words))), "text"), (f" {key.id}", "faint")])
        lines.append([("", "text")])
    if custom:
        lines.append([(" Your own commands", "title")])
        lines += [[(f"  {command.key:<18} ", "key"), (command.title, "text")] for command in custom]
        lines.append([("", "text")])
    return lines


class HelpScreen(Dialog[None]):
    """Over any page."""

    BINDINGS = bindings("help")

    def __init__(self, first: Sequence[str] = (), custom: Sequence[CustomCommand] = ()) -> None:
        super().__init__()
        self._lines = help_lines(first, custom)

    def compose(self) -> ComposeResult:
        """A box that scrolls."""
        with PlainScroll(classes="dialog") as box:
            box.border_title = "keys"
            box.border_subtitle = "Esc closes"
            yield LineWidget(id="keys")

    def on_mount(self) -> None:
        """As tall as the table."""
        widget = self.query_one("#keys", LineWidget)
        widget.styles.height = len(self._lines)
        self.call_after_refresh(widget.show_lines, self._lines)

    def action_scroll(self, rows: int) -> None:
        """Scroll the box."""
        self.query_one(PlainScroll).scroll_relative(y=rows, animate=False)
