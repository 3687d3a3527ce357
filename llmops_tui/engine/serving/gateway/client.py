"""A client's connection: requests one after another, answers in their order, and no more of either in memory than is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from time import monotonic
from typing import Protocol, cast

from llmops_tui.engine.serving.gateway import http_response
from llmops_tui.engine.serving.gateway.config import Limits
from llmops_tui.engine.serving.gateway.errors import GatewayError, error_body
from llmops_tui.engine.serving.gateway.http_request import Bodies, Request, RequestReader
from llmops_tui.engine.serving.gateway.keys import Key

_WRITE_AHEAD = 64 << 10
_PIPELINED_BYTES = 64 << 10
_LINGER_SECONDS = 2.0


class Serving(Protocol):
    """What a connection asks of the gateway."""

    clients: set[Client]
    bodies: Bodies
    draining: bool

    @property
    def limits(self) -> Limits: ...

    def serve(self, client: Client, request: Request) -> None:
        """Answer now through the client's methods, or set `client.exchange` and answer later."""


class Underway(Protocol):
    """An answer in the making, as its connection sees it."""

    def client_gone(self) -> None: ...
    def client_full(self) -> None: ...
    def client_ready(self) -> None: ...


class Client(asyncio.Protocol):
    """One connection. While `exchange` is set a request is being answered; what is sent meanwhile waits."""

    __slots__ = (
        "_backlog", "_chunks", "_closing", "_reader", "_reading", "_serving", "_since", "_unsent", "authorization", "exchange", "full",
        "gateway", "keep", "key", "keys", "old", "transport",
    )  # fmt: skip

    def __init__(self, gateway: Serving) -> None:
        self.gateway = gateway
        self.transport: asyncio.Transport | None = None
        self.exchange: Underway | None = None
        self.full = False
        self.keep = True
        self.old = False
        self.authorization = b""  # the last request's, and whose key it is among these
        self.keys: Mapping[str, Key] | None = None
        self.key: Key | None = None
        self._reader = RequestReader(gateway.limits, gateway.bodies)
        self._backlog = bytearray()
        self._reading = True
        self._chunks = False
        self._serving = False
        self._closing = 0.0  # since when an answer has been sent that ends the connection
        self._since = 0.0  # of the last byte read, or the last answer
        self._unsent = 0  # of an answer that ends the connection: what the client had not yet taken when it was last looked at

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        gateway = self.gateway
        # uvloop's transports have asyncio's methods and not its classes.
        self.transport = transport = cast("asyncio.Transport", transport)
        transport.set_write_buffer_limits(high=_WRITE_AHEAD)
        self._since = monotonic()
        gateway.clients.add(self)
        if len(gateway.clients) > gateway.limits.connections:
            self.refuse(GatewayError(503, "too many connections", "too_many_connections", retry_after=1, closes=True))

    @property
    def address(self) -> str:
        """Where it comes from; empty when it has gone."""
        peer = self.transport.get_extra_info("peername") if self.transport is not None else None
        return str(peer[0]) if peer else ""

    def connection_lost(self, error: Exception | None) -> None:
        self.gateway.clients.discard(self)
        exchange, self.exchange = self.exchange, None
        self.transport = None
        self._reader.release()
        if exchange is not None:
            exchange.client_gone()

    def data_received(self, data: bytes) -> None:
        self._since = monotonic()
        if self._closing:
            return  # read and thrown away, so that the client gets to see the answer before a reset
        if self.exchange is not None or self.full or self._backlog:
            self._backlog += data
            if len(self._backlog) > _PIPELINED_BYTES and self._reading and self.transport is not None:
                self._reading = False
                self.transport.pause_reading()
            return
        reader = self._reader
        request = reader.again(data)
        if request is not None:
            self._serve(request)
            return
        reader.feed(data)
        if reader.continues and reader.in_body and self.transport is not None:
            reader.continues = False
            self.transport.write(http_response.CONTINUE)
        if reader.ready:
            self._serve_ready()

    def eof_received(self) -> bool:
        """The client sends no more. Half a request is refused while it still listens; else it is taken as gone."""
        if self.exchange is not None or self.full or self._closing or not self._reader.in_request:
            return bool(self._closing or self.full)
        self._serve(self._reader.give_up(GatewayError(400, "the request ended before it was whole", "incomplete_request", closes=True)))
        return True

    def pause_writing(self) -> None:
        self.full = True
        if self.exchange is not None:
            self.exchange.client_full()

    def resume_writing(self) -> None:
        self.full = False
        if self.exchange is not None:
            self.exchange.client_ready()
        elif self._reader.ready or self._backlog:
            asyncio.get_running_loop().call_soon(self._next)

    # Answers. Each request gets either `answer`, or `begin_events` … `end_events` or `break_off`.

    def answer(self, status: int, body: bytes, extra: bytes = b"", content_type: bytes = b"application/json") -> None:
        """A whole answer; `extra` is whole header lines."""
        transport = self.transport
        if transport is None:
            return
        keep = self.keep and not self.gateway.draining
        transport.write(http_response.whole(status, body, keep, extra, content_type))
        self._answered(keep)

    def refuse(self, error: GatewayError, extra: bytes = b"") -> None:
        """An error as the whole answer."""
        if error.retry_after:
            extra += b"retry-after: %d\r\n" % max(1, round(error.retry_after))
        if error.allow:
            extra += b"allow: %b\r\n" % error.allow
        if error.status == 401:
            extra += b"www-authenticate: Bearer\r\n"
        if error.closes:
            self.keep = False
        self.answer(error.status, error.body(), extra)

    def begin_events(self, extra: bytes) -> bytes:
        """The head of a stream, to be sent with its first events."""
        self._chunks = not self.old
        return http_response.stream_head(self.keep and not self.gateway.draining, self.old, extra)

    def send_events(self, data: bytes, head: bytes = b"") -> None:
        if self.transport is not None:
            self.transport.write(head + http_response.chunk(data) if self._chunks else head + data)

    def end_events(self, data: bytes, head: bytes = b"") -> None:
        """The last events; the stream is complete."""
        transport = self.transport
        if transport is None:
            return
        if self._chunks:
            framed = (head, b"%x\r\n" % len(data), data, b"\r\n", http_response.LAST_CHUNK) if data else (head, http_response.LAST_CHUNK)
            transport.write(b"".join(framed))
        elif head or data:
            transport.write(head + data)
        self._answered(self.keep and self._chunks and not self.gateway.draining)

    def break_off(self, status: int, message: str, code: str) -> None:
        """A stream that cannot go on: an error as its last event, and the connection closes without the mark of a complete answer."""
        if self.transport is not None:
            self.send_events(b"data: " + error_body(status, message, code) + b"\n\n")
            self._end(monotonic())
        self.exchange = None

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def sweep(self, now: float) -> None:
        """Close what idles, stalls or lingers; called by the gateway's clock."""
        limits = self.gateway.limits
        if self.exchange is not None or self.transport is None:
            return
        if self._closing:
            unsent = self.transport.get_write_buffer_size()
            if unsent < self._unsent:
                self._closing = now  # it still takes the answer, however slowly
            self._unsent = unsent
            if now - self._closing > (limits.stall_seconds if unsent else _LINGER_SECONDS):
                self.transport.abort()
        elif self._reader.in_request and not self.full:
            reader = self._reader
            slow = now - self._since > limits.header_seconds or reader.head_age(now) > limits.header_seconds
            if slow or reader.age(now) > limits.request_seconds:
                self._serve(reader.give_up(GatewayError(408, "the request did not come whole in time", "request_timeout", closes=True)))
        elif now - self._since > limits.keepalive_seconds:
            self._end(now)

    def _serve_ready(self) -> None:
        """Answer the requests that are whole, one after another; stops at the first that is answered later."""
        self._serving = True
        ready = self._reader.ready
        while ready and self.exchange is None and not self._closing and not self.full:
            self._serve(ready.popleft())
        self._serving = False

    def _serve(self, request: Request) -> None:
        self.keep = request.keep_alive and request.method != b"HEAD"  # of an answer with a body that its asker does not look for
        self.old = request.old
        self.gateway.serve(self, request)

    def _answered(self, keep: bool) -> None:
        """An answer went out whole: on to the next request, or to the end."""
        self.exchange = None
        if self._reader.held:
            self._reader.release()
        self._since = monotonic()
        transport = self.transport
        assert transport is not None
        if not keep:
            self._backlog.clear()
            if self._reader.broken and transport.can_write_eof():
                self._closing = self._since
                self._unsent = transport.get_write_buffer_size()
                transport.write_eof()  # the client may still be sending: closed at once, it would see a reset instead of the answer
                self._read_on()
            else:
                self._end(self._since)
        elif not self._serving and (self._reader.ready or self._backlog):
            asyncio.get_running_loop().call_soon(self._next)

    def _end(self, now: float) -> None:
        """Close, once what is unsent has been taken; what is never taken is thrown away by `sweep`."""
        assert self.transport is not None
        self._closing = now
        self._unsent = self.transport.get_write_buffer_size()
        self.transport.close()

    def _next(self) -> None:
        if self.transport is None or self.exchange is not None or self._closing or self.full:
            return
        if self._reader.ready:
            self._serve_ready()
        if self.exchange is None and self._backlog and not self._closing and not self.full:
            data, self._backlog = bytes(self._backlog), bytearray()
            self._read_on()
            self.data_received(data)

    def _read_on(self) -> None:
        if not self._reading and self.transport is not None and not self.transport.is_closing():
            self._reading = True
            self.transport.resume_reading()
