"""Text without what must not be kept. A pattern of the user's can take for ever on some text, and everything else would wait for it: so it
has a time, after which the text is withheld, and none is tried for a while."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from types import FrameType
from typing import TypeVar

from llmops_tui.engine.serving.gateway.config import Redactor

T = TypeVar("T")
SECONDS = 1.0
REST_SECONDS = 60.0
WITHHELD = "[withheld: it could not be redacted in time]"
_log = logging.getLogger("gateway")


class TooSlowError(Exception):
    """What was to be redacted is not, and must not be kept."""


class Redaction:
    """The redactors of one configuration."""

    def __init__(self, redactors: tuple[Redactor, ...] = ()) -> None:
        self._redactors = redactors
        self._rests_until = 0.0
        self._at = ""  # the name of the redactor at work

    def of(self, value: T) -> tuple[T, int]:
        """The value with every text in it redacted, and in how many places. Raises TooSlowError."""
        if not self._redactors:
            return value, 0
        if monotonic() < self._rests_until:
            raise TooSlowError(f"redactor {self._at!r} took longer than {SECONDS:g} s a moment ago")
        try:
            with _alarm(SECONDS):
                return self._of(value)  # type: ignore[return-value]  # the same kind as it was
        except TooSlowError:
            self._rests_until = monotonic() + REST_SECONDS
            _log.error(
                "redactor %r took longer than %g s on a text: for %g s no text is kept; give it a simpler pattern",
                self._at, SECONDS, REST_SECONDS,
            )  # fmt: skip
            raise TooSlowError(f"redactor {self._at!r} took longer than {SECONDS:g} s") from None

    def text_or_mark(self, text: str) -> tuple[str, int]:
        """The text redacted, or what says that it is withheld."""
        try:
            return self.of(text)
        except TooSlowError:
            return WITHHELD, 1

    def _of(self, value: object) -> tuple[object, int]:
        if isinstance(value, str):
            replaced = 0
            for redactor in self._redactors:
                self._at = redactor.name
                value, count = redactor.pattern.subn(redactor.replacement, value)
                replaced += count
            return value, replaced
        if isinstance(value, list):
            pairs = [self._of(item) for item in value]
            return [item for item, _ in pairs], sum(count for _, count in pairs)
        if isinstance(value, dict):
            named = {name: self._of(item) for name, item in value.items()}
            return {name: item for name, (item, _) in named.items()}, sum(count for _, count in named.values())
        return value, 0


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raise TooSlowError in what runs inside when the time is up: `re` looks for signals while it matches. They reach the main thread only,
    which is where a gateway runs."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(number: int, frame: FrameType | None) -> None:
        raise TooSlowError

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
