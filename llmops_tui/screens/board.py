"""What every full screen has: a header line, a foot line, the client, and the requests that both pages make."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from textual.css.query import NoMatches
from textual.screen import Screen

from llmops_tui.errors import LlmopsError
from llmops_tui.keys import hints
from llmops_tui.screens.calls import call
from llmops_tui.screens.widgets.lines import LineWidget
from llmops_tui.screens.widgets.panels import foot, header
from llmops_tui.specs.states import ACTIVE, WAITING

if TYPE_CHECKING:
    from llmops_tui.app import LlmopsApp
    from llmops_tui.screens.client_protocol import EngineClient
    from llmops_tui.screens.state import ViewState

WIDE_COLUMNS = 120
SHORT_ROWS = 16


class Board(Screen[None]):
    """A page that draws the app's state: subclasses say which run is meant and how they draw."""

    HORIZONTAL_BREAKPOINTS: list[tuple[int, str]] | None = [(0, "-narrow"), (WIDE_COLUMNS, "-wide")]  # noqa: RUF012  # as the base class has it
    VERTICAL_BREAKPOINTS: list[tuple[int, str]] | None = [(0, "-short"), (SHORT_ROWS, "-tall")]  # noqa: RUF012  # as the base class has it
    PLACES: tuple[str, ...] = ()
    ready = False

    def on_mount(self) -> None:
        """The parts are there: drawing may begin. Between being pushed and this, answers may already come."""
        self.ready = True

    def on_unmount(self) -> None:
        """And may not any more."""
        self.ready = False

    @property
    def llmops(self) -> LlmopsApp:
        """The app, typed."""
        return cast("LlmopsApp", self.app)

    @property
    def state(self) -> ViewState:
        """The newest answers."""
        return self.llmops.state

    @property
    def client(self) -> EngineClient:
        """The door to the engine."""
        return self.llmops.client

    def run_id(self) -> str | None:
        """The run that the keys mean."""
        raise NotImplementedError

    def draw(self) -> None:
        """Show the state."""
        raise NotImplementedError

    def status_arrived(self) -> None:
        """A good answer came: ask for what hangs on it."""

    def draw_frame(self) -> None:
        """Header and foot."""
        head, bottom = self.query_one("#header", LineWidget), self.query_one("#foot", LineWidget)
        head.show_lines([header(self.state, head.size.width, time.time())])
        notice, role = self.state.notice, self.state.notice_role
        if not notice and not self.state.live and self.state.reason:
            notice, role = f"r starts an engine · {self.state.reason}", "warn"
        elif not notice and self.state.connection == "SILENT":
            notice, role = "the engine holds its socket but does not answer; every run goes on", "warn"
        bottom.show_lines([foot(hints(*self.PLACES, "everywhere"), notice, role, bottom.size.width)])

    def on_resize(self) -> None:
        """Everything depends on the width."""
        self.call_after_refresh(self.redraw)

    def on_screen_resume(self) -> None:
        """Back on top: what came meanwhile is shown."""
        self.call_after_refresh(self.redraw)

    def redraw(self) -> None:
        """Frame and content."""
        self.perform(self.draw_frame, self.draw)

    def perform(self, *steps: Callable[[], None]) -> None:
        """Do the steps if the page's parts are there. A page on its way out loses them before it is told."""
        try:
            for step in steps if self.ready else ():
                step()
        except NoMatches:
            self.ready = False

    def action_stop_run(self) -> None:
        """Ask, then stop."""
        run = self.state.run(self.run_id())
        if run is None or run["state"] not in ACTIVE | WAITING:
            self.llmops.tell(f"{self.run_id() or 'nothing'} does not run", "warn")
            return
        from llmops_tui.screens.stop import StopScreen

        run_id = run["id"]

        def answered(mode: str | None) -> None:
            if mode:
                self.llmops.tell(f"asking the engine to stop {run_id}…", "muted")
                self.run_worker(self._stop(run_id, mode))

        self.app.push_screen(StopScreen(run_id, run["state"]), answered)

    def action_checkpoint(self) -> None:
        """Ask the job to save now."""
        run = self.state.run(self.run_id())
        if run is None or run["state"] != "running":
            self.llmops.tell(f"{self.run_id() or 'nothing'} does not run", "warn")
            return
        self.run_worker(self._checkpoint(run["id"]))

    async def _stop(self, run_id: str, mode: str) -> None:
        try:
            await call(self.client.stop_run, run_id, mode)
        except LlmopsError as error:
            self.llmops.tell(str(error), "bad")
        else:
            how = "writes a checkpoint and stops" if mode == "checkpoint" else "is being stopped"
            self.llmops.tell(f"{run_id} {how}", "good")
            self.llmops.hurry()

    async def _checkpoint(self, run_id: str) -> None:
        try:
            await call(self.client.checkpoint, run_id)
        except LlmopsError as error:
            self.llmops.tell(str(error), "bad")
        else:
            self.llmops.tell(f"{run_id} was asked for a checkpoint", "good")
