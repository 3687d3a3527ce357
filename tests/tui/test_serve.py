"""Serve: what one sees of endpoints, what the keys make of them, and what is refused."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from textual.pilot import Pilot

from llmops_tui.app import LlmopsApp
from llmops_tui.screens.beginnings import begun_with
from llmops_tui.screens.confirm import ConfirmScreen
from llmops_tui.screens.model_choice import ModelChoice
from llmops_tui.screens.new_run import NewRunScreen
from llmops_tui.screens.request import RequestScreen
from llmops_tui.screens.requests import RequestsScreen
from llmops_tui.screens.run import RunScreen
from llmops_tui.screens.serve import ServeScreen
from llmops_tui.screens.view_file import ViewFile
from llmops_tui.screens.widgets.edit_line import EditLine
from llmops_tui.screens.widgets.table import RowTable
from tests.tui.driving import screen_text, until, words
from tests.tui.fake import FakeEngine, summary
from tests.tui.fake_serving import served
from tests.tui.still import MOMENT, still_app, still_engine

WIDE = (160, 45)


@asynccontextmanager
async def at_serve(
    size: tuple[int, int] = WIDE, view: ViewFile | None = None, engine: FakeEngine | None = None
) -> AsyncIterator[tuple[Pilot[None], FakeEngine, ServeScreen]]:
    """The page with everything it asks for; nothing is asked again unless a key does."""
    engine = engine or still_engine()
    app = still_app(engine)
    if view is not None:
        app.view = view
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.state.live and (app.state.selected or app.current_mode == "serve"))
        await pilot.press("6")
        await until(pilot, lambda: isinstance(app.screen, ServeScreen) and app.screen.known)
        page = app.screen
        assert isinstance(page, ServeScreen)
        if page.endpoints:
            await until(pilot, lambda: page.history is not None and len(page.compared) >= 2 and page.details)
        yield pilot, engine, page


def wishes(engine: FakeEngine, verb: str) -> list[Any]:
    return [what for told, _, what in engine.serving.wishes if told == verb]


async def test_one_key_tells_whether_serving_is_healthy_and_as_fast_as_yesterday() -> None:
    async with at_serve() as (pilot, _, _):
        told = words(pilot, "#verdict")
        assert "✗ code is degraded: v1 has 1 of 2 servers: no answer within 5 s" in told
        assert "✓ support v3 is as fast as yesterday at this hour" in told
        assert "7,585 requests" in told


async def test_what_became_slower_is_told_with_its_counts_and_chance() -> None:
    engine = still_engine()
    engine.serving.slow = 1.4
    async with at_serve(engine=engine) as (pilot, _, _):
        told = words(pilot, "#verdict")
        assert "▲ support v3 is slower than yesterday at this hour: +35%" in told
        assert "less than 1 look of 100" in told
        assert "+35%" in words(pilot, "#endpoints")


async def test_an_endpoint_is_asleep_pinned_or_in_a_swap_visibly() -> None:
    async with at_serve() as (pilot, engine, page):
        table = words(pilot, "#endpoints")
        assert "◌ asleep" in table
        assert "pinned" in table
        engine.serving.swap("support", "support@v5")
        page.want(now=True)
        await until(pilot, lambda: "swap to v5 100 %: 0 of 1 servers ready" in words(pilot, "#endpoints"))
        assert "0 % → all" in words(pilot, "#parts")


async def test_a_canary_of_five_points_is_shown_before_it_holds_and_applied_by_enter() -> None:
    async with at_serve() as (pilot, engine, page):
        engine.serving.kept[0]["versions"][0].update(weight=100.0, share=1.0)
        engine.serving.kept[0]["versions"][1].update(weight=0.0, share=0.0)
        page.want(now=True)
        await until(pilot, lambda: "100 %" in words(pilot, "#parts"))
        await pilot.press("tab", "j", "j", "j", "plus")
        await until(pilot, lambda: "5 % was 0" in words(pilot, "#parts"))
        assert "new split v3 95 %, v4 5 %" in screen_text(pilot)
        assert not engine.serving.wishes
        await pilot.press("enter")
        await until(pilot, lambda: wishes(engine, "route") == [{"v3": 95.0, "v4": 5.0}])
        await until(pilot, lambda: "from the next request on" in words(pilot, "#foot"))


async def test_escape_drops_the_split_and_so_does_another_endpoint() -> None:
    async with at_serve() as (pilot, engine, page):
        await pilot.press("minus")
        await until(pilot, lambda: page.draft == {"v3": 90.0, "v4": 10.0, "v2": 0.0})
        await pilot.press("escape")
        assert page.draft is None
        await pilot.press("minus", "j")
        await until(pilot, lambda: page.chosen is not None and page.chosen["name"] == "code")
        assert page.draft is None
        assert not engine.serving.wishes


async def test_all_requests_to_the_new_version_in_two_keys() -> None:
    async with at_serve() as (pilot, engine, _):
        await pilot.press("tab", "j", "j", "j", "f", "enter")
        await until(pilot, lambda: wishes(engine, "route") == [{"v4": 100.0}])


async def test_rolling_back_names_what_it_goes_back_to_and_takes_two_keys() -> None:
    async with at_serve() as (pilot, engine, _):
        await pilot.press("U")
        await until(pilot, lambda: isinstance(pilot.app.screen, ConfirmScreen) and "support@v3" in words(pilot, "#question"))
        assert "its servers are warm" in words(pilot, "#question")
        await pilot.press("y")
        await until(pilot, lambda: wishes(engine, "rollback") == [None])


async def test_a_rollback_to_a_version_whose_servers_went_says_that_it_takes_time() -> None:
    engine = still_engine()
    engine.serving.kept[0]["previous"] = {"v2": 100.0}
    engine.serving.kept[0]["versions"][2].update(state="cold", warm_until=None)
    async with at_serve(engine=engine) as (pilot, _, _):
        await pilot.press("U")
        await until(pilot, lambda: "once v2 answers: its servers have gone" in screen_text(pilot))


async def test_without_a_version_before_there_is_nothing_to_roll_back() -> None:
    async with at_serve() as (pilot, engine, _):
        await pilot.press("j", "U")
        await until(pilot, lambda: "code has no version before to go back to" in words(pilot, "#foot"))
        assert not engine.serving.wishes


async def test_a_model_is_served_in_four_keys_from_anywhere() -> None:
    engine = still_engine()
    engine.serving.kept = []
    app = still_app(engine)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.state.live and app.state.selected)
        await pilot.press("6", "a")
        await until(pilot, lambda: isinstance(app.screen, ModelChoice) and app.screen.query_one("#matching", RowTable).total)
        await pilot.press("down", "enter")
        await until(pilot, lambda: isinstance(app.screen, ConfirmScreen) and "4 requests at the same time" in words(pilot, "#question"))
        assert not engine.serving.wishes
        await pilot.press("y")
        await until(pilot, lambda: wishes(engine, "start") == [{"name": "qwen3-4b", "versions": [{"model": "qwen3-4b@v2"}]}])
        await until(pilot, lambda: isinstance(app.screen, ServeScreen) and "◔ starting" in words(pilot, "#endpoints"))


async def test_a_name_in_use_gets_a_number_and_a_path_may_be_typed() -> None:
    async with at_serve() as (pilot, engine, _):
        await pilot.press("a")
        await until(pilot, lambda: isinstance(pilot.app.screen, ModelChoice) and pilot.app.screen.query_one("#matching", RowTable).total)
        await pilot.press(*"/models/support.gguf", "enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, ConfirmScreen))
        await pilot.press("y")
        await until(pilot, lambda: wishes(engine, "start") == [{"name": "support-2", "versions": [{"model": "/models/support.gguf"}]}])


async def test_a_model_that_does_not_fit_is_refused_before_anything_starts() -> None:
    async with at_serve() as (pilot, engine, _):
        engine.serving.refuses = "qwen3-4b@v2 needs 9.2 GiB and 4.0 GiB are free"
        await pilot.press("a")
        await until(pilot, lambda: isinstance(pilot.app.screen, ModelChoice) and pilot.app.screen.query_one("#matching", RowTable).total)
        await pilot.press("enter")
        await until(pilot, lambda: "needs 9.2 GiB" in words(pilot, "#foot"))
        assert not engine.serving.wishes


async def test_what_a_finished_run_made_takes_over_or_stands_beside() -> None:
    engine = still_engine()
    app = still_app(engine)
    async with app.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: app.state.live and app.state.selected)
        app.open_run("train-fiqa-0002")
        await until(pilot, lambda: isinstance(app.screen, RunScreen) and app.screen.summary_of("train-fiqa-0002") is not None)
        await pilot.press("V")
        await until(pilot, lambda: "an endpoint of its own" in screen_text(pilot))
        await pilot.press("j", "enter")
        await until(pilot, lambda: wishes(engine, "swap") == ["train-fiqa-0002"])
        await until(pilot, lambda: isinstance(app.screen, ServeScreen) and app.screen.known)
        await until(pilot, lambda: app.screen.chosen is not None and app.screen.chosen["name"] == "support")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("key", "text", "told"),
    [
        ("W", "v9=1", "there is no version 'v9'"), ("W", "v3=x", "a weight is a number"), ("W", "", "add up to 0"),
        ("N", "many", "'many' is no number of servers"), ("N", "1000", "0 to 64"), ("N", "-1", "is no number of servers"),
    ],
)  # fmt: skip
async def test_what_makes_no_sense_is_refused_in_words(key: str, text: str, told: str) -> None:
    async with at_serve() as (pilot, engine, page):
        await pilot.press(key)
        line = page.query_one("#ask", EditLine)
        await until(pilot, lambda: pilot.app.focused is line)
        line.put(text)
        await pilot.press("enter")
        await until(pilot, lambda: told in words(pilot, "#foot"))
        assert not engine.serving.wishes


async def test_what_the_engine_refuses_is_said_and_the_new_split_stays_to_be_mended() -> None:
    async with at_serve() as (pilot, engine, page):
        engine.serving.refuses = "support: the swap to v5 is still under way"
        await pilot.press("minus", "enter")
        await until(pilot, lambda: "still under way" in words(pilot, "#foot"))
        assert page.draft is not None


async def test_the_past_is_looked_at_and_not_changed() -> None:
    async with at_serve() as (pilot, engine, page):
        pilot.app.enter_past(MOMENT - 1800)  # type: ignore[attr-defined]
        await until(pilot, lambda: pilot.app.state.connection == "PAST")  # type: ignore[attr-defined]
        await until(pilot, lambda: page.history is not None and page.history["until"] == MOMENT - 1800)
        for key in ("U", "P", "Z", "V", "a"):
            pilot.app.state.notice = ""  # type: ignore[attr-defined]
            await pilot.press(key)
            await until(pilot, lambda: "this is the past" in words(pilot, "#foot"))
        assert not engine.serving.wishes


async def test_the_log_of_the_server_that_is_worst_off_is_one_key_away() -> None:
    async with at_serve() as (pilot, _, _):
        await pilot.press("j", "L")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen) and pilot.app.screen.pane == "log")
        assert pilot.app.screen.run_id() == "serve-code-0065"  # type: ignore[attr-defined]


async def test_nothing_is_asked_while_another_page_is_on_top() -> None:
    engine = still_engine()
    app = LlmopsApp(engine, status_seconds=0.02)
    async with app.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: app.state.selected)
        await pilot.press("6")
        await until(pilot, lambda: isinstance(app.screen, ServeScreen) and app.screen.history is not None and len(app.screen.compared) >= 2)
        page = app.screen
        assert isinstance(page, ServeScreen)
        await pilot.press("1")
        await until(pilot, lambda: not page._asking)
        asked, seen = len(engine.serving.asked), engine.calls
        page._asked_at -= 3600  # as if the last answer were long ago
        await until(pilot, lambda: engine.calls > seen + 20)
        assert len(engine.serving.asked) == asked


async def test_what_is_meant_the_chart_and_a_baseline_stand_again_the_next_time() -> None:
    view = ViewFile(None)
    async with at_serve(view=view) as (pilot, _, page):
        await pilot.press("j", "m", "i", "B")
        await until(pilot, lambda: "code" in page.baselines and page.span == 1)
        pilot.app._note_view()  # type: ignore[attr-defined]
    async with at_serve(view=view) as (pilot, _, page):
        await until(pilot, lambda: page.chosen is not None and page.chosen["name"] == "code")
        assert page.span == 1
        assert page.baselines["code"] == (MOMENT - 3600, MOMENT)
        await until(pilot, lambda: "as fast as its baseline" in words(pilot, "#verdict"))


async def test_an_engine_that_cannot_tell_of_latency_still_tells_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    from llmops_tui.errors import NotFoundError

    engine = still_engine()

    def missing(*args: object, **options: object) -> None:
        raise NotFoundError("there is no such page", "")

    monkeypatch.setattr(engine.serving, "live", missing)
    monkeypatch.setattr(engine.serving, "latency", missing)
    app = still_app(engine)
    async with app.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: app.state.live and app.state.selected)
        await pilot.press("6")
        await until(pilot, lambda: "there is no such page" in words(pilot, "#foot"))
        assert "serve-support-0061" in words(pilot, "#parts")


async def test_a_lost_engine_leaves_what_is_shown_and_comes_back() -> None:
    async with at_serve() as (pilot, engine, page):
        engine.lost = True
        page.want(now=True)
        await until(pilot, lambda: not page._asking)
        assert "serve-support-0061" in words(pilot, "#parts")
        engine.lost = False
        engine.serving.kept = served(MOMENT)[:1]
        page.want(now=True)
        await until(pilot, lambda: "code" not in words(pilot, "#endpoints"))


async def test_requests_come_by_pages_and_are_filtered_as_one_types() -> None:
    async with at_serve((80, 24)) as (pilot, _, _):
        await pilot.press("b")
        await until(pilot, lambda: isinstance(pilot.app.screen, RequestsScreen) and "208 match" in screen_text(pilot))
        table = pilot.app.screen.query_one("#requests", RowTable)
        assert table.total == 100
        await pilot.press("G")
        await until(pilot, lambda: table.total == 200)
        await pilot.press("G")
        await until(pilot, lambda: table.total == 208)
        await pilot.press("slash", *"status:5xx", "enter")
        await until(pilot, lambda: "502" in words(pilot, "#requests") and " 200 " not in words(pilot, "#requests"))
        await pilot.press("escape")
        await until(pilot, lambda: "requests 260" in str(table.border_title))


async def test_a_filter_that_means_nothing_is_told_under_its_word_and_the_last_one_holds() -> None:
    async with at_serve((80, 24)) as (pilot, _, _):
        pilot.app.show_requests("status:error")  # type: ignore[attr-defined]
        await until(pilot, lambda: isinstance(pilot.app.screen, RequestsScreen) and "match" in screen_text(pilot))
        rows = words(pilot, "#requests")
        await pilot.press("slash", *"slower:soon")
        await until(pilot, lambda: "'soon' is no time" in words(pilot, "#filter"))
        assert words(pilot, "#requests").split("\n")[1:] == rows.split("\n")[1:]


async def test_a_request_is_shown_with_its_text_or_why_there_is_none_and_can_be_rated() -> None:
    async with at_serve((80, 24)) as (pilot, engine, _):
        await pilot.press("b")
        await until(pilot, lambda: isinstance(pilot.app.screen, RequestsScreen) and "match" in screen_text(pilot))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, RequestScreen) and "reset my password" in words(pilot, "#pane"))
        await pilot.press("minus")
        await until(pilot, lambda: wishes(engine, "feedback") == [("down", "", "")])
        await pilot.press("l")
        await until(pilot, lambda: "its text was not kept" in words(pilot, "#pane"))


async def test_every_request_that_the_filter_finds_is_exported() -> None:
    async with at_serve((80, 24)) as (pilot, _, _):
        pilot.app.show_requests("endpoint:support")  # type: ignore[attr-defined]
        await until(pilot, lambda: isinstance(pilot.app.screen, RequestsScreen) and "208 match" in screen_text(pilot))
        columns, rows = await pilot.app.screen.whole_table()  # type: ignore[attr-defined]
        assert len(rows) == 208
        assert len({row[columns.index("id")] for row in rows}) == 208


async def at_the_form(pilot: Pilot[None]) -> str:
    """The fields of the form that opened."""
    await until(pilot, lambda: isinstance(pilot.app.screen, NewRunScreen) and "concurrency" in words(pilot, "#fields"))
    return words(pilot, "#fields")


def told_of(fields: str, name: str) -> str:
    """What stands in a field: the first word after its name."""
    return next(line for line in fields.splitlines() if f" {name} " in line).partition(f" {name} ")[2].split()[0]


async def test_a_load_test_of_an_endpoint_is_two_keys_and_stands_on_its_run() -> None:
    async with at_serve() as (pilot, engine, _):
        await pilot.press("T")
        fields = await at_the_form(pilot)
        assert (told_of(fields, "kind"), told_of(fields, "endpoint")) == ("loadtest", "support")
        assert "llmops-tui run loadtest --set endpoint=support" in words(pilot, "#equal")
        await pilot.press("ctrl+r")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen))
        assert [spec for spec, _ in engine.submitted] == [{"kind": "loadtest", "endpoint": "support"}]


async def test_a_load_test_from_a_version_is_aimed_at_it() -> None:
    async with at_serve() as (pilot, _, page):
        await pilot.press("tab", "j", "j", "j")
        await until(pilot, lambda: page.version_name == "v4")
        await pilot.press("T")
        assert told_of(await at_the_form(pilot), "endpoint") == "support:v4"


async def test_a_load_test_begins_with_the_last_one_of_the_same_endpoint() -> None:
    async with at_serve() as (pilot, engine, _):
        for number, (endpoint, requests) in enumerate((("support", 250), ("code", 7))):
            spec = {"kind": "loadtest", "endpoint": endpoint, "concurrency": [2, 16], "requests": requests, "name": endpoint}
            engine.specs[f"loadtest-{endpoint}-{number}"] = spec
            engine.recent.append(summary(f"loadtest-{endpoint}-{number}", "succeeded"))
        await pilot.press("T")
        fields = await at_the_form(pilot)
        assert (told_of(fields, "endpoint"), told_of(fields, "requests")) == ("support", "250")
        assert "concurrency           2 16" in fields
        assert "from loadtest-support-0" in screen_text(pilot)


async def test_what_was_changed_in_a_load_test_is_kept_for_its_endpoint_alone() -> None:
    async with at_serve() as (pilot, _, page):
        await pilot.press("T")
        await at_the_form(pilot)
        screen = pilot.app.screen
        assert isinstance(screen, NewRunScreen)
        screen._put("requests", "77")
        await pilot.press("escape")
        await until(pilot, lambda: pilot.app.screen is page)
        await pilot.press("j", "T")
        await until(pilot, lambda: isinstance(pilot.app.screen, NewRunScreen) and "code" in words(pilot, "#fields"))
        assert told_of(await at_the_form(pilot), "requests") == "100"
        await pilot.press("escape", "k", "T")
        await until(pilot, lambda: isinstance(pilot.app.screen, NewRunScreen) and "support" in words(pilot, "#fields"))


async def test_a_load_test_is_not_begun_in_the_past_nor_of_nothing() -> None:
    async with at_serve() as (pilot, engine, page):
        engine.serving.kept.clear()
        page.want(now=True)
        await until(pilot, lambda: not page.endpoints)
        await pilot.press("T")
        await until(pilot, lambda: "nothing is served" in words(pilot, "#foot"))
        assert pilot.app.screen is page


async def test_the_form_of_a_load_test_stands_again_after_a_lost_terminal_aimed_as_before() -> None:
    async with at_serve() as (pilot, _, _):
        await pilot.press("T")
        await at_the_form(pilot)
        screen = pilot.app.screen
        assert isinstance(screen, NewRunScreen)
        screen._put("requests", "77")
        kept = json.loads(json.dumps(screen.remember()))
    view = ViewFile(None)
    view.pages["new"] = kept
    app = LlmopsApp(still_engine(), status_seconds=3600.0, view=view)
    async with app.run_test(size=WIDE) as pilot:
        fields = await at_the_form(pilot)
        assert (told_of(fields, "endpoint"), told_of(fields, "requests")) == ("support", "77")
        assert isinstance(app.screen, NewRunScreen)
        assert app.screen.remember()["begun_with"] == {"kind": "loadtest", "given": {"endpoint": "support"}}


def test_what_a_form_was_opened_with_is_read_from_a_file_that_anybody_may_have_written() -> None:
    kept = {"begun_with": {"kind": "loadtest", "given": {"endpoint": "support"}}}
    assert begun_with(kept) == ("loadtest", {"endpoint": "support"})
    for broken in ({}, {"begun_with": None}, {"begun_with": {"kind": "nonsense", "given": {}}}, {"begun_with": {"kind": "loadtest"}}):
        assert begun_with(broken) == (None, {})
    assert begun_with({"begun_with": {"kind": "loadtest", "given": {"endpoint": 3}}}) == ("loadtest", {})


async def test_the_load_of_a_servers_engine_is_in_the_chart_and_of_the_server_under_the_cursor() -> None:
    async with at_serve() as (pilot, engine, page):
        await pilot.press("M", "M")
        await until(pilot, lambda: "running" in words(pilot, "#chart") and "waiting" in words(pilot, "#chart"))
        chart = page.query_one("#chart")
        first = str(chart.border_title)
        assert "requests running and waiting, the last hour" in first
        await pilot.press("m")
        await until(pilot, lambda: "KV cache" in words(pilot, "#chart") and "prefix hits" in words(pilot, "#chart"))
        await pilot.press("M", "tab")
        for endpoint in engine.serving.kept[:1]:
            runs = [replica["run"] for replica in endpoint["replicas"] if replica["run"]]
        other = next(run for run in runs if run not in first)
        await pilot.press(*["j"] * 7)
        while page.run_id() != other:
            await pilot.press("k")
        await until(pilot, lambda: str(chart.border_title).startswith(f"{other}: "))
        await until(pilot, lambda: page.load is not None and page.load.run == other)


async def test_what_servers_tell_is_not_offered_of_a_provider() -> None:
    async with at_serve() as (pilot, engine, page):
        engine.serving.kept[0]["replicas"].clear()
        page.want(now=True)
        await until(pilot, lambda: page.chosen is not None and not page.chosen["replicas"])
        await pilot.press("M")
        assert page._metric not in ("load", "cache")
