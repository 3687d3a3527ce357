"""Where the search of a log stands: a pure model; what has to be looked for in the file is asked for, and the answers are taken in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from llmops_tui.screens.widgets.log_lines import Span
from llmops_tui.specs.log_text import smart_case

if TYPE_CHECKING:
    from llmops_tui.specs.answers import LogSearch

BLOCK_BYTES = 1 << 16
_BLOCKS_KEPT = 64
_MOST_MARKS = 2000
REGEX_SIGN = "re:"


@dataclass(frozen=True)
class Sought:
    """What is looked for, from what was typed: `re:` begins a regular expression; without a capital letter case does not matter."""

    pattern: str
    regex: bool
    ignore_case: bool

    @classmethod
    def of(cls, typed: str) -> Sought | None:
        """None for nothing."""
        regex = typed.startswith(REGEX_SIGN)
        pattern = typed.removeprefix(REGEX_SIGN) if regex else typed
        return cls(pattern, regex, smart_case(pattern, regex)) if pattern else None


@dataclass(frozen=True)
class Ask:
    """A part of the file to be searched, [offset, until): for the next hit, for the marks of a block, or only to count.

    An answer to an older `ticket` is not wanted any more.
    """

    sought: Sought
    purpose: Literal["jump", "marks", "count"]
    offset: int
    until: int
    backward: bool = False
    limit: int = 1
    ticket: int = 0


class Search:
    """`size` is where the log ends. Every method that returns Asks wants them answered by `take`, each in its own time."""

    def __init__(self, sought: Sought, typed: str, origin: int, size: int) -> None:
        self.sought = sought
        self.typed = typed
        self.origin = origin
        self.size = size
        self.hit: Span | None = None
        self.hit_line = 0
        self.problem = ""
        self.looking = False
        self.total = 0
        self.wrapped = False
        # Which hit this is: so many steps from the one first found, from the file's first, or from its last.
        self._steps_from: Literal["anchor", "first", "last"] = "anchor"
        self._steps = self._before_anchor = self._anchor = 0
        self._turned = False
        self._from = origin
        self._looked_to = origin
        self._backward = False
        self._ticket = 0
        self._counting = self._counted_high = self._round = 0
        self._counted_to = -1
        self._marks: dict[int, tuple[int, list[Span]]] = {}
        self._asked: set[tuple[int, int]] = set()

    def begin(self) -> list[Ask]:
        """The first hit at or after the origin."""
        return self._look(self.origin, False)

    def step(self, by: int) -> list[Ask]:
        """The next (+1) or the previous (-1) hit; from the origin where none was found."""
        if self.hit is None:
            return self._look(self.origin, by < 0)
        return self._look(self.hit[0] + 1 if by > 0 else self.hit[0], by < 0)

    def start_at(self, place: int) -> None:
        """The reader went elsewhere: the next step begins there."""
        self.origin, self.hit = place, None

    def cancel(self) -> None:
        """Stop looking; answers on their way are not taken."""
        self._ticket += 1
        self.looking = False

    def grew(self, size: int) -> list[Ask]:
        """The log is longer: what came is counted too. A shorter one is another log: what was found is gone."""
        old, self.size = self.size, size
        if size < old:
            self._marks.clear()
            self._counted_to, self._counted_high, self.hit, self.total = -1, 0, None, 0
        if size <= old or self._counting or (self.hit is None and self.looking):
            return []
        low = self._counted_to if self._counted_to >= 0 else old
        return self._count(low, size)

    def take(self, ask: Ask, answer: LogSearch) -> list[Ask]:
        """An answer; more Asks where it ended early."""
        if ask.purpose == "marks":
            self._asked.discard((ask.offset, ask.until))
            while len(self._marks) >= _BLOCKS_KEPT:
                self._marks.pop(next(iter(self._marks)))
            self._marks[ask.offset] = (ask.until, sorted((hit["hit_start"], hit["hit_end"]) for hit in answer["hits"]))
            return []
        if ask.purpose == "count":
            return self._take_count(ask, answer)
        if ask.ticket != self._ticket:
            return []
        self._looked_to = answer["scanned_to"]
        if answer["hits"]:
            return self._found(answer)
        if answer["more"]:
            going_on = replace(ask, until=answer["scanned_to"]) if ask.backward else replace(ask, offset=answer["scanned_to"])
            return [going_on]
        if not self._turned and (self._from > 0 if not ask.backward else self._from < self.size):
            self._turned = True
            low, high = (self._from, self.size) if ask.backward else (0, self._from)
            return [replace(ask, offset=low, until=high)]
        self.looking = False
        self.problem = "" if self.hit else "no hit"
        return []

    def fail(self, ask: Ask, reason: str) -> None:
        """It could not be searched."""
        if ask.purpose == "marks":
            self._marks[ask.offset] = (ask.until, [])
        elif ask.purpose == "jump" and ask.ticket == self._ticket:
            self.looking, self.problem = False, reason
        elif ask.purpose == "count" and ask.ticket == self._round:
            self._counting, self._round = 0, self._round + 1

    def marks(self, begin: int, end: int) -> list[Span]:
        """The known hits that begin in [begin, end)."""
        found: list[Span] = []
        for block in range(begin - begin % BLOCK_BYTES, end, BLOCK_BYTES):
            found += [span for span in self._marks.get(block, (0, []))[1] if begin <= span[0] < end]
        if self.hit is not None and begin <= self.hit[0] < end and self.hit not in found:
            found = sorted([*found, self.hit])
        return found

    def wanted_marks(self, begin: int, end: int) -> list[Ask]:
        """Asks for the blocks of [begin, end) whose hits are not known."""
        asks = []
        for block in range(begin - begin % BLOCK_BYTES, min(end, self.size), BLOCK_BYTES):
            until = min(block + BLOCK_BYTES, self.size)
            if self._marks.get(block, (0, []))[0] < until and (block, until) not in self._asked:
                self._asked.add((block, until))
                asks.append(Ask(self.sought, "marks", block, until, limit=_MOST_MARKS))
        return asks

    @property
    def number(self) -> int | None:
        """Which hit this is, 1 being the file's first; None while they are still counted."""
        if self.hit is None or self._counted_to < 0:
            return None
        return {"anchor": self._before_anchor, "first": 0, "last": self.total - 1}[self._steps_from] + self._steps + 1

    def words(self) -> str:
        """How far it is, or which hit this is."""
        if self.looking:
            return f"searching at {_percent(self._looked_to, self.size)}, Esc cancels"
        if self.hit is None:
            return f"{self.total:,} in what came, n goes there" if self.total else self.problem
        order = f"hit {self.number:,} of {self.total:,}" if self.number else "hit"
        return f"{order} at {_percent(self.hit[0], self.size)}" + (", from the other end" if self.wrapped else "")

    def _look(self, place: int, backward: bool) -> list[Ask]:
        self.cancel()
        self.looking, self.problem, self._turned, self._from, self._backward = True, "", False, place, backward
        self._looked_to = place
        low, high = (0, place) if backward else (place, self.size)
        return [Ask(self.sought, "jump", low, high, backward, 1, self._ticket)]

    def _found(self, answer: LogSearch) -> list[Ask]:
        first, before = answer["hits"][0], self.hit
        self.hit, self.hit_line, self.looking = (first["hit_start"], first["hit_end"]), first["offset"], False
        self.wrapped = self._turned
        if before is None:
            self._steps_from, self._steps, self._anchor = "anchor", 0, self.hit[0]
            self._counted_to, self._counted_high, self.total, self._before_anchor = -1, 0, 0, 0
            self._counting, self._round = 0, self._round + 1
            return self._count(0, self._anchor) + self._count(self._anchor, self.size)
        if self._turned:
            self._steps_from, self._steps = ("last", 0) if self._backward else ("first", 0)
        else:
            self._steps += -1 if self._backward else 1
        return []

    def _count(self, low: int, high: int) -> list[Ask]:
        self._counting += 1
        return [Ask(self.sought, "count", low, high, limit=0, ticket=self._round)]

    def _take_count(self, ask: Ask, answer: LogSearch) -> list[Ask]:
        if ask.ticket != self._round:
            return []
        self.total += answer["count"]
        if ask.until <= self._anchor:
            self._before_anchor += answer["count"]
        elif self._counted_to >= 0 and self._steps_from == "last":
            self._steps -= answer["count"]  # what came lies behind the one that was the last
        if answer["more"]:
            return [replace(ask, offset=answer["scanned_to"])]
        self._counting -= 1
        self._counted_high = max(self._counted_high, ask.until)
        if not self._counting:
            self._counted_to = self._counted_high
        return []


def _percent(part: int, whole: int) -> str:
    return f"{100 * part // max(1, whole)} %"
