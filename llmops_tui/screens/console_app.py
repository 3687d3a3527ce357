"""The viewer's foundation: what the engine tells reaches the page on top, keys come in order, the palette, the beat, the memory.

What keys and commands do is in `llmops_tui.app`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from typing import Any

from textual import events
from textual.app import App
from textual.css.query import NoMatches
from textual.screen import Screen
from textual.widget import Widget

from llmops_tui.keys import key_name, keymap, remap
from llmops_tui.reach import Box, reach
from llmops_tui.screens import palette
from llmops_tui.screens.attention import sequences
from llmops_tui.screens.board import Board
from llmops_tui.screens.client_protocol import EngineClient
from llmops_tui.screens.feed import SLOW_FACTOR, Feed
from llmops_tui.screens.line_speed import LineSpeed, waiting_bytes
from llmops_tui.screens.messages import EngineEventArrived, EngineLost, HistoryArrived, PastArrived, Refused, StatusArrived
from llmops_tui.screens.moving import Moves
from llmops_tui.screens.palettes import PALETTES
from llmops_tui.screens.state import ViewState
from llmops_tui.screens.view_file import ViewFile
from llmops_tui.specs.console import ConsoleSettings
from llmops_tui.specs.notable import Notable, notable

_BETWEEN = "between"  # the mode while the pages of one box make room for another's
_NOTICE_SECONDS = 5.0
_KEY_SECONDS = 0.5


def _takes_keys(widget: Widget) -> bool:
    """Whether the widget reads keys itself, as a text field does, and not only through bindings."""
    return type(widget)._on_key is not Widget._on_key or hasattr(widget, "on_key")


async def _done_with(widget: Widget) -> None:
    """Until the widget has done all that was sent to it; not for long, it may wait for the app itself."""
    done = asyncio.Event()
    if widget.call_later(done.set):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), _KEY_SECONDS)


async def _made(screen: Screen[Any]) -> bool:
    """Until a page that was just opened has its parts; False where that takes too long: then the key is nobody's."""
    if not screen._is_mounted:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(screen._mounted_event.wait(), _KEY_SECONDS)
    return screen._is_mounted


