"""The viewer: a Textual app over one state that the feed fills. It owns nothing; leaving it stops nothing."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from textual import events
from textual.app import App
from textual.screen import Screen
from textual.widget import Widget

from llmops_tui.errors import LlmopsError
from llmops_tui.keys import bindings, key_name, keymap, remap
from llmops_tui.reach import Box, reach
from llmops_tui.screens import palette
from llmops_tui.screens.attention import sequences
from llmops_tui.screens.board import Board
from llmops_tui.screens.client_protocol import EngineClient
from llmops_tui.screens.farewell import farewell
from llmops_tui.screens.feed import SLOW_FACTOR, Feed
from llmops_tui.screens.line_speed import LineSpeed, waiting_bytes
from llmops_tui.screens.messages import EngineEventArrived, EngineLost, HistoryArrived, PastArrived, Refused, StatusArrived
from llmops_tui.screens.moving import Moves
from llmops_tui.screens.palettes import PALETTES
from llmops_tui.screens.pulse import PulseScreen
from llmops_tui.screens.state import ViewState
from llmops_tui.screens.view_file import ViewFile
from llmops_tui.specs.console import ConsoleSettings
from llmops_tui.specs.notable import Notable, notable

_BETWEEN = "between"  # the mode while the pages of one box make room for another's
_NOTICE_SECONDS = 5.0
_KEY_SECONDS = 0.5


def _page(module: str, name: str) -> Callable[[], Screen[Any]]:
    """A page that is imported when it is first gone to."""
    return lambda: getattr(importlib.import_module(f"llmops_tui.screens.{module}"), name)()


def _takes_keys(widget: Widget) -> bool:
    """Whether the widget reads keys itself, as a text field does, and not only through bindings."""
    return type(widget)._on_key is not Widget._on_key or hasattr(widget, "on_key")


async def _done_with(widget: Widget) -> None:
    """Until the widget has done all that was sent to it; not for long, it may wait for the app itself."""
    done = asyncio.Event()
    if widget.call_later(done.set):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), _KEY_SECONDS)


class LlmopsApp(App[None]):
    """`client` is anything with the methods of `EngineClient`; it is only called from threads. `run_id`: the page it opens on.

    `problem` is what was wrong with the settings file, said at the foot; `view` is where the viewer remembers how it stood.
    """

    CSS_PATH = "screens/console.tcss"
    ENABLE_COMMAND_PALETTE = False
    TITLE = "llmops-tui"
    MODES: ClassVar[dict[str, str | Callable[[], Screen[Any]]]] = {
        "pulse": PulseScreen,
        "runs": _page("runs", "RunsScreen"),
        "queue": _page("queue", "QueueScreen"),
        "gpus": _page("gpus", "GpusScreen"),
        "inbox": _page("inbox", "InboxScreen"),
    }
    DEFAULT_MODE = "pulse"
    BINDINGS = bindings("everywhere")

    def __init__(
        self,
        client: EngineClient,
        status_seconds: float | None = None,
        run_id: str | None = None,
        settings: ConsoleSettings | None = None,
        view: ViewFile | None = None,
        problem: str = "",
        box: Box | None = None,
        boxes: Callable[[str], Box] = reach,
    ) -> None:
        self.settings: ConsoleSettings = settings or ConsoleSettings()
        super().__init__()
        self.client = client
        self.view = view or ViewFile(None)
        self.moves = Moves(
            self, box or Box("", client, None, os.getcwd, lambda ask: client.ensure_engine(), lambda: None), self.view, boxes
        )
        self._first_run = run_id
        self._problem = problem or remap(self.settings.keys)
        self.state = self._fresh_state()
        self.ascii_only = palette.unicode_missing() if self.settings.ascii == "auto" else self.settings.ascii == "on"
        self._status_seconds = status_seconds or self.settings.status_seconds
        self.feed = Feed(client, self.post_message, self._status_seconds)
        self._speed = LineSpeed()
        self._slow_wish = self.settings.low_bandwidth
        self._ticks = 0
        self._notices = 0

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """The names of the style sheet, so that it can be read before a palette is chosen."""
        return PALETTES["dark"].theme().variables

    def on_mount(self) -> None:
        """The frame first; the engine is asked once it is painted."""
        self.set_keymap(keymap())
        for number, command in enumerate(self.settings.commands):
            self.bind(key_name(command.key), f"custom({number})", description=command.title, show=False)
        if self._slow_wish == "on":
            self._set_slow(True)
        wished = self.settings.theme
        few = self.console.color_system == "standard"
        self.wear(("sixteen" if few else "dark") if wished == "auto" else wished)
        self.set_class(self.ascii_only, "-ascii")
        self.call_after_refresh(self._begin)

    def wear(self, name: str) -> None:
        """Draw everything in another palette."""
        chosen = PALETTES[name]
        palette.use(chosen)
        theme = chosen.theme()
        self.register_theme(theme)
        self.theme = theme.name

    def _begin(self) -> None:
        self.feed.start()
        self.set_interval(1.0, self._tick)
        self._stand_as_remembered()
        if self._problem:
            self.tell(self._problem, "bad")

    def _stand_as_remembered(self) -> None:
        """The page, the run, the form that was open when the viewer was left, or the run it was opened for."""
        if self.view.mode in self.MODES and self.view.mode != "pulse" and self._first_run is None:
            self.switch_mode(self.view.mode)
        run_id = self._first_run or self.view.run
        if run_id:
            self.open_run(run_id)
        form = self.view.pages.get("new", {})
        if form.get("open") is True and self._first_run is None:
            self.new_run(base=form["base"] if isinstance(form.get("base"), str) else None)
        hosts = self.view.pages.get("hosts", {})
        if hosts.get("open") is True and isinstance(names := hosts.get("names"), list):
            self.show_hosts([name for name in names if isinstance(name, str)])

    @property
    def here(self) -> str:
        """This box's own name."""
        return os.uname().nodename

    def _fresh_state(self) -> ViewState:
        name = self.moves.current.name
        return ViewState(host=name or self.here, remote=bool(name), seen=self.view.seen)

    async def on_event(self, event: events.Event) -> None:
        """One key after the other: what is typed right behind a key that opens a page is meant for that page.

        Textual hands a key to the focused widget and comes back to it when it has bubbled up, after all keys that were typed meanwhile:
        `:low on` typed quickly would open a run with its `l`. So a key that nobody takes as text acts at once, and text is waited for.
        """
        if not isinstance(event, events.Key) or event.is_forwarded or not self.screen_stack:
            await super().on_event(event)
            return
        writer = self.focused or self.screen
        if _takes_keys(writer) and event.is_printable:
            await super().on_event(event)
            await _done_with(writer)
            return
        acted = await self._check_bindings(event.key, priority=True) or await self._check_bindings(event.key)
        if not acted:
            await super().on_event(event)
        elif _takes_keys(writer):
            # Enter or Escape in a line is a message to the page around it, which then takes the keys back: the next key is the page's.
            for widget in writer.ancestors_with_self:
                if isinstance(widget, Widget):
                    await _done_with(widget)

    def on_unmount(self) -> None:
        """Nobody listens any more."""
        self.feed.stop()
        self._note_view()
        self.view.save()
        self.moves.close()

    def open_run(self, run_id: str) -> None:
        """The run's page on top of the present one."""
        from llmops_tui.screens.run import RunScreen

        self.push_screen(RunScreen(run_id))

    def hurry(self) -> None:
        """Something changed: ask now instead of in a second."""
        self.feed.hurry()

    def tell(self, text: str, role: str = "text") -> None:
        """A line at the foot for some seconds."""
        self.state.notice, self.state.notice_role = text, role
        self._notices += 1
        number = self._notices
        self._frame()

        def over() -> None:
            if number == self._notices:
                self.state.notice = ""
                self._frame()

        self.set_timer(_NOTICE_SECONDS, over)

    def travel(self, moment: float | None) -> None:
        """Show every panel as it was at a moment (Unix seconds), or the present."""
        self.state.travel(moment)
        self.feed.look_at(moment)
        self._frame()

    async def action_go(self, mode: str) -> None:
        """Another page. Waited for, as every page and dialog is: the next key, typed at once, is meant for it."""
        await self.switch_mode(mode)

    async def action_help(self) -> None:
        """The key table."""
        from llmops_tui.screens.help import HelpScreen
        from llmops_tui.screens.possible import places_now

        if not isinstance(self.screen, HelpScreen):
            await self.push_screen(HelpScreen(places_now(self), self.settings.commands))

    def action_leave(self) -> None:
        """Leave the viewer."""
        self.exit()

    def action_retry(self) -> None:
        """Ask again now; without an engine, start one."""
        self.feed.hurry(start_engine=not self.state.live)
        self.tell("asking the engine" if self.state.live else "connecting" if self.state.remote else "starting the engine", "muted")

    async def action_command_line(self, typed: str = "") -> None:
        """A command by its name."""
        from llmops_tui.screens.command_line import CommandLine

        await self.push_screen(CommandLine(self, typed))

    async def action_palette(self) -> None:
        """Everything that can be done here."""
        from llmops_tui.screens.action_palette import ActionPalette

        await self.push_screen(ActionPalette(self))

    def action_maximise(self) -> None:
        """The focused panel alone, or all again."""
        if (board := self.board()) is not None:
            board.maximise()

    def action_travel(self) -> None:
        """Into the past, or back to now."""
        from llmops_tui.screens.travel_bar import TravelBar

        if (board := self.board()) is not None:
            TravelBar.toggle(board)

    def enter_past(self, moment: float, run_id: str | None = None) -> None:
        """Show a moment, on the run's page if one is named."""
        from llmops_tui.screens.travel_bar import TravelBar

        if run_id:
            self.open_run(run_id)
        self.call_after_refresh(lambda: TravelBar.toggle(board, moment) if (board := self.board()) is not None else None)

    def leave_past(self) -> None:
        """Back to now."""
        if self.state.moment is not None:
            self.action_travel()

    def action_new_run(self) -> None:
        """The form of a new run, from the last one's spec."""
        self.new_run()

    def new_run(self, kind: str | None = None, base: str | None = None) -> None:
        """The form of a new run; `base`: a run whose spec it begins with."""
        from llmops_tui.screens.new_run import NewRunScreen

        if not any(isinstance(screen, NewRunScreen) for screen in self.screen_stack):
            self.push_screen(NewRunScreen(kind, base))

    async def action_export(self) -> None:
        """Choose a format and write."""
        from llmops_tui.screens.choose import ChooseScreen
        from llmops_tui.screens.exporting import offered

        if (board := self.board()) is not None:
            await self.push_screen(ChooseScreen("write what is shown", offered(board)), lambda form: self.export(form) if form else None)

    def export(self, form: str = "svg", file: str = "") -> None:
        """Write the page and say where."""
        from llmops_tui.screens import exporting

        async def write(board: Board) -> None:
            try:
                text = await exporting.content(board, form)
                path = exporting.write(text, form, board.PAGE, file, Path.cwd(), self.state.now())
            except LlmopsError as error:
                self.tell(str(error), "bad")
            else:
                self.tell(f"wrote {path}", "good")

        if (board := self.board()) is not None:
            self.run_worker(write(board))

    def action_slow_line(self) -> None:
        """On, off, by itself."""
        order = ("auto", "on", "off")
        self.slow_line(order[(order.index(self._slow_wish) + 1) % 3])

    def slow_line(self, wish: str) -> None:
        """Low-bandwidth mode: `on`, `off`, or `auto` (when the terminal cannot keep up)."""
        self._slow_wish = wish
        self._set_slow(wish == "on" or (wish == "auto" and self._speed.slow))
        self.tell({"on": "low bandwidth: fewer, slower updates", "off": "full rate", "auto": "the rate follows the line"}[wish], "muted")

    def _set_slow(self, slow: bool) -> None:
        self.state.slow = slow
        self.feed.seconds = self._status_seconds * (SLOW_FACTOR if slow else 1.0)
        self.set_class(slow, "-slow")
        for board in self._boards():
            board.call_after_refresh(board.redraw)

    def ask(self, run_id: str, message: str) -> None:
        """A polite note to a run's owner."""
        if (board := self.board()) is not None:
            board.change(lambda: self.client.ask(run_id, message), f"asked the owner of {run_id}")

    def reserve(self, gpus: list[int], seconds: float, note: str) -> None:
        """Keep GPUs for oneself, for a while."""
        if (board := self.board()) is not None:
            board.change(lambda: self.client.reserve(gpus, seconds, note), f"reserved GPU {', '.join(map(str, gpus))}")

    def show_sql(self, query: str) -> None:
        """The answer of the database on a page of its own."""
        from llmops_tui.screens.sql import SqlScreen

        self.push_screen(SqlScreen(query))

    def filter_runs(self, text: str) -> None:
        """The Runs page, filtered."""
        from llmops_tui.screens.runs import RunsScreen

        if isinstance(board := self.board(), RunsScreen):
            board.filter_by(text)

    def go_to_host(self, name: str) -> None:
        """The console at another box's engine, by ssh's name for it; "" is this box."""
        self.run_worker(self.moves.go(name))

    def show_hosts(self, names: Sequence[str]) -> None:
        """Several boxes side by side; without names those of the settings."""
        from llmops_tui.screens.hosts import HostsScreen, wrong_hosts

        wanted = list(dict.fromkeys(names)) or list(self.settings.hosts)
        if wrong := wrong_hosts(wanted):
            self.tell(wrong, "bad")
        elif not any(isinstance(screen, HostsScreen) for screen in self.screen_stack):
            self.push_screen(HostsScreen(wanted))

    async def arrive(self, box: Box, view: ViewFile) -> None:
        """Be at another box. Everything of the one before is left behind; what it still says is heard out, and drawn nowhere else."""
        self._note_view()
        self.view.save()
        self.feed.stop()
        await asyncio.sleep(0)  # what other threads have posted by now is in the queue then, and done with before `heard`
        heard = asyncio.Event()
        self.call_later(heard.set)
        await heard.wait()
        self._first_run = None
        self.client, self.view = box.client, view
        slow, self.state = self.state.slow, self._fresh_state()
        self.state.slow = slow
        self.feed = Feed(box.client, self.post_message, self.feed.seconds)
        await self._fresh_pages()
        self.feed.start()

    async def _fresh_pages(self) -> None:
        """New pages in the place of all that there are: those hold another box's answers."""
        self.add_mode(_BETWEEN, Screen)
        await self.switch_mode(_BETWEEN)
        for mode, page in self.MODES.items():
            await self.remove_mode(mode)
            self.add_mode(mode, page)
        await self.switch_mode(self.DEFAULT_MODE)
        await self.remove_mode(_BETWEEN)
        self._stand_as_remembered()

    async def action_jump(self) -> None:
        """Letters for every place to go."""
        from llmops_tui.screens.jump import JumpLabels

        if (board := self.board()) is not None:
            await self.push_screen(JumpLabels(board))

    def action_custom(self, number: int) -> None:
        """One of the user's own commands."""
        from llmops_tui.screens.custom import run_custom

        if (board := self.board()) is not None:
            run_custom(self, board, self.settings.commands[number])

    def on_status_arrived(self, message: StatusArrived) -> None:
        """The newest answer."""
        if self.state.moment is not None:
            return
        returned = self.state.status is not None and not self.state.live
        self.state.take_status(message.status)
        if returned:
            self.tell("the engine is back", "good")
        self._show()

    def on_past_arrived(self, message: PastArrived) -> None:
        """The picture of the moment travelled to, if it is still meant."""
        if message.moment == self.state.moment:
            self.state.take_past(message.status, message.history, message.events)
            self._show()

    def on_history_arrived(self, message: HistoryArrived) -> None:
        """The strips and the events begin in the past."""
        if self.state.moment is None:
            self.state.take_history(message.history)
            self.state.take_events(message.events)
            for board in self._boards():
                board.redraw()

    def on_refused(self, message: Refused) -> None:
        """The engine said no."""
        self.tell(message.reason, "bad")

    def on_engine_lost(self, message: EngineLost) -> None:
        """Keep what is shown, say that it is old."""
        self.state.lose(message.reason)
        self._frame()

    def on_engine_event_arrived(self, message: EngineEventArrived) -> None:
        """A line for the events; the next status brings what it changed."""
        self.state.take_event(message.event)
        found = notable(message.event)
        if found is not None:
            self._call_attention(found)
        if message.event["type"] in ("run.state", "run.submitted"):
            self.feed.hurry()

    def board(self) -> Board | None:
        """The page on top, or the one under a dialog."""
        return next(iter(self._boards()), None)

    def _show(self) -> None:
        for board in self._boards():
            board.perform(board.draw_frame, board.draw, board.status_arrived)

    def _call_attention(self, found: Notable) -> None:
        urgent = found.level in ("bad", "note")
        out = sequences(found.title, found.text, bell=self.settings.bell and urgent, desktop=self.settings.desktop)
        if out and self._driver is not None and not self.is_headless:
            self._driver.write(out)

    def _tick(self) -> None:
        if self._slow_wish == "auto" and self._speed.look(waiting_bytes()):
            self._set_slow(self._speed.slow)
        self._ticks += 1
        if not self.state.slow or self._ticks % int(SLOW_FACTOR) == 0:
            self._frame()
        self._note_view()

    def _note_view(self) -> None:
        """What stands on the screen, for the next time."""
        board = self.board()
        if board is None:
            return
        self.view.mode = self.current_mode
        self.view.run = board.run_id() if board.PAGE == "run" else None
        board.perform(lambda: self.view.pages.__setitem__(board.PAGE, board.remember()))
        self.view.save()

    def _frame(self) -> None:
        for board in self._boards():
            board.perform(board.draw_frame)

    def _boards(self) -> list[Board]:
        pages = [screen for screen in self.screen_stack if isinstance(screen, Board)]
        return [page for page in pages[-1:] if page.ready]


def run_app(
    client: EngineClient, run_id: str | None = None, config: Path | None = None, view: Path | None = None, box: Box | None = None
) -> int:
    """Show the viewer (on a run's page if one is named) until the user leaves it; then say what goes on. The exit code of the program.

    `box`: the one that `client` is of, where that is another one than this.
    """
    from llmops_tui.specs.console import load_console

    settings, problem = load_console(config) if config is not None else (ConsoleSettings(), "")
    app = LlmopsApp(client, run_id=run_id, settings=settings, view=ViewFile(view), problem=problem, box=box)
    app.run(mouse=settings.mouse)
    if app.return_code == 0:
        state = app.state
        again = f"llmops-tui --host {state.host}" if state.remote else "llmops-tui"
        if state.present is None:
            print(f"{state.reason or 'no engine answered'}; `{again} doctor` says more", file=sys.stderr)
        else:
            answers = state.live and state.connection != "SILENT"
            print(farewell(state.still_running(), len(state.present["waiting"]), answers, again), file=sys.stderr)
    return app.return_code or 0
