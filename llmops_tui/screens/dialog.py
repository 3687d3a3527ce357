"""A question or a list over a page."""

from __future__ import annotations

from typing import TypeVar

from textual.await_complete import AwaitComplete
from textual.screen import ModalScreen

from llmops_tui.screens.steady import SteadyScreen

T = TypeVar("T")


class Dialog(ModalScreen[T], SteadyScreen[T]):  # in this order: Textual takes the style of the first
    """Answers once: a second answer that was typed in the same burst would close the page under it."""

    _answered = False

    def dismiss(self, result: T | None = None) -> AwaitComplete:
        """Close it with its answer."""
        if self._answered or not self.is_active:
            return AwaitComplete()
        self._answered = True
        return super().dismiss(result)
