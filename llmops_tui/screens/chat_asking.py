"""One answer on its way: read in a thread of its own, so that a slow model never holds the viewer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from llmops_tui.errors import LlmopsError

if TYPE_CHECKING:
    from llmops_tui.client_serving import ChatStream, ServingCalls
    from llmops_tui.specs.chat_answer import ChatAnswer


class Asking:
    """Fills `answer` as it comes; `ended` is called in the thread once it is over. `give_up` from any thread, at any time."""

    def __init__(
        self, serving: ServingCalls, endpoint: str, body: Mapping[str, Any], answer: ChatAnswer, ended: Callable[[], object]
    ) -> None:
        self._serving, self._endpoint, self._body = serving, endpoint, body
        self._answer, self._ended = answer, ended
        self._lock = threading.Lock()
        self._stream: ChatStream | None = None
        self._given_up = False
        threading.Thread(target=self._read, name="llmops-tui-chat", daemon=True).start()

    def give_up(self) -> None:
        """No more of it; the server behind stops working on it."""
        with self._lock:
            self._given_up = True
            if self._stream is not None:
                self._stream.close()

    def _read(self) -> None:
        answer, problem = self._answer, ""
        try:
            stream = self._serving.chat(self._endpoint, self._body)
            with self._lock:
                self._stream = stream
                if self._given_up:
                    stream.close()
            answer.request_id, answer.replica = stream.request_id, stream.replica
            answer.version = stream.version or answer.version
            for chunk in stream:
                answer.take(chunk, time.monotonic())
            stream.close()
        except LlmopsError as error:
            problem = str(error)
        except ValueError as error:  # a chunk that is no JSON
            problem = f"the answer is not readable: {error}"
        answer.end(time.monotonic(), problem, given_up=self._given_up)
        self._ended()
