"""Event streams that survive the engine: they reconnect by themselves and replay from the last thing seen."""

from __future__ import annotations

import json
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, cast

from llmops_tui.client_transport import EventSource, Message, Query, Transport
from llmops_tui.errors import EngineUnavailableError

if TYPE_CHECKING:
    from llmops_tui.specs.answers import EngineEvent

# The engine sends a comment every 10 s: a longer silence means that it hangs or that the machine slept.
_SILENCE_SECONDS = 30.0
_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 1.0
_BRIDGE_ITEMS = 1000

ConnectionWatcher = Callable[[bool], None]
Item = TypeVar("Item")


class RunEvent(NamedTuple):
    """One line of a run's `events.jsonl`; `offset` is the byte after it, where a later stream goes on."""

    offset: int
    event: dict[str, Any]


class ReconnectingStream(ABC, Generic[Item]):
    """An iterator over one of the engine's streams. `close()` ends it from any thread, at once.

    `on_connection` is told True when a connection stands and False when it is lost (in the reading thread). With
    `give_up_seconds` an engine that stays away that long raises EngineUnavailableError; without, the stream waits for ever.
    """

    def __init__(
        self, transport: Transport, path: str, on_connection: ConnectionWatcher | None = None, give_up_seconds: float | None = None
    ) -> None:
        self._transport = transport
        self._path = path
        self._on_connection = on_connection or (lambda connected: None)
        self._give_up_seconds = give_up_seconds
        self._closing = threading.Event()
        self._source: EventSource | None = None
        self._over = False

    @abstractmethod
    def position(self) -> Query:
        """The query that makes the engine go on after what was seen."""

    @abstractmethod
    def take(self, message: Message) -> Item | None:
        """Note the position of a message and make the item of it; None for one that only informs."""

    def __iter__(self) -> Iterator[Item]:
        lost_at, pause, connected = time.monotonic(), _FIRST_PAUSE_SECONDS, False
        while not self._over and not self._closing.is_set():
            try:
                source = self._transport.open_stream(self._path, self.position(), _SILENCE_SECONDS)
            except EngineUnavailableError:
                if self._give_up_seconds is not None and time.monotonic() - lost_at >= self._give_up_seconds:
                    raise
                self._closing.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
                continue
            self._source = source
            try:
                for message in source:
                    if not connected:
                        connected, pause = True, _FIRST_PAUSE_SECONDS
                        self._on_connection(True)
                    if self._closing.is_set():
                        return
                    item = self.take(message)
                    if item is not None:
                        yield item
                    if self._over:
                        return
            finally:
                source.close()
            lost_at = time.monotonic()
            if connected and not self._closing.is_set():
                self._on_connection(False)
            else:
                self._closing.wait(pause)  # an engine that hangs up before a word is not asked in a busy loop
            connected = False

    def close(self) -> None:
        """End the iteration, also one that waits in another thread."""
        self._closing.set()
        if self._source is not None:
            self._source.close()


class RunStream(ReconnectingStream[RunEvent]):
    """Everything a run told from `offset` on, then what it tells; ends when the run is over and all was read.

    `final_state` is then the state it ended in.
    """

    def __init__(
        self,
        transport: Transport,
        path: str,
        offset: int,
        on_connection: ConnectionWatcher | None = None,
        give_up_seconds: float | None = None,
    ) -> None:
        super().__init__(transport, path, on_connection, give_up_seconds)
        self.offset = offset
        self.final_state = ""

    def position(self) -> Query:
        return [("offset", str(self.offset))]

    def take(self, message: Message) -> RunEvent | None:
        if message.event == "end":
            self._over = True
            self.final_state = json.loads(message.data)["state"]
            return None
        if message.id:
            self.offset = int(message.id)
        if message.event != "message":
            return None
        try:
            event = json.loads(message.data)
        except ValueError:
            return None
        return RunEvent(self.offset, event) if isinstance(event, dict) else None


class EngineStream(ReconnectingStream["EngineEvent"]):
    """The engine's events after `after` (None: from now on), over restarts of the engine.

    A rebuilt database counts from the start again: the stream says so with an event of type `stream.reset`, whose reader
    should ask for everything anew, and goes on with the new numbers.
    """

    def __init__(
        self,
        transport: Transport,
        after: int | None,
        on_connection: ConnectionWatcher | None = None,
        give_up_seconds: float | None = None,
    ) -> None:
        super().__init__(transport, "/v1/events", on_connection, give_up_seconds)
        self.after = after
        self.epoch = ""

    def position(self) -> Query:
        query = [("epoch", self.epoch)] if self.epoch else []
        return query if self.after is None else [*query, ("after", str(self.after))]

    def take(self, message: Message) -> EngineEvent | None:
        if message.event not in ("hello", "engine"):
            return None
        data = json.loads(message.data)
        if message.event == "engine":
            self.after = data["seq"]
            return cast("EngineEvent", data)
        known, self.epoch, self.after = self.epoch, data["epoch"], data["after"]
        if known and known != self.epoch:
            return {"seq": data["after"], "t": time.time(), "type": "stream.reset", "run": None, "data": {"epoch": self.epoch}}
        return None
