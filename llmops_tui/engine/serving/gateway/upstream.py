"""One connection to a model's server and the pool of those that are free.

The servers close connections that idle for five seconds or have carried a hundred requests, and a request sent at that moment is lost: so a
connection is given up well before, and one that dies before any byte of an answer is told apart by `reused`.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Sequence
from time import monotonic
from typing import Protocol, cast

import httptools

from llmops_tui.engine.serving.gateway.repeated_head import RepeatedHead

_IDLE_SECONDS = 4.0
_MOST_REQUESTS = 1000
_REQUESTS_SPARED = 10  # of those that a server announces
_MOST = re.compile(rb"\bmax=([0-9]{1,9})")
_CONNECT_SECONDS = 5.0
_CONNECTING = 64
_MANY = 4  # pieces of an answer at once that are worth being told apart
_LARGEST_HEAD = 256 << 10


class Answering(Protocol):
    """Who gets an answer, piece by piece: a head, payload without its framing, then the end or a failure, one of them and last."""

    def on_head(self, status: int, content_type: bytes) -> None: ...
    def on_payload(self, data: bytes, pieces: Sequence[bytes] = ()) -> None:
        """`pieces`: the same bytes as the server wrote them, where those were many."""

    def on_end(self) -> None: ...
    def on_failure(self, cause: str, stale: bool, touched: bool) -> None:
        """`stale`: a kept connection that the server had closed: nothing is wrong with it; `touched`: part of an answer had come."""


class _Rest:
    """Takes what still comes of an answer that is complete to its reader, so that the connection can be kept."""

    def on_head(self, status: int, content_type: bytes) -> None: ...
    def on_payload(self, data: bytes, pieces: Sequence[bytes] = ()) -> None: ...
    def on_end(self) -> None: ...
    def on_failure(self, cause: str, stale: bool, touched: bool) -> None: ...


_REST = _Rest()


class Upstream(asyncio.Protocol):
    """A connection; it carries one request at a time."""

    __slots__ = (
        "_close_framed", "_content_type", "_ended", "_head", "_headed", "_keep", "_length_told", "_parser", "_parts", "_pool", "_status",
        "_whole", "handler", "idle_since", "on_body", "paused", "served", "touched", "transport",
    )  # fmt: skip

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._parts: list[bytes] = []
        self.on_body = self._parts.append  # a callback a chunk, and a stream has a chunk a token
        self._parser = httptools.HttpResponseParser(self)
        self._whole = 0  # of the parts, how many belong to the answer
        self._status = 0
        self._content_type = b""
        self._close_framed = True
        self._length_told = False
        self._headed = False
        self._ended = False
        self._head = 0  # bytes read of an answer whose head is not whole
        self._keep = False
        self.touched = False  # any byte of an answer to this request has come
        self.transport: asyncio.Transport | None = None
        self.handler: Answering | None = None
        self.served = 0
        self.idle_since = 0.0
        self.paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have asyncio's methods and not its classes.
        self.transport = cast("asyncio.Transport", transport)

    def send(self, handler: Answering, request: bytes) -> None:
        """Begin a request on this connection."""
        assert self.transport is not None
        self.handler = handler
        self.served += 1
        self.touched = self._headed = self._ended = False
        self._close_framed = True
        self._length_told = False
        self._content_type = b""
        self._status = self._head = 0
        self.transport.write(request)

    def abort(self) -> None:
        """Give the request up; the server sees its connection close and stops its work."""
        self.handler = None
        if self.transport is not None:
            self.transport.abort()

    def let_go(self) -> None:
        """The reader has all it wants; what still comes is thrown away, and then the connection is free."""
        if self.handler is not None:
            self.resume()
            self.handler = _REST
            self._pool.rests(self)

    def pause(self) -> None:
        """Read no further until `resume`: the client cannot take more."""
        if not self.paused and self.transport is not None and not self.transport.is_closing():
            self.paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        if self.paused and self.transport is not None and not self.transport.is_closing():
            self.paused = False
            self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        handler = self.handler
        if handler is None:  # an answer that nobody asked for
            self.abort()
            return
        pool = self._pool
        pool.heard_at = now = monotonic()
        begins = not self.touched
        self.touched = True
        if begins:
            body = pool.known_head.body_of(data)
            if body is not None:
                handler.on_head(*pool.known_answer)
                if body and self.handler is not None:
                    self.handler.on_payload(body)
                self._over(now)
                return
        if not self._parsed(data):
            return
        if begins and self._ended and self._keep and self._length_told and pool.known_head.learn(data):
            pool.known_answer = self._status, self._content_type
        if self._headed:
            self._headed = False
            handler.on_head(self._status, self._content_type)
        parts = self._parts
        if parts:
            if self._ended:
                del parts[self._whole :]
            pieces: Sequence[bytes] = parts.copy() if len(parts) > _MANY else ()
            payload = b"".join(parts) if len(parts) > 1 else parts[0]
            parts.clear()
            if payload and self.handler is not None:
                self.handler.on_payload(payload, pieces)
        if self._ended:
            self._over(now, self._keep)

    def _over(self, now: float, keep: bool = True) -> None:
        """The answer is whole."""
        handler = self.handler
        if handler is not None:
            self.handler = None
            self._pool.put(self, keep, now)
            handler.on_end()

    def _parsed(self, data: bytes) -> bool:
        """Feed the parser; False where the answer failed by what came."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._ended:
                self._fail(f"the model's server sent what is not HTTP: {error}")
                return False
            self._keep = False
        if not self._status:
            self._head += len(data)
            if self._head > _LARGEST_HEAD:
                self._fail(f"the model's server sent a head of more than {_LARGEST_HEAD >> 10} KiB")
                return False
        return True

    def eof_received(self) -> bool:
        handler = self.handler
        if handler is not None and self._close_framed and self.touched and self._status and not self._ended:
            self.handler = None
            handler.on_end()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._pool.lost(self)
        if self.handler is not None:
            self._fail(f"the connection to the model's server broke: {error}" if error else "the model's server closed the connection")
        self._parser = None  # type: ignore[assignment]  # it refers to this object: without the cycle both go at once

    def _fail(self, cause: str) -> None:
        handler, self.handler = self.handler, None
        if self.transport is not None:
            self.transport.abort()
        if handler is not None:
            handler.on_failure(cause, self.served > 1 and not self.touched, self.touched)

    # llhttp's callbacks

    def on_message_begin(self) -> None:
        if not self._ended:
            self._status = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"content-type":
            self._content_type = value
        elif name == b"content-length":
            self._close_framed = False
            self._length_told = True
        elif name == b"transfer-encoding":
            self._close_framed = False
        elif name == b"keep-alive" and self.served == 1:
            self._pool.announced(value)

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200 and not self._ended:
            self._status = status
            self._headed = True

    def on_message_complete(self) -> None:
        if self._ended:
            self._keep = False  # a second answer to one request: nothing that comes here can be trusted
        elif self._status:
            self._ended = True
            self._whole = len(self._parts)
            self._keep = self._parser.should_keep_alive()


