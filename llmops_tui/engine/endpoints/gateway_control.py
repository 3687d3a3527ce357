"""Asking the gateway over its control socket: HTTP/1.1, one connection a question, on the event loop."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

_HEAD_LIMIT = 64 << 10
_ANSWER_SECONDS = 5.0


class GatewayGoneError(OSError):
    """Nobody answers on the socket, or with nonsense."""


async def ask(socket: Path, method: str, path: str, body: object = None, seconds: float = _ANSWER_SECONDS) -> dict[str, Any]:
    """The answer's JSON object. Raises GatewayGoneError."""
    try:
        return await asyncio.wait_for(_ask(socket, method, path, body), seconds)
    except GatewayGoneError:
        raise
    except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise GatewayGoneError(f"the gateway does not answer: {type(error).__name__}: {error}".rstrip(": ")) from error


async def _ask(socket: Path, method: str, path: str, body: object) -> dict[str, Any]:
    # Through the directory's descriptor: a state directory may lie deeper than a socket's address can say (man 7 unix).
    directory = os.open(socket.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        reader, writer = await asyncio.open_unix_connection(f"/proc/self/fd/{directory}/{socket.name}", limit=_HEAD_LIMIT)
    finally:
        os.close(directory)
    try:
        content = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\ncontent-type: application/json\r\n"
        writer.write(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)
        await writer.drain()
        status, headers = parse_head(await reader.readuntil(b"\r\n\r\n"))
        length = headers.get("content-length")
        raw = await reader.readexactly(int(length)) if length is not None else await reader.read()
    finally:
        writer.close()
    value = json.loads(raw) if raw else {}
    if status >= 400 or not isinstance(value, dict):
        raise GatewayGoneError(f"the gateway answered {method} {path} with {status}: {raw[:200].decode(errors='replace')}")
    return value


def parse_head(raw: bytes) -> tuple[int, dict[str, str]]:
    """Status and headers (names in lower case) of an answer. Raises ValueError for what is none."""
    first, *lines = raw.decode("latin-1").split("\r\n")
    words = first.split(" ", 2)
    if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
        raise ValueError(f"not an answer: {first[:80]!r}")
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    return int(words[1]), headers
