"""The pane of a run's watchers: alarms and rules, the moment on the chart, and acknowledging."""

from __future__ import annotations

from llmops_tui.screens.run import RunScreen
from llmops_tui.screens.watch_rows import alarm_marks, alarm_of, told_of, watch_rows
from llmops_tui.screens.widgets.chart import BrailleChart
from tests.tui.driving import until, words
from tests.tui.fake import FakeEngine
from tests.tui.test_run_page import opened


async def test_enter_on_an_alarm_goes_to_its_moment_on_the_chart_and_a_acknowledges() -> None:
    engine = FakeEngine(alarmed=True)
    async with opened(engine) as pilot:
        await pilot.press("8")
        await until(pilot, lambda: "jumped to 5.9" in words(pilot, "#watchers"))
        assert "2 open" in str(pilot.app.screen.query_one("#watchers").border_title)
        await until(pilot, lambda: "What is a call option?" in words(pilot, "#watchers"))
        await pilot.press("j", "j", "enter")  # a row of the batch leads where its alarm does
        chart = pilot.app.screen.query_one(BrailleChart)
        await until(pilot, lambda: pilot.app.focused is chart and chart.view.crosshair == 340.0)
        await until(pilot, lambda: "alarm" in words(pilot, "#chart"))
        await pilot.press("8", "a")
        await until(pilot, lambda: "acknowledged: 2 alarms" in words(pilot, "#foot"))
        assert [identity.split(".")[-1] for identity in engine.acked] == ["300", "340"]
        await until(pilot, lambda: "2 open" not in str(pilot.app.screen.query_one("#watchers").border_title))


async def test_a_run_without_alarms_shows_its_rules_and_says_so_when_asked() -> None:
    async with opened(FakeEngine()) as pilot:
        await pilot.press("8")
        await until(pilot, lambda: "exploding gradient" in words(pilot, "#watchers"))
        await pilot.press("a")
        await until(pilot, lambda: "no alarm is open" in words(pilot, "#foot"))
        assert isinstance(pilot.app.screen, RunScreen)


def test_alarms_come_first_and_the_newest_of_them_and_in_the_past_only_those_that_were() -> None:
    engine = FakeEngine(alarmed=True)
    state = engine.watchers("train-fiqa-0003")
    keys = [row.key for row in watch_rows(state) if not row.title]
    assert [key.split(".")[-1] for key in keys[:3]] == ["340", "300", "90"]
    assert keys[3:] == [f"rule {rule['rule']}" for rule in state["rules"]]
    assert [row.key for row in watch_rows(state, engine.now - 500)][1].endswith(".90")
    assert [(mark.kind, mark.step) for mark in alarm_marks(state, engine.now - 300)] == [("alarm", 90.0), ("note", 300.0)]
    assert watch_rows(engine.watchers("command-prepare-0007")) == watch_rows(None) == []


def test_a_row_tells_how_often_its_rule_is_wrong_and_leads_to_its_newest_alarm() -> None:
    state = FakeEngine(alarmed=True).watchers("train-fiqa-0003")
    assert "1 healthy run of 2,000 steps in 1,000" in told_of(state, "rule divergence")
    assert told_of(state, state["alarms"][0]["id"]).endswith("seen by ada")
    newest = alarm_of(state, "rule spike")
    assert newest is not None
    assert newest["step"] == 340
    assert alarm_of(state, "rule divergence") is None


def test_words_that_are_longer_than_the_pane_go_on_below_and_belong_to_their_alarm() -> None:
    state = FakeEngine(alarmed=True).watchers("train-fiqa-0003")
    rows = [row for row in watch_rows(state, width=60) if row.key.startswith(state["alarms"][-1]["id"])]
    assert len(rows) > 1
    assert " ".join(row.cells[3][0] for row in rows) == state["alarms"][-1]["words"]
    assert all(len(row.cells[3][0]) <= 60 - 31 for row in rows)
    assert {alarm["id"] for row in rows if (alarm := alarm_of(state, row.key))} == {state["alarms"][-1]["id"]}
    # A pane that has no size yet, or hardly any, breaks nothing.
    assert len(watch_rows(state, width=3)) >= len(rows)