class Pool:
    """The connections to one server. `heard_at`: the monotonic time when it last sent anything."""

    __slots__ = (
        "_closed",
        "_connecting",
        "_context",
        "_host",
        "_idle",
        "_loop",
        "_most_requests",
        "_port",
        "_resting",
        "heard_at",
        "known_answer",
        "known_head",
        "open",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._loop = loop
        self._host = host
        self._port = port
        self._context = tls
        self._closed = False
        self._connecting = asyncio.Semaphore(_CONNECTING)
        self._idle: list[Upstream] = []
        self._most_requests = _MOST_REQUESTS
        self._resting: set[Upstream] = set()
        self.heard_at = 0.0
        self.known_head = RepeatedHead()
        self.known_answer = 0, b""  # status and content type of the answer that had this head
        self.open: set[Upstream] = set()

    def take(self, now: float) -> Upstream | None:
        """A connection that is free and young enough, else None: then `connect`."""
        idle = self._idle
        while idle:
            upstream = idle.pop()
            transport = upstream.transport
            if transport is not None and not transport.is_closing():
                if now - upstream.idle_since < _IDLE_SECONDS:
                    return upstream
                transport.close()
        return None

    async def connect(self) -> Upstream:
        """A new connection. Raises OSError or TimeoutError."""
        # Of thousands that are wanted at once each gets its whole time: it does not run while this process is busy with the others.
        async with self._connecting, asyncio.timeout(_CONNECT_SECONDS):
            name = self._host if self._context is not None else None
            _, upstream = await self._loop.create_connection(
                lambda: Upstream(self), self._host, self._port, ssl=self._context, server_hostname=name
            )
        self.open.add(upstream)
        return upstream

    def announced(self, keep_alive: bytes) -> None:
        """What the server says of its connections in the first answer on one (`timeout=5, max=100`)."""
        found = _MOST.search(keep_alive)
        self._most_requests = max(1, min(_MOST_REQUESTS, int(found[1]) - _REQUESTS_SPARED)) if found else _MOST_REQUESTS

    def put(self, upstream: Upstream, keep: bool, now: float) -> None:
        """A connection whose answer is complete: kept for the next request, or closed."""
        self._resting.discard(upstream)
        transport = upstream.transport
        if transport is None or transport.is_closing():
            return
        if self._closed or not keep or upstream.served >= self._most_requests:
            transport.close()
            return
        if upstream.paused:
            upstream.resume()
        upstream.idle_since = now
        self._idle.append(upstream)

    def rests(self, upstream: Upstream) -> None:
        """Its answer is complete but for its last bytes."""
        upstream.idle_since = monotonic()
        self._resting.add(upstream)

    def sweep(self) -> None:
        """Close those that idle too long; called once a second."""
        before = monotonic() - _IDLE_SECONDS
        for upstream in [resting for resting in self._resting if resting.idle_since < before]:
            upstream.abort()
        old = [upstream for upstream in self._idle if upstream.idle_since < before]
        if old:
            self._idle = [upstream for upstream in self._idle if upstream.idle_since >= before]
            for upstream in old:
                if upstream.transport is not None:
                    upstream.transport.close()

    def lost(self, upstream: Upstream) -> None:
        self.open.discard(upstream)
        self._resting.discard(upstream)

    def close(self) -> None:
        """Close the free ones; those at work finish."""
        self._closed = True
        idle, self._idle = self._idle, []
        for upstream in idle:
            if upstream.transport is not None:
                upstream.transport.close()

    def fail_all(self, cause: str) -> None:
        """Fail whatever is under way there: the server does not live any more."""
        for upstream in list(self.open):
            handler, upstream.handler = upstream.handler, None
            if upstream.transport is not None:
                upstream.transport.abort()
            if handler is not None:
                handler.on_failure(cause, False, upstream.touched)
