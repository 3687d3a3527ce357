"""Time travel: one bar on every page, and the page's panel still at hand."""

from __future__ import annotations

from llmops_tui.app import LlmopsApp
from llmops_tui.screens.command_line import CommandLine
from llmops_tui.screens.run import RunScreen
from llmops_tui.screens.runs import RunsScreen
from llmops_tui.screens.travel_bar import TravelBar
from llmops_tui.screens.widgets.table import RowTable
from tests.tui.driving import until, words
from tests.tui.fake import FakeEngine


async def test_the_keys_step_through_time_on_every_page_and_choose_rows_all_the_same(engine: FakeEngine) -> None:
    app = LlmopsApp(engine, status_seconds=0.05)
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.state.selected)
        await pilot.press("t")
        await until(pilot, lambda: app.state.connection == "PAST" and isinstance(app.focused, TravelBar))
        before = app.state.clock()
        await pilot.press("h")
        await until(pilot, lambda: app.state.clock() < before)
        await pilot.press("2")
        await until(pilot, lambda: isinstance(app.screen, RunsScreen) and isinstance(app.focused, TravelBar))
        table = app.screen.query_one(RowTable)
        await until(pilot, lambda: table.total > 1)
        before, row = app.state.clock(), table.cursor
        await pilot.press("j", "h")
        await until(pilot, lambda: table.cursor == row + 1 and app.state.clock() < before)
        await pilot.press("escape")
        await until(pilot, lambda: app.state.moment is None and not app.screen.query(TravelBar))
        assert app.focused is table


async def test_a_bar_without_the_keys_names_only_the_one_that_brings_back(engine: FakeEngine) -> None:
    app = LlmopsApp(engine, status_seconds=0.05)
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.state.selected)
        await pilot.press("t")
        await until(pilot, lambda: "event before" in words(pilot, "#travel"))
        await pilot.press("tab")
        await until(pilot, lambda: "event before" not in words(pilot, "#travel") and " t now" in words(pilot, "#travel"))


async def test_a_page_that_was_just_opened_takes_the_bar_once_it_has_its_parts(engine: FakeEngine) -> None:
    app = LlmopsApp(engine, status_seconds=0.05)
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.state.selected)
        board = RunScreen("train-fiqa-0003")
        app.push_screen(board)
        assert not board.is_mounted
        TravelBar.toggle(board)
        await until(pilot, lambda: app.state.connection == "PAST" and board.query(TravelBar))
        assert app._exception is None


async def test_a_second_key_right_behind_the_first_brings_back_and_the_keys_count_again(engine: FakeEngine) -> None:
    app = LlmopsApp(engine, status_seconds=0.05)
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.state.selected)
        board = app.board()
        assert board is not None
        TravelBar.toggle(board)
        TravelBar.toggle(board)
        await until(pilot, lambda: not board.query(TravelBar))
        await pilot.press("colon")
        await until(pilot, lambda: isinstance(app.screen, CommandLine))
        assert app.state.moment is None
