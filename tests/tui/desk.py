"""Everywhere one can press keys in the viewer: a stage is a page with one of its parts focused, and how to come there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from textual import events
from textual.app import App
from textual.message import Message
from textual.pilot import Pilot
from textual.widget import Widget

from llmops_tui.app import LlmopsApp
from llmops_tui.keys import in_force
from llmops_tui.screens.command_line import CommandLine
from llmops_tui.screens.compare import CompareScreen
from llmops_tui.screens.confirm import ConfirmScreen
from llmops_tui.screens.hosts import HostColumn, HostsScreen
from llmops_tui.screens.linked_page import LinkedScreen
from llmops_tui.screens.new_run import NewRunScreen
from llmops_tui.screens.possible import places_now
from llmops_tui.screens.rendered import RenderedPane, RenderedScreen
from llmops_tui.screens.run import RunScreen
from llmops_tui.screens.runs import RunsScreen
from llmops_tui.screens.sql import SqlScreen
from llmops_tui.screens.sweep import SweepScreen
from llmops_tui.screens.travel_bar import TravelBar
from llmops_tui.screens.widgets.edit_line import EditLine
from llmops_tui.screens.widgets.form import FieldLine, FormView
from llmops_tui.screens.widgets.table import RowTable
from tests.tui.driving import screen_text, until, words
from tests.tui.fake import FakeEngine, summary
from tests.tui.fake_form import TRAIN
from tests.tui.fake_sweep import SWEEP
from tests.tui.random_acts import character_of
from tests.tui.still import MOMENT, other_box, still_engine

W = TypeVar("W", bound=Widget)


@dataclass
class Desk:
    """A viewer at a stage, and the key under test (`key`, as Textual names it)."""

    pilot: Pilot[None]
    engine: FakeEngine
    stage: Stage
    app: LlmopsApp
    posted: list[Message] = field(default_factory=list)
    exits: list[None] = field(default_factory=list)
    edited: list[str] = field(default_factory=list)
    key: str = ""
    place: tuple[object, object] = (None, None)

    async def press(self, *keys: str) -> None:
        """Keys by name; without any, the one under test."""
        await self.pilot.press(*(keys or (self.key,)))

    async def until(self, condition: Callable[[], object]) -> None:
        await until(self.pilot, condition)

    @property
    def screen(self) -> Any:
        return self.app.screen

    def focused(self, kind: type[W]) -> W:
        """The focused widget, which must be of this kind."""
        assert isinstance(self.app.focused, kind), f"the keys are at {self.app.focused}:\n{screen_text(self.pilot)}"
        return self.app.focused

    def heard(self, kind: type[Message]) -> bool:
        """Whether such a message came since the last entering."""
        return any(isinstance(message, kind) for message in self.posted)

    async def paste(self, text: str) -> None:
        """Into what is focused."""
        assert self.app.focused is not None
        self.app.focused.post_message(events.Paste(text))
        await self.pilot.pause()

    async def enter(self) -> None:
        """At the stage, from wherever the last key led to."""
        if (self.app.screen, self.app.focused) != self.place or self.app.state.moment not in (None, self.stage.moment):
            await self._go_home()
            await self.stage.go(self)
            await self.pilot.pause()
            self.place = (self.app.screen, self.app.focused)
        if isinstance(self.app.focused, RowTable) and not self.app.focused._markable:
            self.app.focused.action_end(False)
            await self.pilot.pause()
        self.posted.clear()

    async def _go_home(self) -> None:
        """Pulse with nothing over it, nothing remembered, nothing marked."""
        app = self.app
        app.travel(None)
        for _ in range(2):  # of the page one was on, and of Pulse
            while len(app.screen_stack) > 1:
                await app.pop_screen()
            await app.switch_mode("pulse")
        app.view.pages.clear()
        await app.screen.query(TravelBar).remove()
        await self.until(lambda: app.state.selected and app.focused is not None)
        app.screen.query_one("#runs").action_end(False)  # type: ignore[attr-defined]


Go = Callable[[Desk], Awaitable[None]]


@dataclass(frozen=True)
class Stage:
    """`places` are those of the key table that are in force there; the keys of `pressed` are pressed there (all are looked at)."""

    go: Go
    places: frozenset[str]
    pressed: frozenset[str]
    gpus: int = 0
    moment: float | None = None


STAGES: dict[str, Stage] = {}
OVER_PAGES = frozenset({"everywhere"})
PAGES = frozenset({"everywhere", "pages"})
RUN = frozenset({"run", "run_actions", "everywhere"})
SWEEPS = frozenset({"sweep", "run_actions", "everywhere"})
COMPARE = frozenset({"compare", "run_actions", "everywhere"})


def stage(
    name: str, own: str, over: frozenset[str] = frozenset(), pressed: str | None = None, gpus: int = 0, moment: float | None = None
) -> Callable[[Go], Go]:
    """Add a stage with its `own` places and those `over` them; `pressed` where not all of both are pressed there."""

    def add(go: Go) -> Go:
        places = frozenset(own.split()) | over
        STAGES[name] = Stage(go, places, places if pressed is None else frozenset(pressed.split()), gpus, moment)
        return go

    return add


def focus(selector: str, *keys: str) -> Callable[[Desk], Awaitable[None]]:
    async def go(desk: Desk) -> None:
        if keys:
            await desk.press(*keys)
        widget = desk.screen.query_one(selector)
        widget.focus()
        await desk.until(lambda: desk.app.focused is widget and widget.size.height > 0)
        if isinstance(widget, RowTable):
            widget.action_end(False)

    return go


@stage("pulse", "table pulse", PAGES)
async def pulse(desk: Desk) -> None:
    await focus("#runs")(desk)


@stage("runs", "table runs run_actions", PAGES)
async def runs(desk: Desk) -> None:
    await desk.press("2")
    await desk.until(lambda: isinstance(desk.screen, RunsScreen) and desk.screen.query_one("#every").total >= 49)
    table = desk.screen.query_one("#every")
    table.focus()
    table.sort_by("submitted", True)
    table.action_end(False)
    await desk.until(lambda: table.key == "train-next-0052")
    table.action_move(3)


@stage("runs-filter", "edit runs run_actions", PAGES, pressed="edit")
async def filtering(desk: Desk) -> None:
    await runs(desk)
    await desk.press("slash")
    desk.focused(EditLine)


@stage("runs-tags", "edit runs run_actions", PAGES, pressed="edit")
async def tagging(desk: Desk) -> None:
    await runs(desk)
    await desk.press("T")
    desk.focused(EditLine)


async def opened(desk: Desk) -> None:
    await desk.press("enter")
    await desk.until(lambda: isinstance(desk.screen, RunScreen) and "loss 1." in words(desk.pilot, "#chart"))
    await desk.until(lambda: desk.screen.run_id() == "train-fiqa-0003" and desk.screen._samples_known)


def pane(number: int, name: str, own: str, pressed: str | None = None, by: int = 0) -> None:
    @stage(f"run-{name}", own, RUN, own if pressed is None else pressed)
    async def go(desk: Desk) -> None:
        await opened(desk)
        await desk.press(str(number))
        await desk.until(lambda: desk.app.focused is not None and desk.app.focused.id == name and desk.app.focused.size.height)


pane(1, "chart", "chart", "chart run run_actions everywhere")
pane(2, "metrics", "table")
pane(3, "log", "log")
pane(4, "samples", "samples")
pane(5, "checkpoints", "table")
pane(6, "facts", "table")
pane(7, "capsule", "table")
pane(9, "memory", "table")


@stage("run-watchers", "table", RUN, "table")
async def watched(desk: Desk) -> None:
    desk.engine.alarmed = True
    await opened(desk)
    await desk.press("8")
    await desk.until(lambda: desk.app.focused is not None and desk.app.focused.id == "watchers")
    await desk.until(lambda: "jumped" in words(desk.pilot, "#watchers"))


@stage("run-log-search", "edit log", RUN, "edit")
async def searching(desk: Desk) -> None:
    await STAGES["run-log"].go(desk)
    await desk.press("slash")
    desk.focused(EditLine)


async def compared(desk: Desk) -> None:
    await runs(desk)
    desk.screen.query_one("#every").marks = dict.fromkeys(["train-support-1038", "train-fiqa-1036", "train-legal-de-1035"])
    await desk.press("o")
    await desk.until(lambda: isinstance(desk.screen, CompareScreen) and " 1038 " in words(desk.pilot, "#chart"))


async def swept(desk: Desk) -> None:
    desk.app.open_run(SWEEP)
    await desk.until(lambda: isinstance(desk.screen, SweepScreen) and "complete" in screen_text(desk.pilot))


@stage("sweep-trials", "table", SWEEPS, "table")
async def sweep_trials(desk: Desk) -> None:
    await swept(desk)
    await focus("#trials", "1")(desk)


@stage("sweep-chart", "chart", SWEEPS, "chart sweep")
async def sweep_chart(desk: Desk) -> None:
    await swept(desk)
    await focus("#chart", "2")(desk)


@stage("sweep-facts", "table", SWEEPS, "table")
async def sweep_facts(desk: Desk) -> None:
    await swept(desk)
    await focus("#facts", "3")(desk)


@stage("compare-chart", "chart", COMPARE)
async def compare_chart(desk: Desk) -> None:
    await compared(desk)
    await focus("#chart", "1")(desk)


@stage("compare-metrics", "table", COMPARE, "table")
async def compare_metrics(desk: Desk) -> None:
    await compared(desk)
    await focus("#metrics", "2")(desk)


@stage("compare-facts", "table", COMPARE, "table")
async def compare_facts(desk: Desk) -> None:
    await compared(desk)
    await focus("#facts", "3")(desk)


@stage("linked", "chart linked", OVER_PAGES, gpus=2)
async def linked(desk: Desk) -> None:
    await opened(desk)
    await desk.press("p")
    await desk.until(lambda: isinstance(desk.screen, LinkedScreen) and "host" in screen_text(desk.pilot))


async def form(desk: Desk) -> None:
    await desk.press("n")
    await desk.until(lambda: isinstance(desk.screen, NewRunScreen) and "dataset.path" in words(desk.pilot, "#fields"))
    await desk.until(lambda: "4,950 rows" in " ".join(words(desk.pilot, "#found").split()) or desk.screen._offers._pages.get("model"))
    desk.focused(FormView).action_end(False)


stage("form", "fields form", OVER_PAGES)(form)


@stage("rendered", "rendered rendered_page", OVER_PAGES, "rendered rendered_page")
async def rendered(desk: Desk) -> None:
    await form(desk)
    await desk.press("p")
    await desk.until(lambda: isinstance(desk.screen, RenderedScreen) and "[[Yes" in screen_text(desk.pilot))
    desk.focused(RenderedPane).action_end(False)


@stage("form-field", "field edit fields form", OVER_PAGES, "field edit")
async def field_written(desk: Desk) -> None:
    await form(desk)
    while desk.focused(FormView).key != "name":
        desk.focused(FormView).action_move(1)
    await desk.press("enter")
    desk.focused(FieldLine)


stage("queue", "table queue", PAGES)(focus("#waiting", "3"))
stage("queue-running", "table queue", PAGES, "table")(focus("#running", "3"))
stage("gpus", "table gpus", PAGES, gpus=4)(focus("#holders", "4"))
stage("gpus-cards", "table gpus", PAGES, "table", gpus=4)(focus("#cards", "4"))
stage("inbox", "table inbox", PAGES)(focus("#notices", "5"))


async def queried(desk: Desk) -> None:
    desk.app.show_sql("select 1")
    await desk.until(lambda: isinstance(desk.screen, SqlScreen) and "train/loss" in screen_text(desk.pilot))


@stage("sql-table", "table sql", OVER_PAGES)
async def sql_table(desk: Desk) -> None:
    await queried(desk)
    await focus("#table RowTable")(desk)


@stage("sql-chart", "chart sql", OVER_PAGES, "chart")
async def sql_chart(desk: Desk) -> None:
    await queried(desk)
    await desk.press("c")
    await focus("#chart")(desk)


@stage("hosts", "hosts", OVER_PAGES)
async def hosts(desk: Desk) -> None:
    desk.app.show_hosts(["here", "other"])
    await desk.until(lambda: isinstance(desk.screen, HostsScreen) and isinstance(desk.app.focused, HostColumn))
    await desk.until(lambda: all(column.state.live for column in desk.screen.query(HostColumn)))
    next(iter(desk.screen.query(HostColumn))).focus()
    await desk.pilot.pause()


@stage("travel", "travel table pulse", PAGES, "travel everywhere", moment=MOMENT - 450)
async def travelling(desk: Desk) -> None:
    desk.app.enter_past(MOMENT - 450)
    await desk.until(lambda: isinstance(desk.app.focused, TravelBar) and desk.app.state.past_events and desk.app.focused._first)


def dialog(name: str, place: str, *keys: str, kind: type[Any], pressed: str | None = None) -> None:
    @stage(name, place, pressed=pressed)
    async def go(desk: Desk) -> None:
        await desk.press(*keys)
        await desk.until(lambda: isinstance(desk.screen, kind))


@stage("help", "help")
async def helped(desk: Desk) -> None:
    await desk.press("question_mark")
    await desk.until(lambda: desk.screen.query("#keys"))


@stage("stop", "stop")
async def stopping(desk: Desk) -> None:
    await desk.press("x")
    await desk.until(lambda: desk.screen.query("#question"))


@stage("steer", "steer")
async def steering(desk: Desk) -> None:
    await opened(desk)
    await desk.press("P")
    await desk.until(lambda: desk.screen.query("#question"))


@stage("confirm", "confirm")
async def confirming(desk: Desk) -> None:
    await runs(desk)
    table = desk.screen.query_one("#every")
    table._go(8)
    await desk.press("D")
    await desk.until(lambda: isinstance(desk.screen, ConfirmScreen))


@stage("choose", "choose table")
async def choosing(desk: Desk) -> None:
    await desk.press("ctrl+s")
    await desk.until(lambda: desk.screen.query("#choices") and desk.screen.query_one("#choices").total)


@stage("jump", "jump")
async def jumping(desk: Desk) -> None:
    await desk.press("apostrophe")
    await desk.until(lambda: desk.screen.query("#label-a"))


@stage("command", "command")
async def commanding(desk: Desk) -> None:
    await desk.press("colon")
    await desk.until(lambda: isinstance(desk.screen, CommandLine) and desk.screen._offered)


@stage("palette", "command")
async def offered(desk: Desk) -> None:
    await desk.press("ctrl+p")
    await desk.until(lambda: desk.screen.query("#matching") and desk.screen.query_one("#matching").total)


def busy_engine(gpus: int) -> FakeEngine:
    """The engine of the pictures with a longer queue, more to read, and something to scroll."""
    engine = still_engine(gpus)
    train = engine.running[0]["id"]
    engine.specs |= {f"train-next-{number:04d}": TRAIN for number in (52, 53, 54)}
    engine.waiting += [
        summary(f"train-next-{number:04d}", "queued", reason="waits for a CPU slot", queue_position=number - 50, submitted_at=MOMENT - 60)
        for number in (52, 53, 54)
    ]
    engine.said[train] = [
        {"type": "sample", "offset": 10 * at, "t": MOMENT - 800 + at, "step": at, "prompt": f"prompt {at % 2}", "text": f"answer {at}"}
        for at in range(1, 60)
    ]
    return engine


@asynccontextmanager
async def at(name: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    """A viewer whose engine is asked only when something hurries it, at a stage."""
    from llmops_tui.screens import editor

    chosen = STAGES[name]
    engine = busy_engine(chosen.gpus)
    app = LlmopsApp(engine, status_seconds=3600.0, boxes=other_box)
    app.state.host, app.state.now = "box", lambda: MOMENT
    heard: list[Message] = []
    async with app.run_test(size=(80, 24), message_hook=heard.append) as pilot:
        desk = Desk(pilot, engine, chosen, app, heard)
        monkeypatch.setattr(app, "exit", lambda *args, **options: desk.exits.append(None))

        def edit(app: App[Any], text: str, file: str = "") -> str:
            desk.edited.append(text)
            raise editor.UsageError("no editor here", "set VISUAL")

        monkeypatch.setattr(editor, "edit", edit)
        await desk.until(lambda: app.state.live and app.state.events and app.state.selected)
        await desk.enter()
        try:
            yield desk
        finally:
            monkeypatch.undo()


def claims(app: LlmopsApp) -> dict[str, str]:
    """Which key of the table each pressed key means here: the nearest part that binds it has it, text only what is written in."""
    found: dict[str, str] = {}
    ids = {key.id for key in in_force()}
    for _, bindings in app.screen._modal_binding_chain:
        for name, bound in bindings.key_to_bindings.items():
            found.setdefault(
                name, next((b.id for b in bound if b.id in ids), None) or bound[0].action.removeprefix("screen.").removesuffix("_text")
            )
    return found


def written_in(app: LlmopsApp, name: str) -> bool:
    """Whether the key is text for the focused part."""
    return app.focused is not None and app.focused.check_consume_key(name, character_of(name))


__all__ = ["STAGES", "Desk", "Stage", "at", "claims", "places_now", "written_in"]
