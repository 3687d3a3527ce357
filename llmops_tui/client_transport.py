"""HTTP/1.1 over the engine's Unix socket, with the standard library alone; a connection a call, so that threads share nothing."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from llmops_tui.errors import LlmopsError, PermissionDeniedError, from_json
from llmops_tui.place import Place

_UCRED = struct.Struct("3i")  # struct ucred: pid, uid, gid (man 7 unix)
_READ_BYTES = 1 << 16

Query = list[tuple[str, str]]


class Answer(NamedTuple):
    """A whole answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Message(NamedTuple):
    """One server-sent event."""

    event: str
    id: str
    data: str


class Transport:
    """The socket of one engine. Every failure is an LlmopsError; nothing else leaves this class."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def call(self, method: str, path: str, query: Query | None = None, body: object = None, timeout: float = 30.0) -> Answer:
        """One request and its whole answer. Raises the engine's own error where it answered with one."""
        if is_read_only() and not _reads(method, path, body):
            raise PermissionDeniedError("LLMOPS_READ_ONLY is set here: nothing was changed", "unset it to change something")
        connection = _UnixConnection(self._place.socket_path(), timeout, self._place.owner())
        try:
            response = self._send(connection, method, path, query, body)
            answer = Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
        except (OSError, http.client.HTTPException) as error:
            raise self._explain(error, timeout) from error
        finally:
            connection.close()
        if answer.status >= 400:
            raise error_of(answer)
        return answer

    def open_stream(self, path: str, query: Query, timeout: float, method: str = "GET", body: object = None) -> EventSource:
        """Begin an event stream; `timeout` is the longest silence. Raises like `call`."""
        connection = _UnixConnection(self._place.socket_path(), timeout, self._place.owner())
        try:
            response = self._send(connection, method, path, query, body)
            if response.status >= 400:
                raise error_of(Answer(response.status, {}, response.read()))
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise self._explain(error, timeout) from error
        except LlmopsError:
            connection.close()
            raise
        return EventSource(connection, response)

    @staticmethod
    def _send(connection: _UnixConnection, method: str, path: str, query: Query | None, body: object) -> http.client.HTTPResponse:
        payload = None if body is None else json.dumps(body).encode()
        headers = {"Connection": "close", "Accept": "*/*"}
        if payload is not None:
            headers["Content-Type"] = "application/json"
        connection.request(method, path + ("?" + urlencode(query) if query else ""), payload, headers)
        return connection.getresponse()

    def _explain(self, error: Exception, timeout: float) -> LlmopsError:
        if isinstance(error, _ForeignEngineError):
            return PermissionDeniedError(str(error), "use a state directory of your own: --home DIR")
        return self._place.explain(error, timeout)


class EventSource:
    """The messages of one event stream until it breaks or is closed."""

    def __init__(self, connection: _UnixConnection, response: http.client.HTTPResponse) -> None:
        self._connection = connection
        self._response = response
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self._lock = threading.Lock()
        self._closed = False

    def __iter__(self) -> Iterator[Message]:
        """Ends when the connection does, for whatever reason: a stream has no end of its own that the reader does not know."""
        buffer = b""
        try:
            while True:
                data = self._response.read1(_READ_BYTES)
                if not data:
                    return
                *blocks, buffer = (buffer + data).split(b"\n\n")
                for block in blocks:
                    message = _parse(block.decode())
                    if message:
                        yield message
        except (OSError, ValueError, AttributeError, http.client.HTTPException):
            # AttributeError: http.client reads from None when close() came from another thread meanwhile.
            return

    def close(self) -> None:
        """End the stream; safe from another thread, whose blocked read then returns."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._connection.shutdown()


def is_read_only() -> bool:
    """Whether this user wants to change nothing by accident: $LLMOPS_READ_ONLY."""
    return os.environ.get("LLMOPS_READ_ONLY", "") not in ("", "0")


def _reads(method: str, path: str, body: object) -> bool:
    if method == "GET" or path in ("/v1/sql", "/v1/estimate", "/v1/preview", "/v1/endpoints/check"):
        return True
    return path == "/v1/runs" and isinstance(body, dict) and body.get("dry_run") is True


class _ForeignEngineError(OSError):
    """The process behind the socket is another user's."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float, owner: int | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path
        self._owner = owner
        # http.client forgets `sock` once an answer says "Connection: close"; a stream's reader still has to be woken.
        self._opened: socket.socket | None = None

    def connect(self) -> None:
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connected.settimeout(self.timeout)
            connected.connect(os.fspath(self._path))
            # In /tmp another user could have made the directory first: never talk to an engine that is not ours. Root's may serve
            # all, and whose state directory we named, that user's may serve us.
            _, uid, _ = _UCRED.unpack(connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
            if os.getuid() not in (0, uid) and uid != 0 and uid != self._owner:
                raise _ForeignEngineError(f"the engine behind {self._path} belongs to another user (uid {uid})")
        except OSError:
            connected.close()
            raise
        self.sock = self._opened = connected

    def shutdown(self) -> None:
        if self._opened is not None:
            with contextlib.suppress(OSError):  # already gone
                self._opened.shutdown(socket.SHUT_RDWR)


def error_of(answer: Answer) -> LlmopsError:
    """The error an answer of status 400 or more carries."""
    try:
        body: Any = json.loads(answer.body)
    except ValueError:
        body = None
    if isinstance(body, dict) and "error" in body:
        return from_json(body)
    text = answer.body[:200].decode(errors="replace").strip()
    return LlmopsError(f"the engine answered {answer.status}: {text or 'nothing more'}", "see engine.log in the state directory")


def is_alive(pid: int) -> bool:
    """Whether the process has not ended; a zombie has. (Asking for the engine's lock instead could keep a new engine from it.)"""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except OSError:
        return False


def segment(text: str) -> str:
    """A name as one part of a path; a reference may hold slashes and at signs."""
    return quote(text, safe="@")


def _parse(block: str) -> Message | None:
    event, identity, data = "message", "", []
    for line in block.split("\n"):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            event = value
        elif name == "id":
            identity = value
        elif name == "data":
            data.append(value)
    return Message(event, identity, "\n".join(data)) if data else None
