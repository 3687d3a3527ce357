"""One request: who asked what, who answered, where the time went, the text where it was kept, and what was thought of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.app import ComposeResult

from llmops_tui.errors import LlmopsError
from llmops_tui.keys import bindings
from llmops_tui.screens.board import Board
from llmops_tui.screens.calls import call
from llmops_tui.screens.request_cells import detail_lines
from llmops_tui.screens.widgets.lines import LineWidget, Run
from llmops_tui.screens.widgets.scrolling import ScrollingLines

if TYPE_CHECKING:
    from llmops_tui.screens.requests import RequestsScreen
    from llmops_tui.specs.answers_requests import RequestDetail


class RequestPane(ScrollingLines, can_focus=True):
    """Lines longer than the page."""

    DEFAULT_CSS = "RequestPane { height: 1fr; }"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._whole: list[list[Run]] = []
        self.top = 0

    def show(self, lines: list[list[Run]]) -> None:
        """Other lines; the place stays."""
        self._whole = lines
        self.draw()

    def scroll_by(self, lines: int) -> None:
        """Down, or up."""
        self.top += lines
        self.draw()

    def wheel(self, rows: int) -> None:
        """The wheel scrolls."""
        self.scroll_by(rows)

    def draw(self) -> None:
        """As much as fits."""
        height = max(1, self.size.height)
        self.top = max(0, min(self.top, len(self._whole) - height))
        self.show_lines(self._whole[self.top : self.top + height])


class RequestScreen(Board):
    """On top of the list it was chosen from; the keys to the side go through that list."""

    BINDINGS = bindings("request")
    PLACES = ("request",)

    def __init__(self, request_id: str, listed: RequestsScreen) -> None:
        super().__init__()
        self._request = request_id
        self._listed = listed
        self._detail: RequestDetail | None = None
        self._why = "asking the engine…"

    def compose(self) -> ComposeResult:
        """Header, the request, foot."""
        yield LineWidget(id="header")
        pane = RequestPane(id="pane")
        pane.add_class("panel")
        yield pane
        yield LineWidget(id="foot")

    def on_mount(self) -> None:
        """Ask for it."""
        self.set_focus(self.query_one("#pane"))
        self.run_worker(self._fetch(self._request))

    def draw(self) -> None:
        """Everything below the header."""
        pane = self.query_one(RequestPane)
        pane.border_title = self._request
        currency = self.state.status["currency"] if self.state.status else ""
        if self._detail is None:
            pane.show([[(f" {self._why}", "muted")]])
        else:
            pane.show(detail_lines(self._detail, pane.size.width, self.llmops.ascii_only, currency))

    def export_markdown(self) -> str | None:
        """Question and answer."""
        detail = self._detail
        return None if detail is None else f"# {self._request}\n\n## asked\n\n{detail['prompt']}\n\n## answered\n\n{detail['response']}\n"

    def action_back(self) -> None:
        """To the list."""
        self.leave()

    def action_step(self, by: int) -> None:
        """A neighbour in the list."""
        if other := self._listed.neighbour(self._request, by):
            self._request, self._detail, self._why = other, None, "asking the engine…"
            self.query_one(RequestPane).top = 0
            self._listed.query_one("#requests").action_move(by)  # type: ignore[attr-defined]
            self.run_worker(self._fetch(other))
        else:
            self.llmops.tell("no further one is listed", "muted")

    def action_scroll(self, lines: int) -> None:
        """Down, or up."""
        self.query_one(RequestPane).scroll_by(lines)

    def action_page(self, pages: int) -> None:
        """By what is visible."""
        pane = self.query_one(RequestPane)
        pane.scroll_by(pages * max(1, pane.size.height - 2))

    def action_end(self, last: bool) -> None:
        """The first line, or the last."""
        self.query_one(RequestPane).scroll_by((1 if last else -1) << 30)

    def action_rate(self, rating: str) -> None:
        """Feedback, kept beside the request."""
        if not self.refuse_in_past():
            request = self._request
            words = f"{request}: a {'good' if rating == 'up' else 'bad'} answer, kept as feedback"
            self.change(lambda: self.client.serving.feedback(request, rating), words, self._again)

    def action_copy(self) -> None:
        """Question and answer into the clipboard of the terminal."""
        detail = self._detail
        if detail is None or not (detail["prompt"] or detail["response"]):
            self.llmops.tell("its text was not kept: there is nothing to copy", "warn")
            return
        self.app.copy_to_clipboard(f"{detail['prompt']}\n\n{detail['response']}".encode(errors="replace").decode())
        self.llmops.tell("prompt and answer were sent to the terminal's clipboard (OSC 52); some terminals have to allow that", "good")

    def _again(self) -> None:
        self.run_worker(self._fetch(self._request))

    async def _fetch(self, request_id: str) -> None:
        try:
            detail = await call(self.client.serving.request, request_id)
        except LlmopsError as error:
            if request_id == self._request:
                self._detail, self._why = None, str(error)
        else:
            if request_id == self._request:
                self._detail = detail
        if self.ready:
            self.redraw()
