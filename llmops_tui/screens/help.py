"""The help: the key table, told by place."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.screen import ModalScreen

from llmops_tui.keys import KEYS, PLACES, bindings, name_of
from llmops_tui.screens.widgets.lines import LineWidget, Run


def help_lines() -> list[list[Run]]:
    """Every key of the table, once, under its place."""
    lines: list[list[Run]] = []
    for place, title in PLACES.items():
        lines.append([(f" {title}", "title")])
        for key in KEYS:
            if key.where == place:
                names = " ".join(name_of(name) for name in key.keys)
                lines.append([(f"  {names:<18} ", "key"), (key.help, "text")])
        lines.append([("", "text")])
    return lines


class HelpScreen(ModalScreen[None]):
    """Over any page."""

    BINDINGS = bindings("help")

    def compose(self) -> ComposeResult:
        """A box that scrolls."""
        with VerticalScroll(classes="dialog") as box:
            box.border_title = "keys"
            box.border_subtitle = "Esc closes"
            yield LineWidget(id="keys")

    def on_mount(self) -> None:
        """As tall as the table."""
        lines = help_lines()
        widget = self.query_one("#keys", LineWidget)
        widget.styles.height = len(lines)
        self.call_after_refresh(widget.show_lines, lines)

    def action_scroll(self, rows: int) -> None:
        """Scroll the box."""
        self.query_one(VerticalScroll).scroll_relative(y=rows, animate=False)
