"""The viewer: a Textual app over one state that the feed fills. It owns nothing; leaving it stops nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, ClassVar

from textual.app import App
from textual.screen import Screen

from llmops_tui.keys import bindings
from llmops_tui.screens.board import Board
from llmops_tui.screens.client_protocol import EngineClient
from llmops_tui.screens.feed import Feed
from llmops_tui.screens.messages import EngineEventArrived, EngineLost, HistoryArrived, StatusArrived
from llmops_tui.screens.palette import theme, unicode_missing
from llmops_tui.screens.pulse import PulseScreen
from llmops_tui.screens.state import ViewState
from llmops_tui.specs.answers import RunSummary

_NOTICE_SECONDS = 5.0


class LlmopsApp(App[None]):
    """`client` is anything with the methods of `EngineClient`; it is only called from threads. `run_id`: the page it opens on."""

    CSS_PATH = "screens/console.tcss"
    ENABLE_COMMAND_PALETTE = False
    TITLE = "llmops-tui"
    MODES: ClassVar[dict[str, str | Callable[[], Screen[Any]]]] = {"pulse": PulseScreen}
    DEFAULT_MODE = "pulse"
    BINDINGS = bindings("everywhere")

    def __init__(self, client: EngineClient, status_seconds: float = 1.0, run_id: str | None = None) -> None:
        super().__init__()
        self.client = client
        self._first_run = run_id
        self.state = ViewState(host=os.uname().nodename)
        self.ascii_only = unicode_missing()
        self.feed = Feed(client, self.post_message, status_seconds)
        self._notices = 0

    def on_mount(self) -> None:
        """The frame first; the engine is asked once it is painted."""
        self.register_theme(theme())
        self.theme = "llmops"
        self.set_class(self.ascii_only, "-ascii")
        self.call_after_refresh(self._begin)

    def _begin(self) -> None:
        self.feed.start()
        self.set_interval(1.0, self._tick)
        if self._first_run:
            self.open_run(self._first_run)

    def on_unmount(self) -> None:
        """Nobody listens any more."""
        self.feed.stop()

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

    def action_help(self) -> None:
        """The key table."""
        from llmops_tui.screens.help import HelpScreen

        if not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen())

    def action_leave(self) -> None:
        """Leave the viewer."""
        self.exit()

    def action_retry(self) -> None:
        """Ask again now; without an engine, start one."""
        self.feed.hurry(start_engine=not self.state.live)
        self.tell("asking the engine" if self.state.live else "starting the engine", "muted")

    def on_status_arrived(self, message: StatusArrived) -> None:
        """The newest answer."""
        returned = self.state.status is not None and not self.state.live
        self.state.take_status(message.status)
        if returned:
            self.tell("the engine is back", "good")
        for board in self._boards():
            board.perform(board.draw_frame, board.draw, board.status_arrived)

    def on_history_arrived(self, message: HistoryArrived) -> None:
        """The strips begin in the past."""
        self.state.take_history(message.history)
        for board in self._boards():
            board.redraw()

    def on_engine_lost(self, message: EngineLost) -> None:
        """Keep what is shown, say that it is old."""
        self.state.lose(message.reason)
        self._frame()

    def on_engine_event_arrived(self, message: EngineEventArrived) -> None:
        """A line for the events; the next status brings what it changed."""
        self.state.events.append(message.event)
        if message.event["type"] in ("run.state", "run.submitted"):
            self.feed.hurry()

    def _tick(self) -> None:
        self._frame()

    def _frame(self) -> None:
        for board in self._boards():
            board.perform(board.draw_frame)

    def _boards(self) -> list[Board]:
        """The page on top, or the one under a dialog."""
        pages = [screen for screen in self.screen_stack if isinstance(screen, Board)]
        return [page for page in pages[-1:] if page.ready]


def farewell(running: list[RunSummary], waiting: int, live: bool = True) -> str:
    """What the shell is told when the viewer has gone; `live` is false where the engine's last answer is old."""
    if not live:
        names = ", ".join(run["id"] for run in running[:3]) + (", …" if len(running) > 3 else "")
        going = f"{names} goes on without it" if len(running) == 1 else f"{names} go on without it" if running else "nothing ran"
        queued = f", {waiting} wait{'s' if waiting == 1 else ''} until it is back" if waiting else ""
        return f"the engine does not answer; by its last word {going}{queued}; `llmops-tui` starts it again"
    if not running and not waiting:
        return "nothing runs; `llmops-tui` brings you back"
    jobs = f"{len(running)} job{'s' if len(running) != 1 else ''} keep{'s' if len(running) == 1 else ''} running" if running else ""
    queued = f"{waiting} wait{'s' if waiting == 1 else ''} in the queue" if waiting else ""
    names = f" ({', '.join(run['id'] for run in running[:3])}{', …' if len(running) > 3 else ''})" if running else ""
    return f"{jobs}{names}{', ' if jobs and queued else ''}{queued}; `llmops-tui` brings you back"


def run_app(client: EngineClient, run_id: str | None = None) -> int:
    """Show the viewer (on a run's page if one is named) until the user leaves it; then say what goes on. The exit code of the program."""
    app = LlmopsApp(client, run_id=run_id)
    app.run()
    if app.return_code == 0:
        state = app.state
        waiting = len(state.status["waiting"]) if state.status else 0
        if state.status is None:
            print(f"{state.reason or 'no engine answered'}; `llmops-tui doctor` says more", file=sys.stderr)
        else:
            print(farewell(state.still_running(), waiting, state.connection == "LIVE"), file=sys.stderr)
    return app.return_code or 0
