"""What each key of the table must bring about, by its id: pressed at a desk, then looked at."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from textual.widgets import Input

from llmops_tui.screens.action_palette import ActionPalette
from llmops_tui.screens.choose import ChooseScreen
from llmops_tui.screens.command_line import CommandLine
from llmops_tui.screens.compare import CompareScreen
from llmops_tui.screens.confirm import ConfirmScreen
from llmops_tui.screens.help import HelpScreen
from llmops_tui.screens.hosts import BoxTold
from llmops_tui.screens.jump import JumpLabels
from llmops_tui.screens.linked_page import LinkedScreen
from llmops_tui.screens.new_run import NewRunScreen
from llmops_tui.screens.rendered import RenderedPane, RenderedScreen
from llmops_tui.screens.run import RunScreen
from llmops_tui.screens.steer import SteerScreen
from llmops_tui.screens.stop import StopScreen
from llmops_tui.screens.sweep import SweepScreen
from llmops_tui.screens.travel_bar import STEPS, TravelBar
from llmops_tui.screens.widgets.chart import BrailleChart
from llmops_tui.screens.widgets.chart_view import ChartView
from llmops_tui.screens.widgets.edit_line import EditLine
from llmops_tui.screens.widgets.form import FieldLine, FormView
from llmops_tui.screens.widgets.log_pane import LogPane
from llmops_tui.screens.widgets.sample_pane import SamplePane
from llmops_tui.screens.widgets.table import RowTable
from tests.tui.desk import Desk
from tests.tui.driving import words
from tests.tui.still import MOMENT

Effect = Callable[[Desk], Awaitable[None]]
EFFECTS: dict[str, Effect] = {}


def effect(*ids: str) -> Callable[[Effect], Effect]:
    def add(function: Effect) -> Effect:
        for name in ids:
            assert name not in EFFECTS, name
            EFFECTS[name] = function
        return function

    return add


def put(effects: dict[str, Effect]) -> None:
    for name, function in effects.items():
        effect(name)(function)


def opens(kind: type[Any]) -> Effect:
    async def press(desk: Desk) -> None:
        await desk.press()
        await desk.until(lambda: isinstance(desk.screen, kind))

    return press


def closes(desk: Desk) -> Callable[[], bool]:
    """Whether what was on top is no more."""
    before = desk.screen
    return lambda: desk.screen is not before


@effect("back", "linked_back", "compare_back", "sweep_back", "sql_back", "form_back", "hosts_back", "help_close", "jump_leave",
        "rendered_back", "command_leave",
        "choose_leave")  # fmt: skip
async def leaves(desk: Desk) -> None:
    gone, exits = closes(desk), len(desk.exits)
    await desk.press()
    await desk.until(gone)
    assert len(desk.exits) == exits


# Everywhere and the pages.

put({
    "help": opens(HelpScreen), "command": opens(CommandLine), "palette": opens(ActionPalette), "new_run": opens(NewRunScreen),
    "export": opens(ChooseScreen), "jump": opens(JumpLabels),
})  # fmt: skip


@effect("quit")
async def quits(desk: Desk) -> None:
    # Where no text is selected Textual's own Ctrl+C (copy) steps aside.
    for key in ("q", "ctrl+c"):
        before = len(desk.exits)
        await desk.press(key)
        await desk.until(lambda before=before: len(desk.exits) == before + 1)


@effect("refresh")
async def asks_again(desk: Desk) -> None:
    before, past = desk.engine.calls, desk.app.state.moment is not None  # which does not change: what is shown is asked once
    await desk.press()
    await desk.until(lambda: "asking the engine" in words(desk.pilot, "#foot") and (past or desk.engine.calls > before))


@effect("maximise")
async def maximises(desk: Desk) -> None:
    others = [panel for panel in desk.screen.query(".panel") if panel.focusable and panel.region.area and not panel.has_focus_within]
    await desk.press()
    focused = desk.app.focused
    if others and focused is not None and any(node.has_class("panel") for node in focused.ancestors_with_self if node is not desk.screen):
        await desk.until(lambda: not any(panel.region.area for panel in others))
    await desk.press()
    await desk.until(lambda: not desk.screen.query(".-aside"))


@effect("travel")
async def travels(desk: Desk) -> None:
    if desk.app.state.moment is not None:
        await desk.press()
        await desk.until(lambda: desk.app.state.moment is None)
        return
    await desk.press()
    await desk.until(lambda: desk.app.state.moment is not None and isinstance(desk.app.focused, TravelBar))


@effect("slow_line")
async def slows(desk: Desk) -> None:
    for wish in ("on", "off", "auto"):
        await desk.press()
        await desk.until(lambda wish=wish: desk.app.slow_wish == wish and desk.app.state.slow == (wish == "on"))


def goes_to(mode: str) -> Effect:
    async def press(desk: Desk) -> None:
        await desk.press()
        await desk.until(lambda: desk.app.current_mode == mode and mode == desk.screen.PAGE)

    return press


put({f"go_{mode}": goes_to(mode) for mode in ("pulse", "runs", "queue", "gpus", "inbox")})


# Tables.


@effect("open")
async def opens_row(desk: Desk) -> None:
    table = desk.focused(RowTable)
    key = table.key
    await desk.press()
    await desk.until(lambda: desk.heard(RowTable.RowChosen))
    if key in {run["id"] for run in desk.app.state.runs()}:
        await desk.until(lambda: isinstance(desk.screen, RunScreen) and desk.screen.run_id() == key)


def moves(begin_last: bool, goes: Callable[[int, int, int], bool]) -> Effect:
    """From one end of the table; `goes(before, after, total)`."""

    async def press(desk: Desk) -> None:
        table = desk.focused(RowTable)
        table.action_end(begin_last)
        before = table.cursor
        await desk.press()
        await desk.until(lambda: goes(before, table.cursor, table.total))

    return press


put({
    "down": moves(False, lambda before, after, total: after > before or total < 2),
    "up": moves(True, lambda before, after, total: after < before or total < 2),
    "page_down": moves(False, lambda before, after, total: after > before or total < 2),
    "page_up": moves(True, lambda before, after, total: after < before or total < 2),
    "first": moves(True, lambda before, after, total: after <= 1),
    "last": moves(False, lambda before, after, total: after >= total - 2),
})  # fmt: skip


@effect("mark")
async def marks(desk: Desk) -> None:
    table = desk.focused(RowTable)
    table.action_end(False)
    key, before = table.key, table.cursor
    await desk.press()
    await desk.until(lambda: table.cursor > before or table.total < 2)
    assert (key in table.marks) == table._markable
    table.action_unmark_all()


@effect("unmark_all")
async def unmarks(desk: Desk) -> None:
    table = desk.focused(RowTable)
    table.action_end(False)
    table.action_mark()
    await desk.press()
    await desk.until(lambda: not table.marks)


@effect("sort", "sort_reverse")
async def sorts(desk: Desk) -> None:
    table = desk.focused(RowTable)
    before = (table.sort, table.descending)
    await desk.press()
    if any(column.sort for column in table.columns):
        await desk.until(lambda: desk.heard(RowTable.SortChanged))
        assert (table.sort, table.descending) != before
    else:
        assert (table.sort, table.descending) == before


# Runs, and what is done to runs.


@effect("filter")
async def filters(desk: Desk) -> None:
    await desk.press()
    await desk.until(lambda: desk.app.focused is not None and desk.app.focused.id == "filter")


@effect("filter_clear")
async def clears_filter(desk: Desk) -> None:
    desk.screen.filter_by("state:failed")
    await desk.until(lambda: desk.screen.query_one("#every").total < 20)
    await desk.press()
    await desk.until(lambda: desk.screen.query_one("#every").total == 50)


@effect("compare")
async def compares(desk: Desk) -> None:
    desk.focused(RowTable).marks = dict.fromkeys(["train-fiqa-0001", "train-fiqa-0003"])
    await desk.press()
    await desk.until(lambda: isinstance(desk.screen, CompareScreen))
    desk.screen.app.screen_stack[-2].query_one(RowTable).marks = {}


@effect("column_add")
async def adds_column(desk: Desk) -> None:
    await desk.press()
    await desk.until(lambda: isinstance(desk.app.focused, EditLine))
    await desk.paste("cfg.seed")
    await desk.press("enter")
    await desk.until(lambda: any(column.sort == "cfg.seed" for column in desk.screen.query_one("#every").columns))


@effect("column_remove")
async def removes_column(desk: Desk) -> None:
    desk.screen._added = ["cfg.seed"]
    await desk.press()
    await desk.until(lambda: desk.screen._added == [])


@effect("runs_stop", "pulse_stop", "queue_stop", "gpus_stop")
async def asks_to_stop(desk: Desk) -> None:
    if isinstance(desk.screen, CompareScreen):
        await said(desk, "does not run")
        return
    await desk.press()
    await desk.until(lambda: isinstance(desk.screen, StopScreen))
    assert not desk.engine.stops


async def said(desk: Desk, text: str) -> None:
    """The key is refused, and says why."""
    desk.app.state.notice = ""
    await desk.press()
    await desk.until(lambda: text in words(desk.pilot, "#foot"))


@effect("runs_checkpoint", "pulse_checkpoint", "gpus_checkpoint")
async def saves(desk: Desk) -> None:
    if isinstance(desk.screen, CompareScreen):
        await said(desk, "does not run")
        return
    before = len(desk.engine.checkpoints)
    await desk.press()
    await desk.until(lambda: desk.engine.checkpoints[before:] == ["train-fiqa-0003"])


@effect("runs_retry")
async def retries(desk: Desk) -> None:
    if isinstance(desk.screen, RunScreen):
        await said(desk, "has not ended")
        return
    if table := next(iter(desk.screen.query("#every")), None):
        table._go(8)
    await desk.press()
    await desk.until(lambda: desk.engine.retried)


@effect("runs_clone")
async def clones(desk: Desk) -> None:
    base = desk.screen.targets()[0]
    await desk.press()
    await desk.until(lambda: isinstance(desk.screen, NewRunScreen) and base in str(desk.screen.query_one("#fields").border_title))


def annotates(words_typed: str, expected: dict[str, Any]) -> Effect:
    async def press(desk: Desk) -> None:
        ids = desk.screen.targets()
        await desk.press()
        await desk.until(lambda: isinstance(desk.app.focused, EditLine))
        desk.focused(EditLine).put("")
        await desk.paste(words_typed)
        await desk.press("enter")
        changes = desk.engine.archive.changes
        await desk.until(lambda: all(expected.items() <= changes.get(run_id, {}).items() for run_id in ids))

    return press


effect("runs_note")(annotates("seen", {"note": "seen"}))


@effect("runs_tags")
async def tags(desk: Desk) -> None:
    ids = desk.screen.targets()
    await desk.press()
    await desk.until(lambda: isinstance(desk.app.focused, EditLine))
    await desk.paste(" +new")
    await desk.press("enter")
    await desk.until(lambda: all("new" in desk.engine.archive.changes.get(run_id, {}).get("tags", ()) for run_id in ids))


@effect("runs_baseline")
async def pins(desk: Desk) -> None:
    ids = desk.screen.targets()
    await desk.press()
    await desk.until(lambda: all("baseline" in desk.engine.archive.changes.get(run_id, {}) for run_id in ids))


@effect("runs_remove")
async def asks_to_remove(desk: Desk) -> None:
    if isinstance(desk.screen, RunScreen):
        await said(desk, "has not ended")
        return
    if table := next(iter(desk.screen.query("#every")), None):
        table._go(8)
    await desk.press()
    await desk.until(lambda: isinstance(desk.screen, ConfirmScreen))
    assert not desk.engine.archive.removed


# Panes and the metric shown.


def shows_pane(name: str) -> Effect:
    async def press(desk: Desk) -> None:
        desk.screen.action_show_pane("metrics" if name != "metrics" else "chart")
        await desk.until(lambda: desk.app.focused.id != name)
        await desk.press()
        await desk.until(lambda: desk.app.focused.id == name and desk.app.focused.size.height)

    return press


def shows_pane_of_sweep(name: str) -> Effect:
    async def press(desk: Desk) -> None:
        desk.screen.action_show_pane("facts" if name != "facts" else "trials")
        await desk.until(lambda: desk.app.focused.id != name)
        await desk.press()
        await desk.until(lambda: desk.app.focused.id == name and desk.app.focused.size.height)

    return press


put({
    **{f"sweep_pane_{number}": shows_pane_of_sweep(name) for number, name in enumerate(SweepScreen.PANES, 1)},
    **{f"pane_{number}": shows_pane(name) for number, name in enumerate(RunScreen.PANES, 1)},
    **{f"compare_pane_{number}": shows_pane(name) for number, name in enumerate(CompareScreen.PANES, 1)},
})  # fmt: skip


def turns_panes(by: int) -> Effect:
    async def press(desk: Desk) -> None:
        names = list(desk.screen.PANES)
        at = names.index(desk.screen.pane)
        await desk.press()
        await desk.until(lambda: desk.app.focused.id == names[(at + by) % len(names)])

    return press


put({"next_pane": turns_panes(1), "previous_pane": turns_panes(-1), "compare_pane": turns_panes(1), "compare_pane_back": turns_panes(-1)})
put({"sweep_pane": turns_panes(1), "sweep_pane_back": turns_panes(-1)})


@effect("pulse_metric", "run_metric", "run_metric_back", "compare_metric", "compare_metric_back",
        "sweep_chart", "sweep_chart_back")  # fmt: skip
async def shows_another_metric(desk: Desk) -> None:
    chart = desk.screen.query_one(BrailleChart)
    before = chart.border_title
    await desk.press()
    await desk.until(lambda: chart.border_title != before)


@effect("compare_all")
async def shows_all(desk: Desk) -> None:
    facts = desk.screen.query_one("#facts")
    before = facts.total
    await desk.press()
    await desk.until(lambda: facts.total > before)
    await desk.press()
    await desk.until(lambda: facts.total == before)


@effect("compare_group")
async def puts_runs_together(desk: Desk) -> None:
    metrics = desk.screen.query_one("#metrics")
    await desk.press()
    await desk.until(lambda: "metrics by" in str(metrics.border_title) or "no setting puts two" in desk.app.state.notice)


@effect("pulse_log_y", "run_log_y", "chart_log_y")
async def turns_log(desk: Desk) -> None:
    chart = desk.screen.query_one(BrailleChart) if not isinstance(desk.app.focused, BrailleChart) else desk.app.focused
    before = chart.view.log_y
    await desk.press()
    await desk.until(lambda: chart.view.log_y != before)


@effect("ack_alarms")
async def acknowledges(desk: Desk) -> None:
    before = len(desk.engine.acked)
    await desk.press()
    await desk.until(lambda: len(desk.engine.acked) > before or "no alarm is open" in words(desk.pilot, "#foot"))


@effect("follow")
async def follows(desk: Desk) -> None:
    log = desk.screen.query_one(LogPane)
    before = log.follow
    await desk.press()
    await desk.until(lambda: log.follow != before)


effect("panels")(opens(LinkedScreen))


# Charts.


def changes_view(prepare: Callable[[ChartView, float, float], ChartView], holds: Callable[[ChartView, ChartView], object]) -> Effect:
    """`prepare` gets the extent; `holds(before, after)`."""

    async def press(desk: Desk) -> None:
        chart = desk.focused(BrailleChart)
        low, high = chart._extent
        chart.restore(prepare(ChartView(axis=chart.view.axis), low, high))
        before = chart.view
        await desk.press()
        await desk.until(lambda: holds(before, chart.view))

    return press


def inside(view: ChartView, low: float, high: float) -> ChartView:
    quarter = (high - low) / 4
    return replace(view, window=(low + quarter, high - quarter), crosshair=float(round(low + 2 * quarter)))


def width(view: ChartView) -> float:
    return view.window[1] - view.window[0] if view.window else float("inf")


put({
    "cross_left": changes_view(inside, lambda before, after: after.crosshair < before.crosshair),
    "cross_right": changes_view(inside, lambda before, after: after.crosshair > before.crosshair),
    "cross_off": changes_view(inside, lambda before, after: after.crosshair is None),
    "zoom_in": changes_view(inside, lambda before, after: width(after) < width(before)),
    "zoom_out": changes_view(inside, lambda before, after: width(after) > width(before)),
    "zoom_all": changes_view(inside, lambda before, after: after.window is None),
    "pan_left": changes_view(inside, lambda before, after: after.window[0] < before.window[0]),
    "pan_right": changes_view(inside, lambda before, after: after.window[0] > before.window[0]),
    "chart_clip": changes_view(inside, lambda before, after: after.clip != before.clip),
    "chart_smooth": changes_view(inside, lambda before, after: after.smoothing != before.smoothing),
})  # fmt: skip


@effect("cross_mark", "cross_mark_back")
async def crosses_marks(desk: Desk) -> None:
    chart = desk.focused(BrailleChart)
    places = sorted({x for x, _ in chart._placed()})
    back = desk.key == "left_square_bracket"
    chart.restore(ChartView(axis=chart.view.axis))
    await desk.press()
    if places:
        await desk.until(lambda: chart.view.crosshair == places[-1 if back else 0])
    else:
        assert chart.view.crosshair is None


@effect("chart_axis")
async def turns_axis(desk: Desk) -> None:
    chart = desk.focused(BrailleChart)
    before, several = chart.view.axis, len(chart._axes()) > 1
    await desk.press()
    await desk.until(lambda: (chart.view.axis != before) == several)


@effect("chart_linked")
async def wants_linked(desk: Desk) -> None:
    await desk.press()
    await desk.until(lambda: desk.heard(BrailleChart.LinkedWanted))


# A line of text.


def edits(text: str, at: int, wanted_text: str, wanted_at: int) -> Effect:
    async def press(desk: Desk) -> None:
        line = desk.focused(EditLine)
        line.editor.set(text, at)
        await desk.press()
        await desk.until(lambda: (line.text, line.editor.at) == (wanted_text, wanted_at))

    return press


put({
    "edit_left": edits("one two", 5, "one two", 4), "edit_right": edits("one two", 5, "one two", 6),
    "edit_word_left": edits("one two", 6, "one two", 4), "edit_word_right": edits("one two", 1, "one two", 3),
    "edit_start": edits("one two", 5, "one two", 0), "edit_end": edits("one two", 2, "one two", 7),
    "edit_rub": edits("one two", 5, "one wo", 4), "edit_delete": edits("one two", 4, "one wo", 4),
    "edit_rub_word": edits("one two", 7, "one ", 4), "edit_rub_all": edits("one two", 4, "two", 0),
})  # fmt: skip


@effect("edit_submit")
async def submits(desk: Desk) -> None:
    line = desk.focused(EditLine)
    await desk.press()
    await desk.until(lambda: desk.heard(EditLine.Submitted) and not line.has_focus)


@effect("edit_leave")
async def leaves_line(desk: Desk) -> None:
    line = desk.focused(EditLine)
    await desk.press()
    await desk.until(lambda: desk.heard(EditLine.Left) and not line.has_focus)


@effect("edit_complete", "edit_complete_back")
async def completes(desk: Desk) -> None:
    line = desk.focused(EditLine)
    line.put("s")
    offered = bool(line.complete and line.complete("s", 1))
    await desk.press()
    await desk.until(lambda: (len(line.text) > 1) == offered)


@effect("edit_older")
async def recalls(desk: Desk) -> None:
    line = desk.focused(EditLine)
    line.editor.history = ["before"]
    line.put("now")
    await desk.press()
    await desk.until(lambda: line.text == "before")


@effect("edit_newer")
async def recalls_back(desk: Desk) -> None:
    line = desk.focused(EditLine)
    line.editor.history = ["before"]
    line.put("now")
    line.action_recall(1)
    await desk.press()
    await desk.until(lambda: line.text == "now")


# The form.


def draft(desk: Desk) -> Any:
    return desk.screen.draft


async def to_field(desk: Desk, key: str) -> FormView:
    view = desk.focused(FormView)
    view.action_end(False)
    while view.key != key:
        view.action_move(1)
    return view


@effect("form_launch")
async def launches(desk: Desk) -> None:
    before = len(desk.engine.submitted)
    await desk.press()
    await desk.until(lambda: len(desk.engine.submitted) == before + 1 and isinstance(desk.screen, RunScreen))


@effect("form_check")
async def checks(desk: Desk) -> None:
    await desk.until(lambda: not desk.screen.checking)
    before = len(desk.engine.checked)
    await desk.press()
    await desk.until(lambda: len(desk.engine.checked) > before)


@effect("form_all")
async def shows_every_field(desk: Desk) -> None:
    view = desk.focused(FormView)
    before = len(view._rows)
    await desk.press()
    await desk.until(lambda: len(view._rows) > before)


@effect("form_find")
async def finds(desk: Desk) -> None:
    await desk.press()
    await desk.until(lambda: isinstance(desk.app.focused, FieldLine))
    await desk.paste("weight_dec")
    await desk.press("enter")
    await desk.until(lambda: desk.screen.query_one(FormView).key == "optim.weight_decay")


@effect("form_editor", "field_editor")
async def opens_editor(desk: Desk) -> None:
    before = len(desk.edited)
    await desk.press()
    await desk.until(lambda: len(desk.edited) == before + 1 and "no editor here" in words(desk.pilot, "#foot"))


@effect("form_copy")
async def copies(desk: Desk) -> None:
    await desk.press()
    await desk.until(lambda: "llmops-tui run train" in desk.app.clipboard)


@effect("form_empty")
async def empties(desk: Desk) -> None:
    assert draft(desk).values
    await desk.press()
    await desk.until(lambda: not draft(desk).values)


@effect("form_last")
async def takes_last(desk: Desk) -> None:
    await desk.press("N")
    await desk.until(lambda: not draft(desk).values)
    await desk.press()
    await desk.until(lambda: draft(desk).values)


@effect("fields_choose")
async def writes(desk: Desk) -> None:
    view = await to_field(desk, "epochs")
    await desk.press()
    await desk.until(lambda: view.editing == "epochs")


def moves_in_form(begin: str, goes: Callable[[int, int], bool]) -> Effect:
    async def press(desk: Desk) -> None:
        view = await to_field(desk, begin)
        before = view._cursor
        await desk.press()
        await desk.until(lambda: goes(before, view._cursor))

    return press


put({
    "fields_down": moves_in_form("model", lambda before, after: after == before + 1),
    "fields_up": moves_in_form("model", lambda before, after: after == before - 1),
    "fields_page_down": moves_in_form("model", lambda before, after: after > before + 1),
    "fields_page_up": moves_in_form("name", lambda before, after: after < before - 1),
    "fields_first": moves_in_form("name", lambda before, after: after == 0),
    "fields_last": moves_in_form("model", lambda before, after: after > before + 5),
})  # fmt: skip


@effect("fields_turn", "fields_turn_back")
async def turns_kind(desk: Desk) -> None:
    await to_field(desk, "!kind")
    before = draft(desk).kind
    await desk.press()
    await desk.until(lambda: draft(desk).kind != before)
    desk.place = (None, None)


@effect("fields_reset")
async def resets(desk: Desk) -> None:
    await to_field(desk, "epochs")
    began = draft(desk).value("epochs")
    draft(desk).put("epochs", "9")
    await desk.press()
    await desk.until(lambda: draft(desk).value("epochs") == began)


@effect("field_down", "field_up")
async def picks(desk: Desk) -> None:
    await desk.press("escape")
    view = await to_field(desk, "model")
    await desk.press("enter")
    before = view._pick
    await desk.press()
    await desk.until(lambda: view._pick != before)
    desk.place = (None, None)


@effect("field_next", "field_previous")
async def writes_next(desk: Desk) -> None:
    view = desk.screen.query_one(FormView)
    before = view.editing
    await desk.press()
    await desk.until(lambda: view.editing not in ("", before))
    desk.place = (None, None)


# Logs and samples.


def scrolls_log(from_end: bool, goes: Callable[[int, int], bool]) -> Effect:
    async def press(desk: Desk) -> None:
        pane = desk.focused(LogPane)
        pane.action_log_end(from_end)
        await desk.until(lambda: "step" in pane.plain)
        before = pane._view.top[0]
        await desk.press()
        await desk.until(lambda: goes(before, pane._view.top[0]))
        assert pane.follow == (desk.key in ("G", "end"))

    return press


put({
    "log_down": scrolls_log(False, lambda before, after: after > before),
    "log_up": scrolls_log(True, lambda before, after: after < before),
    "log_page_down": scrolls_log(False, lambda before, after: after > before + 200),
    "log_page_up": scrolls_log(True, lambda before, after: after < before - 200),
    "log_first": scrolls_log(True, lambda before, after: after == 0),
    "log_last": scrolls_log(False, lambda before, after: after > 100_000),
})  # fmt: skip


async def search(desk: Desk, sign: str, text: str) -> LogPane:
    pane = desk.focused(LogPane)
    await desk.press(sign)
    desk.focused(EditLine).put("")
    await desk.paste(text)
    await desk.press("enter")
    await desk.until(lambda: desk.app.focused is pane)
    return pane


@effect("log_search")
async def writes_search(desk: Desk) -> None:
    pane = await search(desk, desk.key, "grad_norm 0.05")
    await desk.until(lambda: pane._view.search is not None and pane._view.search.hit)
    await desk.press("escape")


@effect("log_next", "log_previous")
async def steps_hits(desk: Desk) -> None:
    pane = await search(desk, "slash", "grad_norm 0.05")
    await desk.until(lambda: pane._view.search is not None and pane._view.search.hit)
    before = pane._view.search.hit  # type: ignore[union-attr]
    await desk.press()
    await desk.until(lambda: pane._view.search.hit not in (None, before))  # type: ignore[union-attr]
    await desk.press("escape")


@effect("log_filter")
async def writes_filter(desk: Desk) -> None:
    pane = await search(desk, desk.key, "step   100")
    await desk.until(lambda: "step   100" in pane.plain and "step   101 " not in pane.plain)
    pane._view.leave_filter()


@effect("log_context")
async def shows_context(desk: Desk) -> None:
    pane = desk.focused(LogPane)
    before = pane._view.context
    await desk.press()
    await desk.until(lambda: pane._view.context != before)


@effect("log_open")
async def opens_line(desk: Desk) -> None:
    pane = await search(desk, "ampersand", "step   100")
    await desk.until(lambda: "step   100" in pane.plain)
    await desk.press()
    await desk.until(lambda: pane._view.filter is None and "step   101 " in pane.plain)


@effect("log_back")
async def leaves_search(desk: Desk) -> None:
    pane = await search(desk, "slash", "grad_norm 0.05")
    await desk.until(lambda: pane._view.search is not None and pane._view.search.hit and not pane._view.search.looking)
    await desk.press()
    await desk.until(lambda: pane._view.search is None)


@effect("log_wrap")
async def wraps(desk: Desk) -> None:
    pane = desk.focused(LogPane)
    before = pane._view.wrap
    await desk.press()
    await desk.until(lambda: pane._view.wrap != before)
    pane._view.wrap = False


@effect("log_left", "log_right")
async def shifts(desk: Desk) -> None:
    pane = desk.focused(LogPane)
    pane._view.shift = 16
    await desk.press()
    await desk.until(lambda: pane._view.shift == (8 if desk.key in ("h", "left") else 24))


def scrolls_samples(begin_last: bool, goes: Callable[[int, int], bool]) -> Effect:
    async def press(desk: Desk) -> None:
        pane = desk.focused(SamplePane)
        pane.action_end(begin_last)
        before = pane._top
        await desk.press()
        await desk.until(lambda: goes(before, pane._top))

    return press


def scrolls_rows(begin_last: bool, goes: Callable[[int, int], bool]) -> Effect:
    async def press(desk: Desk) -> None:
        pane = desk.focused(RenderedPane)
        pane.action_end(begin_last)
        before = pane._top
        await desk.press()
        await desk.until(lambda: goes(before, pane._top))

    return press


put({
    "form_rows": opens(RenderedScreen),
    "rendered_down": scrolls_rows(False, lambda before, after: after == 1),
    "rendered_up": scrolls_rows(True, lambda before, after: after == before - 1),
    "rendered_page_down": scrolls_rows(False, lambda before, after: after > 5),
    "rendered_page_up": scrolls_rows(True, lambda before, after: after < before - 5),
    "rendered_first": scrolls_rows(True, lambda before, after: after == 0),
    "rendered_last": scrolls_rows(False, lambda before, after: after > 5),
    "rendered_next": scrolls_rows(False, lambda before, after: after > before),
    "rendered_previous": scrolls_rows(True, lambda before, after: after < before),
})  # fmt: skip


put({
    "samples_down": scrolls_samples(False, lambda before, after: after == 1),
    "samples_up": scrolls_samples(True, lambda before, after: after == before - 1),
    "samples_page_down": scrolls_samples(False, lambda before, after: after > 5),
    "samples_page_up": scrolls_samples(True, lambda before, after: after < before - 5),
    "samples_first": scrolls_samples(True, lambda before, after: after == 0),
    "samples_last": scrolls_samples(False, lambda before, after: after > 5),
})  # fmt: skip


@effect("samples_next", "samples_previous")
async def turns_prompts(desk: Desk) -> None:
    pane = desk.focused(SamplePane)
    before = pane._prompt
    await desk.press()
    await desk.until(lambda: pane._prompt != before)


# Dialogs.


def answers_stop(mode: str) -> Effect:
    async def press(desk: Desk) -> None:
        before, gone = list(desk.engine.stops), closes(desk)
        await desk.press()
        await desk.until(gone)
        await desk.until(lambda: desk.engine.stops == [*before, *([("train-fiqa-0003", mode)] if mode else [])])

    return press


put({"stop_now": answers_stop("now"), "stop_checkpoint": answers_stop("checkpoint"), "stop_keep": answers_stop("")})


def steers(wish: str, arguments: dict[str, Any]) -> Effect:
    async def press(desk: Desk) -> None:
        before, gone = len(desk.engine.asked), closes(desk)
        await desk.press()
        await desk.until(gone)
        await desk.until(lambda: desk.engine.asked[before:] == [("train-fiqa-0003", wish, arguments)])

    return press


def sets(name: str, text: str, value: float | None) -> Effect:
    async def press(desk: Desk) -> None:
        before = len(desk.engine.asked)
        await desk.press()
        await desk.until(lambda: isinstance(desk.app.focused, EditLine))
        desk.focused(EditLine).put(text)
        await desk.pilot.press("enter")
        await desk.until(lambda: desk.engine.asked[before:] == [("train-fiqa-0003", "set", {name: value})])

    return press


@effect("steer_resume")
async def resumes_what_is_held_alone(desk: Desk) -> None:
    await desk.press()
    assert isinstance(desk.screen, SteerScreen), "it is not paused: there is nothing to resume"
    desk.screen._offered.add("steer_resume")
    await steers("resume", {})(desk)


@effect("steer_leave")
async def asks_nothing(desk: Desk) -> None:
    before, gone = list(desk.engine.asked), closes(desk)
    await desk.press()
    await desk.until(gone)
    assert desk.engine.asked == before


put({
    "steer_free": steers("pause", {"mode": "free"}), "steer_hold": steers("pause", {"mode": "hold"}),
    "steer_checkpoint": steers("checkpoint", {}), "steer_evaluate": steers("evaluate", {}), "steer_sample": steers("sample", {}),
    "steer_rate": sets("learning_rate_scale", "0.5", 0.5), "steer_save_every": sets("checkpoint_every", "none", None),
    "steer_evaluate_every": sets("evaluate_every", "20", 20),
})  # fmt: skip


@effect("runs_steer")
async def asks_how_to_steer(desk: Desk) -> None:
    if isinstance(desk.screen, CompareScreen):
        await said(desk, "does not run")
        return
    await desk.press()
    await desk.until(lambda: isinstance(desk.screen, SteerScreen))
    assert not desk.engine.asked


@effect("runs_reproduce")
async def tells_what_differs_first(desk: Desk) -> None:
    await desk.press()
    await desk.until(lambda: isinstance(desk.screen, ConfirmScreen) and "2.12.0" in words(desk.pilot, "#question"))
    assert not desk.engine.reproduced
    await desk.pilot.press("y")
    await desk.until(lambda: bool(desk.engine.reproduced))


@effect("confirm_yes", "confirm_no")
async def answers(desk: Desk) -> None:
    before, gone = set(desk.engine.archive.removed), closes(desk)
    await desk.press()
    await desk.until(gone)
    await desk.until(lambda: (desk.engine.archive.removed != before) == (desk.key == "y"))


@effect("command_next", "command_previous")
async def steps_offers(desk: Desk) -> None:
    if isinstance(desk.screen, ActionPalette):
        table = desk.screen.query_one(RowTable)
        table.action_move(3)
        before = table.cursor
        await desk.press()
        await desk.until(lambda: table.cursor == before + (1 if desk.key in ("down", "tab") else -1))
        return
    line = desk.focused(Input)
    before_text = line.value
    await desk.press()
    await desk.until(lambda: line.value not in ("", before_text))


def scrolls_help(begin: int, goes: Callable[[float], bool]) -> Effect:
    async def press(desk: Desk) -> None:
        box = desk.screen.query_one("VerticalScroll")
        box.scroll_to(y=begin, animate=False)
        await desk.until(lambda: box.scroll_y == begin)
        await desk.press()
        await desk.until(lambda: goes(box.scroll_y))

    return press


put({
    "help_down": scrolls_help(20, lambda y: y == 21), "help_up": scrolls_help(20, lambda y: y == 19),
    "help_page_down": scrolls_help(20, lambda y: y == 30), "help_page_up": scrolls_help(20, lambda y: y == 10),
})  # fmt: skip


# Queries, time travel, queue, GPUs, inbox, other boxes.


@effect("sql_chart")
async def charts_answer(desk: Desk) -> None:
    for shown in (True, False):
        await desk.press()
        await desk.until(lambda shown=shown: desk.screen.query_one("#chart").display == shown)
    desk.place = (None, None)


@effect("sql_edit")
async def edits_query(desk: Desk) -> None:
    await desk.press()
    await desk.until(lambda: isinstance(desk.screen, CommandLine) and desk.screen.query_one(Input).value == "sql select 1")


@effect("sql_again")
async def queries_again(desk: Desk) -> None:
    before = len(desk.engine.queries)
    await desk.press()
    await desk.until(lambda: len(desk.engine.queries) == before + 1 and isinstance(desk.app.focused, RowTable))
    desk.place = (None, None)


def scrubs(steps: int) -> Effect:
    async def press(desk: Desk) -> None:
        bar = desk.focused(TravelBar)
        desk.app.travel(MOMENT - 450)
        await desk.press()
        await desk.until(lambda: desk.app.state.moment == MOMENT - 450 + steps * STEPS[bar._step])

    return press


put({"travel_back": scrubs(-1), "travel_on": scrubs(1), "travel_far_back": scrubs(-10), "travel_far_on": scrubs(10)})


@effect("travel_finer", "travel_coarser")
async def steps_differ(desk: Desk) -> None:
    bar = desk.focused(TravelBar)
    before = bar._step
    await desk.press()
    await desk.until(lambda: bar._step == before + (1 if desk.key == "minus" else -1))


def goes_to_event(wanted: float) -> Effect:
    async def press(desk: Desk) -> None:
        desk.app.travel(MOMENT - 450)
        await desk.until(lambda: any(event["t"] == MOMENT - 880 for event in desk.app.state.past_events))
        await desk.press()
        await desk.until(lambda: desk.app.state.moment == MOMENT + wanted)

    return press


put({"travel_event_back": goes_to_event(-880), "travel_event_on": goes_to_event(-100)})


@effect("travel_first")
async def goes_to_the_first_moment(desk: Desk) -> None:
    await desk.press()
    await desk.until(lambda: desk.app.state.moment == MOMENT - 3600)


@effect("travel_live")
async def comes_back(desk: Desk) -> None:
    await desk.press()
    await desk.until(lambda: desk.app.state.moment is None and not desk.screen.query(TravelBar))


def moves_in_queue(by: int) -> Effect:
    async def press(desk: Desk) -> None:
        desk.focused(RowTable)._go(2)
        run = desk.app.state.run(desk.focused(RowTable).key)
        assert run is not None
        here = run["queue_position"] or 0
        await desk.press()
        await desk.until(lambda: desk.engine.moved[-1:] == [(run["id"], here + by)])
        await desk.until(lambda: (desk.app.state.run(run["id"]) or {}).get("queue_position") == here + by)

    return press


put({"queue_up": moves_in_queue(-1), "queue_down": moves_in_queue(1)})


@effect("queue_raise", "queue_lower", "queue_undo")
async def changes_priority(desk: Desk) -> None:
    desk.focused(RowTable)._go(2)
    run_id = desk.focused(RowTable).key
    assert run_id is not None
    before = (desk.app.state.run(run_id) or {})["priority"]
    if desk.key == "U":
        await desk.press("plus")
        await desk.until(lambda: (desk.app.state.run(run_id) or {})["priority"] == before + 1)
    await desk.press()
    wanted = before + {"plus": 1, "minus": -1, "U": 0}[desk.key]
    await desk.until(lambda: desk.engine.priorities[-1:] == [(run_id, wanted)] and (desk.app.state.run(run_id) or {})["priority"] == wanted)


@effect("queue_pane", "gpus_pane")
async def goes_to_the_other_table(desk: Desk) -> None:
    before = desk.focused(RowTable)
    await desk.press()
    await desk.until(lambda: isinstance(desk.app.focused, RowTable) and desk.app.focused is not before)


def begins_command(text: str) -> Effect:
    async def press(desk: Desk) -> None:
        await desk.press()
        await desk.until(lambda: isinstance(desk.screen, CommandLine) and desk.screen.query_one(Input).value == text)

    return press


put({"gpus_ask": begins_command("ask train-fiqa-0003 "), "gpus_reserve": begins_command("reserve 0 2h ")})


@effect("inbox_jump")
async def jumps_to_moment(desk: Desk) -> None:
    await desk.press()
    await desk.until(lambda: desk.app.state.moment == MOMENT - 100 and isinstance(desk.screen, RunScreen))


@effect("inbox_read")
async def reads_all(desk: Desk) -> None:
    assert desk.app.state.unread()
    await desk.press()
    await desk.until(lambda: desk.app.state.unread() == 0)


def focuses_box(begin: int, wanted: int) -> Effect:
    async def press(desk: Desk) -> None:
        columns = list(desk.screen._columns.values())
        columns[begin].focus()
        await desk.pilot.pause()
        await desk.press()
        await desk.until(lambda: desk.app.focused is columns[wanted])

    return press


put({"hosts_next": focuses_box(0, 1), "hosts_previous": focuses_box(0, 1)})


@effect("hosts_again")
async def asks_every_box(desk: Desk) -> None:
    await desk.press()
    await desk.until(lambda: {message.name for message in desk.posted if isinstance(message, BoxTold)} == {"here", "other"})


@effect("hosts_go")
async def goes_there(desk: Desk) -> None:
    list(desk.screen._columns.values())[1].focus()
    await desk.pilot.pause()
    await desk.press()
    await desk.until(lambda: desk.screen.PAGE == "pulse" and "ssh other" in words(desk.pilot, "#header"))
    desk.app.go_to_host("")
    await desk.until(lambda: "ssh other" not in words(desk.pilot, "#header"))
