"""The palette: type a part of what is wanted; only what is possible here and now is offered, with its key to learn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.fuzzy import Matcher

from llmops_tui.screens.possible import Deed, deeds
from llmops_tui.screens.typed_list import TypedList
from llmops_tui.screens.widgets.table import Column

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmops_tui.app import LlmopsApp
    from llmops_tui.screens.widgets.lines import Run


class ActionPalette(TypedList[Deed, None]):
    """Enter does the entry under the cursor, Up and Down move it, Esc leaves."""

    COLUMNS = (Column("", 0), Column("", 12, right=True))

    def __init__(self, app: LlmopsApp) -> None:
        super().__init__("what to do")
        self._deeds = deeds(app)  # before this screen covers what they belong to

    def matching(self, typed: str) -> Sequence[Deed]:
        """The entries that match, best first."""
        if not typed:
            return self._deeds
        matcher = Matcher(typed)
        scored = [(matcher.match(f"{deed.words} {deed.key}"), deed) for deed in self._deeds]
        return [deed for score, deed in sorted(scored, key=lambda pair: -pair[0]) if score > 0]

    def cells(self, entry: Deed) -> tuple[Run, ...]:
        """What it does, and the key that does it."""
        return (entry.words, "text"), (entry.key, "key")

    def take(self, entry: Deed) -> None:
        """Close, then do it."""
        self.dismiss()
        self.app.call_later(entry.do)
