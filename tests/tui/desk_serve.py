"""Serve on a stage: the endpoints, the versions of one, its chart and last minutes; the request browser and one request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from llmops_tui.screens.chat import ChatScreen
from llmops_tui.screens.choose import ChooseScreen
from llmops_tui.screens.confirm import ConfirmScreen
from llmops_tui.screens.model_choice import ModelChoice
from llmops_tui.screens.new_run import NewRunScreen
from llmops_tui.screens.request import RequestPane, RequestScreen
from llmops_tui.screens.requests import RequestsScreen
from llmops_tui.screens.run import RunScreen
from llmops_tui.screens.runs import RunsScreen
from llmops_tui.screens.serve import ServeScreen
from llmops_tui.screens.weight_split import split_of
from llmops_tui.screens.widgets.edit_line import EditLine
from llmops_tui.screens.widgets.table import RowTable
from tests.tui.desk import OVER_PAGES, PAGES, Desk, stage
from tests.tui.driving import words
from tests.tui.fake_serving import served
from tests.tui.key_effects import EFFECTS, Effect, effect, goes_to, opens, put, said
from tests.tui.still import MOMENT


async def serving(desk: Desk) -> None:
    desk.engine.serving.kept = served(MOMENT)
    desk.engine.serving.wishes.clear()
    await desk.press("6")
    await desk.until(lambda: isinstance(desk.screen, ServeScreen) and desk.screen.endpoints)
    page = desk.screen
    page.drop_draft()
    page.baselines.clear()
    page.choose("support")
    page.query_one("#endpoints").action_end(False)
    await desk.until(lambda: page.history is not None and page.query_one("#parts").total == 7 and "support" in page.details)
    page.query_one("#parts").action_end(False)
    page.set_focus(page.query_one("#endpoints"))


def part(name: str) -> Callable[[Desk], Awaitable[None]]:
    async def go(desk: Desk) -> None:
        await serving(desk)
        desk.screen._give_keys(name)
        await desk.until(lambda: desk.app.focused is not None and desk.app.focused.id == name and desk.app.focused.size.height > 0)

    return go


stage("serve", "table serve", PAGES, "table serve pages")(serving)
stage("serve-parts", "table serve", PAGES, "table serve")(part("parts"))
stage("serve-chart", "chart serve", PAGES, "chart serve")(part("chart"))
stage("serve-now", "table serve", PAGES, "table")(part("now"))


@stage("requests", "table requests", OVER_PAGES)
async def browsing(desk: Desk) -> None:
    desk.app.show_requests()
    await desk.until(lambda: isinstance(desk.screen, RequestsScreen) and desk.screen.ready and desk.screen.query_one("#requests").total)


@stage("requests-filter", "edit requests", OVER_PAGES, "edit")
async def filtering(desk: Desk) -> None:
    await browsing(desk)
    desk.screen.query_one("#filter").put("")
    await desk.press("slash")
    desk.focused(EditLine)


@stage("request", "request", OVER_PAGES)
async def looking(desk: Desk) -> None:
    await browsing(desk)
    desk.screen.query_one("#requests").action_move(2)
    await desk.press("enter")
    await desk.until(lambda: isinstance(desk.screen, RequestScreen) and "together" in words(desk.pilot, "#pane"))


def page(desk: Desk) -> Any:
    return desk.screen


async def wished(desk: Desk, verb: str) -> Any:
    """What was wished for, once it was."""
    await desk.until(lambda: any(wish[0] == verb for wish in desk.engine.serving.wishes))
    return next(wish for wish in desk.engine.serving.wishes if wish[0] == verb)[2]


put({
    "serve_start": opens(ModelChoice), "serve_version": opens(ModelChoice), "serve_chat": opens(ChatScreen),
    "serve_requests": opens(RequestsScreen), "serve_loadtest": opens(NewRunScreen),
    "serve_stop": opens(ConfirmScreen), "serve_sleep": opens(ConfirmScreen),
})  # fmt: skip


def shares(change: float) -> Effect:
    async def press(desk: Desk) -> None:
        page(desk).drop_draft()
        page(desk)._version = "v3"
        before = split_of(page(desk).chosen)
        if change > 0:
            page(desk).put_draft({**before, "v3": 50.0, "v4": 50.0})
        await desk.press()
        await desk.until(lambda: page(desk).draft is not None and page(desk).draft["v3"] == (55.0 if change > 0 else 90.0))
        assert sum(page(desk).draft.values()) == 100.0
        assert "Enter applies" in str(page(desk).query_one("#parts").border_title)
        assert not desk.engine.serving.wishes
        page(desk).drop_draft()

    return press


put({"serve_more": shares(5.0), "serve_less": shares(-5.0)})


@effect("serve_all")
async def gives_all(desk: Desk) -> None:
    page(desk)._version = "v4"
    await desk.press()
    await desk.until(lambda: page(desk).draft == {"v3": 0.0, "v4": 100.0, "v2": 0.0})
    page(desk).drop_draft()


@effect("serve_apply")
async def applies(desk: Desk) -> None:
    desk.engine.serving.wishes.clear()
    page(desk).put_draft({"v3": 60.0, "v4": 40.0, "v2": 0.0})
    await desk.press()
    assert await wished(desk, "route") == {"v3": 60.0, "v4": 40.0}
    await desk.until(lambda: page(desk).draft is None)


@effect("serve_drop")
async def drops(desk: Desk) -> None:
    focused = desk.app.focused
    page(desk).put_draft({"v3": 10.0, "v4": 90.0, "v2": 0.0})
    await desk.press()
    await desk.until(lambda: page(desk).draft is None and desk.app.focused is focused)
    await desk.press()
    await desk.until(lambda: desk.app.focused is not None and desk.app.focused.id == "endpoints")


def asks_for(text: str, verb: str, expected: object) -> Effect:
    async def press(desk: Desk) -> None:
        desk.engine.serving.wishes.clear()
        page(desk)._version = "v3"
        await desk.press()
        desk.focused(EditLine).put("")
        await desk.paste(text)
        await desk.press("enter")
        assert await wished(desk, verb) == expected

    return press


put({"serve_weights": asks_for("v4=1 v2=3", "route", {"v4": 1.0, "v2": 3.0}), "serve_scale": asks_for("3", "scale", ("v3", 3))})


@effect("serve_rollback")
async def rolls_back(desk: Desk) -> None:
    desk.engine.serving.wishes.clear()
    page(desk).choose("support")
    await desk.press()
    await desk.until(lambda: isinstance(desk.screen, ConfirmScreen) and "v3 100 %" in words(desk.pilot, "#question"))
    assert not desk.engine.serving.wishes
    await desk.press("y")
    await wished(desk, "rollback")


@effect("serve_log")
async def shows_log(desk: Desk) -> None:
    await desk.press()
    await desk.until(lambda: isinstance(desk.screen, RunScreen) and desk.screen.pane == "log" and "grad_norm" in words(desk.pilot, "#log"))


@effect("serve_copy")
async def copies_curl(desk: Desk) -> None:
    await desk.press()
    await desk.until(lambda: desk.app.clipboard.startswith("curl http://127.0.0.1:8700/v1/chat/completions"))


@effect("serve_metric", "serve_metric_back")
async def shows_another_quantity(desk: Desk) -> None:
    before = str(page(desk).query_one("#chart").border_title)
    await desk.press()
    await desk.until(lambda: str(page(desk).query_one("#chart").border_title) != before)


@effect("serve_span")
async def shows_a_longer_stretch(desk: Desk) -> None:
    before = page(desk).span
    await desk.press()
    await desk.until(lambda: page(desk).span != before)
    seconds = (3600, 6 * 3600, 86_400, 7 * 86_400, 600)[page(desk).span]
    await desk.until(lambda: page(desk).history and abs(page(desk).history["until"] - page(desk).history["since"] - seconds) < 1)


@effect("serve_pin")
async def pins(desk: Desk) -> None:
    desk.engine.serving.wishes.clear()
    pinned = page(desk).chosen["pinned"]
    await desk.press()
    assert await wished(desk, "pin") is not pinned


@effect("serve_remove")
async def refuses_to_remove_what_answers(desk: Desk) -> None:
    page(desk)._version = "v3"
    await said(desk, "gets requests")


@effect("serve_baseline")
async def keeps_the_hour(desk: Desk) -> None:
    page(desk).baselines.clear()
    await desk.press()
    await desk.until(lambda: page(desk).baselines == {"support": (MOMENT - 3600.0, MOMENT)})
    await desk.press()
    await desk.until(lambda: not page(desk).baselines)


@effect("serve_pane", "serve_pane_back")
async def goes_to_another_part(desk: Desk) -> None:
    before = desk.app.focused
    await desk.press()
    await desk.until(lambda: desk.app.focused not in (None, before) and desk.app.focused.id in ("endpoints", "parts", "chart", "now"))


@effect("runs_serve")
async def serves_what_was_made(desk: Desk) -> None:
    if isinstance(desk.screen, RunsScreen):
        desk.focused(RowTable).marks = {"train-fiqa-0002": None}
    run = desk.screen.summary_of(desk.screen.targets()[0])
    if run is None or run["state"] != "succeeded":
        await said(desk, "has made no model")
        return
    await desk.press()
    await desk.until(lambda: isinstance(desk.screen, ChooseScreen))
    assert not desk.engine.serving.wishes
    for table in desk.app.screen_stack[-2].query("#every"):
        table.marks = {}  # type: ignore[attr-defined]


@effect("requests_filter")
async def writes_filter(desk: Desk) -> None:
    await desk.press()
    await desk.until(lambda: desk.app.focused is not None and desk.app.focused.id == "filter")


@effect("requests_back")
async def takes_the_filter_away_first(desk: Desk) -> None:
    await desk.press("slash")
    await desk.paste("status:error")
    await desk.press("enter")
    await desk.until(lambda: 0 < desk.screen.query_one("#requests").total < 20)
    await desk.press()
    await desk.until(lambda: desk.screen.query_one("#requests").total >= 100)
    await desk.press()
    await desk.until(lambda: not isinstance(desk.screen, RequestsScreen))


@effect("requests_again")
async def asks_for_requests(desk: Desk) -> None:
    before = desk.engine.serving.asked.count("requests")
    await desk.press()
    await desk.until(lambda: desk.engine.serving.asked.count("requests") > before)


def steps(by: int) -> Effect:
    async def press(desk: Desk) -> None:
        ids = list(desk.screen._listed._rows)
        at = ids.index(desk.screen._request)
        await desk.press()
        await desk.until(lambda: desk.screen._request == ids[at + by] and "together" in words(desk.pilot, "#pane"))

    return press


def scrolls(begin: int, goes: Callable[[int, int], bool]) -> Effect:
    async def press(desk: Desk) -> None:
        pane = desk.focused(RequestPane)
        pane.show([*pane._whole, *([[("more", "text")]] * 60)])
        pane.top = begin
        pane.draw()
        before = pane.top
        await desk.press()
        await desk.until(lambda: goes(before, pane.top))

    return press


put({
    "request_older": steps(1), "request_newer": steps(-1),
    "request_down": scrolls(3, lambda before, after: after == before + 1),
    "request_up": scrolls(3, lambda before, after: after == before - 1),
    "request_page_down": scrolls(3, lambda before, after: after > before + 5),
    "request_page_up": scrolls(30, lambda before, after: after < before - 5),
    "request_first": scrolls(30, lambda before, after: after == 0), "request_last": scrolls(3, lambda before, after: after > before + 20),
})  # fmt: skip


def rates(rating: str) -> Effect:
    async def press(desk: Desk) -> None:
        desk.engine.serving.wishes.clear()
        await desk.press()
        assert (await wished(desk, "feedback"))[0] == rating

    return press


put({"request_good": rates("up"), "request_bad": rates("down"), "request_back": EFFECTS["back"], "go_serve": goes_to("serve")})


@effect("request_copy")
async def copies_text(desk: Desk) -> None:
    await desk.press()
    await desk.until(lambda: "reset my password" in desk.app.clipboard or "was not kept" in words(desk.pilot, "#foot"))
