"""Bytes of a client's connection to requests. llhttp in its strict mode refuses what smuggling needs: both length headers, a length said
twice, bare line feeds, folded lines; sizes and transfer codings are checked here."""

from __future__ import annotations

import time
from collections import deque

import httptools

from llmops_tui.engine.serving.gateway.config import Limits
from llmops_tui.engine.serving.gateway.errors import GatewayError
from llmops_tui.engine.serving.gateway.repeated_head import MOST_DIGITS, RepeatedHead

_MOST_HEADERS = 100
_LONGEST_TARGET = 4096
_MOST_HELD = 256 << 20
_ACTED_ON = frozenset((b"host", b"origin", b"authorization", b"x-session-id", b"content-length", b"transfer-encoding", b"expect"))


class Request:
    """One request as it came; `error` when it is to be refused, whatever it asked."""

    __slots__ = ("authorization", "began", "body", "error", "host", "keep_alive", "method", "old", "origin", "session", "target")

    def __init__(self) -> None:
        self.method = b""
        self.target = b""
        self.host = b""
        self.origin = b""
        self.authorization = b""
        self.session = b""
        self.body = b""
        self.keep_alive = True
        self.old = False  # HTTP/1.0: no chunks
        self.began = 0.0
        self.error: GatewayError | None = None

    def again(self, body: bytes, began: float) -> Request:
        """One with the same head."""
        other = Request.__new__(Request)
        other.method = self.method
        other.target = self.target
        other.host = self.host
        other.origin = self.origin
        other.authorization = self.authorization
        other.session = self.session
        other.keep_alive = self.keep_alive
        other.old = self.old
        other.body = body
        other.began = began
        other.error = None
        return other


class Bodies:
    """Bytes of bodies in memory, over all connections of a gateway."""

    __slots__ = ("held",)

    def __init__(self) -> None:
        self.held = 0


