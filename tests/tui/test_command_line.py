"""The `:` line: its suggestions and what is written go together, however fast the keys come."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.events import Key
from textual.widgets import Input

from llmops_tui.app import LlmopsApp
from llmops_tui.screens.action_palette import ActionPalette
from llmops_tui.screens.command_line import CommandLine
from llmops_tui.screens.command_table import COMMANDS
from llmops_tui.screens.possible import deeds
from llmops_tui.screens.pulse import PulseScreen
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


@pytest.mark.parametrize("name", [command.name for command in COMMANDS])
async def test_every_command_of_the_palette_is_done_or_begun_on_the_command_line(
    engine: FakeEngine, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # `export` writes where the console was started
    app = LlmopsApp(engine, status_seconds=0.05)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.state.live)
        await pilot.press("ctrl+p")
        await until(pilot, lambda: isinstance(app.screen, ActionPalette))
        deed = next(deed for deed in deeds(app) if deed.key == f":{name}")
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, PulseScreen))
        app.call_later(deed.do)
        await pilot.pause()
        needs = next(command.arguments for command in COMMANDS if command.name == name)
        if needs and not needs.startswith("["):
            await until(pilot, lambda: isinstance(app.screen, CommandLine) and app.screen.query_one(Input).value == f"{name} ")
        assert app._exception is None
