"""The form against a real engine: a command run launched through it, then the same again."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from textual import events

from llmops_tui.app import LlmopsApp
from llmops_tui.client import Client
from llmops_tui.screens.new_run import NewRunScreen
from llmops_tui.screens.run import RunScreen
from llmops_tui.screens.widgets.form import FieldLine
from tests.running_engine import running_engine
from tests.tui.driving import until, words


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setenv("LLMOPS_ASCII", "0")
    with running_engine(tmp_path) as running:
        yield running


async def test_a_command_run_is_launched_through_the_form_and_again_with_two_keys(client: Client) -> None:
    app = LlmopsApp(client, status_seconds=0.1)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.state.live)
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, NewRunScreen) and "dataset.path" in words(pilot, "#fields"))
        await pilot.press("g", "j", "enter")
        app.screen.query_one(FieldLine).post_message(events.Paste("command"))
        await pilot.press("enter")
        await until(pilot, lambda: "argv" in words(pilot, "#fields"))
        await pilot.press("j", "enter")
        app.screen.query_one(FieldLine).post_message(events.Paste(f"{sys.executable} -c 'prin(1)' --nosuch"))
        await pilot.press("enter")
        await until(pilot, lambda: f"{sys.executable} in " in " ".join(words(pilot, "#found").split()), 30)
        await pilot.press("g", "j", "j", "enter", "ctrl+u")
        app.screen.query_one(FieldLine).post_message(events.Paste("/no/such/program"))
        await pilot.press("ctrl+r")
        await until(pilot, lambda: "✗ argv" in words(pilot, "#fields") and "no such program" in words(pilot, "#fields"), 30)
        assert client.runs()["total"] == 0
        await pilot.press("enter", "ctrl+u")
        app.screen.query_one(FieldLine).post_message(events.Paste(f"{sys.executable} -c 'print(\"said by the form\")'"))
        await pilot.press("f5")
        await until(pilot, lambda: isinstance(app.screen, RunScreen), 30)
        first = client.runs()["runs"][0]["id"]
        await until(pilot, lambda: client.run(first)["state"] == "succeeded", 30)
        assert b"said by the form" in client.log(first).data
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, NewRunScreen) and "said by the form" in words(pilot, "#equal"), 30)
        await pilot.press("ctrl+r")
        await until(pilot, lambda: client.runs()["total"] == 2, 30)
        second = client.runs()["runs"][0]["id"]
        await until(pilot, lambda: client.run(second)["state"] == "succeeded", 30)
        assert client.run(second)["spec"] == client.run(first)["spec"]
        assert client.run(second)["cwd"] == client.run(first)["cwd"]
