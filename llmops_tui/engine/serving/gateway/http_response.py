"""Heads of answers to clients."""

from __future__ import annotations

import time
from email.utils import formatdate
from http import HTTPStatus

_REASONS = {status.value: status.phrase for status in HTTPStatus} | {499: "Client Closed Request"}
_LINES = {status: f"HTTP/1.1 {status} {phrase}\r\n".encode() for status, phrase in _REASONS.items()}
LAST_CHUNK = b"0\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_date_second = 0
_date_line = b""


def date_line() -> bytes:
    """The Date header of this second (RFC 9110 6.6.1: an origin server with a clock sends it)."""
    global _date_second, _date_line
    now = int(time.time())
    if now != _date_second:
        _date_second = now
        _date_line = f"date: {formatdate(now, usegmt=True)}\r\n".encode()
    return _date_line


def status_line(status: int) -> bytes:
    return _LINES.get(status) or f"HTTP/1.1 {status} Status\r\n".encode()


def whole(status: int, body: bytes, keep: bool, extra: bytes = b"", content_type: bytes = b"application/json") -> bytes:
    """An answer whose length is known. `extra` is whole header lines."""
    return b"".join(
        (
            status_line(status),
            b"content-type: ",
            content_type,
            b"\r\n",
            extra,
            date_line(),
            b"content-length: %d\r\n\r\n" % len(body) if keep else b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body),
            body,
        )
    )


def stream_head(keep: bool, old: bool, extra: bytes) -> bytes:
    """The head of a stream of events: in chunks, or (HTTP/1.0) until the connection closes."""
    framing = b"" if old else b"transfer-encoding: chunked\r\n"
    ending = b"\r\n" if keep and not old else b"connection: close\r\n\r\n"
    return b"".join(
        (
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\nx-accel-buffering: no\r\n",
            extra,
            date_line(),
            framing,
            ending,
        )
    )


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
