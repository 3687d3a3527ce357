"""What tables and logs have in common: they draw what is visible, scroll by the wheel, and draw again when size or focus change."""

from __future__ import annotations

from textual import events
from textual.containers import VerticalScroll

from llmops_tui.screens.widgets.lines import LineWidget

WHEEL_ROWS = 3


class ScrollingLines(LineWidget, can_focus=True):
    """A subclass says how to draw (`draw`) and what the wheel does (`wheel`)."""

    def draw(self) -> None:
        """Show what is visible now, in the present size and with the present focus."""
        raise NotImplementedError

    def wheel(self, rows: int) -> None:
        """The wheel asked for so many rows down, negative: up."""
        raise NotImplementedError

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """The wheel, towards the user."""
        event.stop()
        self.wheel(WHEEL_ROWS)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """The wheel, away from the user."""
        event.stop()
        self.wheel(-WHEEL_ROWS)

    def on_resize(self) -> None:
        """More or fewer lines and columns fit."""
        super().on_resize()
        self.draw()

    def on_focus(self) -> None:
        """Cursor and heading are brighter with the focus."""
        self.draw()

    def on_blur(self) -> None:
        """And dimmer without."""
        self.draw()


class PlainScroll(VerticalScroll, can_focus=False, inherit_bindings=False):
    """A box that scrolls by the wheel and by its page's keys: Textual's own would take arrows and PgUp from the key table."""
