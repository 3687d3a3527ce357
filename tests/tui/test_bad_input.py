"""Whatever comes in is said in place; nothing is lost, nothing is raised.

Here: garbage that is pasted anywhere, a settings file with an unknown key, an engine of another version. Elsewhere: a terminal resized
while it is drawn, and every other accident at once (test_leaving); a filter that cannot be read (test_runs); a wrong form field
(test_new_run); an engine that dies (test_pulse, test_runs, test_run_page), hangs (test_leaving) or cannot start (test_pulse); a host out
of reach (test_many_boxes, test_over_ssh); logs full of escapes, bytes that are no text and endless lines (test_log_pane); a damaged
memory of the viewer (test_runs, unit/test_console_parts); SQL that does not parse (below).
"""

from __future__ import annotations

from pathlib import Path

import pytest
from textual import events
from textual.geometry import Size
from textual.screen import Screen
from textual.widgets import Input

from llmops_tui.app import LlmopsApp
from llmops_tui.errors import NotFoundError
from llmops_tui.screens.command_line import CommandLine
from llmops_tui.screens.sql import SqlScreen
from llmops_tui.screens.widgets.edit_line import EditLine
from llmops_tui.specs.console import load_console
from tests.tui.driving import screen_text, until, words
from tests.tui.fake import FakeEngine
from tests.tui.random_acts import GARBAGE


@pytest.mark.parametrize("keys", [(), ("2", "slash"), ("2", "N"), ("colon",), ("ctrl+p",), ("enter", "3", "slash"), ("question_mark",)])
async def test_garbage_that_is_pasted_stays_on_one_line_and_does_nothing(engine: FakeEngine, keys: tuple[str, ...]) -> None:
    app = LlmopsApp(engine, status_seconds=0.05)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.state.live and app.state.selected)
        await pilot.press(*keys)
        screen, focused = app.screen, app.focused
        for text in GARBAGE:
            app.post_message(events.Paste(text))
        await pilot.pause()
        assert app.screen is screen
        assert app.focused is focused
        if isinstance(focused, EditLine | Input):
            written = focused.text if isinstance(focused, EditLine) else focused.value
            assert written
            assert all(character.isprintable() for character in written)
        assert (engine.stops, engine.submitted, engine.archive.removed) == ([], [], set())
        await pilot.press("escape", "escape", "escape")
        await until(pilot, lambda: "train-fiqa-0003" in screen_text(pilot))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[console]\nthme = "dark"\n', "console.thme: unknown key; there are theme"),
        ('[console]\ntheme = "drak"\n', "console.theme: must be one of auto, dark"),
        ("[console]\ntheme = \n", "not valid TOML"),
        ('[console.keys]\nstopp = "x"\n', "keys.stopp: there is no such key"),
    ],
)
async def test_a_wrong_settings_file_is_told_at_the_foot_and_the_defaults_hold(
    engine: FakeEngine, tmp_path: Path, text: str, told: str
) -> None:
    (tmp_path / "config.toml").write_text(text)
    settings, problem = load_console(tmp_path / "config.toml")
    app = LlmopsApp(engine, status_seconds=0.05, settings=settings, problem=problem)
    async with app.run_test(size=(200, 24)) as pilot:
        await until(pilot, lambda: told in words(pilot, "#foot"))
        await until(pilot, lambda: "train-fiqa-0003" in screen_text(pilot))


async def test_an_engine_of_another_version_shows_what_it_knows_and_says_what_it_does_not(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*args: object, **options: object) -> object:
        raise NotFoundError("the engine knows no such question", "restart it: `llmops-tui engine stop`")

    for name in ("host_history", "events", "compare", "spec_form", "span", "sql"):
        monkeypatch.setattr(engine, name, unknown)
    app = LlmopsApp(engine, status_seconds=0.05)
    async with app.run_test(size=(160, 24)) as pilot:
        await until(pilot, lambda: "knows no such question" in words(pilot, "#foot") and "train-fiqa-0003" in screen_text(pilot))
        await pilot.press("n")
        await until(pilot, lambda: "knows no such question" in screen_text(pilot) and "new run" in screen_text(pilot))
        await pilot.press("escape", "5")
        await until(pilot, lambda: "nothing happened yet" in screen_text(pilot))
        await pilot.press("t")
        await until(pilot, lambda: app.state.moment is not None)
        await pilot.press("t", "1")
        await until(pilot, lambda: app.state.moment is None and "train-fiqa-0003" in screen_text(pilot))


async def test_a_query_that_does_not_parse_is_told_where_its_rows_would_be_and_can_be_mended(engine: FakeEngine) -> None:
    app = LlmopsApp(engine, status_seconds=0.05)
    async with app.run_test(size=(120, 24)) as pilot:
        await until(pilot, lambda: app.state.live)
        app.show_sql("slect 1")
        await until(pilot, lambda: isinstance(app.screen, SqlScreen) and "Parser Error" in screen_text(pilot))
        await pilot.press("i")
        await until(pilot, lambda: isinstance(app.screen, CommandLine) and app.screen.query_one(Input).value == "sql slect 1")


@pytest.mark.parametrize("keys", [("2",), ("2", "x")], ids=["page", "question"])
async def test_two_sizes_that_wait_at_once_do_not_bring_each_other_back_for_ever(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, keys: tuple[str, ...]
) -> None:
    app = LlmopsApp(engine, status_seconds=60)
    async with app.run_test(size=(140, 40)) as pilot:
        await until(pilot, lambda: app.state.live)
        await pilot.press(*keys)
        await pilot.pause(0.2)
        layouts = 0
        lay_out = Screen._screen_resized

        def counted(screen: Screen[object], size: Size) -> None:
            nonlocal layouts
            layouts += 1
            lay_out(screen, size)

        monkeypatch.setattr(Screen, "_screen_resized", counted)
        for size in (Size(60, 10), app.size, Size(2, 1), app.size):
            app.screen.post_message(events.Resize(size, size, size))
            app.screen.call_later(lambda: None)  # between two messages that stand next to each other the newer is taken
        for _ in range(50):
            await pilot.pause()
        assert 0 < layouts < 10
