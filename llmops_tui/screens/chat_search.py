"""Earlier conversations: type words of a question or an answer, Enter takes one up again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from llmops_tui.screens.chat_session import Conversation
from llmops_tui.screens.typed_list import TypedList
from llmops_tui.screens.widgets.editing import one_line
from llmops_tui.screens.widgets.table import Column

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmops_tui.screens.chat_history import ChatHistory
    from llmops_tui.screens.widgets.lines import Run

_MOST = 200


class ChatSearch(TypedList[Conversation, Conversation]):
    """Answers the conversation, or None."""

    COLUMNS = (Column("", 16), Column("", 14), Column("", 0))
    ASKS = "words of a question or an answer"
    NOTHING = "none like it; Esc leaves"
    SIZE = (100, 24)

    def __init__(self, history: ChatHistory) -> None:
        super().__init__("earlier conversations")
        self._history = history

    def matching(self, typed: str) -> Sequence[Conversation]:
        """Those that match, the newest first."""
        return [each for each in self._history.search(typed) if each.turns][:_MOST]

    def cells(self, entry: Conversation) -> tuple[Run, ...]:
        """When it began, with whom, and about what."""
        return (
            (time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.began)), "muted"),
            (entry.endpoint, "text"),
            (f"{one_line(entry.title)}  ({len(entry.turns)})", "bright"),
        )

    def take(self, entry: Conversation) -> None:
        """That one."""
        self.dismiss(entry)
