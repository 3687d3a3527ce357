"""One crosshair over several charts: moving it in one moves it in all, by the moment it stands at."""

from __future__ import annotations

from typing import Protocol

from llmops_tui.screens.widgets.chart_view import Span


class Member(Protocol):
    """A chart of the group. Unix seconds; None for no crosshair and for all of the time."""

    def share_moment(self, moment: float | None, /) -> None: ...
    def share_window(self, window: Span | None, /) -> None: ...


class CrosshairGroup:
    """Who belongs together, where the crosshair stands, and which stretch of time is shown."""

    def __init__(self) -> None:
        self.moment: float | None = None
        self.window: Span | None = None
        self._members: list[Member] = []

    def join(self, member: Member) -> None:
        """From now on it is told what the others do; at once what is so already."""
        if member not in self._members:
            self._members.append(member)
            if self.window is not None:
                member.share_window(self.window)
            if self.moment is not None:
                member.share_moment(self.moment)

    def leave(self, member: Member) -> None:
        """Not any more."""
        if member in self._members:
            self._members.remove(member)

    def move(self, source: Member | None, moment: float | None) -> None:
        """The crosshair is at another moment; everyone but `source` is told."""
        self.moment = moment
        for member in self._members:
            if member is not source:
                member.share_moment(moment)

    def frame(self, source: Member | None, window: Span | None) -> None:
        """Another stretch of time is shown; everyone but `source` is told."""
        self.window = window
        for member in self._members:
            if member is not source:
                member.share_window(window)
