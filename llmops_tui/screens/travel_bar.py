"""Time travel: a bar at the foot of any page; while it stands every panel shows the moment under its cursor."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from llmops_tui.errors import LlmopsError
from llmops_tui.keys import bindings, keys_of, name_of
from llmops_tui.screens.calls import call
from llmops_tui.screens.widgets.axes import duration_text
from llmops_tui.screens.widgets.focusing import take_keys
from llmops_tui.screens.widgets.lines import LineWidget, Run, spaced

if TYPE_CHECKING:
    from llmops_tui.screens.board import Board

STEPS = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 21600.0, 86400.0)
_FIRST_STEP = 2


class TravelBar(LineWidget, can_focus=True):
    """One line of where one is between the first sample and now, one of keys. The app's state holds the moment itself.

    `panel` had the keys before: those that mean nothing here are still its own, so that rows can be chosen while one travels.
    """

    DEFAULT_CSS = "TravelBar { height: 2; }"
    BINDINGS = bindings("travel")

    def __init__(self, board: Board) -> None:
        super().__init__(id="travel")
        self._board = board
        self.panel = board.focused
        self._step = _FIRST_STEP
        self._first: float | None = None
        self._over = False

    @staticmethod
    def toggle(board: Board, moment: float | None = None) -> None:
        """Into the past (a step back, or to `moment`), and back to now where a bar stands already."""
        standing = next(iter(board.query(TravelBar)), None)
        if not board.is_mounted:  # a page that was just opened
            board.call_later(TravelBar.toggle, board, moment)
        elif standing is None:
            bar = TravelBar(board)
            board.mount(bar, before="#foot")
            bar.call_after_refresh(bar.begin, board.state.now() - STEPS[_FIRST_STEP] if moment is None else moment)
        elif moment is None:
            standing.action_edge(1)
        else:
            standing.go(moment)

    @staticmethod
    def settle(board: Board) -> None:
        """A bar on a page that shows the past, none on one that shows now; another page may have travelled meanwhile."""
        standing = board.query(TravelBar)
        if board.state.moment is None:
            standing.remove()
        elif not standing:
            bar = TravelBar(board)
            board.mount(bar, before="#foot")
            bar.call_after_refresh(take_keys, bar)

    def on_mount(self) -> None:
        """Ask how far back the samples go."""
        self.run_worker(self._ask_span())
        self.set_interval(1.0, self.draw)

    def on_focus(self) -> None:
        """The keys are here."""
        self.draw()

    def on_blur(self) -> None:
        """And are not any more."""
        self.draw()

    def begin(self, moment: float) -> None:
        """Take the keys and go there; not where a second key, typed right behind the first, has ended it before it was drawn."""
        if not self._over:
            take_keys(self)
            self.go(moment)

    def go(self, moment: float | None) -> None:
        """Show another moment, within what is kept; caught up with now is LIVE."""
        now = self._board.state.now()
        if moment is not None:
            moment = max(moment, self._first) if self._first is not None else moment
            moment = None if moment >= now else moment
        self._board.llmops.travel(moment)
        self.draw()

    def action_scrub(self, steps: int) -> None:
        """So many steps back or on."""
        self.go(self._board.state.clock() + steps * STEPS[self._step])

    def action_finer(self) -> None:
        """Smaller steps."""
        self._step = max(0, self._step - 1)
        self.draw()

    def action_coarser(self) -> None:
        """Larger steps."""
        self._step = min(len(STEPS) - 1, self._step + 1)
        self.draw()

    def action_event(self, by: int) -> None:
        """To the event before or after."""
        state = self._board.state
        here = state.clock()
        times = sorted(event["t"] for event in (state.told() if by < 0 else state.events))
        found = [t for t in times if (t < here - 0.5 if by < 0 else t > here + 0.5)]
        if found:
            self.go(found[-1] if by < 0 else found[0])
        else:
            self._board.llmops.tell("no event further " + ("back" if by < 0 else "on"), "muted")

    def action_edge(self, end: int) -> None:
        """To the first moment kept, or back to now."""
        if end < 0:
            self.go(self._first)
            return
        self._over = True
        self._board.llmops.travel(None)
        self.remove()
        self._board.llmops.hurry()

    def draw(self) -> None:
        """Where one is."""
        width = self.size.width
        if not width:
            return
        state = self._board.state
        now, here = state.now(), state.clock()
        live = state.moment is None
        word: Run = (" LIVE ", "badge-good") if live else (" PAST ", "badge-warn")
        told = "caught up" if live else f"{time.strftime('%a %m-%d %H:%M:%S', time.localtime(here))}  {duration_text(now - here)} ago"
        left: list[Run] = [(" ", "text"), word, (f" {told} ", "bright")]
        right: list[Run] = [(f" step {duration_text(STEPS[self._step])} ", "muted")]
        room = max(0, width - sum(len(text) for text, _ in [*left, *right]) - 1)
        first = self._first if self._first is not None else now - 3600
        at = room - 1 if live else round((room - 1) * (here - first) / max(1.0, now - first))
        at = max(0, min(room - 1, at))
        track: list[Run] = [("━" * at, "accent"), ("●", "bright"), ("─" * (room - 1 - at), "axis")] if room > 3 else []
        keys: list[Run] = []
        for key in keys_of("travel"):
            if key.hint and (self.has_focus or key.id == "travel_live"):
                keys += [(f" {name_of(key.keys[0])} ", "key"), (f"{key.hint} ", "muted")]
        self.show_lines([spaced([*left, *track], right, width), spaced(keys, [], width)])

    async def _ask_span(self) -> None:
        try:
            self._first = (await call(self._board.client.span))["first"]
        except LlmopsError as error:
            self._board.llmops.tell(str(error), "bad")
        self.draw()
