"""The viewer: what its keys and commands do. It owns nothing; leaving it stops nothing."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from textual.screen import Screen

from llmops_tui.errors import LlmopsError
from llmops_tui.keys import bindings
from llmops_tui.reach import Box
from llmops_tui.screens.board import Board
from llmops_tui.screens.client_protocol import EngineClient
from llmops_tui.screens.console_app import ConsoleApp
from llmops_tui.screens.farewell import farewell
from llmops_tui.screens.pulse import PulseScreen
from llmops_tui.screens.view_file import ViewFile
from llmops_tui.specs.console import ConsoleSettings
from llmops_tui.specs.states import CONDUCTED


def _page(module: str, name: str) -> Callable[[], Screen[Any]]:
    """A page that is imported when it is first gone to."""
    return lambda: getattr(importlib.import_module(f"llmops_tui.screens.{module}"), name)()


class LlmopsApp(ConsoleApp):
    """The pages by their modes, and a method for everything that can be wished of the viewer."""

    CSS_PATH = "screens/console.tcss"
    ENABLE_COMMAND_PALETTE = False
    TITLE = "llmops-tui"
    MODES: ClassVar[dict[str, str | Callable[[], Screen[Any]]]] = {
        "pulse": PulseScreen,
        "runs": _page("runs", "RunsScreen"),
        "queue": _page("queue", "QueueScreen"),
        "gpus": _page("gpus", "GpusScreen"),
        "inbox": _page("inbox", "InboxScreen"),
        "serve": _page("serve", "ServeScreen"),
    }
    DEFAULT_MODE = "pulse"
    BINDINGS = bindings("everywhere")

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

    def new_run(
        self, kind: str | None = None, base: str | None = None, again: bool = False, given: Mapping[str, str] | None = None
    ) -> None:
        """The form of a new run, from the spec of `base` or with the fields `given`; `again`: it was open when the viewer was left."""
        from llmops_tui.screens.new_run import NewRunScreen

        if not any(isinstance(screen, NewRunScreen) for screen in self.screen_stack):
            self.push_screen(NewRunScreen(kind, base, again, given))

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
                if form in exporting.RUN_FORMS:
                    path = await exporting.write_run(board, form, file, Path.cwd())
                else:
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
        self.slow_line(order[(order.index(self.slow_wish) + 1) % 3])

    def slow_line(self, wish: str) -> None:
        """Low-bandwidth mode: `on`, `off`, or `auto` (when the terminal cannot keep up)."""
        self.slow_wish = wish
        self.set_slow(wish == "on" or (wish == "auto" and self.speed.slow))
        self.tell({"on": "low bandwidth: fewer, slower updates", "off": "full rate", "auto": "the rate follows the line"}[wish], "muted")

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

    def stand_as_remembered(self) -> None:
        """The page, the run, the form that was open when the viewer was left, or the run it was opened for."""
        if self.view.mode in self.MODES and self.view.mode != "pulse" and self.first_run is None:
            self.switch_mode(self.view.mode)
        run_id = self.first_run or self.view.run
        if run_id:
            self.open_run(run_id)
        form = self.view.pages.get("new", {})
        if form.get("open") is True and self.first_run is None:
            from llmops_tui.screens.beginnings import begun_with

            kind, given = begun_with(form)
            self.new_run(kind, form["base"] if isinstance(form.get("base"), str) else None, True, given)
        chat = self.view.pages.get("chat", {})
        if chat.get("open") is True and isinstance(chat.get("endpoint"), str) and self.first_run is None:
            self.open_chat(chat["endpoint"])
        hosts = self.view.pages.get("hosts", {})
        if hosts.get("open") is True and isinstance(names := hosts.get("names"), list):
            self.show_hosts([name for name in names if isinstance(name, str)])

    def show_endpoint(self, name: str) -> None:
        """The Serve page, on this endpoint."""
        from llmops_tui.screens.serve import ServeScreen

        async def show() -> None:
            while len(self.screen_stack) > 1:
                await self.pop_screen()
            await self.switch_mode("serve")
            if isinstance(board := self.screen, ServeScreen):
                board.go_to(name)

        self.call_later(show)

    def serve(self, model: str = "") -> None:
        """Serve a model: this one, or one that is chosen."""
        from llmops_tui.screens.serve_start import choose_model, offer_start

        if (board := self.board()) is None or board.refuse_in_past():
            return
        if model:
            self.run_worker(offer_start(board, model))
        else:
            self.run_worker(choose_model(board, "serve a model", lambda chosen: self.serve(chosen)))

    def show_requests(self, text: str = "") -> None:
        """The requests that were answered, newest first, filtered."""
        from llmops_tui.screens.requests import RequestsScreen

        if not any(isinstance(screen, RequestsScreen) for screen in self.screen_stack):
            self.push_screen(RequestsScreen(text))

    def open_chat(self, endpoint: str, version: str = "") -> None:
        """The chat with an endpoint; a version of it outright where one is named."""
        from llmops_tui.screens.chat import ChatScreen

        if not any(isinstance(screen, ChatScreen) for screen in self.screen_stack):
            self.push_screen(ChatScreen(endpoint, version))

    def open_run(self, run_id: str, pane: str = "") -> None:
        """The run's page on top of the present one, at one of its panes; of a sweep its trials, of a quantization its forms."""
        if run_id.partition("-")[0] in CONDUCTED:
            from llmops_tui.screens.sweep import SweepScreen

            self.push_screen(SweepScreen(run_id))
            return
        if run_id.partition("-")[0] == "quantize":
            from llmops_tui.screens.quantized import QuantizedScreen

            self.push_screen(QuantizedScreen(run_id, pane))
            return
        from llmops_tui.screens.run import RunScreen

        self.push_screen(RunScreen(run_id, pane))


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
