"""A screen that outlives a window being dragged."""

from __future__ import annotations

from typing import TypeVar

from textual import events
from textual.screen import Screen

T = TypeVar("T")


class SteadyScreen(Screen[T]):
    """A size that is not the terminal's any more is forgotten.

    Textual 8.2 lays a screen out for each size it is told of, and each layout of another size tells it that size once more: two
    sizes that wait at the same time would bring each other back for ever, at all of a core.
    """

    async def _on_resize(self, event: events.Resize) -> None:
        if event.size != self.app.size:
            event.prevent_default()  # Screen's own handler, which comes next
