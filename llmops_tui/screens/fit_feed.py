"""A page with a form: asks what the wish would take while its fields change, and shows the answer in `#fit`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llmops_tui.errors import LlmopsError
from llmops_tui.screens.board import Board
from llmops_tui.screens.calls import call
from llmops_tui.screens.draft import Draft
from llmops_tui.screens.fit_lines import fit_line, fit_lines
from llmops_tui.screens.widgets.lines import LineWidget, Run

if TYPE_CHECKING:
    from textual.timer import Timer

    from llmops_tui.specs.answers import EstimateAnswer

_ESTIMATED_KIND = "train"
_QUIET_SECONDS = 0.15  # between the last change and the question: a value being turned through asks once


class FitFeed(Board):
    """Subclasses have a `LineWidget` named `fit`; they call `ask_fit` when the draft changed and `draw_fit` when they draw."""

    _fit: EstimateAnswer | None = None
    _fit_why = ""
    _fit_asked: Mapping[str, Any] | None = None
    _fit_timer: Timer | None = None

    def ask_fit(self, draft: Draft, at_once: bool = False) -> None:
        """Soon, unless it changes again before that. What was answered stays until then. A draft that was just opened asks at once."""
        if self._fit_timer is not None:
            self._fit_timer.stop()
        spec = draft.spec()
        if draft.kind != _ESTIMATED_KIND or not (draft.value("model") or draft.value("scratch.preset")):
            self._fit, self._fit_asked = None, None
            self._fit_why = "choose a model to see what it takes" if draft.kind == _ESTIMATED_KIND else ""
            return
        if spec == self._fit_asked:
            return
        self._fit_asked = spec
        if at_once:
            self.perform(lambda: self._ask(spec, draft.cwd))
            return
        self._fit_timer = self.set_timer(_QUIET_SECONDS, lambda: self.perform(lambda: self._ask(spec, draft.cwd)))

    def draw_fit(self) -> None:
        """One line where there is little room, else all parts."""
        panel = self.query_one("#fit", LineWidget)
        panel.display = bool(self._fit or self._fit_why)
        small = not self.has_class("-wide")
        width = self.query_one("#found", LineWidget).size.width  # its own is none while it is hidden
        lines: list[list[Run]] = [[(f" {self._fit_why}", "muted")]]
        if self._fit is not None:
            currency = self.state.status["currency"] if self.state.status else ""
            lines = [fit_line(self._fit, width)] if small else fit_lines(self._fit, currency, width)
        panel.show_lines(lines)

    def _ask(self, spec: Mapping[str, Any], cwd: str) -> None:
        self.run_worker(self._ask_engine(spec, cwd), exclusive=True, group="fit")

    async def _ask_engine(self, spec: Mapping[str, Any], cwd: str) -> None:
        found: EstimateAnswer | None = None
        why = ""
        try:
            found = await call(self.client.estimate, spec, cwd=cwd)
        except LlmopsError as error:
            why = error.message  # the check says the same at its field
        if spec == self._fit_asked:  # else a newer question is on its way
            self._fit, self._fit_why = found, why
            self.redraw()
