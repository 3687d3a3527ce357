"""Two daemon threads that bring the engine's answers to the app: the status once a second, or the past asked for, and the event stream."""

from __future__ import annotations

import threading
from collections.abc import Callable

from textual.message import Message

from llmops_tui.errors import EngineUnavailableError, LlmopsError
from llmops_tui.screens.client_protocol import EngineClient
from llmops_tui.screens.messages import EngineEventArrived, EngineLost, HistoryArrived, PastArrived, Refused, StatusArrived
from llmops_tui.specs.notable import TYPES

STATUS_SECONDS = 1.0
SLOW_FACTOR = 4.0
_FIRST_PAUSE_SECONDS = 0.25
_LONGEST_PAUSE_SECONDS = 2.0
_HISTORY_SECONDS = 300.0
_EVENTS = 200
_NOTICES = 500
_TOLD = ("-run.progress",)  # one running job would fill them all


class Feed:
    """`post` must be safe to call from another thread (Textual's `post_message` is). `may_start`: the first contact may start an engine."""

    def __init__(
        self, client: EngineClient, post: Callable[[Message], object], seconds: float = STATUS_SECONDS, may_start: bool = True
    ) -> None:
        self._client = client
        self._post = post
        self.seconds = seconds
        self._wake = threading.Event()
        self._stopping = False
        self._telling = threading.Lock()
        self._refusal = ""  # why no engine could be started: tells more than that none runs
        self._start_wanted = may_start  # the first contact may start an engine; later ones only find it again
        self._moment: float | None = None
        self._fresh = True  # the strips and the events of the present are wanted

    def start(self) -> None:
        """Begin; daemon threads, so that a hanging call never keeps the program from leaving."""
        threading.Thread(target=self._follow_status, name="llmops-tui-status", daemon=True).start()
        threading.Thread(target=self._follow_events, name="llmops-tui-events", daemon=True).start()

    def stop(self) -> None:
        """Post nothing any more: not a word comes after this returns."""
        with self._telling:
            self._stopping = True
        self._wake.set()

    def hurry(self, start_engine: bool = False) -> None:
        """Ask again now; `start_engine` because the user wants one where none is."""
        self._start_wanted = self._start_wanted or start_engine
        self._wake.set()

    def look_at(self, moment: float | None) -> None:
        """Bring the picture of a past moment (Unix seconds) instead of the present; None goes on with the present."""
        self._fresh = self._fresh or moment is None
        self._moment = moment
        self._wake.set()

    def _follow_status(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        shown: float | None = None
        while not self._stopping:
            moment = self._moment
            try:
                self._start_if_wanted()
                if moment is None:
                    self._ask_present()
                elif moment != shown:
                    self._ask_past(moment)
                shown, self._refusal = moment, ""
                pause, wait = _FIRST_PAUSE_SECONDS, self.seconds
            except EngineUnavailableError as error:
                self._tell(EngineLost(self._refusal or error.message))
                wait = pause
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            except LlmopsError as error:
                if moment is None:
                    self._tell(EngineLost(self._refusal or error.message))
                else:
                    shown = moment
                    self._tell(Refused(error.message))
                wait = self.seconds
            if self._moment == moment:
                self._wake.wait(wait)
            self._wake.clear()

    def _ask_present(self) -> None:
        self._tell(StatusArrived(self._client.status()))
        if self._fresh:
            try:
                history = self._client.host_history(_HISTORY_SECONDS)
                events = self._client.events(limit=_EVENTS, newest=True, types=_TOLD)["events"]
                if len(events) == _EVENTS:  # what nobody has read yet may be older than daily life
                    events = self._client.events(limit=_NOTICES, newest=True, types=TYPES)["events"] + events
            except EngineUnavailableError:
                raise
            except LlmopsError as error:  # an engine of another version: what it does tell is shown
                self._tell(Refused(error.message))
            else:
                self._tell(HistoryArrived(history, events))
            self._fresh = False

    def _ask_past(self, moment: float) -> None:
        status = self._client.at(moment)
        history = self._client.host_history(_HISTORY_SECONDS, start=moment - _HISTORY_SECONDS, end=moment)
        events = self._client.events(limit=_EVENTS, newest=True, types=_TOLD, until=moment)["events"]
        self._tell(PastArrived(moment, status, history, events))

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
        with self._telling:
            if not self._stopping:
                self._post(message)
