"""A run's page: panes, metrics, and a log of any size."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from textual.pilot import Pilot

from llmops_tui.app import LlmopsApp
from llmops_tui.screens.curves import curve_groups
from llmops_tui.screens.run import RunScreen
from llmops_tui.screens.widgets.log_pane import LogPane
from tests.tui.driving import screen_text, until, words
from tests.tui.fake import FakeEngine


@asynccontextmanager
async def opened(engine: FakeEngine, size: tuple[int, int] = (80, 24)) -> AsyncIterator[Pilot[None]]:
    """The page of the running run."""
    app = LlmopsApp(engine, status_seconds=0.05)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.state.selected)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, RunScreen) and "train/loss 1.4887" in words(pilot, "#chart"))
        yield pilot


async def test_a_narrow_page_shows_one_pane_and_tab_goes_through_all(engine: FakeEngine) -> None:
    async with opened(engine) as pilot:
        for name in ("metrics", "log", "facts", "chart"):
            await pilot.press("tab")
            await until(pilot, lambda name=name: pilot.app.focused is not None and pilot.app.focused.id == name)
            shown = [pane.id for pane in pilot.app.screen.query(".pane") if pane.region.height > 0]
            assert shown == [name]


async def test_a_wide_page_shows_every_pane_at_once(engine: FakeEngine) -> None:
    async with opened(engine, (160, 45)) as pilot:
        await until(pilot, lambda: "step  3999" in screen_text(pilot))
        text = screen_text(pilot)
        for part in ("train/grad_norm", "checkpoint", "lora.rank", "eval/loss 1.6927"):
            assert part in text


async def test_the_metrics_table_knows_last_smallest_and_largest(engine: FakeEngine) -> None:
    async with opened(engine) as pilot:
        await pilot.press("2")
        await until(pilot, lambda: "3.70" in words(pilot, "#metrics"))
        line = next(line for line in words(pilot, "#metrics").splitlines() if "train/loss" in line)
        assert line.split()[1] == "1.4887"
        assert float(line.split()[2]) < 1.4887 < float(line.split()[3])


async def test_enter_on_a_metric_draws_it(engine: FakeEngine) -> None:
    async with opened(engine) as pilot:
        await pilot.press("2")
        await until(pilot, lambda: pilot.app.focused is not None and pilot.app.focused.id == "metrics")
        await pilot.press("G", "enter")
        await until(pilot, lambda: "perf/tokens_per_second" in words(pilot, "#chart"))


async def test_the_crosshair_tells_the_values_at_a_step(engine: FakeEngine) -> None:
    async with opened(engine) as pilot:
        await pilot.press("left")
        await until(pilot, lambda: "at step" in words(pilot, "#chart"))
        await pilot.press("o")
        await until(pilot, lambda: "at step" not in words(pilot, "#chart"))


async def test_a_gigabyte_of_log_opens_at_its_end_from_ranges_alone() -> None:
    engine = FakeEngine(log_size=1 << 30)
    async with opened(engine) as pilot:
        await pilot.press("3")
        pane = pilot.app.screen.query_one(LogPane)
        await until(pilot, lambda: f"line {(1 << 30) // 32 - 1:010d}" in pane.plain)
        await pilot.press("pageup", "pageup")
        await until(pilot, lambda: "f follows" in pane.plain and "line" in pane.plain)
        await pilot.press("home")
        await until(pilot, lambda: "line 0000000000" in pane.plain)
        await pilot.press("j")
        await until(pilot, lambda: pane.plain.splitlines()[1].startswith(" line 0000000001"))
        await pilot.press("end")
        await until(pilot, lambda: "following" in pane.plain and f"line {(1 << 30) // 32 - 1:010d}" in pane.plain)
        assert max(limit for _, limit in engine.log_reads) <= 1 << 16
        assert sum(limit for _, limit in engine.log_reads if limit > 1) < 4 << 20


async def test_new_output_appears_while_following_and_not_after_scrolling_up(engine: FakeEngine) -> None:
    async with opened(engine) as pilot:
        await pilot.press("3")
        pane = pilot.app.screen.query_one(LogPane)
        await until(pilot, lambda: "step  3999" in pane.plain)
        assert engine.log_bytes is not None
        engine.log_bytes += b"a new line\n"
        engine.log_size = len(engine.log_bytes)
        await until(pilot, lambda: "a new line" in pane.plain)
        await pilot.press("pageup")
        await until(pilot, lambda: "a new line" not in pane.plain)
        await pilot.press("f")
        await until(pilot, lambda: "a new line" in pane.plain)


async def test_a_page_outlives_its_engine(engine: FakeEngine) -> None:
    async with opened(engine) as pilot:
        engine.lost = True
        await until(pilot, lambda: "RECONNECTING" in words(pilot, "#header"))
        assert "train/loss 1.4887" in words(pilot, "#chart")
        engine.lost = False
        await until(pilot, lambda: "LIVE" in words(pilot, "#header"))


def test_numbered_metrics_are_told_in_counting_order() -> None:
    groups = curve_groups(["layer/10/norm", "layer/9/norm", "train/loss", "layer/norm", "perf/step_seconds"])
    assert groups == [("train/loss",), ("perf/step_seconds",), ("layer/9/norm",), ("layer/10/norm",), ("layer/norm",)]
