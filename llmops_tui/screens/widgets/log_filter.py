"""The lines of a log that match, with context, as a list that grows at both ends: a pure model; parts are asked for and taken in."""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmops_tui.screens.widgets.log_lines import LogLine
from llmops_tui.screens.widgets.log_search import Sought

if TYPE_CHECKING:
    from llmops_tui.specs.answers import LogFilter

CONTEXTS = (0, 2, 5)
_PAGE_LINES = 200
_LINES_KEPT = 20_000


@dataclass(frozen=True)
class FilterAsk:
    """Matching lines of [offset, until), from its beginning or backward from its end."""

    sought: Sought
    context: int
    offset: int
    until: int
    backward: bool
    limit: int = _PAGE_LINES


class FilterWindow:
    """What is known lies in [low, high) and grows from `place`, where the reader stood. `wanted` is what should be asked next."""

    def __init__(self, sought: Sought, typed: str, context: int, place: int, size: int) -> None:
        self.sought = sought
        self.typed = typed
        self.context = context
        self.size = size
        self.low = self.high = min(place, size)
        self.problem = ""
        self._lines: dict[int, LogLine] = {}
        self._order: list[int] = []
        self._asked: FilterAsk | None = None
        self._paused = False
        self.wanted: FilterAsk | None = None

    @property
    def matches(self) -> int:
        """Matching lines that are known."""
        return sum(line.matched for line in self._lines.values())

    def lines(self, offset: int, count: int) -> list[LogLine]:
        """Up to `count` known lines from an offset on; more are wanted where they run out."""
        at = bisect.bisect_left(self._order, offset)
        found = [self._lines[place] for place in self._order[at : at + count]]
        if len(found) < count:
            self._want(backward=False)
        return found

    def back(self, offset: int, count: int) -> int:
        """The offset `count` known lines before one; as far as known, and more are wanted."""
        at = bisect.bisect_left(self._order, offset)
        if at < count:
            self._want(backward=True)
        return self._order[max(0, at - count)] if at > 0 else offset

    def line_at(self, offset: int) -> LogLine | None:
        """The line at or after an offset, else the last one."""
        at = min(bisect.bisect_left(self._order, offset), len(self._order) - 1)
        return self._lines[self._order[at]] if at >= 0 else None

    def match_from(self, offset: int, by: int) -> int | None:
        """The next (+1) or previous (-1) matching line that is known; more are wanted where there is none."""
        at = bisect.bisect_right(self._order, offset) if by > 0 else bisect.bisect_left(self._order, offset) - 1
        while 0 <= at < len(self._order):
            if self._lines[self._order[at]].matched:
                return self._order[at]
            at += by
        self._want(backward=by < 0)
        return None

    def pop_wanted(self) -> FilterAsk | None:
        """What is to be asked now; one at a time."""
        if self._asked is not None or self._paused:
            return None
        self._asked, self.wanted = self.wanted, None
        return self._asked

    def take(self, ask: FilterAsk, answer: LogFilter) -> bool:
        """Matching lines; False for an answer to a question of before."""
        if ask is not self._asked:
            return False
        self._asked = None
        for told in answer["lines"]:
            known = self._lines.get(told["offset"])
            if known is None:
                bisect.insort(self._order, told["offset"])
            if known is None or told["matched"]:
                span = (told["span"][0], told["span"][1]) if told["span"] else None
                end = told["offset"] + told["bytes"]
                self._lines[told["offset"]] = LogLine(told["offset"], end, told["text"], matched=told["matched"], span=span)
        if ask.backward:
            self.low = answer["scanned_to"] if answer["more"] else 0
        else:
            self.high = answer["scanned_to"] if answer["more"] else ask.until
        self._forget(ask.backward)
        return True

    def fail(self, ask: FilterAsk, reason: str) -> None:
        """It could not be read."""
        if ask is self._asked:
            self._asked, self.problem, self._paused = None, reason, True

    def pause(self, paused: bool = True) -> bool:
        """Stop asking until told otherwise; whether that changes anything."""
        changed = self._paused != paused and (not paused or self.busy)
        self._paused = paused
        if paused:
            self._asked = None
        return changed

    @property
    def busy(self) -> bool:
        """Whether a part is being looked through."""
        return self._asked is not None

    def words(self) -> str:
        """How much is known, and whether more is being looked for."""
        if self.problem:
            return self.problem
        share = f"{100 * (self.high - self.low) // max(1, self.size)} %"
        whole = self.low == 0 and self.high >= self.size
        known = f"{self.matches:,} match{'es' if self.matches != 1 else ''}"
        return known if whole else f"{known} in {share}" + (", Esc stops" if self.busy else ", stopped" if self._paused else "")

    def _want(self, backward: bool) -> None:
        if backward and self.low > 0:
            self.wanted = FilterAsk(self.sought, self.context, 0, self.low, True)
        elif not backward and self.high < self.size:
            self.wanted = FilterAsk(self.sought, self.context, self.high, self.size, False)

    def _forget(self, at_end: bool) -> None:
        """Keep what memory allows; what is dropped at the far end can be asked for again."""
        while len(self._order) > _LINES_KEPT:
            if at_end:
                self.high = self._order[-1]
                del self._lines[self._order.pop()]
            else:
                del self._lines[self._order.pop(0)]
                self.low = self._order[0]
