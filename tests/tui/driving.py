"""What the tests of the viewer do again and again: look at the screen and wait for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from textual.pilot import Pilot

from llmops_tui.screens.widgets.lines import LineWidget


def screen_text(pilot: Pilot[None]) -> str:
    """What stands on the terminal, line by line."""
    width, height = pilot.app.size
    strips = pilot.app.screen._compositor.render_strips()
    return "\n".join(strip.text[:width] for strip in strips[:height])


def words(pilot: Pilot[None], selector: str) -> str:
    """What one widget says."""
    return pilot.app.screen.query_one(selector, LineWidget).plain


async def until(pilot: Pilot[None], condition: Callable[[], object], seconds: float = 15.0) -> None:
    """Let the app run until the condition holds; AssertionError with the screen after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("waited in vain before:\n" + screen_text(pilot))
        await pilot.pause()
        await asyncio.sleep(0.01)
