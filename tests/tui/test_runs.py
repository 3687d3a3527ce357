"""Runs: ten thousand of them filtered as one types, marked, sorted, annotated, compared; the cursor stays on its run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from textual.pilot import Pilot

from llmops_tui.app import LlmopsApp
from llmops_tui.screens.compare import CompareScreen
from llmops_tui.screens.confirm import ConfirmScreen
from llmops_tui.screens.run import RunScreen
from llmops_tui.screens.runs import RunsScreen
from llmops_tui.screens.stop import StopScreen
from llmops_tui.screens.widgets.edit_line import EditLine
from llmops_tui.screens.widgets.table import RowTable
from tests.tui.driving import screen_text, until, words
from tests.tui.fake import FakeEngine, summary

_NAMES = {
    " ": "space",
    ":": "colon",
    ">": "greater_than_sign",
    "=": "equals_sign",
    "-": "minus",
    ".": "full_stop",
    "/": "slash",
    "_": "underscore",
}


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """Seven runs of today and ten thousand older ones."""
    monkeypatch.setenv("LLMOPS_ASCII", "0")
    return FakeEngine(old_runs=10_000)


@asynccontextmanager
async def runs(engine: FakeEngine, size: tuple[int, int] = (80, 24)) -> AsyncIterator[Pilot[None]]:
    """The Runs page with its rows."""
    app = LlmopsApp(engine, status_seconds=0.05)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.state.live)
        await pilot.press("2")
        await until(pilot, lambda: isinstance(app.screen, RunsScreen) and table(pilot).key == "train-fiqa-0003")
        yield pilot


def table(pilot: Pilot[None]) -> RowTable:
    return pilot.app.screen.query_one("#every", RowTable)


async def type_text(pilot: Pilot[None], text: str) -> None:
    await pilot.press(*(_NAMES.get(character, character) for character in text))


async def filtered(pilot: Pilot[None], text: str, total: int) -> None:
    """The filter typed, and its runs there."""
    await pilot.press("slash")
    await type_text(pilot, text)
    await until(pilot, lambda: table(pilot).total == total)


def expected(engine: FakeEngine, wanted: str, sort: str = "submitted", descending: bool = True) -> list[str]:
    """What the engine says matches, in its order."""
    present = [*engine.running, *engine.waiting, *engine.recent]
    page = engine.archive.page(present, wanted, sort, descending, 20_000, 0, (), "")
    return [run["id"] for run in page["runs"]]


async def test_the_cursor_means_the_same_run_as_the_engine_at_both_ends_and_between(engine: FakeEngine) -> None:
    async with runs(engine) as pilot:
        order = expected(engine, "")
        assert table(pilot).total == 10_007 == len(order)
        await pilot.press("G")
        await until(pilot, lambda: table(pilot).key == order[-1])
        assert f"▸ {order[-1]}" in screen_text(pilot).replace("  ", " ")
        await pilot.press("pageup", "pageup", "k")
        await until(pilot, lambda: table(pilot).key == order[table(pilot).cursor])
        assert table(pilot).cursor == 10_006 - 2 * (table(pilot).size.height - 2) - 1
        await pilot.press("g", "pagedown", "j")
        await until(pilot, lambda: table(pilot).key == order[table(pilot).cursor])
        for line in words(pilot, "#every").splitlines()[1:]:
            assert line[2:].split()[0] in order or "…" in line


async def test_the_cursor_stays_on_its_run_when_others_come_before_it(engine: FakeEngine) -> None:
    async with runs(engine) as pilot:
        await pilot.press("G", "pageup")
        order = expected(engine, "")
        await until(pilot, lambda: table(pilot).key == order[table(pilot).cursor])
        key, place = table(pilot).key, table(pilot).cursor
        engine.running = [*engine.running, *(summary(f"train-new-{number}", "running") for number in range(7000, 7300))]
        await until(pilot, lambda: table(pilot).total == 10_307)
        assert (table(pilot).key, table(pilot).cursor) == (key, place + 300)


async def test_the_filter_works_as_it_is_typed_and_escape_leaves_it_then_takes_it_away(engine: FakeEngine) -> None:
    async with runs(engine) as pilot:
        wanted = expected(engine, "state:failed cfg.learning_rate>=1e-4")
        await filtered(pilot, "state:failed cfg.learning_rate>=1e-4", len(wanted))
        await until(pilot, lambda: table(pilot).key == wanted[0])
        assert f"{len(wanted)} match" in screen_text(pilot)
        await pilot.press("escape")
        assert isinstance(pilot.app.focused, RowTable)
        assert table(pilot).total == len(wanted)
        await pilot.press("G")
        await until(pilot, lambda: table(pilot).key == wanted[-1])
        await pilot.press("escape")
        await until(pilot, lambda: table(pilot).total == 10_007)
        assert table(pilot).key == wanted[-1], "the run that was looked at is looked at still"


async def test_a_fast_typed_word_is_one_question(engine: FakeEngine) -> None:
    async with runs(engine) as pilot:
        await pilot.press("slash")
        begin = len(engine.archive.asked)
        await type_text(pilot, "legal-de")

        def mine() -> list[str]:
            return [asked["filter"] for asked in engine.archive.asked[begin:] if asked["filter"] and asked["limit"] < 20_000]

        await until(pilot, lambda: mine()[-1:] == ["legal-de"])
        await until(pilot, lambda: table(pilot).total == len(expected(engine, "legal-de")))
        assert len(mine()) <= 8


async def test_a_filter_that_does_not_parse_is_told_under_its_character_and_the_last_good_one_holds(engine: FakeEngine) -> None:
    async with runs(engine) as pilot:
        total = len(expected(engine, "kind:train"))
        await filtered(pilot, "kind:train", total)
        await type_text(pilot, " stae:x")
        line = pilot.app.screen.query_one("#filter", EditLine)
        await until(pilot, lambda: "there is no key 'stae'" in line.plain)
        typed, below = line.plain.splitlines()
        assert below.index("^") == typed.index("stae")
        await pilot.press("enter")
        assert line.text == "kind:train stae:x"
        assert "there is no key" in line.plain, "it stays to be mended"
        await pilot.press("slash", "ctrl+w")
        await until(pilot, lambda: "there is no key" not in line.plain and table(pilot).total == total)
        await pilot.press("left_parenthesis")
        await until(pilot, lambda: "^" in line.plain)
        assert table(pilot).total == total


async def test_a_filter_taken_away_takes_what_was_wrong_with_it_along(engine: FakeEngine) -> None:
    async with runs(engine) as pilot:
        await pilot.press("slash")
        await type_text(pilot, "stae:x")
        line = pilot.app.screen.query_one("#filter", EditLine)
        await until(pilot, lambda: "there is no key 'stae'" in line.plain)
        await pilot.press("escape", "escape")
        await until(pilot, lambda: "there is no key" not in line.plain)
        assert line.text == ""


async def test_tab_completes_and_up_brings_an_earlier_filter(engine: FakeEngine) -> None:
    async with runs(engine) as pilot:
        await pilot.press("slash")
        await type_text(pilot, "sta")
        await pilot.press("tab")
        line = pilot.app.screen.query_one("#filter", EditLine)
        assert line.text == "state:"
        await type_text(pilot, "fai")
        await pilot.press("tab")
        assert line.text == "state:failed "
        await pilot.press("enter", "slash", "ctrl+u")
        assert line.text == ""
        await pilot.press("up")
        assert line.text == "state:failed "
        await pilot.press("down")
        assert line.text == ""
        await pilot.press("tab", "tab", "shift+tab")
        assert line.text == "state:"


async def test_every_editing_key_of_the_line_edits(engine: FakeEngine) -> None:
    async with runs(engine) as pilot:
        await pilot.press("slash")
        line = pilot.app.screen.query_one("#filter", EditLine)
        await type_text(pilot, "one two")
        await pilot.press("left", "left", "right", "backspace")
        assert line.text == "one to"
        await pilot.press("home", "delete", "end", "ctrl+left", "ctrl+left", "ctrl+right", "ctrl+e", "ctrl+a")
        assert (line.text, line.editor.at) == ("ne to", 0)
        await pilot.press("q", "question_mark")
        assert line.text == "q?ne to", "keys that mean something elsewhere are text here"
        assert pilot.app.is_running


async def test_marks_are_kept_over_filters_and_pages_and_u_takes_them_away(engine: FakeEngine) -> None:
    async with runs(engine) as pilot:
        await pilot.press("space", "space")
        await filtered(pilot, "owner:grace", len(expected(engine, "owner:grace")))
        await pilot.press("escape", "G")
        await until(pilot, lambda: table(pilot).key is not None)
        await pilot.press("space")
        await until(pilot, lambda: "3 marked" in screen_text(pilot))
        await pilot.press("escape")
        await until(pilot, lambda: table(pilot).total == 10_007)
        assert list(table(pilot).marks)[:2] == ["train-fiqa-0003", "command-prepare-0007"]
        await pilot.press("g", "space")
        assert "train-fiqa-0003" not in table(pilot).marks
        await pilot.press("u")
        assert not table(pilot).marks


async def test_sorting_by_key_and_by_a_click_on_a_heading(engine: FakeEngine) -> None:
    async with runs(engine) as pilot:
        heading = words(pilot, "#every").splitlines()[0]
        assert "submitted ▼" in heading
        await pilot.press("s")
        await until(pilot, lambda: "time ▼" in words(pilot, "#every").splitlines()[0])
        await pilot.press("s")
        await until(pilot, lambda: table(pilot).key == expected(engine, "", "metric.train/loss", False)[0])
        await pilot.press("S")
        await until(pilot, lambda: table(pilot).key == expected(engine, "", "metric.train/loss", True)[0])
        assert "loss ▼" in words(pilot, "#every").splitlines()[0]
        await pilot.click("#every", offset=(4, 1))
        await until(pilot, lambda: table(pilot).sort == "id" and table(pilot).key == expected(engine, "", "id", True)[0])


async def test_a_click_selects_and_the_wheel_moves(engine: FakeEngine) -> None:
    async with runs(engine) as pilot:
        await pilot.click("#every", offset=(4, 5))
        assert table(pilot).cursor == 3
        table(pilot).wheel(3)
        assert table(pilot).cursor == 6
        await pilot.click("#every", offset=(4, 8))
        await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen))


async def test_a_setting_becomes_a_column_that_can_be_sorted_by_and_taken_away(engine: FakeEngine) -> None:
    async with runs(engine, (120, 24)) as pilot:
        await pilot.press("a")
        await type_text(pilot, "cfg.learning_rate")
        await pilot.press("enter")
        await until(pilot, lambda: "learning_rate" in words(pilot, "#every").splitlines()[0] and "0.0005" in words(pilot, "#every"))
        for _ in range(8):
            if table(pilot).sort != "cfg.learning_rate":
                await pilot.press("s")
        await until(pilot, lambda: table(pilot).key == expected(engine, "", "cfg.learning_rate", False)[0])
        await pilot.press("a")
        await type_text(pilot, "eval/loss")
        await pilot.press("enter")
        await until(pilot, lambda: "eval/loss" in words(pilot, "#every").splitlines()[0])
        await pilot.press("A", "enter")
        await until(pilot, lambda: "eval/loss" not in words(pilot, "#every").splitlines()[0])
        await pilot.press("A")
        await until(pilot, lambda: "learning_rate" not in words(pilot, "#every").splitlines()[0])
        assert table(pilot).sort == "submitted"


async def test_tags_of_one_run_are_replaced_and_of_several_added(engine: FakeEngine) -> None:
    async with runs(engine) as pilot:
        await pilot.press("T")
        await type_text(pilot, "best keep")
        await pilot.press("enter")
        await until(pilot, lambda: engine.archive.changes.get("train-fiqa-0003") == {"tags": ["best", "keep"]})
        await until(pilot, lambda: "best keep" in words(pilot, "#every"))
        await pilot.press("space", "space", "T")
        await type_text(pilot, "+x -keep")
        await pilot.press("enter")
        await until(pilot, lambda: engine.archive.changes.get("command-prepare-0007") == {"tags": ["x"]})
        assert engine.archive.changes["train-fiqa-0003"] == {"tags": ["best", "x"]}


async def test_a_note_and_a_baseline_are_seen_in_the_row(engine: FakeEngine) -> None:
    async with runs(engine) as pilot:
        await pilot.press("N")
        await type_text(pilot, "rate too high")
        await pilot.press("enter", "b")
        await until(pilot, lambda: engine.archive.changes.get("train-fiqa-0003") == {"note": "rate too high", "baseline": True})
        await until(pilot, lambda: "baseline" in words(pilot, "#every"))
        await pilot.press("N", "escape", "b")
        await until(pilot, lambda: engine.archive.changes["train-fiqa-0003"]["baseline"] is False)
        assert engine.archive.changes["train-fiqa-0003"]["note"] == "rate too high", "Escape changed nothing"


async def test_marked_runs_are_stopped_saved_and_retried_together(engine: FakeEngine) -> None:
    async with runs(engine) as pilot:
        await pilot.press("space", "space", "c")
        await until(pilot, lambda: engine.checkpoints == ["train-fiqa-0003", "command-prepare-0007"])
        await pilot.press("x")
        await until(pilot, lambda: isinstance(pilot.app.screen, StopScreen))
        await pilot.press("n")
        await until(pilot, lambda: engine.stops == [("train-fiqa-0003", "now"), ("command-prepare-0007", "now")])
        await pilot.press("R")
        await until(pilot, lambda: "has not ended" in words(pilot, "#foot"))
        await pilot.press("u")
        await filtered(pilot, "state:out_of_memory fiqa-0001", 1)
        await pilot.press("escape", "R")
        await until(pilot, lambda: engine.retried == ["train-fiqa-0001"])


async def test_removing_names_what_is_deleted_and_no_keeps_it(engine: FakeEngine) -> None:
    async with runs(engine) as pilot:
        await filtered(pilot, "fiqa-0002", 1)
        await pilot.press("escape", "D")
        await until(pilot, lambda: isinstance(pilot.app.screen, ConfirmScreen) and "runs/train-fiqa-0002" in words(pilot, "#question"))
        assert "2 checkpoints, 36.0 MiB" in words(pilot, "#question")
        await pilot.press("n")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunsScreen))
        assert not engine.archive.removed
        await pilot.press("D")
        await until(pilot, lambda: isinstance(pilot.app.screen, ConfirmScreen))
        await pilot.press("y")
        await until(pilot, lambda: engine.archive.removed == {"train-fiqa-0002"})
        await until(pilot, lambda: "no run matches" in words(pilot, "#every"))


async def test_c_opens_the_form_of_a_run_like_this_one(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    async with runs(engine) as pilot:
        asked: list[str | None] = []
        monkeypatch.setattr(pilot.app, "new_run", lambda kind=None, base=None: asked.append(base))
        await pilot.press("C")
        assert asked == ["train-fiqa-0003"]


async def test_nothing_is_changed_in_the_past(engine: FakeEngine) -> None:
    async with runs(engine) as pilot:
        pilot.app.state.moment = 1.0  # type: ignore[attr-defined]
        await pilot.press("b", "x", "c", "R", "D", "T", "N", "C")
        await until(pilot, lambda: "this is the past" in words(pilot, "#foot"))
        assert not engine.archive.changes
        assert not engine.checkpoints
        assert isinstance(pilot.app.screen, RunsScreen)


async def test_marked_runs_open_a_comparison_and_one_run_is_compared_with_the_baseline(engine: FakeEngine) -> None:
    async with runs(engine) as pilot:
        await pilot.press("o")
        await until(pilot, lambda: "mark at least two" in words(pilot, "#foot"))
        await pilot.press("b", "j", "j", "o")
        await until(pilot, lambda: isinstance(pilot.app.screen, CompareScreen) and "baseline" in words(pilot, "#title"))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunsScreen))


async def test_the_wide_page_previews_the_run_under_the_cursor(engine: FakeEngine) -> None:
    async with runs(engine, (160, 45)) as pilot:
        await until(pilot, lambda: "train/loss 1.4887" in words(pilot, "#preview-chart"))
        assert "smollm2" in words(pilot, "#preview-facts")
        await pilot.press("j", "j", "j", "j")
        await until(
            pilot,
            lambda: (
                "1.6021" in words(pilot, "#every") and "train-fiqa-0002" in str(pilot.app.screen.query_one("#preview-facts").border_title)
            ),
        )


async def test_the_page_stands_as_it_was_left(engine: FakeEngine) -> None:
    async with runs(engine) as pilot:
        await filtered(pilot, "state:failed", len(expected(engine, "state:failed")))
        await pilot.press("enter", "space", "j", "s")
        await until(pilot, lambda: table(pilot).sort == "duration" and table(pilot).key is not None)
        page = pilot.app.screen
        assert isinstance(page, RunsScreen)
        kept, key = page.remember(), table(pilot).key
    app = LlmopsApp(engine, status_seconds=0.05)
    app.view.pages["runs"] = kept
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.state.live)
        await pilot.press("2")
        await until(pilot, lambda: isinstance(app.screen, RunsScreen) and table(pilot).key == key)
        assert table(pilot).sort == "duration"
        assert len(table(pilot).marks) == 1
        assert pilot.app.screen.query_one("#filter", EditLine).text == "state:failed"


async def test_a_page_remembered_by_a_damaged_file_opens_all_the_same(engine: FakeEngine) -> None:
    app = LlmopsApp(engine, status_seconds=0.05)
    app.view.pages["runs"] = {"filter": "((", "marks": [1], "columns": ["x", 3], "sort": [], "history": None, "selected": 5}
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.state.live)
        await pilot.press("2")
        await until(pilot, lambda: isinstance(app.screen, RunsScreen) and table(pilot).total == 10_007)


async def test_a_terminal_of_twenty_by_five_and_back_keeps_the_cursor(engine: FakeEngine) -> None:
    async with runs(engine) as pilot:
        await pilot.press("pagedown", "j")
        key = table(pilot).key
        await pilot.resize_terminal(20, 5)
        await until(pilot, lambda: "▸" in screen_text(pilot))
        await pilot.press("slash", "x", "escape", "escape")
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: table(pilot).total == 10_007 and table(pilot).key is not None)
        assert key is not None


async def test_a_lost_engine_keeps_the_rows_and_a_new_answer_brings_others(engine: FakeEngine) -> None:
    async with runs(engine) as pilot:
        engine.lost = True
        await until(pilot, lambda: "RECONNECTING" in words(pilot, "#header"))
        await pilot.press("j", "slash", "z", "escape", "T", "x", "enter", "b", "D")
        assert "train-fiqa-0003" in words(pilot, "#every")
        engine.lost = False
        await until(pilot, lambda: "LIVE" in words(pilot, "#header"))
        await pilot.press("escape")
        await until(pilot, lambda: table(pilot).total == 10_007)


async def test_the_page_reads_in_ascii_with_its_titles(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMOPS_ASCII", "1")
    async with runs(engine, (160, 45)) as pilot:
        await pilot.press("space", "space")
        await until(pilot, lambda: "2 marked" in screen_text(pilot))
        assert [character for character in screen_text(pilot) if not character.isascii()] == []
        pilot.app.open_run("train-fiqa-0003")  # type: ignore[attr-defined]
        await until(pilot, lambda: "7 capsule" in screen_text(pilot) and "train/loss" in screen_text(pilot))
        assert [character for character in screen_text(pilot) if not character.isascii()] == []
