"""A comparison: curves over each other, the best marked, only what differs; and what it writes as markdown."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from textual.pilot import Pilot

from llmops_tui.app import LlmopsApp
from llmops_tui.screens.compare import CompareScreen
from llmops_tui.screens.runs import RunsScreen
from llmops_tui.screens.widgets.chart import BrailleChart
from llmops_tui.screens.widgets.edit_line import EditLine
from tests.tui.driving import screen_text, until, words
from tests.tui.fake import FakeEngine


@asynccontextmanager
async def compared(engine: FakeEngine, size: tuple[int, int] = (80, 24)) -> AsyncIterator[Pilot[None]]:
    """The four newest train runs of the archive, compared by keys from Runs."""
    app = LlmopsApp(engine, status_seconds=0.05)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.state.live)
        await pilot.press("2")
        await until(pilot, lambda: isinstance(app.screen, RunsScreen) and app.screen.run_id())
        app.screen.filter_by("kind:train state:succeeded id:1")  # type: ignore[attr-defined]
        await until(pilot, lambda: app.screen.run_id() == "train-support-1066")  # type: ignore[attr-defined]
        await pilot.press("space", "space", "space", "space", "o")
        await until(pilot, lambda: isinstance(app.screen, CompareScreen) and "1066" in words(pilot, "#facts"))
        await until(pilot, lambda: "eval" in words(pilot, "#metrics") and " 1066 " in words(pilot, "#chart"))
        yield pilot


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """Seventy old runs."""
    monkeypatch.setenv("LLMOPS_ASCII", "0")
    return FakeEngine(old_runs=70)


async def test_a_wide_page_shows_curves_metrics_and_differences_at_once(engine: FakeEngine) -> None:
    async with compared(engine, (160, 45)) as pilot:
        text = screen_text(pilot)
        for part in ("train/loss (1 of 2)", "optim.learning_rate", "environment: 1 differ, 1 the same", "*1."):
            assert part in text
        assert "seed" not in words(pilot, "#facts")
        best = next(line for line in words(pilot, "#metrics").splitlines() if "eval/loss" in line)
        assert best.count("*") == 1


async def test_every_key_of_the_comparison_does_what_it_says(engine: FakeEngine) -> None:
    async with compared(engine) as pilot:
        shown = lambda: [pane.id for pane in pilot.app.screen.query(".pane") if pane.region.height > 0]  # noqa: E731
        for key, name in (("tab", "metrics"), ("tab", "facts"), ("shift+tab", "metrics"), ("3", "facts"), ("2", "metrics"), ("1", "chart")):
            await pilot.press(key)
            await until(pilot, lambda name=name: shown() == [name])
        await pilot.press("m")
        await until(pilot, lambda: "eval/loss (2 of 2)" in screen_text(pilot))
        await pilot.press("M")
        await until(pilot, lambda: "train/loss (1 of 2)" in screen_text(pilot))
        await pilot.press("y")
        assert pilot.app.screen.query_one(BrailleChart).view.log_y
        await pilot.press("3", "d")
        await until(pilot, lambda: "seed" in words(pilot, "#facts"))
        await pilot.press("d")
        await until(pilot, lambda: "seed" not in words(pilot, "#facts"))
        await pilot.press("backspace")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunsScreen))


async def test_enter_on_a_metric_draws_it(engine: FakeEngine) -> None:
    async with compared(engine) as pilot:
        await pilot.press("2")
        await until(pilot, lambda: pilot.app.focused is not None and pilot.app.focused.id == "metrics")
        await pilot.press("g", "enter")
        await until(pilot, lambda: "eval/loss (2 of 2)" in screen_text(pilot))


async def test_the_cursor_passes_the_headings_between_the_rows(engine: FakeEngine) -> None:
    async with compared(engine) as pilot:
        await pilot.press("3")
        await until(pilot, lambda: pilot.app.focused is not None and pilot.app.focused.id == "facts")
        await pilot.press("g")
        keys = []
        for _ in range(12):
            keys.append(pilot.app.focused.key)  # type: ignore[union-attr]
            await pilot.press("j")
        assert None not in keys
        assert "data train.rows" in keys
        for _ in range(12):
            await pilot.press("k")
        assert pilot.app.focused.key == keys[0]  # type: ignore[union-attr]
        assert "config:" in words(pilot, "#facts"), "the heading above the first row is seen again"


async def test_the_markdown_and_the_rows_of_the_page(engine: FakeEngine) -> None:
    async with compared(engine) as pilot:
        page = pilot.app.screen
        assert isinstance(page, CompareScreen)
        text = page.export_markdown()
        assert text is not None
        assert "| `optim.learning_rate` |" in text
        assert "| `seed` |" not in text
        await pilot.press("d")
        assert "| `seed` |" in (page.export_markdown() or "")
        columns, rows = page.export_rows() or ([], [])
        assert len(columns) == 5
        assert all(len(row) == 5 for row in rows)


async def test_tags_are_given_to_all_that_are_compared(engine: FakeEngine) -> None:
    async with compared(engine) as pilot:
        await pilot.press("T", "plus", "x", "enter")
        await until(pilot, lambda: len(engine.archive.changes) == 4)
        assert all("x" in change["tags"] for change in engine.archive.changes.values())
        assert not pilot.app.screen.query_one("#ask", EditLine).display


async def test_it_stands_as_it_was_left(engine: FakeEngine) -> None:
    async with compared(engine) as pilot:
        await pilot.press("m", "d", "y", "3")
        page = pilot.app.screen
        assert isinstance(page, CompareScreen)
        kept = page.remember()
        await pilot.press("escape")
        pilot.app.view.pages["compare"] = kept  # type: ignore[attr-defined]
        await until(pilot, lambda: isinstance(pilot.app.screen, RunsScreen))
        await pilot.press("o")
        await until(pilot, lambda: isinstance(pilot.app.screen, CompareScreen) and "seed" in words(pilot, "#facts"))
        await until(pilot, lambda: pilot.app.focused is not None and pilot.app.focused.id == "facts")
        assert pilot.app.screen.query_one(BrailleChart).view.log_y


async def test_a_lost_engine_and_a_tiny_terminal_leave_what_was_known(engine: FakeEngine) -> None:
    async with compared(engine) as pilot:
        engine.lost = True
        await until(pilot, lambda: "RECONNECTING" in words(pilot, "#header"))
        await pilot.resize_terminal(20, 5)
        await pilot.press("m", "tab", "d", "tab")
        await pilot.resize_terminal(80, 24)
        assert "1066" in words(pilot, "#title")
        engine.lost = False
        await until(pilot, lambda: "LIVE" in words(pilot, "#header"))


async def test_runs_over_seeds_are_put_together_by_a_setting(engine: FakeEngine) -> None:
    async with compared(engine) as pilot:
        page = pilot.app.screen
        assert isinstance(page, CompareScreen)
        assert page._comparison is not None
        page._comparison["config"] = [{"key": "optim.learning_rate", "values": [1e-4, 1e-4, 2e-4, 2e-4], "differs": True}]
        await pilot.press("B")
        await until(pilot, lambda: "by optim.learning_rate" in str(page.query_one("#metrics").border_title))
        table = words(pilot, "#metrics")
        assert "0.0001 (n=2)" in table
        assert "±" in table
        assert "Student's t" in words(pilot, "#foot")
        assert "### By `optim.learning_rate`" in (page.export_markdown() or "")
        await pilot.press("B")
        assert "the best marked" in str(page.query_one("#metrics").border_title)
