"""Two daemon threads that bring the engine's answers to the app: the status once a second, and the event stream."""

from __future__ import annotations

import threading
from collections.abc import Callable

from textual.message import Message

from llmops_tui.errors import LlmopsError
from llmops_tui.screens.client_protocol import EngineClient
from llmops_tui.screens.messages import EngineEventArrived, EngineLost, HistoryArrived, StatusArrived

STATUS_SECONDS = 1.0
_FIRST_PAUSE_SECONDS = 0.25
_LONGEST_PAUSE_SECONDS = 2.0
_HISTORY_SECONDS = 300.0


class Feed:
    """`post` must be safe to call from another thread (Textual's `post_message` is)."""

    def __init__(self, client: EngineClient, post: Callable[[Message], object], seconds: float = STATUS_SECONDS) -> None:
        self._client = client
        self._post = post
        self._seconds = seconds
        self._wake = threading.Event()
        self._stopping = False
        self._refusal = ""  # why no engine could be started: tells more than that none runs
        self._start_wanted = True  # the first contact may start an engine; later ones only find it again

    def start(self) -> None:
        """Begin; daemon threads, so that a hanging call never keeps the program from leaving."""
        threading.Thread(target=self._follow_status, name="llmops-tui-status", daemon=True).start()

    def stop(self) -> None:
        """Post nothing any more."""
        self._stopping = True
        self._wake.set()

    def hurry(self, start_engine: bool = False) -> None:
        """Ask again now; `start_engine` because the user wants one where none is."""
        self._start_wanted = self._start_wanted or start_engine
        self._wake.set()

    def _follow_status(self) -> None:
        pause, first = _FIRST_PAUSE_SECONDS, True
        while not self._stopping:
            try:
                self._start_if_wanted()
                status = self._client.status()
                self._refusal = ""
                self._tell(StatusArrived(status))
                if first:
                    first = False
                    self._tell(HistoryArrived(self._client.host_history(_HISTORY_SECONDS)))
                    threading.Thread(target=self._follow_events, name="llmops-tui-events", daemon=True).start()
                pause, wait = _FIRST_PAUSE_SECONDS, self._seconds
            except LlmopsError as error:
                self._tell(EngineLost(self._refusal or error.message))
                wait = pause
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            self._wake.wait(wait)
            self._wake.clear()

    def _start_if_wanted(self) -> None:
        if not self._start_wanted:
            return
        self._start_wanted, self._refusal = False, ""
        try:
            self._client.ensure_engine()
        except LlmopsError as error:
            self._refusal = f"{error.message}; {error.next_step}".removesuffix("; ")
            raise

    def _follow_events(self) -> None:
        # The stream reconnects and replays by itself; it only ends when it refuses (another user's engine).
        try:
            for event in self._client.stream_events():
                if self._stopping:
                    return
                self._tell(EngineEventArrived(event))
        except LlmopsError as error:
            self._tell(EngineLost(error.message))

    def _tell(self, message: Message) -> None:
        if not self._stopping:
            self._post(message)
