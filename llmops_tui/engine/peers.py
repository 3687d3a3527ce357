"""Who may talk to the engine, and how much they may say before a request is whole: the protocol under the API."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import struct
from collections import Counter
from typing import ClassVar

from starlette.requests import HTTPConnection
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from llmops_tui.engine.people import People, user_name
from llmops_tui.errors import ConflictError, LlmopsError, UsageError
from llmops_tui.specs.settings import PeopleSettings

_UCRED = struct.Struct("3i")  # struct ucred: pid, uid, gid (man 7 unix)
_HEAD_BYTES = 64 << 10
_HEAD_SECONDS = 30.0
LONGEST_BODY_BYTES = 8 << 20
_BODY_SECONDS = 30.0
_HANG_UP_SECONDS = 1.0
# One user's consoles and programs need a few dozen; the engine takes 512 of everybody together (daemon.py).
MOST_CONNECTIONS_OF_ONE = 100
_PHRASES = {
    400: "Bad Request", 403: "Forbidden", 413: "Content Too Large", 429: "Too Many Requests", 431: "Request Header Fields Too Large",
}  # fmt: skip
log = logging.getLogger(__name__)


def peer_uid(connection: socket.socket) -> int:
    """The user at the other end of a connected Unix socket, as the kernel knows it."""
    _, uid, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return int(uid)


def owner_of(request: HTTPConnection) -> tuple[str, int]:
    """Name and uid of the user who asks."""
    uid = int(getattr(request.state, "peer_uid", os.geteuid()))
    return user_name(uid), uid


def too_large(what: str) -> UsageError:
    """A request longer than the engine takes."""
    return UsageError(f"{what} is larger than {LONGEST_BODY_BYTES >> 20} MiB", "give the path of a file instead")


class PeerCheckedProtocol(HttpToolsProtocol):
    """HTTP for the engine's own user, root and the served group alone; a request's head and body are bounded in size and time.

    uvicorn bounds neither: a header that never ends would grow in memory, a half request would hold its connection for ever.
    A body whose length is not told beforehand is counted by the application (api.py).
    """

    # A subclass sets whom the engine serves (daemon.py).
    people = People(PeopleSettings())
    of_user: ClassVar[Counter[int]] = Counter()
    _uid = -1
    _head_bytes = 0
    _timer: asyncio.TimerHandle | None = None
    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._uid = uid = peer_uid(transport.get_extra_info("socket"))
        self.of_user[uid] += 1
        refusal = self.people.refusal(uid)
        if refusal is not None:
            log.warning("refused a connection of uid %d", uid)
            self._refuse(403, refusal)
            return
        if uid not in (0, os.geteuid()) and self.of_user[uid] > MOST_CONNECTIONS_OF_ONE:
            what = f"{user_name(uid)} has {MOST_CONNECTIONS_OF_ONE} connections to this engine, the most for one user"
            self._refuse(429, ConflictError(what, "close some consoles, or wait for what they ask"))
            if self.of_user[uid] > 2 * MOST_CONNECTIONS_OF_ONE:
                self.transport.abort()  # a program that does not listen
            return
        self.app_state = {**self.app_state, "peer_uid": uid}
        self._start_timer(_HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self.of_user[self._uid] -= 1
        if not self.of_user[self._uid]:
            del self.of_user[self._uid]
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > _HEAD_BYTES and not self.transport.is_closing():
            self._refuse(431, UsageError(f"a request's head is longer than {_HEAD_BYTES} bytes"))

    def on_message_begin(self) -> None:
        self._head_bytes = 0
        self._start_timer(_HEAD_SECONDS)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._stop_timer()
        self._head_bytes = -(1 << 62)  # what follows is the body
        told = next((value.strip() for name, value in self.headers if name == b"content-length"), b"")
        if told.isdigit() and int(told) > LONGEST_BODY_BYTES:  # the parser refuses what is no number, or more than 64 bits of one
            self._refuse(413, too_large("the request"))
            return
        self._start_timer(_BODY_SECONDS)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._stop_timer()
        if not self._refused:
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, UsageError("this is not an HTTP request", "use `llmops-tui`, or see /openapi.json"))

    def _refuse(self, status: int, error: LlmopsError) -> None:
        self._refused = True
        self._stop_timer()
        body = json.dumps(error.to_json()).encode()
        head = f"HTTP/1.1 {status} {_PHRASES[status]}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        self.transport.write(head.encode() + b"connection: close\r\n\r\n" + body)
        # Closing over unread input resets a Unix socket and the answer would be lost: let the peer hang up first.
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(_HANG_UP_SECONDS, self.transport.close)

    def _start_timer(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(seconds, self.transport.close)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
