"""A run's page: panes, metrics, and a log of any size."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from textual.pilot import Pilot

from llmops_tui.app import LlmopsApp
from llmops_tui.screens.confirm import ConfirmScreen
from llmops_tui.screens.curves import curve_groups
from llmops_tui.screens.linked_page import LinkedScreen
from llmops_tui.screens.run import RunScreen
from llmops_tui.screens.stop import StopScreen
from llmops_tui.screens.widgets.chart import BrailleChart
from llmops_tui.screens.widgets.log_pane import LogPane
from llmops_tui.screens.widgets.table import RowTable
from llmops_tui.specs.answers import Series
from tests.tui.driving import screen_text, until, words
from tests.tui.fake import NOW, FakeEngine


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
        for name in (*list(RunScreen.PANES)[1:], "chart"):
            await pilot.press("tab")
            await until(pilot, lambda name=name: pilot.app.focused is not None and pilot.app.focused.id == name)
            shown = [pane.id for pane in pilot.app.screen.query(".pane") if pane.region.height > 0]
            assert shown == [name]


async def test_a_wide_page_shows_every_pane_at_once(engine: FakeEngine) -> None:
    async with opened(engine, (160, 45)) as pilot:
        await until(pilot, lambda: "step  3999" in screen_text(pilot))
        text = screen_text(pilot)
        for part in ("train/grad_norm", "ckpt", "lora.rank", "eval/loss 1.6927"):
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


@pytest.fixture
def told(engine: FakeEngine) -> FakeEngine:
    """A run that wrote samples, carries a note, and was started twice."""
    texts = {"What is LoRA?": ("a thing", "an adapter", "an adapter"), "Who are you?": ("me", "a model", "your model")}
    samples = [(100 * at, prompt, text) for prompt, said in texts.items() for at, text in enumerate(said)]
    engine.said["train-fiqa-0003"] = [
        {"type": "sample", "offset": 10 * number, "t": NOW - 800 + 2 * step, "step": step, "prompt": prompt, "text": text}
        for number, (step, prompt, text) in enumerate(sorted(samples), 1)
    ]
    engine.running[0].update({"note": "twice the rate", "tags": ["sweep"], "baseline": True, "attempt": 2})
    return engine


async def test_samples_are_told_prompt_by_prompt_with_the_newest_answer_first(told: FakeEngine) -> None:
    async with opened(told) as pilot:
        await pilot.press("4")
        await until(pilot, lambda: "What is LoRA?" in words(pilot, "#samples"))
        text = words(pilot, "#samples")
        assert text.index("step 200") < text.index("an adapter") < text.index("step 0")
        assert "as before" in text
        await pilot.press("l")
        await until(pilot, lambda: "your model" in words(pilot, "#samples"))
        await pilot.press("h")
        await until(pilot, lambda: "What is LoRA?" in words(pilot, "#samples"))
        await pilot.resize_terminal(80, 10)
        await pilot.press("G", "j", "k", "pagedown", "pageup", "g")
        await until(pilot, lambda: "step 200" in words(pilot, "#samples"))


async def test_checkpoints_come_newest_first_with_the_loss_there(told: FakeEngine) -> None:
    async with opened(told) as pilot:
        await pilot.press("5")
        await until(pilot, lambda: "checkpoints/400" in words(pilot, "#checkpoints"))
        first, second = words(pilot, "#checkpoints").splitlines()[1:3]
        assert first.replace("▸", " ").split()[:2] == ["400", "1.6927"]
        assert second.split()[0] == "200"


async def test_the_page_says_note_tags_baseline_and_attempt(told: FakeEngine) -> None:
    async with opened(told, (160, 45)) as pilot:
        for part in ("attempt 2", "baseline", "sweep", "“twice the rate”"):
            assert part in words(pilot, "#title")
        await pilot.press("6")
        await until(pilot, lambda: "twice the rate" in words(pilot, "#facts"))


async def test_a_wide_page_shows_one_of_the_four_that_share_a_place(told: FakeEngine) -> None:
    async with opened(told, (160, 45)) as pilot:
        for key, name in (("4", "samples"), ("5", "checkpoints"), ("7", "capsule"), ("6", "facts")):
            await pilot.press(key)
            await until(pilot, lambda name=name: pilot.app.focused is not None and pilot.app.focused.id == name)
            shown = {pane.id for pane in pilot.app.screen.query(".pane") if pane.region.height > 0}
            assert shown == {"chart", "log", "metrics", name}
        await until(pilot, lambda: "4 samples" in words(pilot, "#tabs"))


async def test_a_capsule_is_told_part_by_part(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    capsule = {
        "git": {"commit": "abc123", "branch": "main", "diff": None}, "python": {"version": "3.11.7", "packages": {"torch": "2.9.1"}},
        "driver": {"nvidia": "580.1"}, "gpus": [{"index": 0, "name": "H100"}], "seeds": {"seed": 17}, "host": {"name": "box"}, "env": {},
    }  # fmt: skip
    whole = engine.run
    monkeypatch.setattr(engine, "run", lambda run_id, /: {**whole(run_id), "capsule": capsule})
    async with opened(engine) as pilot:
        await pilot.press("7")
        await until(pilot, lambda: "abc123" in words(pilot, "#capsule"))
        lines = words(pilot, "#capsule").splitlines()
        assert [line.strip() for line in lines if line.strip() in ("git", "packages", "env")] == ["git", "packages"]
        await pilot.press("G")
        assert pilot.app.screen.query_one("#capsule", RowTable).key == "packages torch"


async def test_notes_and_retries_from_the_page(told: FakeEngine) -> None:
    async with opened(told) as pilot:
        await pilot.press("N", "ctrl+u", "x", "enter", "b")
        await until(pilot, lambda: told.archive.changes.get("train-fiqa-0003") == {"note": "x", "baseline": False})
        await pilot.press("R")
        await until(pilot, lambda: "has not ended" in words(pilot, "#foot"))
        await pilot.press("c")
        await until(pilot, lambda: told.checkpoints == ["train-fiqa-0003"])
        await pilot.press("x")
        await until(pilot, lambda: isinstance(pilot.app.screen, StopScreen))


async def test_in_the_past_the_page_knows_only_what_was_so_by_then(told: FakeEngine) -> None:
    async with opened(told) as pilot:
        pilot.app.travel(NOW - 450)  # type: ignore[attr-defined]
        await pilot.press("5")
        await until(pilot, lambda: "checkpoints/200" in words(pilot, "#checkpoints") and "400" not in words(pilot, "#checkpoints"))
        await pilot.press("4")
        await until(pilot, lambda: "step 100" in words(pilot, "#samples") and "step 200" not in words(pilot, "#samples"))
        pilot.app.travel(None)  # type: ignore[attr-defined]
        await until(pilot, lambda: "step 200" in words(pilot, "#samples"))


async def test_the_page_stands_as_it_was_left_and_another_run_gets_only_the_pane(engine: FakeEngine) -> None:
    async with opened(engine) as pilot:
        await pilot.press("m", "y", "2")
        page = pilot.app.screen
        assert isinstance(page, RunScreen)
        kept = page.remember()
        await pilot.press("escape", "enter")
        await until(pilot, lambda: pilot.app.screen is not page and isinstance(pilot.app.screen, RunScreen))
        again = pilot.app.screen
        assert isinstance(again, RunScreen)
        again.recall(kept)
        await until(pilot, lambda: pilot.app.focused is not None and pilot.app.focused.id == "metrics")
        assert again.remember()["metrics"] == kept["metrics"] == ["train/grad_norm"]
        assert again.remember()["chart"]["log_y"] is True
        again.recall({**kept, "run": "another", "metrics": ["x"], "pane": "log"})
        assert again.remember()["metrics"] == ["train/grad_norm"]
        again.recall({"run": again.run_id(), "pane": 3, "metrics": 5, "chart": "no", "log": []})


async def test_a_window_of_the_curve_is_asked_for_in_finer_buckets(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int | None, int | None]] = []
    whole = engine.series

    def series(run_id: str, metrics: Sequence[str], /, points: int, step_first: int | None = None, step_last: int | None = None,
               until: float | None = None) -> list[Series]:  # fmt: skip
        asked.append((step_first, step_last))
        return whole(run_id, metrics, points=points)

    monkeypatch.setattr(engine, "series", series)
    async with opened(engine) as pilot:
        page = pilot.app.screen
        page.post_message(BrailleChart.WindowWanted(page.query_one(BrailleChart), -5, 90))
        await until(pilot, lambda: (0, 90) in asked)


async def test_p_shows_gpus_and_host_on_the_run_s_time_and_p_brings_back(engine: FakeEngine) -> None:
    async with opened(engine) as pilot:
        page = pilot.app.screen
        await pilot.press("p")
        await until(
            pilot, lambda: isinstance(pilot.app.screen, LinkedScreen) and "host" in screen_text(pilot) and "load" in screen_text(pilot)
        )
        await pilot.press("left", "plus", "H", "0")
        await pilot.resize_terminal(20, 5)
        await pilot.resize_terminal(160, 45)
        await until(pilot, lambda: "train/loss" in screen_text(pilot))
        await pilot.press("p")
        await until(pilot, lambda: pilot.app.screen is page)
        await pilot.press("2", "p")
        await until(pilot, lambda: isinstance(pilot.app.screen, LinkedScreen))
        await pilot.press("escape")
        await until(pilot, lambda: pilot.app.screen is page)


async def test_a_run_removed_on_its_own_page_takes_the_page_with_it(engine: FakeEngine) -> None:
    app = LlmopsApp(engine, status_seconds=0.05)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.state.live)
        app.open_run("train-fiqa-0002")
        await until(pilot, lambda: isinstance(app.screen, RunScreen) and "5 check" in screen_text(pilot))
        await pilot.press("D")
        await until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        await pilot.press("y")
        await until(pilot, lambda: not isinstance(app.screen, RunScreen | ConfirmScreen))
        assert engine.archive.removed == {"train-fiqa-0002"}


async def test_a_run_that_is_not_there_has_no_page(engine: FakeEngine) -> None:
    app = LlmopsApp(engine, status_seconds=0.05)
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.state.selected)
        app.open_run("train-nobody-0099")
        await until(pilot, lambda: "train-nobody-0099" in app.state.notice and not isinstance(app.screen, RunScreen))
