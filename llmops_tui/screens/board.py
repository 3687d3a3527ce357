"""What every full screen has: a header line, a foot line, the client, its memory, and the requests that all pages make."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from textual._context import active_app
from textual.await_complete import AwaitComplete
from textual.css.query import NoMatches
from textual.widget import Widget

from llmops_tui import __version__
from llmops_tui.errors import LlmopsError
from llmops_tui.keys import hints
from llmops_tui.screens.calls import call
from llmops_tui.screens.steady import SteadyScreen
from llmops_tui.screens.widgets.lines import LineWidget
from llmops_tui.screens.widgets.panels import foot, header
from llmops_tui.specs.states import ACTIVE, WAITING

if TYPE_CHECKING:
    from textual.binding import BindingsMap
    from textual.dom import DOMNode

    from llmops_tui.app import LlmopsApp
    from llmops_tui.screens.client_protocol import EngineClient
    from llmops_tui.screens.state import ViewState

WIDE_COLUMNS = 120
SHORT_ROWS = 16


class Board(SteadyScreen[None]):
    """A page that draws the app's state: subclasses say which run is meant and how they draw."""

    HORIZONTAL_BREAKPOINTS: list[tuple[int, str]] | None = [(0, "-narrow"), (WIDE_COLUMNS, "-wide")]  # noqa: RUF012  # as the base class has it
    VERTICAL_BREAKPOINTS: list[tuple[int, str]] | None = [(0, "-short"), (SHORT_ROWS, "-tall")]  # noqa: RUF012  # as the base class has it
    PLACES: tuple[str, ...] = ()
    PAGE = ""
    """The page's name: the mode's, and under which its memory is kept."""
    ready = False

    def __init__(self) -> None:
        super().__init__()
        # A new page is styled when its parts are mounted; Textual would read every style sheet again for it, 25 ms each time.
        app = active_app.get(None)
        self._css_update_count = app._css_update_count if app is not None else -1

    def on_mount(self) -> None:
        """The parts are there: drawing may begin. Between being pushed and this, answers may already come."""
        self.ready = True
        remembered = self.llmops.view.pages.get(self.PAGE)
        if remembered:
            self.recall(remembered)

    def on_unmount(self) -> None:
        """And may not any more."""
        self.ready = False

    @property
    def _binding_chain(self) -> list[tuple[DOMNode, BindingsMap]]:
        """Textual's, from the focus outwards; behind the bar of time travel the panel that had the keys before it."""
        chain = super()._binding_chain
        panel = getattr(self.focused, "panel", None)
        if isinstance(panel, Widget) and panel.is_attached and panel.screen is self:
            within = [
                node for node in panel.ancestors_with_self if isinstance(node, Widget) and node is not self and self in node.ancestors
            ]
            maps = [(node, node._bindings.copy()) for node in within]
            for _, keys in maps:
                keys.apply_keymap(self.app._keymap)
            chain[1:1] = maps
        return chain

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
        """The run that the keys mean; None where the page means none."""
        return None

    def leave(self) -> AwaitComplete:
        """To the page before; once, however often it was asked for in one burst of keys."""
        return self.app.pop_screen() if self.is_active and len(self.app.screen_stack) > 1 else AwaitComplete()

    def fields(self) -> dict[str, str]:
        """What the user's own commands may name in braces: the selection."""
        run = self.state.run(self.run_id())
        if run is None:
            return {"run": self.run_id() or ""}
        return {
            "run": run["id"], "kind": run["kind"], "name": run["name"], "state": run["state"], "owner": run["owner"],
            "gpus": ",".join(run["gpus"]),
        }  # fmt: skip

    def draw(self) -> None:
        """Show the state."""
        raise NotImplementedError

    def remember(self) -> dict[str, Any]:
        """What of this page should stand again after a lost connection, as JSON values."""
        return {}

    def recall(self, remembered: dict[str, Any]) -> None:
        """Stand as remembered. The values come from a file: what does not fit is left out."""

    def export_rows(self) -> tuple[list[str], list[list[Any]]] | None:
        """Headings and rows of the page's table, for CSV and JSON; None where it has none."""
        return None

    async def whole_table(self) -> tuple[list[str], list[list[Any]]] | None:
        """What `export_rows` tells, with the rows that are not on the page yet fetched. Raises what the client raises."""
        return self.export_rows()

    def export_markdown(self) -> str | None:
        """The page as markdown, where that says more than a picture of it."""
        return None

    def status_arrived(self) -> None:
        """A good answer came (also of another moment): ask for what hangs on it."""

    def draw_frame(self) -> None:
        """Header and foot."""
        head, bottom = self.query_one("#header", LineWidget), self.query_one("#foot", LineWidget)
        head.show_lines([header(self.state, head.size.width)])
        notice, role = self.state.notice, self.state.notice_role
        if not notice and not self.state.live and self.state.reason:
            notice, role = f"r {'tries again' if self.state.remote else 'starts an engine'} · {self.state.reason}", "warn"
        elif not notice and self.state.connection == "SILENT":
            notice, role = "the engine holds its socket but does not answer; every run goes on", "warn"
        page = self.PAGE if self.PAGE in self.llmops.MODES else ""
        bottom.show_lines([foot(hints(*self.PLACES, "everywhere"), notice, role, bottom.size.width, page)])

    def on_resize(self) -> None:
        """Everything depends on the width."""
        self.call_after_refresh(self.redraw)

    def on_screen_resume(self) -> None:
        """Back on top: what came meanwhile is shown, and the bar of time travel stands where the past is shown."""
        if self.state.moment is not None or self.query("TravelBar"):
            from llmops_tui.screens.travel_bar import TravelBar

            TravelBar.settle(self)
        self.call_after_refresh(self.redraw)
        self.call_after_refresh(self.perform, self.status_arrived)

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
        except (KeyError, TypeError) as error:
            if not self.state.other_version():
                raise
            # An engine of another version may leave out what this page shows; what it can show it does.
            told = (
                f"the engine is {self.state.other_version()}, this console {__version__}: {type(error).__name__} {error}; restart the older"
            )
            self.state.notice, self.state.notice_role = told, "bad"

    def maximise(self) -> None:
        """The focused panel between header and foot, all else aside; or everything back."""
        aside = list(self.query(".-aside"))
        for widget in aside:
            widget.remove_class("-aside")
        at = None if aside else self._focused_panel()
        while at is not None and at is not self:
            above = at.parent
            for sibling in above.children if isinstance(above, Widget) else ():
                if sibling is not at and sibling.id not in ("header", "foot", "travel"):
                    sibling.add_class("-aside")
            at = above if isinstance(above, Widget) else None
        self.call_after_refresh(self.redraw)

    def _focused_panel(self) -> Widget | None:
        at: Widget | None = self.focused
        while at is not None and not at.has_class("panel"):
            at = at.parent if isinstance(at.parent, Widget) else None
        return at

    def refuse_in_past(self) -> bool:
        """Whether nothing may be changed because the past is shown; says so."""
        if self.state.moment is not None:
            self.llmops.tell("this is the past: t brings you back to now", "warn")
        return self.state.moment is not None

    async def action_stop_run(self) -> None:
        """Ask, then stop."""
        if self.refuse_in_past():
            return
        run = self.state.run(self.run_id())
        if run is None or run["state"] not in ACTIVE | WAITING:
            self.llmops.tell(f"{self.run_id() or 'nothing'} does not run", "warn")
            return
        from llmops_tui.screens.stop import StopScreen

        run_id = run["id"]

        def answered(mode: str | None) -> None:
            if mode:
                how = "writes a checkpoint and stops" if mode == "checkpoint" else "is being stopped"
                self.llmops.tell(f"asking the engine to stop {run_id}…", "muted")
                self.change(lambda: self.client.stop_run(run_id, mode), f"{run_id} {how}")

        await self.app.push_screen(StopScreen(run_id, run["state"]), answered)

    def action_checkpoint(self) -> None:
        """Ask the job to save now."""
        if self.refuse_in_past():
            return
        run = self.state.run(self.run_id())
        if run is None or run["state"] != "running":
            self.llmops.tell(f"{self.run_id() or 'nothing'} does not run", "warn")
            return
        run_id = run["id"]
        self.change(lambda: self.client.checkpoint(run_id), f"{run_id} was asked for a checkpoint")

    def change(self, wish: Callable[[], object], done: str, after: Callable[[], None] | None = None) -> None:
        """Do a change off the loop; then say `done` at the foot, or what the engine had against it."""
        self.run_worker(self._change(wish, done, after))

    async def _change(self, wish: Callable[[], object], done: str, after: Callable[[], None] | None) -> None:
        try:
            await call(wish)
        except LlmopsError as error:
            self.llmops.tell(str(error), "bad")
        else:
            self.llmops.tell(done, "good")
            self.llmops.hurry()
            if after is not None and self.ready:
                after()
