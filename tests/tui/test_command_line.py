"""The `:` line: its suggestions and what is written go together, however fast the keys come."""

from __future__ import annotations

from textual.events import Key
from textual.widgets import Input

from llmops_tui.app import LlmopsApp
from llmops_tui.screens.command_line import CommandLine
from tests.tui.driving import until, words
from tests.tui.fake import FakeEngine


async def test_a_suggestion_chosen_just_before_the_list_became_shorter_is_no_fault(engine: FakeEngine) -> None:
    app = LlmopsApp(engine, status_seconds=0.05)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.state.live)
        await pilot.press("colon", "r", "down", "down")
        await until(pilot, lambda: isinstance(app.screen, CommandLine) and "▸" in words(pilot, "#offers"))
        app.screen.query_one(Input).value = "quit"
        assert isinstance(app.screen, CommandLine)
        app.screen._offer()
        await until(pilot, lambda: "▸" not in words(pilot, "#offers"))
        for key in ("down", "x", "up", "up", "backspace", "down"):
            app.post_message(Key(key, key if len(key) == 1 else None))
        await pilot.pause()
        assert app._exception is None
        assert app.screen.query_one(Input).value.startswith("quit")
