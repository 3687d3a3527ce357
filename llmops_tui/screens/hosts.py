"""The Pulse of several boxes side by side. Each has a feed and a state of its own: one out of reach keeps no other from going on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from textual.app import ComposeResult
from textual.message import Message

from llmops_tui.errors import LlmopsError
from llmops_tui.keys import bindings
from llmops_tui.reach import HERE
from llmops_tui.screens.board import Board
from llmops_tui.screens.feed import Feed
from llmops_tui.screens.messages import EngineEventArrived, EngineLost, HistoryArrived, StatusArrived
from llmops_tui.screens.state import ViewState
from llmops_tui.screens.widgets.host_column import host_column
from llmops_tui.screens.widgets.lines import LineWidget
from llmops_tui.screens.widgets.scrolling import PlainScroll
from llmops_tui.ssh_command import check_host

MOST_HOSTS = 8
_NARROWEST = 38
_LOWEST = 8


def wrong_hosts(names: Sequence[str]) -> str:
    """What is wrong with a list of boxes, with the way out; "" where nothing is."""
    if not names:
        return "hosts: name the boxes, for example :hosts a b, or set hosts of [console] in the settings; `here` is this one"
    if len(names) > MOST_HOSTS:
        return f"hosts: at most {MOST_HOSTS} boxes, not {len(names)}"
    try:
        for name in names:
            check_host(name)
    except LlmopsError as error:
        return f"hosts: {error.message}"
    return ""


@dataclass
class BoxTold(Message):
    """What the feed of one box brought."""

    name: str
    told: Message

    def can_replace(self, message: Message) -> bool:
        """Of one box's status only the newest matters."""
        return (
            isinstance(message, BoxTold)
            and message.name == self.name
            and isinstance(self.told, StatusArrived)
            and isinstance(message.told, StatusArrived)
        )


class HostColumn(LineWidget):
    """One box; the focused one is meant by the keys."""

    can_focus = True

    def __init__(self, name: str, state: ViewState) -> None:
        super().__init__(classes="panel host")
        self.name_of_box = name
        self.border_title = name if state.remote else f"{name}: {state.host}"
        self.state = state

    def draw(self) -> None:
        """What its state says, in the room there is."""
        self.show_lines(host_column(self.state, self.size.width, self.size.height, self.ascii_only))


class HostsScreen(Board):
    """`names` are ssh's, `here` is this box. Leaving the page keeps the connections, not the feeds."""

    BINDINGS = bindings("hosts")
    PLACES = ("hosts",)
    PAGE = "hosts"

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self._names = list(names)
        self._feeds: dict[str, Feed] = {}
        self._columns: dict[str, HostColumn] = {}

    def compose(self) -> ComposeResult:
        """Header, a column each, foot."""
        yield LineWidget(id="header")
        with PlainScroll(id="hosts"):
            for name in self._names:
                state = ViewState(host=self.llmops.here if name == HERE else name, remote=name != HERE)
                self._columns[name] = HostColumn(name, state)
                yield self._columns[name]
        yield LineWidget(id="foot")

    def on_mount(self) -> None:
        """Every box is asked, none waits for another."""
        self._arrange()
        self.set_focus(self._columns[self._names[0]])
        pages = self.llmops.view.pages
        pages[self.PAGE] = {**pages.get(self.PAGE, {}), "open": True, "names": self._names}
        for name in self._names:
            try:
                client = self.llmops.moves.box(self._key(name)).client
            except LlmopsError as error:
                self._columns[name].state.lose(error.message)
                continue
            self._feeds[name] = Feed(client, self._teller(name), self.llmops.feed.seconds, may_start=False)
            self._feeds[name].start()

    def on_unmount(self) -> None:
        """Nobody listens any more."""
        for feed in self._feeds.values():
            feed.stop()

    def remember(self) -> dict[str, Any]:
        """The boxes, and which one is meant."""
        return {"open": True, "names": self._names, "focused": self._focused_name()}

    def recall(self, remembered: dict[str, Any]) -> None:
        """The same one is meant again."""
        if (name := remembered.get("focused")) in self._columns:
            self.set_focus(self._columns[name])

    def draw(self) -> None:
        """Every column."""
        for column in self._columns.values():
            column.draw()

    def draw_frame(self) -> None:
        """The columns too: their badges grow old by themselves."""
        super().draw_frame()
        self.draw()

    def on_resize(self) -> None:
        """As many columns as there is room for."""
        self._arrange()
        super().on_resize()

    def on_box_told(self, message: BoxTold) -> None:
        """Into the state of its box, and its column."""
        column, told = self._columns[message.name], message.told
        if isinstance(told, StatusArrived):
            column.state.take_status(told.status)
        elif isinstance(told, HistoryArrived):
            column.state.take_history(told.history)
            column.state.take_events(told.events)
        elif isinstance(told, EngineLost):
            column.state.lose(told.reason)
        elif isinstance(told, EngineEventArrived):
            column.state.take_event(told.event)
        self.perform(column.draw)

    def action_step(self, by: int) -> None:
        """Another box is meant."""
        at = self._names.index(self._focused_name())
        self.set_focus(self._columns[self._names[(at + by) % len(self._names)]])

    def action_go_there(self) -> None:
        """The console there."""
        self.llmops.go_to_host(self._key(self._focused_name()))

    def action_ask_again(self) -> None:
        """Every box, now."""
        for feed in self._feeds.values():
            feed.hurry()

    def action_back(self) -> None:
        """To the page before."""
        self.llmops.view.pages[self.PAGE] = {**self.remember(), "open": False}
        self.leave()

    @staticmethod
    def _key(name: str) -> str:
        return "" if name == HERE else name

    def _teller(self, name: str) -> Callable[[Message], object]:
        return lambda message: self.post_message(BoxTold(name, message))

    def _focused_name(self) -> str:
        return self.focused.name_of_box if isinstance(self.focused, HostColumn) else self._names[0]

    def _arrange(self) -> None:
        grid = self.query_one("#hosts", PlainScroll)
        columns = max(1, min(len(self._names), self.size.width // _NARROWEST)) if self.size.width >= 2 * _NARROWEST else 1
        rows = -(-len(self._names) // columns)
        grid.styles.grid_size_columns = columns
        height = max(_LOWEST, (self.size.height - 2) // rows)
        grid.styles.grid_rows = (str(height),)