class ConsoleApp(App[None]):
    """`client` is anything with the methods of `EngineClient`; it is only called from threads. `run_id`: the page it opens on.

    `problem` is what was wrong with the settings file, said at the foot; `view` is where the viewer remembers how it stood.
    """

    # What is drawn line by line has no text that Textual's own selection could copy, and a click on a page on its way out ends the app
    # there (8.2). The terminal's selection (Shift held) and `y` copy.
    ALLOW_SELECT = False

    def __init__(
        self,
        client: EngineClient,
        status_seconds: float | None = None,
        run_id: str | None = None,
        settings: ConsoleSettings | None = None,
        view: ViewFile | None = None,
        problem: str = "",
        box: Box | None = None,
        boxes: Callable[[str], Box] = reach,
    ) -> None:
        self.settings: ConsoleSettings = settings or ConsoleSettings()
        super().__init__()
        self.client = client
        self.view = view or ViewFile(None)
        self.moves = Moves(
            self, box or Box("", client, None, os.getcwd, lambda ask: client.ensure_engine(), lambda: None), self.view, boxes
        )
        self.first_run = run_id
        self._problem = problem or remap(self.settings.keys)
        self.state = self._fresh_state()
        self.ascii_only = palette.unicode_missing() if self.settings.ascii == "auto" else self.settings.ascii == "on"
        self._status_seconds = status_seconds or self.settings.status_seconds
        self.feed = Feed(client, self.post_message, self._status_seconds)
        self.speed = LineSpeed()
        self.slow_wish = self.settings.low_bandwidth
        self._ticks = 0
        self._notices = 0

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """The names of the style sheet, so that it can be read before a palette is chosen."""
        return PALETTES["dark"].theme().variables

    def on_mount(self) -> None:
        """The frame first; the engine is asked once it is painted."""
        self.set_keymap(keymap())
        for number, command in enumerate(self.settings.commands):
            self.bind(key_name(command.key), f"custom({number})", description=command.title, show=False)
        if self.slow_wish == "on":
            self.set_slow(True)
        wished = self.settings.theme
        few = self.console.color_system == "standard"
        self.wear(("sixteen" if few else "dark") if wished == "auto" else wished)
        self.set_class(self.ascii_only, "-ascii")
        self.call_after_refresh(self._begin)

    def wear(self, name: str) -> None:
        """Draw everything in another palette."""
        chosen = PALETTES[name]
        palette.use(chosen)
        theme = chosen.theme()
        self.register_theme(theme)
        self.theme = theme.name

    def _begin(self) -> None:
        self.feed.start()
        self.set_interval(1.0, self._tick)
        self.stand_as_remembered()
        if self._problem:
            self.tell(self._problem, "bad")

    @property
    def here(self) -> str:
        """This box's own name."""
        return os.uname().nodename

    def _fresh_state(self) -> ViewState:
        name = self.moves.current.name
        return ViewState(host=name or self.here, remote=bool(name), seen=self.view.seen)

    async def on_event(self, event: events.Event) -> None:
        """One key after the other: what is typed right behind a key that opens a page is meant for that page.

        Textual hands a key to the focused widget and comes back to it when it has bubbled up, after all keys that were typed meanwhile:
        `:low on` typed quickly would open a run with its `l`. So a key that nobody takes as text acts at once, and text is waited for.
        """
        if self._exit and isinstance(event, events.InputEvent):
            return  # leaving: a page that is opened now would lose its parts before it knows of them
        if not isinstance(event, events.Key) or event.is_forwarded or not self.screen_stack:
            await super().on_event(event)
            return
        writer = self.focused or self.screen
        if _takes_keys(writer) and event.is_printable:
            await super().on_event(event)
            await _done_with(writer)
            return
        acted = await self._check_bindings(event.key, priority=True) or await self._check_bindings(event.key)
        if not acted:
            await super().on_event(event)
        elif _takes_keys(writer):
            # Enter or Escape in a line is a message to the page around it, which then takes the keys back: the next key is the page's.
            for widget in writer.ancestors_with_self:
                if isinstance(widget, Widget):
                    await _done_with(widget)

    async def _check_bindings(self, key: str, priority: bool = False) -> bool:
        """What a key means on a page that was just opened is known when the page has its parts."""
        return await _made(self.screen) and await super()._check_bindings(key, priority)

    def stand_as_remembered(self) -> None:
        """Open what stood when the viewer was left."""

    def _handle_exception(self, error: Exception) -> None:
        """A page still being made when the viewer is left loses its parts before it knows of them: nobody misses them."""
        if not (self._exit and isinstance(error, NoMatches)):
            super()._handle_exception(error)

    def on_unmount(self) -> None:
        """Nobody listens any more."""
        self.feed.stop()
        self._note_view()
        self.view.save()
        self.moves.close()

    def hurry(self) -> None:
        """Something changed: ask now instead of in a second."""
        self.feed.hurry()

    def tell(self, text: str, role: str = "text") -> None:
        """A line at the foot for some seconds."""
        self.state.notice, self.state.notice_role = text, role
        self._notices += 1
        number = self._notices
        self._frame()

        def over() -> None:
            if number == self._notices:
                self.state.notice = ""
                self._frame()

        self.set_timer(_NOTICE_SECONDS, over)

    def travel(self, moment: float | None) -> None:
        """Show every panel as it was at a moment (Unix seconds), or the present."""
        self.state.travel(moment)
        self.feed.look_at(moment)
        self._frame()

    def set_slow(self, slow: bool) -> None:
        self.state.slow = slow
        self.feed.seconds = self._status_seconds * (SLOW_FACTOR if slow else 1.0)
        self.set_class(slow, "-slow")
        for board in self._boards():
            board.call_after_refresh(board.redraw)

    async def arrive(self, box: Box, view: ViewFile) -> None:
        """Be at another box. Everything of the one before is left behind; what it still says is heard out, and drawn nowhere else."""
        self._note_view()
        self.view.save()
        self.feed.stop()
        await asyncio.sleep(0)  # what other threads have posted by now is in the queue then, and done with before `heard`
        heard = asyncio.Event()
        self.call_later(heard.set)
        await heard.wait()
        self.first_run = None
        self.client, self.view = box.client, view
        slow, self.state = self.state.slow, self._fresh_state()
        self.state.slow = slow
        self.feed = Feed(box.client, self.post_message, self.feed.seconds)
        await self._fresh_pages()
        self.feed.start()

    async def _fresh_pages(self) -> None:
        """New pages in the place of all that there are: those hold another box's answers."""
        self.add_mode(_BETWEEN, Screen)
        await self.switch_mode(_BETWEEN)
        for mode, page in self.MODES.items():
            await self.remove_mode(mode)
            self.add_mode(mode, page)
        await self.switch_mode(self.DEFAULT_MODE)
        await self.remove_mode(_BETWEEN)
        self.stand_as_remembered()

    def on_status_arrived(self, message: StatusArrived) -> None:
        """The newest answer."""
        if self.state.moment is not None:
            return
        returned = self.state.status is not None and not self.state.live
        self.state.take_status(message.status)
        if returned:
            self.tell("the engine is back", "good")
        self._show()

    def on_past_arrived(self, message: PastArrived) -> None:
        """The picture of the moment travelled to, if it is still meant."""
        if message.moment == self.state.moment:
            self.state.take_past(message.status, message.history, message.events)
            self._show()

    def on_history_arrived(self, message: HistoryArrived) -> None:
        """The strips and the events begin in the past."""
        if self.state.moment is None:
            self.state.take_history(message.history)
            self.state.take_events(message.events)
            for board in self._boards():
                board.redraw()

    def on_refused(self, message: Refused) -> None:
        """The engine said no."""
        self.tell(message.reason, "bad")

    def on_engine_lost(self, message: EngineLost) -> None:
        """Keep what is shown, say that it is old."""
        self.state.lose(message.reason)
        self._frame()

    def on_engine_event_arrived(self, message: EngineEventArrived) -> None:
        """A line for the events; the next status brings what it changed."""
        self.state.take_event(message.event)
        found = notable(message.event)
        if found is not None:
            self._call_attention(found)
        if message.event["type"] in ("run.state", "run.submitted"):
            self.feed.hurry()

    def board(self) -> Board | None:
        """The page on top, or the one under a dialog."""
        return next(iter(self._boards()), None)

    def _show(self) -> None:
        for board in self._boards():
            board.perform(board.draw_frame, board.draw, board.status_arrived)

    def _call_attention(self, found: Notable) -> None:
        urgent = found.level in ("bad", "note")
        out = sequences(found.title, found.text, bell=self.settings.bell and urgent, desktop=self.settings.desktop)
        if out and self._driver is not None and not self.is_headless:
            self._driver.write(out)

    def _tick(self) -> None:
        if self.slow_wish == "auto" and self.speed.look(waiting_bytes()):
            self.set_slow(self.speed.slow)
        self._ticks += 1
        if not self.state.slow or self._ticks % int(SLOW_FACTOR) == 0:
            self._frame()
        self._note_view()

    def _note_view(self) -> None:
        """What stands on the screen, for the next time."""
        board = self.board()
        if board is None:
            return
        self.view.mode = self.current_mode
        self.view.run = board.run_id() if board.PAGE == "run" else None
        board.perform(lambda: self.view.pages.__setitem__(board.PAGE, board.remember()))
        self.view.save()

    def _frame(self) -> None:
        for board in self._boards():
            board.perform(board.draw_frame)

    def _boards(self) -> list[Board]:
        pages = [screen for screen in self.screen_stack if isinstance(screen, Board)]
        return [page for page in pages[-1:] if page.ready]
