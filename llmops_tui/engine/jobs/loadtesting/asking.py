"""One request of a load test and what came of it, over the gateway's own connections and reader of streams."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, NotRequired, TypedDict
from urllib.parse import urlsplit

import orjson

from llmops_tui.engine.serving.gateway.errors import GatewayError
from llmops_tui.engine.serving.gateway.sse import EventStream
from llmops_tui.engine.serving.gateway.upstream import Pool, Upstream

_MOST_ERROR_BYTES = 64 << 10
# Without usage, so that the figures do not depend on whether a server tells it, pieces of content stand for tokens.
_OPENED_AGAIN = 1


class Target(TypedDict):
    """Where requests go: `url` ends before `/chat/completions`; `model` is what they name."""

    url: str
    model: str
    endpoint: NotRequired[str]
    version: NotRequired[str]
    runtime: NotRequired[str]
    runtime_version: NotRequired[str]
    hardware: NotRequired[str]


@dataclass(slots=True)
class Outcome:
    """Times are of the monotonic clock: `first` and `last` piece of content, 0 where none came. `error` is empty of a whole answer."""

    number: int
    due: float
    sent: float = 0.0
    first: float = 0.0
    last: float = 0.0
    end: float = 0.0
    status: int = 0
    error: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    counted_by: str = "usage"
    gaps: tuple[float, ...] = ()
    finish: str = ""
    given_up: bool = False


class Asker:
    """Sends requests to one target. `secret` goes into the head and nowhere else."""

    def __init__(self, loop: asyncio.AbstractEventLoop, url: str, path: str, secret: str, timeout_seconds: float) -> None:
        parts = urlsplit(url)
        tls = ssl.create_default_context() if parts.scheme == "https" else None
        host = parts.hostname or ""
        self._pool = Pool(loop, host, parts.port or (443 if tls else 80), tls)
        self._timeout = timeout_seconds
        key = f"Authorization: Bearer {secret}\r\n" if secret else ""
        shown = f"[{host}]" if ":" in host else host
        self._head = (
            f"POST {parts.path}{path} HTTP/1.1\r\nHost: {shown}{f':{parts.port}' if parts.port else ''}\r\n"
            f"{key}Content-Type: application/json\r\nAccept: text/event-stream\r\nUser-Agent: llmops-tui loadtest\r\nContent-Length: "
        ).encode("latin-1")

    async def ask(self, outcome: Outcome, body: bytes) -> None:
        """Send it and wait for its end; every failure is written into the outcome. Cancelled, it is given up at the server too."""
        request = self._head + str(len(body)).encode() + b"\r\n\r\n" + body
        try:
            async with asyncio.timeout(self._timeout):
                for attempt in range(_OPENED_AGAIN + 1):
                    upstream = self._pool.take(monotonic()) if attempt == 0 else None
                    upstream = upstream or await self._connect()
                    answer = _Answer(outcome)
                    outcome.sent = outcome.sent or monotonic()
                    upstream.send(answer, request)
                    if not await answer.whole(upstream):
                        break
        except TimeoutError:
            outcome.error = f"no whole answer within {self._timeout:g} s"
        except OSError as error:
            outcome.error = f"no connection: {error.strerror or error}"
        except asyncio.CancelledError:
            outcome.given_up = True
            raise
        finally:
            outcome.end = monotonic()

    async def _connect(self) -> Upstream:
        """A new connection; its time-out is no answer's. Raises OSError."""
        try:
            return await self._pool.connect()
        except TimeoutError:
            raise ConnectionError("nobody took the connection in time") from None

    def sweep(self) -> None:
        """Let idle connections go before the server does; about once a second."""
        self._pool.sweep()

    def close(self) -> None:
        self._pool.close()
        self._pool.fail_all("the test is over")


class _Answer:
    """Takes an answer piece by piece and writes it down in the outcome."""

    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self._stream: EventStream | None = None
        self._body = b""
        self._gaps: list[float] = []
        self._over = asyncio.get_running_loop().create_future()
        self._upstream: Upstream | None = None

    async def whole(self, upstream: Upstream) -> bool:
        """Wait for the end; True: the connection had died before it carried anything, and the request may be sent once more."""
        self._upstream = upstream
        try:
            stale: bool = await self._over
        except asyncio.CancelledError:
            upstream.abort()
            raise
        return stale

    def on_head(self, status: int, content_type: bytes) -> None:
        self._outcome.status = status
        if status == 200 and content_type[:17].lower() == b"text/event-stream":
            self._stream = EventStream(strip_usage=False, keep_text=False)

    def on_payload(self, data: bytes, pieces: Sequence[bytes] = ()) -> None:
        stream = self._stream
        if stream is None:
            if len(self._body) < _MOST_ERROR_BYTES:
                self._body += data
            return
        try:
            stream.take(data, monotonic())
        except GatewayError as error:
            self._fail(error.message)
            return
        if stream.new_chunks:
            if stream.new_gap >= 0:
                self._gaps.append(stream.new_gap)
            self._gaps.extend([0.0] * (stream.new_chunks - 1))
        if stream.done and not self._over.done():
            assert self._upstream is not None
            self._upstream.let_go()
            self._end()

    def on_end(self) -> None:
        if not self._over.done():
            self._end()

    def on_failure(self, cause: str, stale: bool, touched: bool) -> None:
        if self._over.done():
            return
        if stale and not touched:
            self._over.set_result(True)
            return
        self._fail(cause)

    def _fail(self, cause: str) -> None:
        self._outcome.error = cause[:300]
        if self._upstream is not None:
            self._upstream.abort()
        if not self._over.done():
            self._over.set_result(False)

    def _end(self) -> None:
        outcome, stream = self._outcome, self._stream
        if stream is None:
            outcome.error = _error_of(outcome.status, self._body)
        else:
            outcome.first, outcome.last, outcome.finish = stream.first, stream.last, stream.finish
            outcome.gaps = tuple(self._gaps)
            _count(outcome, stream)
            if stream.error is not None:
                outcome.error = str(stream.error.get("message", "an error in the stream"))[:300]
            elif not stream.done and not stream.finish:
                outcome.error = "the stream ended before the answer was complete"
        self._over.set_result(False)


def _count(outcome: Outcome, stream: EventStream) -> None:
    usage = stream.usage or {}
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    outcome.prompt_tokens = prompt if isinstance(prompt, int) else 0
    if isinstance(completion, int):
        outcome.completion_tokens = completion
    else:
        outcome.completion_tokens, outcome.counted_by = stream.chunks, "pieces"


def _error_of(status: int, body: bytes) -> str:
    """What a server says that does not stream."""
    if status == 200:
        return "it answered without a stream"
    try:
        value: Any = orjson.loads(body)
        error = value["error"]
        message = str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError):
        message = body[:200].decode("utf-8", "replace").strip()
    return f"{status}: {message}"[:300]