class RequestReader:
    """Feeds one connection's parser; whole requests wait in `ready`. After `broken`, nothing more is read from the connection."""

    __slots__ = (
        "_bodies", "_body", "_chunked", "_head", "_head_open", "_headers", "_known", "_known_head", "_limits", "_moved", "_parser",
        "_request", "_size", "_unfinished", "broken", "continues", "held", "in_request", "ready",
    )  # fmt: skip

    def __init__(self, limits: Limits, bodies: Bodies) -> None:
        self._limits = limits
        self._bodies = bodies
        self.held = 0  # bytes of bodies that are not answered yet
        self._parser = httptools.HttpRequestParser(self)
        self._request = Request()
        self._known: Request | None = None  # one with the head that is likely to come again
        self._known_head = RepeatedHead()
        self._body: bytes | bytearray = b""
        self._size = 0
        self._head = 0
        self._headers = 0
        self._unfinished = 0  # bytes of headers, trailers and chunk extensions that nobody has seen the end of
        self._moved = False
        self._chunked = False
        self._head_open = False
        self.ready: deque[Request] = deque()
        self.in_request = False
        self.broken = False
        self.continues = False  # the client waits for "100 Continue" before it sends its body

    def feed(self, data: bytes) -> None:
        """Read on; never raises for what a client sends: a request with `error` is the last one of a connection out of step."""
        self._moved = False
        begins = not self.in_request
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.ready.pop()  # llhttp skips its body, so that it is not the request that was sent
            self._refuse(GatewayError(400, "this server does not change protocols", "upgrade_refused", closes=True))
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            if not isinstance(cause, GatewayError):
                raise
            self._refuse(cause)
        except httptools.HttpParserError as error:
            self._refuse(GatewayError(400, f"not a valid HTTP/1.1 request: {error}", "malformed_http", closes=True))
        else:
            if not self.in_request:
                if begins and len(self.ready) == 1:
                    self._learn(data)
            # llhttp tells of a header, trailer or chunk only when it is whole, and one without end would grow in it.
            elif not self._moved:
                self._unfinished += len(data)
                if self._unfinished > self._limits.header_bytes:
                    self._refuse(self._headers_too_large())

    def _learn(self, data: bytes) -> None:
        """Know this request again, where the bytes are all of it."""
        request = self.ready[0]
        room = self._head + MOST_DIGITS <= self._limits.header_bytes
        known = room and request.error is None and request.keep_alive and self._known_head.learn(data)
        if known:
            self._known = request.again(b"", 0.0)

    def again(self, data: bytes) -> Request | None:
        """The request that these bytes are, where it is the known one with another body: the parser need not see it then."""
        known = self._known
        if known is None or self.in_request:
            return None
        body = self._known_head.body_of(data)
        if body is None:
            return None
        size, bodies = len(body), self._bodies
        if size > self._limits.body_bytes or bodies.held + size > _MOST_HELD:
            return None
        self.held += size
        bodies.held += size
        return known.again(body, time.monotonic())

    @property
    def in_body(self) -> bool:
        """A head has been read, and its body is coming."""
        return self.in_request and not self._head_open

    def age(self, now: float) -> float:
        """For how long a request has been coming; 0 when none is."""
        return now - self._request.began if self.in_request else 0.0

    def release(self) -> None:
        """What was read has been answered, or will never be."""
        self._bodies.held -= self.held
        self.held = 0

    def head_age(self, now: float) -> float:
        """For how long a head has been coming; 0 when none is."""
        return now - self._request.began if self._head_open else 0.0

    def give_up(self, error: GatewayError) -> Request:
        """The request that is only half there, as one to be refused."""
        self._refuse(error)
        return self.ready.pop()

    def _refuse(self, error: GatewayError) -> None:
        """Out of step: what follows on this connection could be read as another request than the client's."""
        self.broken = True
        if self.ready and not self.ready[-1].keep_alive and not self.in_request:
            return  # bytes after the last request of a connection: nobody waits for an answer to them
        request = self._request if self.in_request else Request()
        request.began = request.began or time.monotonic()
        request.error = error
        request.keep_alive = False
        self.in_request = False
        self.ready.append(request)

    def on_message_begin(self) -> None:
        self._request = Request()
        self._request.began = time.monotonic()
        self.in_request = True
        self._head = self._headers = self._size = self._unfinished = 0
        self._chunked = False
        self._head_open = self._moved = True
        self._body = b""

    def on_url(self, part: bytes) -> None:
        request = self._request
        request.target += part
        if len(request.target) > _LONGEST_TARGET:
            raise GatewayError(414, f"the target is longer than {_LONGEST_TARGET} bytes", "target_too_long", closes=True)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._head_open:
            return  # a trailer after the last chunk: nothing in it is ours to act on
        self._head += len(name) + len(value) + 4
        self._headers += 1
        if self._head > self._limits.header_bytes or self._headers > _MOST_HEADERS:
            raise self._headers_too_large()
        name = name.lower()
        if name not in _ACTED_ON:
            return
        if name == b"host":
            if self._request.host:
                raise GatewayError(400, "there are two Host headers", "malformed_http", closes=True)
            self._request.host = value
        elif name == b"authorization":
            self._request.authorization = value
        elif name == b"origin":
            # Of two at least one is not the page's: together they are nobody's.
            self._request.origin = b", ".join((self._request.origin, value)) if self._request.origin else value
        elif name == b"x-session-id":
            self._request.session = value
        elif name == b"content-length":
            if int(value) > self._limits.body_bytes:
                raise self._too_large()
        elif name == b"transfer-encoding":
            if value.strip().lower() != b"chunked":
                raise GatewayError(400, "the only transfer coding taken is chunked", "malformed_http", closes=True)
            self._chunked = True
        elif name == b"expect":
            self.continues = True

    def on_headers_complete(self) -> None:
        request, parser = self._request, self._parser
        self._head_open = False
        self._moved, self._unfinished = True, 0
        request.method = parser.get_method()
        request.old = parser.get_http_version() != "1.1"
        if request.old and self._chunked:
            raise GatewayError(400, "an HTTP/1.0 request cannot be chunked", "malformed_http", closes=True)

    def on_body(self, data: bytes) -> None:
        self._size += len(data)
        self._moved, self._unfinished = True, 0
        if self._size > self._limits.body_bytes:
            raise self._too_large()
        self.held += len(data)
        self._bodies.held += len(data)
        if self._bodies.held > _MOST_HELD:
            busy = "as much as it can hold of large requests is being read; try again later"
            raise GatewayError(503, busy, "too_much_at_once", retry_after=1, closes=True)
        if not self._body:
            self._body = data
            return
        if isinstance(self._body, bytes):
            self._body = bytearray(self._body)  # not a list: a body in chunks of one byte would be forty times its size
        self._body += data

    def on_message_complete(self) -> None:
        request = self._request
        request.body = bytes(self._body)
        request.keep_alive = self._parser.should_keep_alive()
        self._body = b""
        self.in_request = self.continues = False
        self.ready.append(request)

    def _headers_too_large(self) -> GatewayError:
        most = f"{self._limits.header_bytes} bytes or more than {_MOST_HEADERS}"
        return GatewayError(431, f"the headers are larger than {most}", "headers_too_large", closes=True)

    def _too_large(self) -> GatewayError:
        return GatewayError(413, f"the body is larger than {self._limits.body_bytes} bytes", "body_too_large", closes=True)
