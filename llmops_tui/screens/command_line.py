"""The `:` line at the foot: a command by name with its suggestions above; what is wrong is said in place and the line stays."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING

from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Input

from llmops_tui.keys import bindings
from llmops_tui.screens.command_table import CommandError, perform, suggestions
from llmops_tui.screens.dialog import Dialog
from llmops_tui.screens.widgets.lines import LineWidget, Run, fit

if TYPE_CHECKING:
    from llmops_tui.app import LlmopsApp

_MOST_ROWS = 8


class CommandLine(Dialog[None]):
    """Enter does it, Tab takes the suggestion, Up and Down go through them, Esc leaves."""

    BINDINGS = bindings("command")

    def __init__(self, app: LlmopsApp, typed: str = "") -> None:
        super().__init__()
        self._llmops = app
        self._typed = typed
        self._chosen = -1
        self._offered: list[tuple[str, str]] = []
        self._problem = ""

    def compose(self) -> ComposeResult:
        """Suggestions, then the line."""
        with Vertical(id="command"):
            yield LineWidget(id="offers")
            yield Input(self._typed, placeholder="a command; Tab completes, Esc leaves", id="line", compact=True)

    def on_mount(self) -> None:
        """Ready to be typed into."""
        self.set_focus(self.query_one(Input))
        self.call_after_refresh(self._offer)

    def on_input_changed(self, message: Input.Changed) -> None:
        """Other suggestions."""
        if self._chosen < 0 or message.value != self._offered[self._chosen][0]:
            self._problem = ""
            self._offer()

    def on_input_submitted(self) -> None:
        """Do it; the line stays where it is wrong."""
        line = self.query_one(Input).value
        self.dismiss()
        try:
            perform(self._llmops, line)
        except CommandError as error:
            self._llmops.call_later(_complain, self._llmops, line, str(error))

    def on_paste(self, event: events.Paste) -> None:
        """Only the first line of what is pasted is a command."""
        event.text = event.text.splitlines()[0] if event.text.splitlines() else ""

    def action_step(self, by: int) -> None:
        """Another suggestion into the line."""
        if self._offered:
            self._chosen = (self._chosen + by) % len(self._offered) if self._chosen >= 0 or by > 0 else len(self._offered) - 1
            line = self.query_one(Input)
            line.value = self._offered[self._chosen][0]
            line.cursor_position = len(line.value)
            self._draw()

    def action_leave(self) -> None:
        """Nothing is done."""
        self.dismiss()

    def complain(self, problem: str) -> None:
        """Say what is wrong with the line."""
        self._problem = problem
        self._draw()

    def _offer(self) -> None:
        self._chosen = -1  # a number in the list before
        self._offered = suggestions(self._llmops, self.query_one(Input).value)[:_MOST_ROWS]
        self._draw()

    def _draw(self) -> None:
        offers = self.query_one("#offers", LineWidget)
        lines: list[list[Run]] = []
        for line in wrap(self._problem, max(20, self.app.size.width - 2)):
            lines.append([(f" {line}", "bad")])
        for at, (line, told) in enumerate(self._offered):
            lines.append([(" ▸" if at == self._chosen else "  ", "accent"), (fit(line, 28), "bright"), (f" {told}", "muted")])
        offers.styles.height = max(1, len(lines))
        offers.show_lines(lines or [[(" nothing more to complete", "muted")]])
        offers.call_after_refresh(offers.show_lines, lines or [[(" nothing more to complete", "muted")]])


async def _complain(app: LlmopsApp, line: str, problem: str) -> None:
    """The line again, with what is wrong about it."""
    await app.action_command_line(line)
    if isinstance(app.screen, CommandLine):
        app.screen.complain(problem)
