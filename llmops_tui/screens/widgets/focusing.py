"""Giving a widget the keys at once."""

from __future__ import annotations

from textual.widget import Widget


def take_keys(widget: Widget) -> None:
    """The next key that was typed, even in the same burst, is this widget's. `Widget.focus` would wait behind the keys already typed.

    A widget that is only about to be shown gets them as soon as it is; one that is gone already gets none.
    """
    if not widget.is_attached:
        return
    if widget.focusable:
        widget.screen.set_focus(widget)
    else:
        widget.call_after_refresh(widget.focus)
